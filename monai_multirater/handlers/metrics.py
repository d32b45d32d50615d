# SPDX-License-Identifier: Apache-2.0
"""Handlers that attach the multi-rater metrics to MONAI's engines, as key metric or beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine

from monai_multirater.metrics import (
    CaseMetric,
    MultiRaterAUCMetric,
    MultiRaterBrierMetric,
    MultiRaterCalibrationErrorMetric,
    MultiRaterLogLossMetric,
    MultiRaterSummaryMetric,
    TruthErrorMetric,
)

__all__ = [
    "MultiRaterAUC",
    "MultiRaterBrier",
    "MultiRaterCalibrationError",
    "MultiRaterLogLoss",
    "MultiRaterMetricHandler",
    "MultiRaterSummary",
    "TruthError",
]

PREDICTION_AND_LABEL = from_engine(["pred", "label"])


class MultiRaterMetricHandler(IgniteMetricHandler):
    """Attach a multi-rater metric to an engine.

    The prediction is the foreground probability (after `OrdinalToForegroundd`), the label a mapping with
    `votes` and `n_raters`, before or after decollation. Names of cases are read from the batch under
    `case_key`, so that per-case values can be told apart and repeated cases of a distributed evaluation count
    once.

    Args:
        metric_fn: a metric of `monai_multirater.metrics`.
        output_transform: engine output to `(y_pred, y)`; by default `from_engine(["pred", "label"])`.
        save_details: write the value of each case to `engine.state.metric_details`.
        case_key: key of the case name in the batch.
    """

    metric_fn: CaseMetric

    def __init__(
        self,
        metric_fn: CaseMetric,
        *,
        output_transform: Callable[[Any], Any] = PREDICTION_AND_LABEL,
        save_details: bool = True,
        case_key: str = "case",
    ) -> None:
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=save_details)
        self.case_key = case_key
        self._cases: Sequence[str] | None = None

    def iteration_completed(self, engine: Engine) -> None:
        """Take the names of the cases from the batch, then update the metric."""
        self._cases = case_names(engine.state.batch, self.case_key)
        super().iteration_completed(engine)

    def update(self, output: Sequence[Any]) -> None:
        """Add one batch; `output` is `(y_pred, y)`."""
        if len(output) != 2:
            raise ValueError(
                f"{type(self).__name__}: 'output_transform' must return (y_pred, y), got {len(output)} values."
            )
        names = self._cases if self._cases is not None and len(self._cases) == len(output[0]) else None
        self.metric_fn(output[0], output[1], cases=names)


class MultiRaterCalibrationError(MultiRaterMetricHandler):
    """Handler of `MultiRaterCalibrationErrorMetric`; lower is better."""

    def __init__(
        self,
        *,
        bins: int = 15,
        reduction: Literal["pooled", "imagewise"] = "pooled",
        raters: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(MultiRaterCalibrationErrorMetric(bins=bins, reduction=reduction, raters=raters), **options)


class MultiRaterAUC(MultiRaterMetricHandler):
    """Handler of `MultiRaterAUCMetric`; higher is better."""

    def __init__(self, *, raters: int | None = None, **options: Any) -> None:
        super().__init__(MultiRaterAUCMetric(raters=raters), **options)


class MultiRaterBrier(MultiRaterMetricHandler):
    """Handler of `MultiRaterBrierMetric`; lower is better."""

    def __init__(self, *, raters: int | None = None, **options: Any) -> None:
        super().__init__(MultiRaterBrierMetric(raters=raters), **options)


class MultiRaterLogLoss(MultiRaterMetricHandler):
    """Handler of `MultiRaterLogLossMetric`; lower is better."""

    def __init__(self, *, raters: int | None = None, **options: Any) -> None:
        super().__init__(MultiRaterLogLossMetric(raters=raters), **options)


class TruthError(MultiRaterMetricHandler):
    """Handler of `TruthErrorMetric`; lower is better."""

    def __init__(
        self,
        *,
        error: Literal["mae", "brier", "calibration"] = "brier",
        bins: int = 15,
        raters: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(TruthErrorMetric(error=error, bins=bins, raters=raters), **options)


class MultiRaterSummary(MultiRaterMetricHandler):
    """Handler of `MultiRaterSummaryMetric`: one pass, several entries of `engine.state.metrics`.

    The metric's `score` appears under the name that the handler is attached with (so it can be the key
    metric), every
    other score that is defined under its own name: `auc`, `brier`, `nll`, `truth_brier`, ...

    Args:
        score: score that stands under the handler's own name.
        scores: names of the other scores to publish; all that are defined by default.
        bins: bins of equal width of the calibration errors.
        raters: number of raters where the label does not say.
        options: `output_transform`, `save_details`, `case_key`.
    """

    metric_fn: MultiRaterSummaryMetric

    def __init__(
        self,
        *,
        score: str = "mr_ece",
        scores: Sequence[str] | None = None,
        bins: int = 15,
        raters: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(MultiRaterSummaryMetric(score=score, bins=bins, raters=raters), **options)
        self.scores = None if scores is None else tuple(scores)

    def completed(self, engine: Engine, name: str) -> None:
        """Publish the chosen score under `name` and the others under their own names."""
        super().completed(engine, name)
        for other, value in self.metric_fn.scores().items():
            wanted = not value.isnan() if self.scores is None else other in self.scores
            if wanted and other != self.metric_fn.chosen and other != name:
                engine.state.metrics[other] = value.item()


def case_names(batch: Any, key: str) -> list[str] | None:
    """Names of the cases of a batch, collated or decollated; None without names."""
    if isinstance(batch, Mapping) and isinstance(batch.get(key), (list, tuple)):
        return [str(name) for name in batch[key]]
    if isinstance(batch, Sequence) and batch and all(isinstance(i, Mapping) and key in i for i in batch):
        return [str(item[key]) for item in batch]
    return None
