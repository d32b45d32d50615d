# SPDX-License-Identifier: Apache-2.0
"""From levels to foreground: probability maps, majority labels and uncertainty maps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TIES", "foreground_probability", "level_entropy", "majority_labels", "vote_variance"]

TIES = ("background", "foreground", "half")


def check_ties(ties: str) -> None:
    """Raise ``ValueError`` unless ``ties`` is a rule of ``TIES``."""
    if ties not in TIES:
        raise ValueError(f"ties must be one of {TIES}. Got {ties!r}.")


def majority_cuts(raters: int, ties: str) -> tuple[int, ...]:
    """Cut points k whose mean ``P(level > k)`` is the majority probability: two for even R with ``half``."""
    check_ties(ties)
    upper = raters // 2
    if raters % 2 or ties == "background":
        return (upper,)
    return (upper - 1,) if ties == "foreground" else (upper - 1, upper)


def foreground_probability(probs: Tensor, rule: str = "majority", *, ties: str = "background", dim: int = 1) -> Tensor:
    """Foreground probability of a distribution over levels.

    ``majority``: probability that more than half of the raters say foreground, ``sum_{k > R/2} p_k``; for
    even R the level R/2 counts as ``ties`` says (nothing, all, or half of it). ``expected``: expected
    fraction of raters who say foreground, ``sum_k k p_k / R``; this is what calibration against the votes of
    raters compares with.

    Args:
        probs: level probabilities, ``[B, R + 1, *spatial]`` (``dim=1``) or ``[R + 1, *spatial]`` (``dim=0``).
        rule: ``"majority"`` or ``"expected"``.
        ties: ``"background"``, ``"foreground"`` or ``"half"``; only read by ``majority`` with even R.
        dim: level axis.

    Returns:
        the shape of ``probs`` with one channel along ``dim``, in [0, 1].

    Raises:
        ValueError: unknown rule or ties, or fewer than two levels.
    """
    check_ties(ties)
    if rule not in ("majority", "expected"):
        raise ValueError(f"rule must be 'majority' or 'expected'. Got {rule!r}.")
    weights = torch.tensor(_weights(probs, rule, ties, dim), dtype=probs.dtype, device=probs.device)
    return (probs * _along(weights, probs, dim)).sum(dim, keepdim=True).clamp(0, 1)


def _weights(probs: Tensor, rule: str, ties: str, dim: int) -> list[float]:
    raters = _raters(probs, dim)
    if rule == "expected":
        return [k / raters for k in range(raters + 1)]
    cuts = majority_cuts(raters, ties)
    return [sum(k > cut for cut in cuts) / len(cuts) for k in range(raters + 1)]


def majority_labels(votes: Tensor, n_raters: int | Tensor, *, ties: str = "background") -> Tensor:
    """Majority label of the raters present.

    Args:
        votes: ``[B, 1, *spatial]`` (or ``[1, *spatial]`` with one number of raters) integers.
        n_raters: raters present, one number or ``[B]``.
        ties: label of a tie: ``"background"``, ``"foreground"`` or ``"half"``.

    Returns:
        uint8 of the shape of ``votes``; float32 with 0.5 at ties for ``"half"``.
    """
    check_ties(ties)
    if isinstance(n_raters, Tensor):
        n_raters = n_raters.to(votes.device).view(-1, *[1] * (votes.ndim - 1))
    twice = votes.to(torch.int64) * 2
    if ties == "half":
        return ((twice > n_raters).float() + (twice >= n_raters).float()) / 2
    return (twice >= n_raters if ties == "foreground" else twice > n_raters).to(torch.uint8)


def level_entropy(probs: Tensor, *, dim: int = 1) -> Tensor:
    """Entropy of the level, ``-sum_k p_k log p_k`` in nats, one channel along ``dim``; 0 for a sure level."""
    _raters(probs, dim)
    return torch.special.entr(probs).sum(dim, keepdim=True)


def vote_variance(probs: Tensor, *, dim: int = 1) -> Tensor:
    """Variance of the fraction of foreground votes, ``sum_k p_k (k/R - m)^2`` with m its mean; 0 to 1/4."""
    raters = _raters(probs, dim)
    fraction = _along(torch.arange(raters + 1, dtype=probs.dtype, device=probs.device) / raters, probs, dim)
    mean = (probs * fraction).sum(dim, keepdim=True)
    return (probs * (fraction - mean) ** 2).sum(dim, keepdim=True)


def _raters(probs: Tensor, dim: int) -> int:
    if probs.ndim <= dim or probs.shape[dim] < 2:
        raise ValueError(f"probs must have at least 2 levels (R + 1) along axis {dim}. Got shape {tuple(probs.shape)}.")
    return probs.shape[dim] - 1


def _along(values: Tensor, like: Tensor, dim: int) -> Tensor:
    return values.view([-1 if d == dim else 1 for d in range(like.ndim)])
