# SPDX-License-Identifier: Apache-2.0
"""Pictures of validation cases in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardPanels"]


class TensorBoardPanels:
    """Write a figure of the first validation cases to TensorBoard every few epochs.

    Args:
        log_dir: TensorBoard directory.
        figure: function ``figure(image, ratings, *, probability, truth, rater_mask, title)`` that returns a
            matplotlib figure, for example ``monai_multirater.visualize.case_figure``.
        cases: how many cases of the first batch are shown.
        interval: epochs between two pictures.
        disable: write nothing, for ranks other than 0.
    """

    def __init__(
        self,
        log_dir: str,
        *,
        figure: Callable[..., Any],
        cases: int = 3,
        interval: int = 5,
        disable: bool = False,
    ) -> None:
        self.log_dir = log_dir
        self.figure = figure
        self.cases = cases
        self.interval = interval
        self.disable = disable
        self._shown = 0
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a validation engine."""
        if self.disable:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        due = engine.state.epoch % self.interval == 0 or engine.state.epoch == 1
        self._shown = 0 if due else self.cases

    def _draw(self, engine: Engine) -> None:
        if self._shown >= self.cases:
            return
        if self._writer is None:
            self._writer = SummaryWriter(self.log_dir)
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self._shown >= self.cases:
                break
            label, name = output["label"], item.get("case", f"case {self._shown}")
            panel = self.figure(
                output["image"].detach().cpu(),
                label["ratings"].cpu(),
                probability=output["pred"].detach().cpu(),
                truth=_on_cpu(label.get("truth")),
                rater_mask=_on_cpu(label.get("rater_mask")),
                title=str(name),
            )
            self._writer.add_figure(f"validation/{name}", panel, global_step=engine.state.epoch)
            self._shown += 1
        self._writer.flush()


def _on_cpu(values: torch.Tensor | None) -> torch.Tensor | None:
    """Values on the CPU; None when a case has none."""
    return None if values is None else values.detach().cpu()
