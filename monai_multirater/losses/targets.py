# SPDX-License-Identifier: Apache-2.0
"""Reading of loss targets: votes, ratings, a fused probability, or a mapping with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from monai_multirater.ordinal.encoding import count_list
from monai_multirater.votes import count_votes

__all__ = ["read_consensus", "read_target"]

SLACK = 1e-4
"""How far outside of [0, 1] the rounding of an interpolating transform may take a probability."""


def read_target(
    target: Tensor | Mapping[str, Any],
    rater_mask: Tensor | None,
    n_raters: Tensor | int | None,
    *,
    outputs: Tensor,
    raters: int,
    name: str,
) -> tuple[Tensor, list[int]]:
    """Votes ``[B, 1, *spatial]`` (integer) and the number of raters present of each item.

    Raises:
        TypeError: a target that is neither tensor nor mapping.
        ValueError: a mapping without ``votes`` or ``ratings``, shapes that do not fit the outputs, votes that
            are no whole numbers in 0..n_raters, or an item without rater.
    """
    is_ratings: bool | None = None
    if isinstance(target, Mapping):
        is_ratings = "votes" not in target
        if is_ratings and "ratings" not in target:
            raise ValueError(f"{name}: target must have 'votes' or 'ratings'. Got keys {sorted(target)}.")
        rater_mask = target.get("rater_mask") if rater_mask is None else rater_mask
        n_raters = target.get("n_raters") if n_raters is None else n_raters
        target = target["ratings" if is_ratings else "votes"]
    if not isinstance(target, Tensor):
        raise TypeError(f"{name}: target must be a tensor or a mapping. Got {type(target).__name__}.")
    votes = _whole(target.as_subclass(Tensor), name)
    planes = votes.shape[1] if votes.ndim > 1 else 0
    fits = planes == (raters if is_ratings else 1) or (is_ratings is None and planes == raters)
    if not fits or votes.shape[0] != outputs.shape[0] or votes.shape[2:] != outputs.shape[2:]:
        raise ValueError(
            f"{name}: target must be votes [B, 1, *spatial] or ratings [B, {raters}, *spatial] for outputs "
            f"of shape {tuple(outputs.shape)}. Got shape {tuple(votes.shape)}."
        )
    if rater_mask is not None and (n_raters is None or is_ratings):
        n_raters = rater_mask.sum(-1)
    if is_ratings or planes > 1:
        votes = count_votes(votes, rater_mask, dim=1).unsqueeze(1)
    counts = count_list(n_raters, len(votes), raters)
    _check_range(votes, counts, name)
    return votes.to(outputs.device), counts


def read_consensus(target: Tensor | Mapping[str, Any], *, outputs: Tensor, name: str) -> Tensor:
    """Fused probability ``[B, 1, *spatial]`` of a target, or of its entry ``consensus``.

    Raises:
        TypeError: a target that is neither tensor nor mapping.
        ValueError: a mapping without ``consensus``, a shape that does not fit the outputs, no voxels, or values outside
            [0, 1] (by more than the rounding of an interpolation, 1e-4) or NaN.
    """
    if isinstance(target, Mapping):
        if "consensus" not in target:
            raise ValueError(f"{name}: target must have 'consensus', as FuseRatersd makes. Got keys {sorted(target)}.")
        target = target["consensus"]
    if not isinstance(target, Tensor):
        raise TypeError(f"{name}: target must be a tensor or a mapping. Got {type(target).__name__}.")
    consensus = target.as_subclass(Tensor)
    if consensus.shape != (outputs.shape[0], 1, *outputs.shape[2:]):
        raise ValueError(
            f"{name}: target must be a consensus [B, 1, *spatial] for outputs of shape {tuple(outputs.shape)}. "
            f"Got shape {tuple(consensus.shape)}."
        )
    if consensus.numel() == 0:
        raise ValueError(f"{name}: target must have voxels. Got shape {tuple(consensus.shape)}.")
    low, high = (float(bound) for bound in torch.aminmax(consensus))
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise ValueError(f"{name}: target must hold probabilities in [0, 1]. Got {low:g} to {high:g}.")
    return consensus.to(outputs.device)


def _whole(target: Tensor, name: str) -> Tensor:
    """Integers as they are; whole floating-point numbers as uint8."""
    if target.dtype == torch.bool:
        return target.view(torch.uint8)
    if not target.is_floating_point():
        return target
    whole = target.to(torch.uint8)
    if not bool((whole == target).all()):
        raise ValueError(f"{name}: target must hold whole numbers of votes. Got fractions, negatives or NaN.")
    return whole


def _check_range(votes: Tensor, counts: list[int], name: str) -> None:
    if votes.numel() == 0:
        raise ValueError(f"{name}: target must have voxels. Got shape {tuple(votes.shape)}.")
    lowest, highest = (int(bound) for bound in torch.aminmax(votes))
    if lowest >= 0 and highest <= min(counts):
        return
    for item, (labels, count) in enumerate(zip(votes, counts, strict=True)):
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high > count:
            raise ValueError(f"{name}: votes of item {item} must be in 0..{count} raters present. Got {low} to {high}.")
