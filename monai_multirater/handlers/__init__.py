# SPDX-License-Identifier: Apache-2.0
"""Handlers and batch preparation for MONAI engines."""

from monai_multirater.handlers.batches import PrepareVotes
from monai_multirater.handlers.calibration import FitCalibrators
from monai_multirater.handlers.checkpoints import AtomicCheckpointSaver, ResumeHandler
from monai_multirater.handlers.epochs import SeedEpochs, TrainingHistory, TrainingProgress
from monai_multirater.handlers.evaluation import EvaluationReport, RaterCeiling
from monai_multirater.handlers.metrics import (
    MultiRaterAUC,
    MultiRaterBrier,
    MultiRaterCalibrationError,
    MultiRaterLogLoss,
    MultiRaterMetricHandler,
    MultiRaterSummary,
    TruthError,
)
from monai_multirater.handlers.panels import TensorBoardPanels

__all__ = [
    "AtomicCheckpointSaver",
    "EvaluationReport",
    "FitCalibrators",
    "MultiRaterAUC",
    "MultiRaterBrier",
    "MultiRaterCalibrationError",
    "MultiRaterLogLoss",
    "MultiRaterMetricHandler",
    "MultiRaterSummary",
    "PrepareVotes",
    "RaterCeiling",
    "ResumeHandler",
    "SeedEpochs",
    "TensorBoardPanels",
    "TrainingHistory",
    "TrainingProgress",
    "TruthError",
]
