# SPDX-License-Identifier: Apache-2.0
"""Restrict a fusion to a region of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from monai_multirater.fusion.results import case_by_case
from monai_multirater.votes import count_votes

__all__ = ["Region", "in_region", "union_box"]

Region: TypeAlias = "str | tuple[slice, ...] | Tensor | None"


def union_box(marked: Tensor) -> tuple[slice, ...]:
    """Bounding box of the non-zero voxels of ``[*spatial]``, one slice per axis; empty slices when there are none."""
    box = []
    rest = marked
    for axis in range(marked.ndim):
        others = [d for d in range(rest.ndim) if d != axis]
        line = (rest.amax(others) if others else rest).nonzero()
        start, stop = (int(line[0]), int(line[-1]) + 1) if len(line) else (0, 0)
        box.append(slice(start, stop))
        rest = rest.narrow(axis, start, stop - start) if stop > start else rest
    return tuple(box)


def in_region(
    fusion: Callable[..., Any],
    ratings: Tensor,
    rater_mask: Tensor | None,
    region: Region,
    batched: bool | None,
    **options: Any,
) -> Any:
    """Call ``fusion(ratings, rater_mask, ...)`` on the voxels of a region; its ``probability`` is 0 elsewhere.

    Raises:
        ValueError: the region is none of the kinds that are understood, has another shape, or holds no voxel.
    """

    def one_case(case: Tensor, mask: Tensor | None) -> Any:
        return _one_case(fusion, case, mask, region, options)

    return case_by_case(one_case, ratings, rater_mask, batched) or one_case(ratings, rater_mask)


def _one_case(
    fusion: Callable[..., Any], ratings: Tensor, rater_mask: Tensor | None, region: Region, options: dict[str, Any]
) -> Any:
    chosen = _voxels(ratings, rater_mask, region)
    inner = ratings[(slice(None), *chosen)] if isinstance(chosen, tuple) else ratings[:, chosen]
    result = fusion(inner, rater_mask, batched=False, **options)
    whole = torch.zeros((1, *ratings.shape[1:]), dtype=result.probability.dtype, device=ratings.device)
    whole[(slice(None), *chosen) if isinstance(chosen, tuple) else (slice(None), chosen)] = result.probability
    return replace(result, probability=whole)


def _voxels(ratings: Tensor, rater_mask: Tensor | None, region: Region) -> tuple[slice, ...] | Tensor:
    spatial = tuple(ratings.shape[1:])
    if isinstance(region, str) and region == "union":
        box = union_box(count_votes(ratings, rater_mask))
        return box if all(s.stop > s.start for s in box) else tuple(slice(0, 1) for _ in spatial)
    if isinstance(region, Tensor):
        if region.dtype != torch.bool or tuple(region.shape) != spatial or not bool(region.any()):
            raise ValueError(
                f"A region mask must be bool of shape {spatial} with a voxel inside. Got {region.dtype} of shape "
                f"{tuple(region.shape)}, {int(region.count_nonzero())} voxels inside."
            )
        return region.to(ratings.device)
    found = region if isinstance(region, tuple) else ()
    fits = len(found) == len(spatial) and all(isinstance(s, slice) for s in found)
    if not fits or not all(range(size)[s] for size, s in zip(spatial, found, strict=True)):
        raise ValueError(
            f"A region must be None, 'union', {len(spatial)} slices that hold a voxel of {spatial}, or a bool mask. "
            f"Got {region!r}."
        )
    return found
