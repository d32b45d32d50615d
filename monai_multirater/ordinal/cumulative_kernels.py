# SPDX-License-Identifier: Apache-2.0
"""Likelihoods of cumulative and conditional outputs in one pass: value and gradient block by block.

* Logistic terms, ``-w sum_k log sigmoid(s_k z_k)`` with ``s_k = 1`` where votes > k, else -1: the ranked logarithmic
  score of ``coral``, and, over k <= votes only, the likelihood of ``corn``. With ``q = sigmoid(s z)`` the derivative
  is ``w s (q - 1)``, and one logarithm of the product of q replaces R of them.
* Steps of a link, ``-log(F(z_{v-1}) - F(z_v))`` at v votes: the likelihood of ``cumulative_logit`` and
  ``cumulative_probit``. Only two of the R channels of a voxel count, so the link is computed for these two, reflected
  into the lower tail, where small probabilities are resolved.

All raters must be present: with some missing, scores need the whole distribution (:mod:`.thinned_kernels`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from monai_multirater.ordinal.blocks import TINY, BlockScore, log_of_product, score_by_autograd
from monai_multirater.ordinal.families import get_family

__all__ = ["END", "LINKS", "NARROW", "link_score", "logistic_score"]

END = 1e18  # stands for infinity; half its square is finite in float32
NARROW = 1e-3  # a smaller difference, as part of what it is taken from, has lost digits of float32
# smallest step that a precision resolves, alone and as part of its tail
_RESOLVED = ((torch.float32, TINY, NARROW), (torch.float64, 1e-290, 1e-9))


def logistic_score(raters: int, *, weight: float = 1.0, conditional: bool = False) -> BlockScore:
    """Block score ``-weight * sum_k log sigmoid(s_k z_k)`` of ``[b, R, n]`` logits.

    Args:
        raters: R, all present.
        weight: factor of the sum.
        conditional: sum over the cut points k <= votes only.
    """

    def score(outputs: Tensor, votes: Tensor, gradient: Tensor | None, scale: float) -> Tensor:
        cuts = torch.arange(raters, dtype=outputs.dtype, device=outputs.device)[:, None]
        sign = torch.empty_like(outputs) if gradient is None else gradient
        torch.gt(votes, cuts, out=sign).mul_(2).sub_(1)
        z = outputs * sign
        if conditional:
            z.add_(torch.lt(votes, cuts, out=torch.empty_like(outputs)), alpha=END)  # what is left out is certain
        q = torch.sigmoid(z)
        smallest = float(q.amin())
        values = logsigmoid(z).sum(1, keepdim=True) if smallest < TINY else log_of_product(q, smallest)
        if gradient is not None:
            gradient.mul_(q.sub_(1)).mul_(weight * scale)
        return values.mul_(-weight)

    return score


def link_score(name: str, raters: int) -> BlockScore:
    """Block score ``-log P(level = votes)`` of ``[b, R, n]`` values of a cumulative link family.

    Blocks with steps too small for float32 are computed in float64; blocks that float64 does not resolve either, or
    whose values are not in descending order, go the way of the family, in float64.

    Args:
        name: ``"cumulative_logit"`` or ``"cumulative_probit"``.
        raters: R, all present.
    """
    cdf, density = LINKS[name]
    family = get_family(name)

    @score_by_autograd
    def exact(outputs: Tensor, votes: Tensor) -> Tensor:
        return -family.distribution(outputs.double(), raters).log_level_at(votes).to(outputs.dtype)

    def step(ends: Tensor) -> Tensor | None:
        for dtype, smallest, part in _RESOLVED:
            wide = ends.to(torch.promote_types(dtype, ends.dtype))
            tails = cdf(torch.minimum(wide, -wide.flip(1)))
            upper, step = tails[:, :1], tails[:, :1] - tails[:, 1:]
            if float(step.amin()) > smallest and float((step / upper).amin()) > part:
                return step
        return None

    def score(outputs: Tensor, votes: Tensor, gradient: Tensor | None, scale: float) -> Tensor:
        ends = torch.full_like(outputs[:, :1], END)
        padded = torch.cat([ends, outputs, -ends], 1)
        index = votes.to(torch.int64)
        index = torch.cat([index, index + 1], 1)
        ends = padded.gather(1, index)
        probability = step(ends) if raters == 1 or not float(outputs.diff(dim=1).amax()) > 0 else None
        if probability is None:
            return exact(outputs, votes, gradient, scale)
        if gradient is not None:
            slopes = density(ends.to(probability.dtype)).mul_(scale).div_(probability).to(outputs.dtype)
            slopes[:, 0].neg_()
            gradient.copy_(padded.zero_().scatter_(1, index, slopes)[:, 1:-1])
        return probability.log_().neg_().to(outputs.dtype)

    return score


def _normal_cdf(z: Tensor) -> Tensor:
    return torch.erfc(z * -sqrt(0.5)).mul_(0.5)


def _normal_density(z: Tensor) -> Tensor:
    return z.square().mul_(-0.5).exp_().mul_(1 / sqrt(2 * pi))


def _logistic_density(z: Tensor) -> Tensor:
    tail = torch.sigmoid(-z.abs())
    return tail.mul_(1 - tail)


# distribution function and density by family
LINKS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "cumulative_logit": (torch.sigmoid, _logistic_density),
    "cumulative_probit": (_normal_cdf, _normal_density),
}
