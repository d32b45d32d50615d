# SPDX-License-Identifier: Apache-2.0
"""Which scores of which families have a kernel that gives value and gradient in one pass."""

from __future__ import annotations

from collections.abc import Mapping

from monai_multirater.ordinal.beta_binomial_kernel import beta_binomial_score
from monai_multirater.ordinal.blocks import BlockScore
from monai_multirater.ordinal.cumulative_kernels import LINKS, link_score, logistic_score
from monai_multirater.ordinal.softmax_kernels import can_fuse, softmax_score
from monai_multirater.ordinal.thinned_kernels import thinned_score

__all__ = ["fused_score"]


def fused_score(
    family: str, weights: Mapping[str, float], raters: int, present: int, *, normalize: bool, ties: str
) -> BlockScore | None:
    """Kernel of a weighted sum of scores, or None where only differentiation will do.

    Args:
        family: key of ``FAMILIES``.
        weights: weight by key of ``SCORES``.
        raters: R.
        present: raters present, 1..R.
        normalize: divide the ranked scores by the number of cut points.
        ties: of the majority.
    """
    if family == "softmax":
        if not can_fuse(weights, present, ties):
            return None
        return softmax_score(weights, raters, present, normalize=normalize, ties=ties)
    if family == "beta_binomial" and weights == {"level_ce": 1.0}:
        return beta_binomial_score(present)
    if len(weights) != 1:
        return None
    ((score, weight),) = weights.items()
    if score == "ranked_log" and normalize:
        weight /= present
    if present < raters:
        return thinned_score(family, score, raters, present, weight=weight)
    if (family, score) in (("coral", "ranked_log"), ("corn", "level_ce")):
        return logistic_score(raters, weight=weight, conditional=family == "corn")
    if family in LINKS and weights == {"level_ce": 1.0}:
        return link_score(family, raters)
    return None
