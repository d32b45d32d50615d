# SPDX-License-Identifier: Apache-2.0
"""Counting votes and packing them into pattern codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["MAX_RATERS", "check_ratings", "class_ratings", "count_votes", "encode_votes"]

MAX_RATERS = 64
SMALL_BLOCKS = 8
"""Blocks of voxels of small cases that are worked on in one go, where calls cost more than the cache saves."""


def block_size(device: torch.device) -> int:
    """Voxels per block: codes and one plane stay in the cache of a CPU; few kernel launches elsewhere."""
    return 1 << 17 if device.type == "cpu" else 1 << 26


def check_ratings(ratings: Tensor, rater_mask: Tensor | None = None, *, name: str = "ratings") -> None:
    """Check that ``ratings`` is a stack of binary masks with at least one rater present.

    Args:
        ratings: ``[R, *spatial]``, or ``[B, R, *spatial]`` when ``rater_mask`` has two axes.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present. Planes of absent raters are not looked at.
        name: how error messages call the tensor.

    Raises:
        TypeError: not a tensor, or neither bool nor integer.
        ValueError: no or more than 64 raters, a mask of the wrong shape, nobody present in an item, or a
            value other than 0 and 1 (a class label: see :func:`class_ratings`).
    """
    dim = 1 if rater_mask is not None and rater_mask.ndim == 2 else 0
    check_stack(ratings, dim, name)
    if rater_mask is not None:
        rater_mask = check_mask(rater_mask, ratings, dim)
    if ratings.dtype == torch.bool:
        return
    for r in range(ratings.shape[dim]):
        plane = ratings.as_subclass(Tensor).select(dim, r)
        if rater_mask is not None:
            plane = plane[rater_mask[:, r]] if dim else plane[None][rater_mask[r : r + 1]]
        if not plane.numel():
            continue
        in_memory = plane.permute(sorted(range(plane.ndim), key=plane.stride, reverse=True))
        least, most = torch.stack(in_memory.aminmax()).tolist()
        if least < 0 or most > 1:
            raise ValueError(
                f"{name} must hold only 0 and 1. Got {least} to {most} "
                f"for rater {r}. Use class_ratings(labels, label) for class labels."
            )


def count_votes(ratings: Tensor, rater_mask: Tensor | None = None, *, dim: int = 0) -> Tensor:
    """Number of raters present who say foreground, ``sum_r mask_r * ratings_r``.

    Args:
        ratings: zeros and ones, bool or integer, the rater axis at ``dim`` (at most 64 raters).
        rater_mask: True = present. ``[R]`` for every ``dim``; for a batch (``dim=1``) also ``[B, R]``.
        dim: 0 for one case ``[R, *spatial]``, 1 for a batch ``[B, R, *spatial]``.

    Returns:
        uint8 without the rater axis: ``[*spatial]`` or ``[B, *spatial]``. Values are not checked (see
        :func:`check_ratings`).

    Raises:
        TypeError: floating-point ratings. ValueError: no or more than 64 raters, or a mask that does not fit.
    """
    check_stack(ratings, dim, "ratings")
    if rater_mask is not None:
        rater_mask = check_mask(rater_mask, ratings, dim)
    planes = as_bytes(ratings)
    votes = torch.zeros_like(planes.select(dim, 0), memory_format=torch.contiguous_format)
    if rater_mask is not None and rater_mask.ndim == 2:
        for r in range(ratings.shape[dim]):
            votes += planes.select(dim, r) * rater_mask[:, r].view(-1, *[1] * (votes.ndim - 1))
        return votes
    here = range(ratings.shape[dim]) if rater_mask is None else rater_mask.nonzero().flatten().tolist()
    chosen = [planes.select(dim, r) for r in here]
    if dim == 0 and planes.is_contiguous():  # block by block, so that the sum stays in the cache
        total = votes.view(-1)
        for start in range(0, total.numel(), block_size(votes.device)):
            part = slice(start, start + block_size(votes.device))
            for plane in chosen:
                total[part] += plane.view(-1)[part]
        return votes
    for plane in chosen:
        votes += plane
    return votes


def encode_votes(ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
    """Pack the ratings of one case into one integer per voxel, ``code = sum_r ratings_r 2^r``.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer, R <= 64.
        rater_mask: ``[R]`` bool; the bit of an absent rater is 0.

    Returns:
        ``[*spatial]``: uint8 for R <= 8, int16 for R <= 15, int32 for R <= 31, int64 above (bit 63 is the
        sign).

    Raises:
        TypeError: floating-point ratings. ValueError: no or more than 64 raters, or a mask that does not fit.
    """
    check_stack(ratings, 0, "ratings")
    raters, device = ratings.shape[0], ratings.device
    here = [True] * raters if rater_mask is None else check_mask(rater_mask, ratings, 0).tolist()
    planes = as_bytes(ratings).reshape(raters, -1)
    codes = torch.empty(planes.shape[1], dtype=code_dtype(raters), device=device)
    encode_batch(planes[None], [here], codes[None])
    return codes.reshape(ratings.shape[1:])


def encode_batch(planes: Tensor, present: Sequence[Sequence[bool]], codes: Tensor) -> None:
    """Write the codes of uint8 planes ``[B, R, N]`` of the raters present into ``codes [B, N]``.

    Cases of which all raters are present are encoded several at a time where they are small.
    """
    items, voxels = codes.shape
    together = max(1, SMALL_BLOCKS * block_size(codes.device) // voxels) if all(map(all, present)) else 1
    for first in range(0, items, together):
        cases = slice(first, first + together)
        if together > 1:
            _encode(planes[cases], present[first], codes[cases])
            continue
        size = block_size(codes.device)
        for start in range(0, voxels, size):
            part = slice(start, start + size)
            _encode(planes[first, :, part][None], present[first], codes[first, part][None])


def _encode(planes: Tensor, here: Sequence[bool], codes: Tensor) -> None:
    codes.zero_()
    raters = len(here)
    for low in range(0, raters, 8):
        byte = codes if raters <= 8 else torch.zeros(codes.shape, dtype=torch.uint8, device=codes.device)
        for r in range(low, min(low + 8, raters)):
            if here[r]:
                byte.add_(planes[:, r], alpha=1 << (r - low))
        if raters > 8:
            codes |= byte.to(codes.dtype) << low


def class_ratings(labels: Tensor, label: int) -> Tensor:
    """Binary ratings of one class: ``labels == label`` as uint8, ``[R, *spatial]``."""
    return labels.eq(label).view(torch.uint8)


def code_dtype(raters: int) -> torch.dtype:
    """Smallest integer type that holds the codes of so many raters."""
    if raters <= 8:
        return torch.uint8
    return torch.int16 if raters <= 15 else torch.int32 if raters <= 31 else torch.int64


def as_bytes(ratings: Tensor) -> Tensor:
    """The same memory as uint8 where possible (bool, int8), else a uint8 copy."""
    ratings = ratings.as_subclass(Tensor)
    if ratings.dtype in (torch.bool, torch.int8, torch.uint8):
        return ratings.view(torch.uint8)
    return ratings.to(torch.uint8)


def check_stack(ratings: Tensor, dim: int, name: str) -> None:
    """Refuse what is no stack of masks with 1 to 64 raters along ``dim``."""
    if not isinstance(ratings, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor. Got {type(ratings).__name__}.")
    if ratings.is_floating_point() or ratings.is_complex():
        raise TypeError(f"{name} must be bool or integer masks. Got dtype {ratings.dtype}.")
    if ratings.ndim <= dim or not 1 <= ratings.shape[dim] <= MAX_RATERS:
        raise ValueError(
            f"{name} must have 1 to {MAX_RATERS} raters along axis {dim}. Got shape {tuple(ratings.shape)}."
        )


def check_mask(rater_mask: Tensor, ratings: Tensor, dim: int) -> Tensor:
    """Return the rater mask on the device of the ratings, after checking that it fits and nobody is left alone."""
    raters = ratings.shape[dim]
    allowed = [(raters,)] if dim == 0 else [(raters,), (ratings.shape[0], raters)]
    if rater_mask.dtype != torch.bool or tuple(rater_mask.shape) not in allowed:
        raise ValueError(
            f"rater_mask must be bool of shape {' or '.join(map(str, allowed))} for ratings of shape "
            f"{tuple(ratings.shape)}. Got {rater_mask.dtype} of shape {tuple(rater_mask.shape)}."
        )
    if not bool(rater_mask.any(-1).all()):
        raise ValueError("rater_mask must have at least one rater present in every item. Got an item with none.")
    return rater_mask.to(ratings.device).as_subclass(Tensor)
