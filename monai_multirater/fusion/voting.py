# SPDX-License-Identifier: Apache-2.0
"""Consensus by counting votes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_multirater.fusion.patterns import PatternVolume, Stack, open_stack
from monai_multirater.votes import count_votes

__all__ = ["TIES", "intersection", "majority", "random_rater", "soft_consensus", "union", "weighted_vote"]

TIES = ("background", "foreground", "random")


def _counted(ratings: Tensor, rater_mask: Tensor | None, batched: bool | None) -> tuple[Tensor, Tensor, Stack]:
    """Votes uint8 ``[B, 1, *spatial]`` or ``[1, *spatial]``, raters present of a shape that fits, and the stack."""
    stack = open_stack(ratings, rater_mask, batched)
    votes = count_votes(ratings, rater_mask, dim=1 if stack.batched else 0).reshape(stack.shape)
    present = torch.from_numpy(stack.present.sum(1)).to(votes.device)
    return votes, present.view(-1, *[1] * (votes.ndim - 1)) if stack.batched else present[0], stack


def soft_consensus(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Fraction of the raters present who say foreground.

    Args:
        ratings: ``[R, *spatial]`` or ``[B, R, *spatial]``, zeros and ones, bool or integer.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.

    Returns:
        float32 ``[1, *spatial]`` or ``[B, 1, *spatial]``; 0 everywhere for empty masks.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.votes.count_votes`; nobody present is a ValueError.
    """
    votes, present, _ = _counted(ratings, rater_mask, batched)
    return votes / present.to(torch.float32)


def majority(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    ties: str = "background",
    generator: torch.Generator | None = None,
    batched: bool | None = None,
) -> Tensor:
    """Foreground where more than half of the raters present say so; for masks, the same as their median.

    Args:
        ratings, rater_mask, batched: see :func:`soft_consensus`.
        ties: label where exactly half say so, which only an even number of raters can: ``"background"``,
            ``"foreground"``, or ``"random"``, a fair coin for each tied voxel.
        generator: source of the coins on the CPU, required by ``"random"``.

    Returns:
        uint8 ``[1, *spatial]`` or ``[B, 1, *spatial]``.

    Raises:
        ValueError: unknown ``ties``, ``"random"`` without generator, or nobody present.
    """
    if ties not in TIES:
        raise ValueError(f"majority: ties must be 'background', 'foreground' or 'random'. Got {ties!r}.")
    if ties == "random" and generator is None:
        raise ValueError("majority: ties='random' needs a generator. Got None.")
    votes, present, _ = _counted(ratings, rater_mask, batched)
    least = ((present + 1) // 2 if ties == "foreground" else present // 2 + 1).to(torch.uint8)
    tied = votes == torch.where(present % 2 == 0, present // 2, -1) if ties == "random" else None
    labels = votes.ge_(least)
    if tied is not None:
        coins = torch.randint(0, 2, (int(tied.sum()),), generator=generator, dtype=torch.uint8)
        labels[tied] = coins.to(labels.device)
    return labels


def union(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Foreground where at least one rater present says so; arguments and errors as in :func:`soft_consensus`.

    Returns:
        uint8 ``[1, *spatial]`` or ``[B, 1, *spatial]``.
    """
    votes, _, _ = _counted(ratings, rater_mask, batched)
    return votes.ne_(0)


def intersection(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Foreground where all raters present say so; arguments and errors as in :func:`soft_consensus`.

    Returns:
        uint8 ``[1, *spatial]`` or ``[B, 1, *spatial]``.
    """
    votes, present, _ = _counted(ratings, rater_mask, batched)
    return votes.eq_(present.to(torch.uint8))


def weighted_vote(
    ratings: Tensor,
    weights: Sequence[float] | Tensor,
    rater_mask: Tensor | None = None,
    *,
    batched: bool | None = None,
) -> Tensor:
    """Share of the weight that says foreground, ``sum_r w_r d_r / sum_r w_r`` over the raters present.

    Args:
        ratings, rater_mask, batched: see :func:`soft_consensus`.
        weights: one per rater, not negative; they need not sum to 1.

    Returns:
        float32 ``[1, *spatial]`` or ``[B, 1, *spatial]``. Equal weights give the soft consensus.

    Raises:
        ValueError: not one finite weight >= 0 per rater, or no weight on the raters present.
    """
    volume = PatternVolume.count(open_stack(ratings, rater_mask, batched))
    shares = weight_shares(volume.stack, weights)
    return volume.fill(weighted_shares(volume, shares))


def weighted_shares(volume: PatternVolume, shares: np.ndarray) -> np.ndarray:
    """Share of the weights ``[B, R]`` that says foreground in each pattern, ``[B, P]``; unanimity is exactly 1."""
    unanimous = volume.votes == volume.stack.present.sum(1, keepdims=True)
    return np.where(unanimous, 1.0, shares @ volume.bits.T)


def weight_shares(stack: Stack, weights: Sequence[float] | Tensor) -> np.ndarray:
    """Weights of the raters present, summing to 1 in each case: float64 ``[B, R]``."""
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (stack.raters,) or not np.isfinite(given).all() or (given < 0).any():
        raise ValueError(
            f"weighted_vote: weights must be {stack.raters} finite numbers >= 0, one per rater. Got {weights}."
        )
    shares = np.where(stack.present, given, 0.0)
    totals = shares.sum(1, keepdims=True)
    if (totals == 0).any():
        raise ValueError(f"weighted_vote: weights must give the raters present some weight. Got {weights}.")
    return shares / totals


def random_rater(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    generator: torch.Generator,
    batched: bool | None = None,
) -> Tensor:
    """The mask of one rater per case, drawn uniformly among those present.

    In a training pipeline use :class:`monai_multirater.transforms.RandSelectRaterd`, which draws anew every epoch.

    Args:
        ratings, rater_mask, batched: see :func:`soft_consensus`.
        generator: source of the draws, on the CPU.

    Returns:
        uint8 ``[1, *spatial]`` or ``[B, 1, *spatial]``.
    """
    stack = open_stack(ratings, rater_mask, batched)
    return _planes_of(stack, draw_raters(stack, generator))


def draw_raters(stack: Stack, generator: torch.Generator) -> list[int]:
    """Position of one rater present for each case."""
    chosen = []
    for here in stack.present:
        present = np.flatnonzero(here)
        chosen.append(int(present[int(torch.randint(len(present), (), generator=generator))]))
    return chosen


def _planes_of(stack: Stack, raters: Sequence[int]) -> Tensor:
    planes = [stack.planes[case, rater] for case, rater in enumerate(raters)]
    return torch.stack(planes).reshape(stack.shape)
