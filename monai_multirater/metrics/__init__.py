# SPDX-License-Identifier: Apache-2.0
"""Metrics for MONAI's engines, safe under distributed evaluation and varying numbers of raters."""

from monai_multirater.metrics.base import CaseMetric
from monai_multirater.metrics.calibration import (
    MultiRaterAUCMetric,
    MultiRaterBrierMetric,
    MultiRaterCalibrationErrorMetric,
    MultiRaterLogLossMetric,
    TruthErrorMetric,
)
from monai_multirater.metrics.statistics import CaseStatistics, compare_models
from monai_multirater.metrics.summary import MultiRaterSummaryMetric

__all__ = [
    "CaseMetric",
    "CaseStatistics",
    "MultiRaterAUCMetric",
    "MultiRaterBrierMetric",
    "MultiRaterCalibrationErrorMetric",
    "MultiRaterLogLossMetric",
    "MultiRaterSummaryMetric",
    "TruthErrorMetric",
    "compare_models",
]
