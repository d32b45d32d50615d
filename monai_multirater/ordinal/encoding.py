# SPDX-License-Identifier: Apache-2.0
"""Ordinal consensus labels, and what becomes of them when raters are missing.

The ordinal consensus level of a voxel is the number of raters who mark it, an integer 0..R. When only r of
the R raters marked a case, its votes lie in 0..r. Raters being exchangeable, the r present are a random
subset of the R: given level k, the votes are hypergeometric, ``T[v, k] = C(k, v) C(R - k, r - v) / C(R, r)``.
So a predicted level distribution is *thinned*, exactly, to a distribution of votes before it is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from math import comb

import torch
from torch import Tensor

from monai_multirater.votes import count_votes

__all__ = [
    "cumulative_targets",
    "nearest_levels",
    "ordinal_consensus",
    "score_by_count",
    "thin_cuts",
    "thin_levels",
    "thin_log",
    "thinning_matrix",
]


def ordinal_consensus(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Ordinal consensus labels: the number of raters present who say foreground.

    Args:
        ratings: ``[R, *spatial]`` of one case or ``[B, R, *spatial]``, zeros and ones, bool or integer.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so, and
            without one the ratings are of one case.

    Returns:
        uint8 votes ``[1, *spatial]`` or ``[B, 1, *spatial]``.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.votes.count_votes`.
    """
    if batched is None:
        batched = rater_mask is not None and rater_mask.ndim == 2
    dim = 1 if batched else 0
    return count_votes(ratings, rater_mask, dim=dim).unsqueeze(dim)


def cumulative_targets(votes: Tensor, raters: int) -> Tensor:
    """Extended binary targets ``1[votes > k]`` of the cut points k = 0..raters-1.

    Args:
        votes: ``[B, 1, *spatial]`` integers.
        raters: number of cut points.

    Returns:
        bool ``[B, raters, *spatial]``.
    """
    cuts = torch.arange(raters, device=votes.device).view(1, -1, *[1] * (votes.ndim - 2))
    return votes > cuts


@lru_cache(maxsize=256)
def _thinning(raters: int, present: int) -> Tensor:
    if not 1 <= present <= raters:
        raise ValueError(f"thin_levels: present must be in 1..{raters}. Got {present}.")
    total = comb(raters, present)
    rows = [[comb(k, v) * comb(raters - k, present - v) / total for k in range(raters + 1)] for v in range(present + 1)]
    return torch.tensor(rows, dtype=torch.float64)


@lru_cache(maxsize=256)
def _cut_thinning(raters: int, present: int) -> Tensor:
    above = _thinning(raters, present).flip(0).cumsum(0).flip(0)[1:]  # P(votes > v | level k), grows with k
    matrix = above.diff(dim=1)
    support = torch.arange(raters) - torch.arange(present)[:, None]
    return torch.where((support >= 0) & (support <= raters - present), matrix, 0.0)


