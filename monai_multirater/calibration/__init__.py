# SPDX-License-Identifier: Apache-2.0
"""Calibration of a foreground probability against several raters: mergeable tables, scores, post-hoc calibrators."""

from monai_multirater.calibration.fitting import CalibrationScores, calibration_scores, fit_calibrator
from monai_multirater.calibration.histogram import CaseHistogram
from monai_multirater.calibration.posthoc import (
    CALIBRATORS,
    Calibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    calibrator_from_dict,
)
from monai_multirater.calibration.ranking import PairRanking
from monai_multirater.calibration.record import CalibrationRecord, Fit, file_digest
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
    "CALIBRATORS",
    "CalibrationRecord",
    "CalibrationScores",
    "Calibrator",
    "CaseHistogram",
    "Fit",
    "HistogramStack",
    "IsotonicCalibrator",
    "PairRanking",
    "PlattCalibrator",
    "ReliabilityTable",
    "TemperatureCalibrator",
    "TruthErrors",
    "TruthTable",
    "brier_score",
    "calibration_scores",
    "calibrator_from_dict",
    "file_digest",
    "fit_calibrator",
    "imagewise_ece",
    "multirater_auc",
    "multirater_ece",
    "negative_log_likelihood",
    "per_rater_ece",
    "top_label_ece",
    "truth_errors",
]
