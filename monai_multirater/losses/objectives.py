# SPDX-License-Identifier: Apache-2.0
"""Objectives by name: one word of a configuration chooses family, loss and foreground rule together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from monai_multirater.losses.base import VoteLoss
from monai_multirater.losses.baselines import ConsensusLoss, MajorityVoteLoss, SoftVoteLoss
from monai_multirater.losses.beta_binomial import BetaBinomialLoss
from monai_multirater.losses.cumulative import CORALLoss, CORNLoss, CumulativeLinkLoss
from monai_multirater.losses.levels import EarthMoverLoss, LevelCrossEntropyLoss, UnimodalLoss
from monai_multirater.losses.ranked import RankedLogarithmicLoss, RankedProbabilityScoreLoss, RPSBCELoss

__all__ = ["OBJECTIVES", "Objective", "make_loss", "objective_family", "objective_foreground"]


@dataclass(frozen=True)
class Objective:
    """A way to train: what the network gives, how it is scored, how foreground is read.

    Attributes:
        name: its key in ``OBJECTIVES``.
        family: key of :data:`monai_multirater.ordinal.FAMILIES`.
        factory: ``factory(raters, **options)`` makes the loss.
        foreground: default rule of :func:`monai_multirater.ordinal.foreground_probability`.
    """

    name: str
    family: str
    factory: Callable[..., VoteLoss]
    foreground: str = "expected"


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("rps_bce", "softmax", RPSBCELoss, foreground="majority"),
        Objective("rps", "softmax", RankedProbabilityScoreLoss),
        Objective("ranked_log", "softmax", RankedLogarithmicLoss),
        Objective("ranked_log_bce", "softmax", partial(RankedLogarithmicLoss, bce_weight=1.0)),
        Objective("ranked_log_soft", "softmax", partial(RankedLogarithmicLoss, soft_weight=1.0)),
        Objective("rps_soft", "softmax", partial(RankedProbabilityScoreLoss, soft_weight=1.0)),
        Objective("level_ce", "softmax", LevelCrossEntropyLoss),
        Objective("coral", "coral", CORALLoss),
        Objective("corn", "corn", CORNLoss),
        Objective("cumulative_logit", "cumulative_logit", partial(CumulativeLinkLoss, link="logit")),
        Objective("cumulative_probit", "cumulative_probit", partial(CumulativeLinkLoss, link="probit")),
        Objective("squared_emd", "softmax", EarthMoverLoss),
        Objective("unimodal", "softmax", UnimodalLoss),
        Objective("beta_binomial", "beta_binomial", BetaBinomialLoss),
        Objective("soft", "binary", SoftVoteLoss),
        Objective("majority", "binary", MajorityVoteLoss),
        Objective("consensus", "binary", ConsensusLoss),
    )
}


def _objective(name: str) -> Objective:
    if name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {list(OBJECTIVES)}. Got {name!r}.")
    return OBJECTIVES[name]


def make_loss(objective: str, *, raters: int, **options: Any) -> VoteLoss:
    """Loss of an objective.

    Args:
        objective: key of ``OBJECTIVES``.
        raters: R of the data set.
        options: keyword arguments of the loss class, for example ``lambda_rps`` or ``reduction``.

    Raises:
        ValueError: unknown objective. TypeError: an option that its loss does not have.
    """
    return _objective(objective).factory(raters, **options)


def objective_family(objective: str) -> str:
    """Family of an objective: what the network has to give."""
    return _objective(objective).family


def objective_foreground(objective: str) -> str:
    """Default foreground rule of an objective, ``"majority"`` or ``"expected"``."""
    return _objective(objective).foreground
