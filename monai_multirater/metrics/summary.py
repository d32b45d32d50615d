# SPDX-License-Identifier: Apache-2.0
"""All calibration and probability scores of an evaluation in one pass, with intervals and a table by case."""

from __future__ import annotations

from typing import ClassVar

import torch

from monai_multirater.metrics.base import CaseMetric
from monai_multirater.metrics.statistics import SUMMARY
from monai_multirater.resampling import BootstrapResult, Seed

__all__ = ["MultiRaterSummaryMetric"]


class MultiRaterSummaryMetric(CaseMetric):
    """MR-ECE, AUC, Brier score, log loss, Dice, and errors against a known truth, in one pass over the
    voxels.

    `case_table()` gives a column per quantity for a CSV file, `compute_summary()` the scores over all cases
    with bootstrap intervals, `case_statistics()` what `compare_models` needs. None of them reads an image
    again.

    Args:
        score: what `aggregate()` returns, one of the keys of `compute_summary`, for instance "mr_ece" or
            "auc".
        bins: bins of equal width of the calibration errors.
        raters: number of raters where the label does not say.

    Example:
        >>> metric = MultiRaterSummaryMetric(bins=10)
        >>> p = torch.tensor([[[0.1, 0.4], [0.6, 0.9]]])
        >>> _ = metric([p], [{"votes": torch.tensor([[[0, 1], [2, 3]]]), "n_raters": 3}])
        >>> round(metric.aggregate().item(), 4)
        0.0833
    """

    collects: ClassVar[frozenset[str]] = frozenset({"log_loss", "ranking", "histogram"})

    def __init__(self, *, score: str = "mr_ece", bins: int = 15, raters: int | None = None) -> None:
        if score not in SUMMARY:
            raise ValueError(f"MultiRaterSummaryMetric: 'score' must be one of {', '.join(SUMMARY)}, got {score!r}.")
        self.chosen = score
        self.score = "mr_ece" if score == "mr_ece_imagewise" else score
        super().__init__(bins=bins, raters=raters)

    @property
    def total_score(self) -> str:
        """Name of the score that `aggregate` returns."""
        return self.chosen

    def compute_summary(
        self, *, resamples: int = 1000, fraction: float = 0.6, seed: Seed = 0, confidence: float = 0.95
    ) -> dict[str, BootstrapResult]:
        """Scores over all cases with intervals, see `CaseStatistics.compute_summary`; collective."""
        return self.case_statistics().compute_summary(
            resamples=resamples, fraction=fraction, seed=seed, confidence=confidence
        )

    def scores(self) -> dict[str, torch.Tensor]:
        """All scores over all cases without intervals, NaN where undefined; collective."""
        table = self.case_statistics()
        return {name: torch.tensor(table.score(name), dtype=torch.float64) for name in SUMMARY}
