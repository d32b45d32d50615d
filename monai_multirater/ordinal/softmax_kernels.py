# SPDX-License-Identifier: Apache-2.0
"""Softmax, ranked scores and majority cross-entropy in one pass: value and gradient block by block.

The plain way (softmax, cumulative sums, squares, logarithms, each over the whole volume, and back again) is
bound by memory. Here a block of voxels stays in the cache, cumulative sums are products with a small
triangular matrix, and the gradient is computed with the value. With p the softmax, ``F = M p`` the
probability below each cut point (M triangular, or thinned where raters are missing) and ``A = (1 - M) p`` the
probability above:

* quadratic terms: ``sum (F - H)^2``, derivative by p ``s = 2 M' (F - H)``, by logits ``p (s - sum p s)``;
* logarithmic terms: ``-sum w log q`` with q the side, F or A, of the votes, derivative by logits
  ``p (sum w - N' (w / q))`` with N the rows of M or 1 - M of these sides.

Sides are summed, never subtracted from 1. Where one underflows, the block is computed again in log space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_multirater.ordinal.encoding import full_precision, thinning_matrix
from monai_multirater.ordinal.foreground import majority_cuts

__all__ = ["FUSED_SCORES", "can_fuse", "softmax_scores"]

FUSED_SCORES = frozenset({"rps", "ranked_log", "majority_ce"})
_CPU_BLOCK = 1 << 18  # probabilities: a block and its temporaries stay in the second-level cache
_CUDA_BLOCK = 1 << 26  # launches cost more than memory traffic there
_TINY = 1e-30


@dataclass(frozen=True)
class _Terms:
    """What to sum for items with one number of raters present.

    There are r rows for quadratic terms (none without RPS), then l rows for the probability below the cut
    points with a logarithmic term, then l rows for the probability above them.

    Attributes:
        rows: ``[r + 2 l, R + 1]``, from the softmax p to these probabilities.
        slope: ``[R + 1, r + 2 l]``, from the derivatives by them to the scaled derivative by p.
        cuts: ``[r, 1]`` cut points of the quadratic terms.
        rps: weight of the quadratic terms.
        log_cuts, log_weights: ``[l, 1]`` cut points and weights of the logarithmic terms.
        log_total: their sum times ``scale``.
        log_equal: their weight if it is the same for all.
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
    scale: float


def can_fuse(weights: Mapping[str, float], counts: list[int], ties: str) -> bool:
    """Whether :func:`softmax_scores` covers these scores: ``FUSED_SCORES``, but no majority with half a tie."""
    half = "majority_ce" in weights and ties == "half" and any(n % 2 == 0 for n in counts)
    return FUSED_SCORES.issuperset(weights) and not half


