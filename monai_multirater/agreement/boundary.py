# SPDX-License-Identifier: Apache-2.0
"""Signed distances between the boundaries of masks.

The boundary of a mask is the set of the centers of those of its voxels that have a face neighbor outside the
mask; beyond the array all is background. It lies inside the true contour by half a voxel on average, for both
masks alike, so that the offset cancels in a distance from one to the other: equal masks are at distance 0, and
of two boxes of which one is k voxels larger on each side, opposite faces are at distance k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

__all__ = ["boundary_distances", "distinct_masks", "mask_boundary", "occupied_box", "planes_box", "stack_boundaries"]

BoolArray = NDArray[np.bool_]


def mask_boundary(mask: BoolArray) -> BoolArray:
    """Voxels of ``mask [*spatial]`` with at least one face neighbor outside; the array's edge is outside."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        inside, whole = np.moveaxis(interior, axis, 0), np.moveaxis(mask, axis, 0)
        inside[1:] &= whole[:-1]
        inside[:-1] &= whole[1:]
        inside[[0, -1]] = False
    return mask & ~interior


def boundary_distances(
    masks: Sequence[BoolArray], reference: BoolArray, spacing: Sequence[float]
) -> list[tuple[float, float]]:
    """Mean signed and mean absolute distance from each mask's boundary to the boundary of the reference.

    A boundary voxel of the mask that lies outside the reference counts positive, one inside negative. One
    Euclidean distance transform serves all masks. The result is exact in any array that holds the masks and
    the reference, since distances go to boundary voxels only: crop to their common box for speed.

    Args:
        masks: bool arrays ``[*spatial]``.
        reference: bool array ``[*spatial]``.
        spacing: voxel size along each axis; distances have its unit.

    Returns:
        (signed, absolute) for each mask: (0, 0) where mask and reference are both empty, (NaN, NaN) where one
        of them is.
    """
    undefined = float("nan") if reference.any() else 0.0
    if undefined == 0.0:
        return [(float("nan"), float("nan")) if mask.any() else (undefined, undefined) for mask in masks]
    distance = ndimage.distance_transform_edt(~mask_boundary(reference), sampling=tuple(spacing))
    found = []
    for mask in masks:
        points = mask_boundary(mask)
        values = distance[points]
        signed = np.where(reference[points], -values, values)
        found.append((float(signed.mean()), float(values.mean())) if values.size else (undefined, undefined))
    return found


def occupied_box(occupied: Tensor) -> tuple[slice, ...]:
    """Smallest box that holds every True of ``occupied [*spatial]``; slices of length 0 when there is none."""
    box = []
    for axis in range(occupied.ndim):
        others = [k for k in range(occupied.ndim) if k != axis]
        where = torch.nonzero(occupied.any(dim=others) if others else occupied).flatten()
        box.append(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0))
    return tuple(box)


def planes_box(planes: NDArray[Any], here: NDArray[np.intp]) -> tuple[slice, ...]:
    """Smallest box that holds everything other than 0 of ``planes[here]`` (bool or integer ``[R, *spatial]``)."""
    union = planes[here[0]].copy()
    for r in here[1:]:
        union |= planes[r]
    box = []
    while union.ndim:
        where = np.flatnonzero(np.bitwise_or.reduce(union.reshape(len(union), math.prod(union.shape[1:])), axis=1))
        box.append(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0))
        union = np.bitwise_or.reduce(union[box[-1]], axis=0)
    return tuple(box)


def stack_boundaries(stack: NDArray[np.uint8]) -> BoolArray:
    """:func:`mask_boundary` of each mask of a C-contiguous ``[D, *spatial]`` whose last entry along each axis is 0.

    With that margin a neighbor along any axis is a constant step away in the flat stack, also across the edge.
    """
    mask = stack.reshape(-1)
    interior = mask.copy()
    step = 1
    for length in reversed(stack.shape[1:]):
        interior[step:] &= mask[:-step]
        interior[:-step] &= mask[step:]
        interior[:step] = 0
        step *= length
    return (mask ^ interior).view(np.bool_).reshape(stack.shape)


def distinct_masks(
    planes: NDArray[Any], present: NDArray[np.bool_]
) -> tuple[tuple[int, ...], tuple[bytes, ...], NDArray[np.uint8]]:
    """Masks of one case without repetition and without the empty one.

    Args:
        planes: integers or bool ``[R, *spatial]``, zeros and ones.
        present: ``[R]``.

    Returns:
        Which of the distinct masks each rater has, -1 where empty or absent; their packed bits; ``[D, *box]`` of them
        in the box of all masks, with a margin of 0 at the end of each axis.

    Raises:
        ValueError: values other than 0 and 1.
    """
    here = np.flatnonzero(present)
    box = planes_box(planes, here)
    stack = np.zeros((len(here), *(side.stop - side.start + 1 for side in box)), np.uint8)
    for row, r in zip(stack, here, strict=True):
        crop = planes[r][box]
        row[tuple(slice(0, -1) for _ in box)] = crop
        if row.size > 1 and (crop.max() > 1 or (crop.dtype.kind == "i" and crop.min() < 0)):
            raise ValueError(
                f"pair_surfaces: ratings must hold only 0 and 1. Got {crop.min()} to {crop.max()} for rater {r}."
            )
    groups = [-1] * len(planes)
    found: dict[bytes, int] = {}
    packed = np.packbits(stack.reshape(len(here), -1), axis=1)
    kept = []
    for k in np.flatnonzero(packed.any(axis=1)):
        key = packed[k].tobytes()
        if key not in found:
            kept.append(k)
        groups[here[k]] = found.setdefault(key, len(found))
    return tuple(groups), tuple(found), stack if len(kept) == len(stack) else stack[kept]
