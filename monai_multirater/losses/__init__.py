# SPDX-License-Identifier: Apache-2.0
"""Losses on votes: ``loss(outputs, target, rater_mask=None, n_raters=None)``."""

from monai_multirater.losses.base import OrdinalLoss, VoteLoss
from monai_multirater.losses.baselines import ConsensusLoss, MajorityVoteLoss, SoftVoteLoss
from monai_multirater.losses.beta_binomial import BetaBinomialLoss
from monai_multirater.losses.cumulative import CORALLoss, CORNLoss, CumulativeLinkLoss
from monai_multirater.losses.levels import EarthMoverLoss, LevelCrossEntropyLoss, UnimodalLoss
from monai_multirater.losses.objectives import (
    OBJECTIVES,
    Objective,
    make_loss,
    objective_family,
    objective_foreground,
)
from monai_multirater.losses.ranked import RankedLogarithmicLoss, RankedProbabilityScoreLoss, RPSBCELoss

__all__ = [
    "OBJECTIVES",
    "BetaBinomialLoss",
    "CORALLoss",
    "CORNLoss",
    "ConsensusLoss",
    "CumulativeLinkLoss",
    "EarthMoverLoss",
    "LevelCrossEntropyLoss",
    "MajorityVoteLoss",
    "Objective",
    "OrdinalLoss",
    "RPSBCELoss",
    "RankedLogarithmicLoss",
    "RankedProbabilityScoreLoss",
    "SoftVoteLoss",
    "UnimodalLoss",
    "VoteLoss",
    "make_loss",
    "objective_family",
    "objective_foreground",
]