def _terms(
    weights: Mapping[str, float],
    levels: int,
    present: int,
    *,
    normalize: bool,
    ties: str,
    scale: float,
    like: Tensor,
) -> _Terms:
    raters = levels - 1
    per_cut = 1 / present if normalize else 1.0
    by_cut = torch.full((present,), weights.get("ranked_log", 0.0) * per_cut, dtype=torch.float64)
    if "majority_ce" in weights:
        by_cut[majority_cuts(present, ties)[0]] += weights["majority_ce"]
    log_cuts = by_cut.nonzero()[:, 0]
    log_weights = by_cut[log_cuts, None]
    thin, ones = thinning_matrix(raters, present, cuts=True), torch.ones(raters, levels, dtype=torch.float64)
    below, above = thin @ ones.tril(), thin @ ones.triu(1)
    rps = weights.get("rps", 0.0) * per_cut
    quadratic = below if rps else below[:0]
    logarithmic = torch.cat([below[log_cuts], above[log_cuts]])
    slopes = [2 * rps * quadratic, -torch.cat([log_weights, log_weights]) * logarithmic]
    return _Terms(
        rows=torch.cat([quadratic, logarithmic]).to(like),
        slope=(scale * torch.cat(slopes)).T.to(like),
        cuts=torch.arange(len(quadratic))[:, None].to(like),
        rps=rps,
        log_cuts=log_cuts[:, None].to(like),
        log_weights=log_weights.to(like),
        log_total=scale * float(log_weights.sum()),
        log_equal=float(log_weights[0]) if len({*log_weights[:, 0].tolist()}) == 1 else None,
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


def _quadratic(terms: _Terms, rows: Tensor, votes: Tensor) -> Tensor:
    """Values ``[b, 1, n]`` of the quadratic terms; turns their probabilities into ``F - H``."""
    rows -= torch.le(votes, terms.cuts, out=torch.empty_like(rows))
    return rows.square().sum(1, keepdim=True).mul_(terms.rps)


def _logarithmic(terms: _Terms, rows: Tensor, votes: Tensor) -> Tensor | None:
    """Values ``[b, 1, n]`` of the logarithmic terms; turns their probabilities into ``1 / q``.

    The side that is not the side of the votes becomes 0. None, with all rows 0, if q underflows.
    """
    below, above = rows.chunk(2, dim=1)
    is_above = torch.gt(votes, terms.log_cuts, out=torch.empty_like(below))
    q = torch.lerp(below, above, is_above)  # exact for weights 0 and 1
    smallest = float(q.amin())
    if smallest < _TINY:
        rows.zero_()
        return None
    values = _weighted_log(terms, q, smallest)
    q.reciprocal_()
    torch.mul(q, is_above, out=above)
    torch.sub(q, above, out=below)
    return values


def _weighted_log(terms: _Terms, q: Tensor, smallest: float) -> Tensor:
    """``-sum_l w_l log q_l``; equal weights take one logarithm per product that cannot underflow."""
    if terms.log_equal is None:
        return -_matmul(terms.log_weights.T, q.log())
    together = max(1, int(log(_TINY) / log(smallest))) if smallest < 1 else q.shape[1]
    products = [part.prod(1, keepdim=True).log_() for part in torch.split(q, together, dim=1)]
    total = products[0] if len(products) == 1 else torch.cat(products, 1).sum(1, keepdim=True)
    return total.mul_(-terms.log_equal)


def _logarithmic_exact(terms: _Terms, x: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """Values and scaled derivative by logits of the logarithmic terms, in log space."""
    log_p = torch.log_softmax(x, 1)
    values, gradient = torch.zeros_like(x[:, :1]), torch.exp(log_p) * terms.log_weights.sum()
    log_below, log_above = terms.rows[len(terms.cuts) :].log().chunk(2)
    for row, weight in enumerate(terms.log_weights):
        is_above = votes > terms.log_cuts[row]
        side = log_p + torch.where(is_above, log_above[row][:, None], log_below[row][:, None])
        log_q = torch.logsumexp(side, 1, keepdim=True)
        values -= weight * log_q
        gradient -= weight * torch.exp(side - log_q)
    return values, gradient.mul_(terms.scale)


def _block(terms: _Terms, x: Tensor, votes: Tensor, gradient: Tensor) -> Tensor:
    """Values ``[b, 1, n]`` of logits ``x [b, R + 1, n]``; writes their scaled gradient."""
    p = _softmax(x)
    rows = _matmul(terms.rows, p)
    quadratic = len(terms.cuts)
    values = exact = None
    if len(terms.log_cuts):
        values = _logarithmic(terms, rows[:, quadratic:], votes)
        if values is None:
            values, exact = _logarithmic_exact(terms, x, votes)
    if quadratic:
        squares = _quadratic(terms, rows[:, :quadratic], votes)
        values = squares if values is None else values.add_(squares)
    slope = _matmul(terms.slope, rows)
    if quadratic:
        torch.mul(slope, p, out=gradient)
        gradient.addcmul_(p, gradient.sum(1, keepdim=True), value=-1)
    else:
        slope += terms.log_total if exact is None else 0.0
        torch.mul(slope, p, out=gradient)
    if exact is not None:
        gradient += exact
    return torch.zeros_like(x[:, :1]) if values is None else values


def _flat(tensor: Tensor) -> Tensor:
    """``[B, C, voxels]``, a view where the memory format allows it."""
    try:
        return tensor.view(*tensor.shape[:2], -1)
    except RuntimeError:
        return tensor.contiguous().view(*tensor.shape[:2], -1)


class _SoftmaxScores(torch.autograd.Function):
    """Values per voxel, or their sum times ``scale``; the gradient is ready after the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, votes: Tensor, terms: list[_Terms], scale: float | None) -> Tensor:
        flat, flat_votes = _flat(logits), _flat(votes)
        like = terms[0].rows
        values = like.new_empty(flat_votes.shape)
        gradient = like.new_empty(flat.shape if ctx.needs_input_grad[0] else 0)
        uniform = all(term is terms[0] for term in terms)
        step = 1 if logits.device.type == "cpu" or not uniform else len(terms)
        size = _CPU_BLOCK if logits.device.type == "cpu" else _CUDA_BLOCK
        width = max(1, size // (step * logits.shape[1]))
        for item in range(0, len(terms), step):
            for start in range(0, flat.shape[2], width):
                where = slice(item, item + step), slice(None), slice(start, start + width)
                x = flat[where].to(like.dtype)
                out = gradient[where] if len(gradient) else torch.empty_like(x)
                values[where] = _block(terms[item], x, flat_votes[where].to(like.dtype), out)
        if len(gradient):
            ctx.save_for_backward(gradient.view(logits.shape))
        return values.view(votes.shape) if scale is None else values.sum() * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        if grad_output.ndim == 0 and grad_output.device.type == "cpu" and float(grad_output) == 1:
            return gradient, None, None, None
        return gradient * grad_output, None, None, None


def softmax_scores(
    logits: Tensor,
    votes: Tensor,
    weights: Mapping[str, float],
    counts: list[int],
    *,
    normalize: bool = True,
    ties: str = "background",
    reduction: str = "mean",
) -> Tensor:
    """Weighted sum of ``rps``, ``ranked_log`` and ``majority_ce`` of softmax levels.

    Args:
        logits: ``[B, R + 1, *spatial]``; computed in float32, or float64 for float64.
        votes: ``[B, 1, *spatial]`` integers.
        weights: weight by score, keys in ``FUSED_SCORES``.
        counts: raters present of every item, 1..R each; distributions are thinned.
        normalize: divide the ranked scores by the number of cut points.
        ties: of the majority; ``"half"`` only where all counts are odd (:func:`can_fuse`).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        a scalar, or ``[B, 1, *spatial]`` for ``"none"``. Differentiable once.
    """
    like = torch.empty(0, dtype=torch.promote_types(logits.dtype, torch.float32), device=logits.device)
    scale = {"none": None, "sum": 1.0, "mean": 1 / votes.numel()}[reduction]
    made = {
        n: _terms(weights, logits.shape[1], n, normalize=normalize, ties=ties, scale=scale or 1.0, like=like)
        for n in set(counts)
    }
    with full_precision(logits.device):
        return _SoftmaxScores.apply(logits, votes, [made[n] for n in counts], scale)