def thinning_matrix(raters: int, present: int, *, cuts: bool = False) -> Tensor:
    """Matrix that thins a distribution over the levels of ``raters`` to the votes of ``present`` of them.

    Args:
        raters: R.
        present: r, 1 <= r <= R.
        cuts: False for levels, ``T [r + 1, R + 1]`` with columns that sum to 1. True for cut points,
            ``D [r, R]`` with rows that sum to 1: by summation by parts both ``P(votes <= v)`` and
            ``P(votes > v)`` are ``sum_k D[v, k]`` times the same probability of the level at cut point k.

    Returns:
        float64 tensor (a copy).
    """
    return (_cut_thinning if cuts else _thinning)(raters, present).clone()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Context in which autocast leaves matrix products in the precision of their operands."""
    return torch.autocast(device.type, enabled=False)


def _apply(matrix: Tensor, values: Tensor) -> Tensor:
    """``matrix @ values`` along axis 1, never in half precision."""
    with full_precision(values.device):
        product = torch.matmul(matrix.to(values), values.flatten(2))
    return product.reshape(values.shape[0], matrix.shape[0], *values.shape[2:])


def thin_levels(probs: Tensor, present: int) -> Tensor:
    """Distribution of the votes of ``present`` of R exchangeable raters, given the distribution of their
    level.

    Args:
        probs: ``[B, R + 1, *spatial]`` level probabilities.
        present: r, 1 <= r <= R.

    Returns:
        ``[B, r + 1, *spatial]``; ``probs`` itself for r = R.

    Raises:
        ValueError: ``present`` outside 1..R.
    """
    matrix = _thinning(probs.shape[1] - 1, present)
    return probs if matrix.shape[0] == matrix.shape[1] else _apply(matrix, probs)


def thin_cuts(below: Tensor, present: int) -> Tensor:
    """As :func:`thin_levels` for cumulative probabilities at cut points: ``[B, R, *]`` to ``[B, r, *]``."""
    raters = below.shape[1]
    return below if present == raters else _apply(_cut_thinning(raters, present), below)


def thin_log(log_values: Tensor, present: int, *, cuts: bool) -> Tensor:
    """As :func:`thin_levels` (``cuts=False``) or :func:`thin_cuts`, on logarithms and in log space."""
    raters = log_values.shape[1] - (0 if cuts else 1)
    if present == raters:
        return log_values
    width = raters - present + 1
    rows = []
    for v, row in enumerate(thinning_matrix(raters, present, cuts=cuts).log().to(log_values)):
        weights = row[v : v + width].view(1, -1, *[1] * (log_values.ndim - 2))
        rows.append(torch.logsumexp(log_values[:, v : v + width] + weights, dim=1))
    return torch.stack(rows, dim=1)


def nearest_levels(votes: Tensor, present: int | Tensor, raters: int) -> Tensor:
    """Level of ``raters`` nearest to ``votes`` of ``present`` (half up): the simple, inexact way to miss
    raters.

    Args:
        votes: ``[B, 1, *spatial]`` integers.
        present: one number or int64 ``[B]``.
        raters: R.

    Returns:
        int64 levels 0..R of the shape of ``votes``: ``floor(R votes / present + 1/2)``.
    """
    if isinstance(present, Tensor):
        present = present.to(votes.device, torch.int64).view(-1, *[1] * (votes.ndim - 1))
    return (2 * raters * votes.to(torch.int64) + present) // (2 * present)


def score_by_count(
    score: Callable[[Tensor, Tensor, int], Tensor],
    predictions: Tensor,
    votes: Tensor,
    *,
    raters: int,
    n_raters: Sequence[int] | Tensor | int | None = None,
    missing: str = "thin",
) -> Tensor:
    """Score a batch whose items have different numbers of raters present.

    Args:
        score: ``score(predictions, votes, present) -> [b, 1, *spatial]`` for items with one number of raters.
        predictions: ``[B, C, *spatial]``.
        votes: ``[B, 1, *spatial]``.
        raters: R of the predictions.
        n_raters: raters present, one number or one per item; R by default.
        missing: ``"thin"`` scores each item on the votes its raters could give; ``"nearest"`` maps the votes
            to the nearest level of R first.

    Returns:
        ``[B, 1, *spatial]`` in the order of the batch.

    Raises:
        ValueError: unknown ``missing``, or a number of raters outside 1..R, or not one per item.
    """
    counts = count_list(n_raters, len(votes), raters)
    if missing not in ("thin", "nearest"):
        raise ValueError(f"missing must be 'thin' or 'nearest'. Got {missing!r}.")
    if missing == "nearest":
        if min(counts) < raters:
            votes = nearest_levels(votes, torch.tensor(counts), raters)
        return score(predictions, votes, raters)
    if len(set(counts)) == 1:
        return score(predictions, votes, counts[0])
    groups = [[i for i, n in enumerate(counts) if n == present] for present in sorted(set(counts))]
    parts = [score(predictions[items], votes[items], counts[items[0]]) for items in groups]
    order = torch.tensor([i for items in groups for i in items], device=votes.device)
    return torch.cat(parts)[order.argsort()]


def count_list(n_raters: Sequence[int] | Tensor | int | None, batch: int, raters: int) -> list[int]:
    """``n_raters`` as a list of ``batch`` integers in 1..raters."""
    if n_raters is None:
        return [raters] * batch
    if isinstance(n_raters, Tensor):
        n_raters = n_raters.reshape(-1).tolist()
    counts = [n_raters] * batch if isinstance(n_raters, int) else [int(n) for n in n_raters]
    if len(counts) == 1:
        counts *= batch
    if len(counts) != batch or not all(1 <= n <= raters for n in counts):
        raise ValueError(f"n_raters must be {batch} numbers of raters present in 1..{raters}. Got {counts}.")
    return counts
