# SPDX-License-Identifier: Apache-2.0
"""Further losses of a softmax over levels: cross-entropy, earth mover's distance, unimodality."""

from __future__ import annotations

from monai_multirater.losses.base import OrdinalLoss

__all__ = ["EarthMoverLoss", "LevelCrossEntropyLoss", "UnimodalLoss"]


class LevelCrossEntropyLoss(OrdinalLoss):
    """Cross-entropy of the level, ``-log P(level = votes)``."""

    def __init__(self, raters: int, *, family: str = "softmax", missing: str = "thin", reduction: str = "mean") -> None:
        super().__init__(raters, family=family, scores="level_ce", missing=missing, reduction=reduction)


class EarthMoverLoss(OrdinalLoss):
    """``sum_k |P(level <= k) - 1[votes <= k]|^exponent / (R + 1)``.

    See :func:`~monai_multirater.ordinal.earth_mover_score`.
    """

    def __init__(
        self,
        raters: int,
        *,
        exponent: float = 2.0,
        family: str = "softmax",
        missing: str = "thin",
        reduction: str = "mean",
    ) -> None:
        if exponent < 1:
            raise ValueError(f"EarthMoverLoss: exponent must be at least 1. Got {exponent}.")
        super().__init__(
            raters,
            family=family,
            scores="earth_mover",
            exponent=exponent,
            missing=missing,
            reduction=reduction,
        )


class UnimodalLoss(OrdinalLoss):
    """Cross-entropy of the level plus ``weight`` times the penalty on level probabilities with another peak.

    See :func:`~monai_multirater.ordinal.unimodality_penalty`.
    """

    def __init__(
        self,
        raters: int,
        *,
        weight: float = 1.0,
        margin: float = 0.05,
        missing: str = "thin",
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            raters,
            scores={"level_ce": 1.0, "unimodality": weight},
            margin=margin,
            missing=missing,
            reduction=reduction,
        )
