# SPDX-License-Identifier: Apache-2.0
"""Consensus by counting votes."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_multirater.votes import count_votes

__all__ = ["majority", "soft_consensus"]


def _present(ratings: Tensor, rater_mask: Tensor | None) -> int:
    return ratings.shape[0] if rater_mask is None else int(rater_mask.sum())


def soft_consensus(ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
    """Fraction of the raters present who say foreground.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer.
        rater_mask: ``[R]`` bool, True = present.

    Returns:
        float32 ``[1, *spatial]``; 0 everywhere for empty masks.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.votes.count_votes`; nobody present is a ValueError.
    """
    return (count_votes(ratings, rater_mask) / _present(ratings, rater_mask)).unsqueeze(0)


def majority(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    ties: str = "background",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Foreground where more than half of the raters present say so.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer.
        rater_mask: ``[R]`` bool, True = present.
        ties: label where exactly half say so: ``"background"``, ``"foreground"``, or ``"random"``, a fair
            coin for each tied voxel.
        generator: source of the coins on the CPU, required by ``"random"``.

    Returns:
        uint8 ``[1, *spatial]``.

    Raises:
        ValueError: unknown ``ties``, ``"random"`` without generator, or nobody present.
    """
    if ties not in ("background", "foreground", "random"):
        raise ValueError(f"majority: ties must be 'background', 'foreground' or 'random'. Got {ties!r}.")
    votes, present = count_votes(ratings, rater_mask).unsqueeze(0), _present(ratings, rater_mask)
    half = present // 2
    labels = (votes > half if present % 2 or ties != "foreground" else votes >= half).to(torch.uint8)
    if ties == "random":
        if generator is None:
            raise ValueError("majority: ties='random' needs a generator. Got None.")
        if present % 2 == 0:
            tied = votes == half
            coins = torch.randint(0, 2, (int(tied.sum()),), generator=generator, dtype=torch.uint8)
            labels[tied] = coins.to(labels.device)
    return labels
