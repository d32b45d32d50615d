# SPDX-License-Identifier: Apache-2.0
"""Metrics for MONAI's engines, safe under distributed evaluation and varying numbers of raters."""

from monai_multirater.metrics.agreement import (
    AgreementMetric,
    FleissKappaMetric,
    PairwiseDiceMetric,
    PairwiseHausdorffDistanceMetric,
    PairwiseIoUMetric,
    PairwiseKappaMetric,
    PairwiseSurfaceDiceMetric,
    PairwiseSurfaceDistanceMetric,
)
from monai_multirater.metrics.agreement_table import AgreementTable
from monai_multirater.metrics.base import CaseMetric
from monai_multirater.metrics.calibration import (
    MultiRaterAUCMetric,
    MultiRaterBrierMetric,
    MultiRaterCalibrationErrorMetric,
    MultiRaterLogLossMetric,
    TruthErrorMetric,
)
from monai_multirater.metrics.rater_dice import DICE_PARTNERS, RaterDice, RaterDiceCollector, rater_dice
from monai_multirater.metrics.statistics import CaseStatistics, compare_models
from monai_multirater.metrics.summary import MultiRaterSummaryMetric

__all__ = [
    "DICE_PARTNERS",
    "AgreementMetric",
    "AgreementTable",
    "CaseMetric",
    "CaseStatistics",
    "FleissKappaMetric",
    "MultiRaterAUCMetric",
    "MultiRaterBrierMetric",
    "MultiRaterCalibrationErrorMetric",
    "MultiRaterLogLossMetric",
    "MultiRaterSummaryMetric",
    "PairwiseDiceMetric",
    "PairwiseHausdorffDistanceMetric",
    "PairwiseIoUMetric",
    "PairwiseKappaMetric",
    "PairwiseSurfaceDiceMetric",
    "PairwiseSurfaceDistanceMetric",
    "RaterDice",
    "RaterDiceCollector",
    "TruthErrorMetric",
    "compare_models",
    "rater_dice",
]
