# SPDX-License-Identifier: Apache-2.0
"""Post-hoc calibrators fitted at the end of an evaluation of the validation split."""

from __future__ import annotations

import os
from pathlib import Path

from ignite.engine import Engine, Events
from rich.console import Console
from rich.table import Table

from monai_multirater.calibration import CalibrationRecord, CalibrationScores, IsotonicCalibrator, file_digest
from monai_multirater.calibration.record import Fit
from monai_multirater.metrics import CaseMetric

__all__ = ["FitCalibrators"]


class FitCalibrators:
    """Fit temperature, Platt and isotonic calibrators to what an evaluation saw; write them beside the model.

    The metric of the evaluation already holds a fine histogram of every case; they are the evidence, so nothing is
    collected twice, processes are gathered as for the scores, and a case that several processes saw counts once. The
    file holds for each method its parameters and the scores of this evidence after it, or the reason why it could not
    be fitted, and the weights (SHA-256 of the checkpoint) and the foreground rule that it all belongs to.

    The prediction must be the uncalibrated foreground probability. Scores after calibration are those of the very
    cases that were fitted to, so they flatter, isotonic most; compare methods on another split.

    Args:
        path: the file to write, ``calibration.json``; replaced when it exists.
        metric: metric of the same engine that collects histograms, such as ``MultiRaterSummaryMetric``.
        checkpoint: file of the weights that were evaluated.
        rule: foreground rule of the prediction.
        ties: its tie rule.
        split: name of the split, for the file and the table.
        disable: neither fit nor write nor print, for ranks other than 0.

    Raises:
        ValueError: ``metric`` collects no histogram.
    """

    def __init__(
        self,
        path: str,
        *,
        metric: CaseMetric,
        checkpoint: str,
        rule: str,
        ties: str = "background",
        split: str = "validation",
        disable: bool = False,
    ) -> None:
        if "histogram" not in metric.collects:
            raise ValueError(
                "The 'metric' parameter of FitCalibrators must be a metric that collects histograms, such as "
                f"MultiRaterSummaryMetric. Got {type(metric).__name__} instead."
            )
        self.path = Path(path)
        self.metric = metric
        self.checkpoint = checkpoint
        self.options = {"rule": rule, "ties": ties, "split": split}
        self.disable = disable

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _finish(self, _: Engine) -> None:
        statistics = self.metric.case_statistics()
        if self.disable:
            return
        assert statistics.histograms is not None
        digest = file_digest(self.checkpoint)
        record = CalibrationRecord.fit(statistics.histograms, cases=len(statistics), checkpoint=digest, **self.options)
        record.save(self.path)
        _print_record(record, self.path)


def _print_record(record: CalibrationRecord, path: str | os.PathLike[str]) -> None:
    table = Table(
        title=f"Calibration on the {record.split} split ({record.cases} cases, foreground rule {record.rule})",
        caption=f"Scores of the cases fitted to. Written to {path}",
    )
    for name in ("calibration", "mr_ece", "brier", "nll"):
        table.add_column(name, justify="left" if name == "calibration" else "right")
    table.add_column("parameters")
    table.add_row("none", *_cells(record.before), "")
    for method, fit in record.fits.items():
        table.add_row(method, *_cells(fit.scores), _parameters(fit))
    Console().print(table)


def _cells(scores: CalibrationScores | None) -> list[str]:
    return [""] * 3 if scores is None else [f"{value:.5f}" for value in (scores.mr_ece, scores.brier, scores.nll)]


def _parameters(fit: Fit) -> str:
    if fit.calibrator is None:
        return f"not fitted: {fit.reason}"
    if isinstance(fit.calibrator, IsotonicCalibrator):
        return f"{len(fit.calibrator.thresholds)} nodes"
    parameters = fit.calibrator.to_dict()
    return ", ".join(f"{name} {value:.4f}" for name, value in parameters.items() if name != "method")
