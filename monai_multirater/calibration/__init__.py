# SPDX-License-Identifier: Apache-2.0
"""Calibration of a foreground probability against several raters: mergeable tables and scores."""

from monai_multirater.calibration.histogram import CaseHistogram
from monai_multirater.calibration.ranking import PairRanking
from monai_multirater.calibration.reliability import ReliabilityTable
from monai_multirater.calibration.scores import (
    brier_score,
    imagewise_ece,
    multirater_auc,
    multirater_ece,
    negative_log_likelihood,
    per_rater_ece,
    top_label_ece,
)
from monai_multirater.calibration.stack import HistogramStack
from monai_multirater.calibration.truth import TruthErrors, TruthTable, truth_errors

__all__ = [
    "CaseHistogram",
    "HistogramStack",
    "PairRanking",
    "ReliabilityTable",
    "TruthErrors",
    "TruthTable",
    "brier_score",
    "imagewise_ece",
    "multirater_auc",
    "multirater_ece",
    "negative_log_likelihood",
    "per_rater_ece",
    "top_label_ece",
    "truth_errors",
]
