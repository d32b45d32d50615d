# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill, and training that goes on where it stopped."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointSaver

__all__ = ["AtomicCheckpointSaver", "ResumeHandler"]

logger = logging.getLogger(__name__)


class _ReplacingSaver(BaseSaveHandler):
    """Write to ``path + ".tmp"`` and rename it over ``path``: the old file stays until the new one is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Any = None) -> None:
        """Write on rank 0, whatever name the caller would give the file."""
        if idist.get_rank() != 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".tmp")
        torch.save(checkpoint, temporary)
        temporary.replace(self.path)

    def remove(self, filename: str) -> None:
        """Do nothing: the file is replaced, never removed first."""


class AtomicCheckpointSaver(CheckpointSaver):
    """MONAI's ``CheckpointSaver`` for one best-metric file, safe against kills and against early lucky epochs.

    Two differences from the base class. The file is written under a temporary name and renamed, and the former
    best file stays until then (the base class removes it first and writes in place). And epochs before
    ``select_from_epoch`` are not candidates: a network that predicts the base rate everywhere is almost perfectly
    *calibrated* after one epoch, so choosing by a calibration error over all epochs can choose an untrained network.

    Args:
        save_dir: directory of the file, created when missing.
        save_dict: what to save, for example ``{"model": network}``.
        filename: name of the best-metric file.
        lower_is_better: True for errors (MR-ECE, Brier), False for scores (AUC, Dice).
        select_from_epoch: first epoch (counted from 1) that may become the best.
    """

    def __init__(
        self,
        save_dir: str,
        save_dict: dict[str, Any],
        *,
        filename: str = "model.pt",
        lower_is_better: bool = True,
        select_from_epoch: int = 1,
    ) -> None:
        super().__init__(
            save_dir=save_dir,
            save_dict=save_dict,
            save_key_metric=True,
            key_metric_filename=filename,
            key_metric_negative_sign=lower_is_better,
        )
        self.select_from_epoch = select_from_epoch
        self._best.save_handler = _ReplacingSaver(Path(save_dir) / filename)

    @property
    def _best(self) -> Checkpoint:
        checkpoint = self._key_metric_checkpoint
        if checkpoint is None:
            raise RuntimeError("AtomicCheckpointSaver: the base class made no key-metric checkpoint")
        return checkpoint

    def metrics_completed(self, engine: Engine) -> None:
        """Compare and save after an evaluation, from ``select_from_epoch`` on; NaN is never the best."""
        value = float(engine.state.metrics[engine.state.key_metric_name])
        if engine.state.epoch >= self.select_from_epoch and not math.isnan(value):
            super().metrics_completed(engine)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, so that a resumed run keeps comparing with it."""
        return dict(self._best.state_dict())


class ResumeHandler:
    """Save everything a run needs after each epoch; load it at the start when the file is there.

    The file holds the state of every entry of ``objects`` and of the engine (epoch, iteration). It is replaced
    atomically after each completed epoch, so a run killed at any moment goes on from its last whole epoch. With
    random numbers that depend on (seed, epoch) only, as :class:`SeedEpochs` and ``SeededDataset`` make them, the
    resumed run ends with the weights of the uninterrupted one (bitwise on CPU).

    Args:
        path: the checkpoint file.
        objects: named objects with ``state_dict`` and ``load_state_dict``: network, optimizer, scheduler, ...
        resume: load ``path`` when it exists; when False an existing file is ignored and replaced.
        map_location: where tensors are loaded to.

    Raises:
        ValueError: the file holds other entries than ``objects``.
    """

    def __init__(
        self,
        path: str,
        objects: Mapping[str, Any],
        *,
        resume: bool = True,
        map_location: str | torch.device | None = None,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.resume = resume
        self.map_location = map_location
        self._saver = _ReplacingSaver(self.path)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; list this handler last, so that it sees the state after all others."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Engine) -> None:
        """Restore all objects from the file, when asked to and when it exists."""
        if not self.resume or not self.path.is_file():
            return
        states = torch.load(self.path, map_location=self.map_location, weights_only=True)
        engine_state = states.pop("engine")
        missing = sorted(set(self.objects) ^ set(states))
        if missing:
            raise ValueError(f"ResumeHandler: {self.path} does not fit this run, entries differ: {', '.join(missing)}")
        for name, target in self.objects.items():
            target.load_state_dict(states[name])
        engine.state.epoch = int(engine_state["epoch"])
        engine.state.iteration = int(engine_state["iteration"])
        logger.info("Resumed from %s after epoch %d.", self.path, engine.state.epoch)

    def save(self, engine: Engine) -> None:
        """Write the state after an epoch."""
        states: dict[str, Any] = {name: source.state_dict() for name, source in self.objects.items()}
        states["engine"] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        self._saver(states, self.path.name)
