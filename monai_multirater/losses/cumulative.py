# SPDX-License-Identifier: Apache-2.0
"""Losses of cumulative and conditional families: CORAL, CORN, cumulative link."""

from __future__ import annotations

from monai_multirater.losses.base import OrdinalLoss

__all__ = ["CORALLoss", "CORNLoss", "CumulativeLinkLoss"]


class CORALLoss(OrdinalLoss):
    """Binary cross-entropy of ``P(votes > k) = sigmoid(z_k)`` at every cut point, mean over cut points.

    Outputs are R cumulative logits ``z_k = f + b_k``. Source: Cao et al. 2020,
    doi:10.1016/j.patrec.2020.11.008.
    """

    def __init__(self, raters: int, *, missing: str = "thin", reduction: str = "mean") -> None:
        super().__init__(raters, family="coral", scores="ranked_log", missing=missing, reduction=reduction)


class CORNLoss(OrdinalLoss):
    """Negative log-likelihood of R conditional logits ``P(votes > k | votes > k - 1) = sigmoid(z_k)``.

    The same sum of conditional cross-entropies as Shi, Cao, Raschka 2021 (arXiv:2111.08851), per voxel; they
    divide by the number of conditional examples instead of voxels.
    """

    def __init__(self, raters: int, *, missing: str = "thin", reduction: str = "mean") -> None:
        super().__init__(raters, family="corn", scores="level_ce", missing=missing, reduction=reduction)


class CumulativeLinkLoss(OrdinalLoss):
    """Negative log-likelihood of the cumulative link model, ``P(votes > k) = link(f - theta_k)``.

    Outputs are R values ``z_k = f - theta_k`` in descending order; a level between two equal values has
    probability 0 and an infinite loss, hence the ordered thresholds of the head. Source: McCullagh 1980,
    doi:10.1111/j.2517-6161.1980.tb01109.x.

    Args:
        link: ``"logit"`` or ``"probit"``.
    """

    def __init__(self, raters: int, *, link: str = "logit", missing: str = "thin", reduction: str = "mean") -> None:
        if link not in ("logit", "probit"):
            raise ValueError(f"CumulativeLinkLoss: link must be 'logit' or 'probit'. Got {link!r}.")
        super().__init__(raters, family=f"cumulative_{link}", scores="level_ce", missing=missing, reduction=reduction)
