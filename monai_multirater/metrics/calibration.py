# SPDX-License-Identifier: Apache-2.0
"""Metrics of a foreground probability against several raters, for MONAI's engines and handlers."""

from __future__ import annotations

from typing import ClassVar, Literal

from monai_multirater.metrics.base import CaseMetric

__all__ = [
    "MultiRaterAUCMetric",
    "MultiRaterBrierMetric",
    "MultiRaterCalibrationErrorMetric",
    "MultiRaterLogLossMetric",
    "TruthErrorMetric",
]


class MultiRaterCalibrationErrorMetric(CaseMetric):
    """MR-ECE of all cases; see `monai_multirater.calibration.multirater_ece` and `CaseMetric` for the call.

    Args:
        bins: bins of equal width.
        reduction: "pooled", all (voxel, rater) pairs of all cases together (default), or "imagewise", the
            mean over cases of the error of each case.
        raters: number of raters where the label does not say.
    """

    def __init__(
        self,
        *,
        bins: int = 15,
        reduction: Literal["pooled", "imagewise"] = "pooled",
        raters: int | None = None,
    ) -> None:
        if reduction not in ("pooled", "imagewise"):
            raise ValueError(
                f"MultiRaterCalibrationErrorMetric: 'reduction' must be 'pooled' or 'imagewise', got {reduction!r}."
            )
        super().__init__(bins=bins, raters=raters)
        self.reduction = reduction

    @property
    def total_score(self) -> str:
        """Name of the score over all cases."""
        return "mr_ece" if self.reduction == "pooled" else "mr_ece_imagewise"


class MultiRaterAUCMetric(CaseMetric):
    """AUC over all (voxel, rater) pairs of all cases together, from 2^18-bin histograms.

    Comparisons within a case are exact, those between cases as fine as the bins; `error_bound()` bounds the
    error.
    """

    score = "auc"
    collects: ClassVar[frozenset[str]] = frozenset({"ranking", "histogram"})
    higher_is_better: ClassVar[bool] = True

    def error_bound(self) -> float:
        """Largest possible distance between the value over all cases and the exact AUC; collective."""
        stack = self.case_statistics().histograms
        assert stack is not None
        return stack.auc_error_bound(exact=True)


class MultiRaterBrierMetric(CaseMetric):
    """Mean of `(p - y)^2` over all (voxel, rater) pairs of all cases."""

    score = "brier"


class MultiRaterLogLossMetric(CaseMetric):
    """Mean of `-y log p - (1 - y) log(1 - p)`, in nats, over all (voxel, rater) pairs of all cases."""

    score = "nll"
    collects: ClassVar[frozenset[str]] = frozenset({"log_loss"})


class TruthErrorMetric(CaseMetric):
    """Error against the true vote probability `truth` in the label; NaN when no label holds one.

    Args:
        error: "mae", mean `|p - q|`; "brier", mean `(p - q)^2`; "calibration", binned `|sum p - sum q|`.
        bins: bins of equal width of "calibration".
        raters: number of raters where the label does not say.
    """

    def __init__(
        self,
        *,
        error: Literal["mae", "brier", "calibration"] = "brier",
        bins: int = 15,
        raters: int | None = None,
    ) -> None:
        if error not in ("mae", "brier", "calibration"):
            raise ValueError(f"TruthErrorMetric: 'error' must be 'mae', 'brier' or 'calibration', got {error!r}.")
        self.score = f"truth_{error}"
        super().__init__(bins=bins, raters=raters)
