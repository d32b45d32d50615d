# SPDX-License-Identifier: Apache-2.0
"""The masks of one case in one array, as they lie in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.data import ImageData, ImageHeader

__all__ = ["MaskStack", "Mismatch", "Stopwatch", "stack_masks"]


class Stopwatch:
    """Seconds of the steps of a job, one lap after the other; laps of one name add."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """Count the time since the last lap as time of this step."""
        now = time.perf_counter()
        self.seconds[step], self.last = round(self.seconds.get(step, 0.0) + now - self.last, 6), now


class Mismatch(ValueError):
    """A mask does not lie on the grid of the first one; the message gives the reason, ``rater`` the plane."""

    def __init__(self, rater: int, reason: str) -> None:
        super().__init__(reason)
        self.rater = rater


@dataclass(frozen=True, eq=False)
class MaskStack:
    """The masks of a case, with the spatial axes reversed (``turned``) where that is how they lie in memory.

    NIfTI, NRRD and MetaImage are read with X running fastest; copying them into the usual order would take longer than
    working on them. The plane of an absent rater is zero memory that nothing touches. ``spacing`` and ``affine`` are
    those of the first mask, in the order of its file.
    """

    planes: Tensor
    present: Tensor
    turned: bool
    spacing: tuple[float, ...] | None
    affine: NDArray[np.float64] | None

    def turn(self, values: Tensor) -> Tensor:
        """Return a view of ``[C, *spatial]`` with the spatial axes in the order of the file."""
        return values.permute(0, *range(values.ndim - 1, 0, -1)) if self.turned else values


def stack_masks(
    masks: Iterable[tuple[int, ImageData]], raters: int, *, affine_atol: float | None = None
) -> MaskStack | None:
    """Put masks into one stack, mask after mask: no more than one is held beside it.

    Args:
        masks: index of the rater and mask, as they are read.
        raters: number of planes.
        affine_atol: largest absolute difference of an affine from that of the first mask; None does not look.

    Returns:
        The stack; None without any mask.

    Raises:
        Mismatch: for a mask of another shape or affine.
    """
    first: ImageData | None = None
    planes, turned, present = np.empty(0, np.uint8), False, torch.zeros(raters, dtype=torch.bool)
    for index, mask in masks:
        if first is None:
            first, flags = mask, mask.array.flags
            turned = bool(flags.f_contiguous and not flags.c_contiguous)
            shape = mask.array.shape[::-1] if turned else mask.array.shape
            planes = np.zeros((raters, *shape), np.uint8)
        reason = _mismatch(mask.header, first.header, affine_atol)
        if reason:
            raise Mismatch(index, reason)
        planes[index] = mask.array.T if turned else mask.array
        present[index] = True
    return None if first is None else MaskStack(torch.from_numpy(planes), present, turned, first.spacing, first.affine)


def _mismatch(header: ImageHeader, first: ImageHeader, atol: float | None) -> str:
    if header.spatial_shape != first.spatial_shape:
        return f"has shape {header.spatial_shape}, the first mask {first.spatial_shape}"
    if atol is None or header.affine is None or first.affine is None:
        return ""
    difference = float(np.abs(header.affine - first.affine).max())
    if difference <= atol:
        return ""
    return f"has an affine that differs by {difference:.3g} from the first mask's (tolerance {atol:g})"
