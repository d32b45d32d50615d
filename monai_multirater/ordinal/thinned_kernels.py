# SPDX-License-Identifier: Apache-2.0
"""Cumulative and conditional families with raters missing: value and gradient block by block.

A family gives non-negative parts p (the probabilities of its levels, or of both sides of its cut points), and a matrix
M of non-negative numbers thins them to the votes of the raters present. The score is ``-w sum log (M p)_i`` over the
rows i that the votes select, its derivative by p is ``-w M' (selected / M p)``, and the family carries that on to its
outputs. Nothing is subtracted from 1; where a sum underflows, the block goes the way of the family.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from monai_multirater.ordinal.blocks import TINY, BlockScore, log_of_product, score_by_autograd
from monai_multirater.ordinal.cumulative_kernels import END, LINKS, NARROW
from monai_multirater.ordinal.encoding import thinning_matrix
from monai_multirater.ordinal.families import get_family
from monai_multirater.ordinal.scores import SCORES

__all__ = ["thinned_score"]

Parts = Callable[[Tensor], "tuple[Tensor, Callable[[Tensor], Tensor]] | None"]
"""``outputs [b, R, n] -> (parts [b, m, n], derivative by parts -> derivative by outputs)``, None if digits are lost."""


def _link_levels(name: str) -> Parts:
    cdf, density = LINKS[name]

    def parts(z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        end = torch.full_like(z[:, :1], END)
        padded = torch.cat([end, z, -end], 1)
        upper, lower = padded[:, :-1], padded[:, 1:]
        tails = cdf(torch.minimum(upper, -lower))
        levels = tails - cdf(torch.minimum(lower, -upper))
        if not float((levels + TINY).div_(tails.add_(TINY)).amin()) > NARROW:
            return None
        return levels, lambda slope: slope.diff(dim=1).mul_(density(z))

    return parts


def _conditional_levels(z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    yes, no = torch.sigmoid(z), torch.sigmoid(-z)
    levels = torch.cat([no, torch.ones_like(no[:, :1])], 1)
    for k in range(z.shape[1]):
        levels[:, k + 1 :] *= yes[:, k : k + 1]

    def back(slope: Tensor) -> Tensor:
        weight = slope.mul_(levels)
        beyond = weight.flip(1).cumsum(1).flip(1)[:, 1:]  # of the levels above each cut point
        return beyond.mul_(no).sub_(yes.mul_(weight[:, :-1]))

    return levels, back


def _logistic_sides(z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    sides = torch.cat([torch.sigmoid(-z), torch.sigmoid(z)], 1)

    def back(slope: Tensor) -> Tensor:
        below, above = slope.chunk(2, 1)
        return above.sub_(below).mul_(sides[:, : z.shape[1]]).mul_(sides[:, z.shape[1] :])

    return sides, back


_PARTS: dict[tuple[str, str], Parts] = {
    ("coral", "ranked_log"): _logistic_sides,
    ("corn", "level_ce"): _conditional_levels,
    **{(name, "level_ce"): _link_levels(name) for name in LINKS},
}


def thinned_score(family: str, score: str, raters: int, present: int, *, weight: float = 1.0) -> BlockScore | None:
    """Block score of ``present`` of R raters, or None for a family and score without such a kernel.

    Args:
        family: key of ``FAMILIES``.
        score: ``"ranked_log"``, as a sum over the cut points, for ``coral``; ``"level_ce"`` for the others.
        raters: R.
        present: 1..R.
        weight: factor of the score.
    """
    if (family, score) not in _PARTS:
        return None
    parts_of, ranked = _PARTS[family, score], score == "ranked_log"
    thin = thinning_matrix(raters, present, cuts=ranked)
    matrix = torch.kron(torch.eye(2 if ranked else 1, dtype=thin.dtype), thin)  # once for each side
    options = {"normalize": False} if ranked else {}

    @score_by_autograd
    def exact(outputs: Tensor, votes: Tensor) -> Tensor:
        distribution = get_family(family).distribution(outputs.double(), raters).thin(present)
        return (weight * SCORES[score].function(distribution, votes, present, **options)).to(outputs.dtype)

    def selected(votes: Tensor) -> Tensor:
        if not ranked:
            levels = torch.arange(present + 1, dtype=votes.dtype, device=votes.device)[:, None]
            return torch.eq(votes, levels, out=votes.new_empty(len(votes), present + 1, votes.shape[2]))
        cuts = torch.arange(present, dtype=votes.dtype, device=votes.device)[:, None]
        above = torch.gt(votes, cuts, out=votes.new_empty(len(votes), present, votes.shape[2]))
        return torch.cat([1 - above, above], 1)

    def block_score(outputs: Tensor, votes: Tensor, gradient: Tensor | None, scale: float) -> Tensor:
        found = parts_of(outputs)
        if found is None:
            return exact(outputs, votes, gradient, scale)
        parts, back = found
        rows = matrix.to(outputs).expand(len(outputs), -1, -1)
        chosen = selected(votes)
        q = torch.bmm(rows, parts)
        q = torch.lerp(torch.ones_like(q), q, chosen)  # 1 where not chosen: exact for weights 0 and 1
        smallest = float(q.amin())
        if not smallest > TINY:
            return exact(outputs, votes, gradient, scale)
        if gradient is not None:
            gradient.copy_(back(torch.bmm(rows.mT, chosen.div_(q).mul_(-weight * scale))))
        return log_of_product(q, smallest).mul_(-weight)

    return block_score
