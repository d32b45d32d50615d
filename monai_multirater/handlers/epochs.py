# SPDX-License-Identifier: Apache-2.0
"""Handlers that act once an epoch: seeds, progress, history."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

__all__ = ["SeedEpochs", "TrainingHistory", "TrainingProgress"]

logger = logging.getLogger(__name__)


class _HasEpoch(Protocol):
    def set_epoch(self, epoch: int) -> None: ...


class SeedEpochs:
    """Give every epoch its own seed, derived from (seed, epoch) only.

    Torch's global generator (dropout) is seeded and ``set_epoch(epoch)`` is called on each target (datasets,
    distributed samplers). What an epoch draws then does not depend on the epochs before it, which is what makes
    a resumed training equal to an uninterrupted one.

    Args:
        seed: the run's seed.
        targets: objects with ``set_epoch``.
    """

    def __init__(self, seed: int, targets: Sequence[_HasEpoch] = ()) -> None:
        self.seed = seed
        self.targets = tuple(targets)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed the epoch that starts."""
        state = np.random.SeedSequence((self.seed, engine.state.epoch)).generate_state(1)
        torch.manual_seed(int(state[0]))
        for target in self.targets:
            target.set_epoch(engine.state.epoch)


class TrainingProgress:
    """A progress bar over the iterations of a run, with the current loss and the last validation metrics.

    Args:
        evaluator: the validation engine whose metrics are shown, if any.
        metrics: names of those metrics.
        disable: show nothing, for example on ranks other than 0.
    """

    def __init__(self, *, evaluator: Engine | None = None, metrics: Sequence[str] = (), disable: bool = False) -> None:
        self.evaluator = evaluator
        self.metrics = tuple(metrics)
        self.disable = disable
        self._bar: tqdm[Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.TERMINATE, self._close)

    def _open(self, engine: Engine) -> None:
        if self._bar is None:
            length, epochs = engine.state.epoch_length or 0, engine.state.max_epochs or 0
            self._bar = tqdm(
                total=length * epochs,
                initial=engine.state.iteration,
                unit="step",
                disable=self.disable,
                mininterval=0.5 if sys.stderr.isatty() else 30.0,
            )
        self._bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}")

    def _step(self, engine: Engine) -> None:
        if self._bar is None:
            return
        values: dict[str, str] = {"loss": f"{_loss(engine):.4f}"}
        shown = {} if self.evaluator is None else self.evaluator.state.metrics
        values.update({name: f"{shown[name]:.4f}" for name in self.metrics if name in shown})
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(1)

    def _close(self, _: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TrainingHistory:
    """Record the loss and the validation metrics of every epoch; write them as CSV; print a table at the end.

    The loss of an epoch is the mean over its iterations and over the processes of a distributed training. The column
    ``best`` marks the epoch that ``AtomicCheckpointSaver`` keeps under the same ``select_from_epoch``.

    Args:
        path: the CSV file, rewritten (atomically) after each epoch.
        evaluator: the validation engine.
        metrics: names of its metrics, the key metric first.
        lower_is_better: direction of the key metric.
        select_from_epoch: first epoch that may be called the best; see ``AtomicCheckpointSaver``.
        title: heading of the final table.
        disable: neither write nor print, for ranks other than 0.
    """

    def __init__(
        self,
        path: str,
        *,
        evaluator: Engine,
        metrics: Sequence[str],
        lower_is_better: bool = True,
        select_from_epoch: int = 1,
        title: str = "Validation",
        disable: bool = False,
    ) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.metrics = tuple(metrics)
        self.lower_is_better = lower_is_better
        self.select_from_epoch = select_from_epoch
        self.title = title
        self.disable = disable
        self.rows: list[dict[str, float]] = []
        self._losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after the validation handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self._losses.append(_loss(e)))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._record)
        engine.add_event_handler(Events.COMPLETED, self._print)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved rows."""
        self.rows = [dict(row) for row in state["rows"]]

    def best(self) -> dict[str, float] | None:
        """Return the row with the best key metric among the epochs that may be chosen, None before the first."""
        key = self.metrics[0]
        rows = [r for r in self.rows if r["epoch"] >= self.select_from_epoch and not math.isnan(r.get(key, math.nan))]
        if not rows:
            return None
        return min(rows, key=lambda r: r[key] if self.lower_is_better else -r[key])

    def _record(self, engine: Engine) -> None:
        row = {"epoch": float(engine.state.epoch), "loss": _mean_over_processes(self._losses)}
        self._losses = []
        if self.evaluator.state.epoch == engine.state.epoch:
            values = self.evaluator.state.metrics
            row.update({name: float(values[name]) for name in self.metrics if name in values})
        self.rows.append(row)
        if not self.disable:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(self.path.name + ".tmp")
            best = self.best()
            pd.DataFrame(self.rows).assign(best=[row is best for row in self.rows]).to_csv(temporary, index=False)
            temporary.replace(self.path)

    def _print(self, _: Engine) -> None:
        best = self.best()
        if self.disable:
            return
        if best is None:
            logger.warning(
                "No epoch from %d on has a validation %s that is a number: no best model was saved.",
                self.select_from_epoch,
                self.metrics[0],
            )
            return
        table = Table(title=self.title)
        for column in ("", "epoch", "loss", *self.metrics):
            table.add_column(column, justify="left" if column == "" else "right")
        for name, row in (("best", best), ("last", self.rows[-1])):
            cells = [f"{row.get(m, math.nan):.5f}" for m in ("loss", *self.metrics)]
            table.add_row(name, f"{row['epoch']:.0f}", *cells)
        Console().print(table)


def _mean_over_processes(losses: Sequence[float]) -> float:
    mean = float(np.mean(losses)) if losses else math.nan
    size = idist.get_world_size()
    return mean if size == 1 else float(idist.all_reduce(torch.tensor(mean, dtype=torch.float64))) / size


def _loss(engine: Engine) -> float:
    output = engine.state.output
    first = output[0] if isinstance(output, list) else output
    return float(first["loss"].detach())
