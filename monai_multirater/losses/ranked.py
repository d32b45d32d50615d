# SPDX-License-Identifier: Apache-2.0
"""Ranked scores of a softmax over levels: quadratic (RPS), with majority cross-entropy, and logarithmic."""

from __future__ import annotations

from monai_multirater.losses.base import OrdinalLoss

__all__ = ["RPSBCELoss", "RankedLogarithmicLoss", "RankedProbabilityScoreLoss"]


class RankedProbabilityScoreLoss(OrdinalLoss):
    """Ranked probability score of R + 1 level logits, plus ``soft_weight`` times the soft cross-entropy.

    See :func:`~monai_multirater.ordinal.ranked_probability_score` and
    :func:`~monai_multirater.ordinal.soft_cross_entropy`.
    """

    def __init__(
        self,
        raters: int,
        *,
        family: str = "softmax",
        soft_weight: float = 0.0,
        normalize: bool = True,
        missing: str = "thin",
        reduction: str = "mean",
    ) -> None:
        scores = {"rps": 1.0, "soft_ce": soft_weight}
        super().__init__(
            raters,
            family=family,
            scores={score: weight for score, weight in scores.items() if weight},
            normalize=normalize,
            missing=missing,
            reduction=reduction,
        )


class RPSBCELoss(OrdinalLoss):
    """``BCE + lambda_rps * RPS``: majority cross-entropy and ranked probability score of R + 1 level logits.

    The foreground confidence of the BCE is the sum of the probabilities of majority levels, its label the
    majority of the raters present. The RPS is divided by the number of cut points unless ``normalize=False``.

    Args:
        raters: R of the data set.
        lambda_rps: weight of the RPS.
        ties: label and confidence of the tied level R/2: ``"background"``, ``"foreground"`` or ``"half"``.
        normalize, missing, reduction: see :class:`OrdinalLoss`.
    """

    def __init__(
        self,
        raters: int,
        *,
        lambda_rps: float = 1.0,
        ties: str = "background",
        normalize: bool = True,
        missing: str = "thin",
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            raters,
            scores={"majority_ce": 1.0, "rps": lambda_rps},
            ties=ties,
            normalize=normalize,
            missing=missing,
            reduction=reduction,
        )


class RankedLogarithmicLoss(OrdinalLoss):
    """Ranked logarithmic score, plus ``bce_weight`` majority cross-entropy and ``soft_weight`` soft cross-entropy.

    See :func:`~monai_multirater.ordinal.ranked_logarithmic_score` and
    :func:`~monai_multirater.ordinal.soft_cross_entropy`. The majority cross-entropy is the term of
    one cut point, so ``bce_weight`` says how much more that cut point weighs than the others.
    """

    def __init__(
        self,
        raters: int,
        *,
        family: str = "softmax",
        bce_weight: float = 0.0,
        soft_weight: float = 0.0,
        ties: str = "background",
        normalize: bool = True,
        missing: str = "thin",
        reduction: str = "mean",
    ) -> None:
        scores = {"ranked_log": 1.0, "majority_ce": bce_weight, "soft_ce": soft_weight}
        super().__init__(
            raters,
            family=family,
            scores={score: weight for score, weight in scores.items() if weight},
            ties=ties,
            normalize=normalize,
            missing=missing,
            reduction=reduction,
        )
