# SPDX-License-Identifier: Apache-2.0
"""Softmax, ranked scores and majority cross-entropy in one pass: value and gradient block by block.

The plain way (softmax, cumulative sums, squares, logarithms, each over the whole volume, and back again) is
bound by memory. Here a block of voxels stays in the cache, cumulative sums are products with a small
triangular matrix, and the gradient is computed with the value. With p the softmax, ``F = M p`` the
probability below each cut point (M triangular, or thinned where raters are missing) and ``A = (1 - M) p`` the
probability above:

* quadratic terms: ``sum (F - H)^2``, derivative by p ``s = 2 M' (F - H)``, by logits ``p (s - sum p s)``;
* logarithmic terms: ``-sum w log q`` with q the side, F or A, of the votes, derivative by logits
  ``p (sum w - N' (w / q))`` with N the rows of M or 1 - M of these sides;
* soft term: the same with both sides of one cut, ``1 - m`` and m, m the expected foreground probability,
  weighted by the fraction of votes for each.

Sides are summed, never subtracted from 1. Where one underflows, the block is computed again in log space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from monai_multirater.ordinal.blocks import TINY, BlockScore, log_of_product
from monai_multirater.ordinal.encoding import thinning_matrix
from monai_multirater.ordinal.foreground import majority_cuts

__all__ = ["FUSED_SCORES", "can_fuse", "softmax_score"]

FUSED_SCORES = frozenset({"rps", "ranked_log", "majority_ce", "soft_ce"})


@dataclass(frozen=True)
class _Terms:
    """What to sum for items with one number of raters present.

    There are r rows for quadratic terms (none without RPS), then l rows for the probability below the cut
    points with a logarithmic term, then l rows for the probability above them, then s rows for the soft term (none or
    two: expected background and foreground probability).

    Attributes:
        rows: ``[r + 2 l + s, R + 1]``, from the softmax p to these probabilities.
        slope: ``[R + 1, r + 2 l + s]``, from the derivatives by them to the scaled derivative by p.
        cuts: ``[r, 1]`` cut points of the quadratic terms.
        rps: weight of the quadratic terms.
        log_cuts, log_weights: ``[l, 1]`` cut points and weights of the logarithmic terms.
        log_total: sum of the weights of logarithmic and soft terms.
        log_equal: weight of the logarithmic terms if it is the same for all.
        soft: weight of the soft term.
        present: raters present.
        scale: factor of the gradient.
    """

    rows: Tensor
    slope: Tensor
    cuts: Tensor
    rps: float
    log_cuts: Tensor
    log_weights: Tensor
    log_total: float
    log_equal: float | None
    soft: float
    present: int
    scale: float


def can_fuse(weights: Mapping[str, float], present: int, ties: str) -> bool:
    """Whether :func:`softmax_score` covers these scores: ``FUSED_SCORES``, but no majority with half a tie."""
    half = "majority_ce" in weights and ties == "half" and present % 2 == 0
    return FUSED_SCORES.issuperset(weights) and not half


def _terms(
    weights: Mapping[str, float],
    raters: int,
    present: int,
    *,
    normalize: bool,
    ties: str,
    scale: float,
    like: Tensor,
) -> _Terms:
    per_cut = 1 / present if normalize else 1.0
    by_cut = torch.full((present,), weights.get("ranked_log", 0.0) * per_cut, dtype=torch.float64)
    if "majority_ce" in weights:
        by_cut[majority_cuts(present, ties)[0]] += weights["majority_ce"]
    log_cuts = by_cut.nonzero()[:, 0]
    log_weights = by_cut[log_cuts, None]
    thin, ones = thinning_matrix(raters, present, cuts=True), torch.ones(raters, raters + 1, dtype=torch.float64)
    below, above = thin @ ones.tril(), thin @ ones.triu(1)
    rps = weights.get("rps", 0.0) * per_cut
    quadratic = below if rps else below[:0]
    logarithmic = torch.cat([below[log_cuts], above[log_cuts]])
    soft = weights.get("soft_ce", 0.0)
    share = torch.arange(raters + 1, dtype=torch.float64) / raters
    mean = torch.stack([1 - share, share]) if soft else below[:0]
    slopes = [2 * rps * quadratic, -torch.cat([log_weights, log_weights]) * logarithmic, -soft * mean]
    return _Terms(
        rows=torch.cat([quadratic, logarithmic, mean]).to(like),
        slope=(scale * torch.cat(slopes)).T.to(like),
        cuts=torch.arange(len(quadratic))[:, None].to(like),
        rps=rps,
        log_cuts=log_cuts[:, None].to(like),
        log_weights=log_weights.to(like),
        log_total=float(log_weights.sum()) + soft,
        log_equal=float(log_weights[0]) if len({*log_weights[:, 0].tolist()}) == 1 else None,
        soft=soft,
        present=present,
        scale=scale,
    )


def _matmul(matrix: Tensor, block: Tensor) -> Tensor:
    return torch.bmm(matrix.expand(len(block), -1, -1), block)


def _softmax(x: Tensor) -> Tensor:
    """Softmax along axis 1 by powers of 2, which are several times faster than ``exp`` on many processors."""
    p = torch.mul(x, 1 / log(2)).contiguous()
    p -= p.amax(1, keepdim=True)
    p.exp2_()
    return p.mul_(p.sum(1, keepdim=True).reciprocal_())


def _quadratic(terms: _Terms, rows: Tensor, votes: Tensor, scratch: Tensor) -> Tensor:
    """Values ``[b, 1, n]`` of the quadratic terms; turns their probabilities into ``F - H``."""
    rows -= torch.le(votes, terms.cuts, out=scratch)
    return torch.mul(rows, rows, out=scratch).sum(1, keepdim=True).mul_(terms.rps)


def _logarithmic(terms: _Terms, rows: Tensor, votes: Tensor, scratch: Tensor) -> Tensor | None:
    """Values ``[b, 1, n]`` of the logarithmic terms; turns their probabilities into ``1 / q``.

    The side that is not the side of the votes becomes 0. None if q underflows.
    """
    below, above = rows.chunk(2, dim=1)
    is_above = torch.gt(votes, terms.log_cuts, out=scratch)
    q = torch.lerp(below, above, is_above)  # exact for weights 0 and 1
    smallest = float(q.amin())
    if smallest < TINY:
        return None
    values = _weighted_log(terms, q, smallest)
    q.reciprocal_()
    torch.mul(q, is_above, out=above)
    torch.sub(q, above, out=below)
    return values


def _weighted_log(terms: _Terms, q: Tensor, smallest: float) -> Tensor:
    """``-sum_l w_l log q_l``."""
    if terms.log_equal is None:
        return -_matmul(terms.log_weights.T, q.log())
    return log_of_product(q, smallest).mul_(-terms.log_equal)


def _soft(terms: _Terms, rows: Tensor, votes: Tensor) -> Tensor | None:
    """Values ``[b, 1, n]`` of the soft term; turns its probabilities into ``share of votes / probability``.

    A side without votes counts as probability 1. None if a side with votes underflows.
    """
    share = _shares(terms, votes)
    rows.masked_fill_(share == 0, 1.0)
    if float(rows.amin()) < TINY:
        return None
    values = torch.mul(share, rows.log()).sum(1, keepdim=True).mul_(-terms.soft)
    torch.div(share, rows, out=rows)
    return values


def _shares(terms: _Terms, votes: Tensor) -> Tensor:
    """Fraction of votes for background and foreground, ``[b, 2, n]``."""
    return torch.cat([terms.present - votes, votes], 1).div_(terms.present)


def _logarithmic_exact(terms: _Terms, x: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """Values and scaled derivative by logits of the logarithmic and soft terms, in log space."""
    log_p = torch.log_softmax(x, 1)
    values, gradient = torch.zeros_like(x[:, :1]), torch.exp(log_p) * terms.log_total
    log_rows, count = terms.rows[len(terms.cuts) :].log(), len(terms.log_cuts)
    sides = [
        (torch.where(votes > terms.log_cuts[row], log_rows[count + row, :, None], log_rows[row, :, None]), weight)
        for row, weight in enumerate(terms.log_weights)
    ]
    if terms.soft:
        shares = _shares(terms, votes).mul_(terms.soft)
        sides += [(log_rows[2 * count + row, :, None], shares[:, row : row + 1]) for row in range(2)]
    for log_row, weight in sides:
        side = log_p + log_row
        log_q = torch.logsumexp(side, 1, keepdim=True)
        values -= weight * log_q
        gradient -= weight * torch.exp(side - log_q)
    return values, gradient.mul_(terms.scale)


def _block(terms: _Terms, x: Tensor, votes: Tensor, gradient: Tensor | None) -> Tensor:
    """Values ``[b, 1, n]`` of logits ``x [b, R + 1, n]``; writes their scaled gradient."""
    gradient = torch.empty_like(x) if gradient is None else gradient
    p = _softmax(x)
    rows = _matmul(terms.rows, p)
    quadratic, logarithmic = len(terms.cuts), 2 * len(terms.log_cuts)
    parts: list[Tensor | None] = []
    exact = None
    if logarithmic:
        log_rows = rows[:, quadratic : quadratic + logarithmic]
        parts.append(_logarithmic(terms, log_rows, votes, gradient[:, : len(terms.log_cuts)]))
    if terms.soft:
        parts.append(_soft(terms, rows[:, quadratic + logarithmic :], votes))
    if any(part is None for part in parts):
        rows[:, quadratic:].zero_()
        value, exact = _logarithmic_exact(terms, x, votes)
        parts = [value]
    if quadratic:
        parts.append(_quadratic(terms, rows[:, :quadratic], votes, gradient[:, :quadratic]))
    torch.bmm(terms.slope.expand(len(rows), -1, -1), rows, out=gradient)
    if quadratic:
        gradient *= p
        gradient.addcmul_(p, gradient.sum(1, keepdim=True), value=-1)
    else:
        gradient += terms.scale * terms.log_total if exact is None else 0.0
        gradient *= p
    if exact is not None:
        gradient += exact
    return _total([part for part in parts if part is not None], x)


def _total(parts: list[Tensor], x: Tensor) -> Tensor:
    """Sum of values, into the first; zeros without any."""
    if not parts:
        return torch.zeros_like(x[:, :1])
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def softmax_score(
    weights: Mapping[str, float], raters: int, present: int, *, normalize: bool = True, ties: str = "background"
) -> BlockScore:
    """Block score of ``R + 1`` level logits: weighted sum of ``rps``, ``ranked_log``, ``majority_ce`` and ``soft_ce``.

    Args:
        weights: weight by score, keys in ``FUSED_SCORES``.
        raters: R.
        present: raters present, 1..R; the distribution over levels is thinned to their votes.
        normalize: divide the ranked scores by the number of cut points.
        ties: of the majority; ``"half"`` only for odd ``present`` (:func:`can_fuse`).
    """
    made: dict[tuple[torch.dtype, torch.device, float], _Terms] = {}

    def score(outputs: Tensor, votes: Tensor, gradient: Tensor | None, scale: float) -> Tensor:
        key = outputs.dtype, outputs.device, scale
        if key not in made:
            made.clear()
            made[key] = _terms(weights, raters, present, normalize=normalize, ties=ties, scale=scale, like=outputs[:0])
        return _block(made[key], outputs, votes, gradient)

    return score
