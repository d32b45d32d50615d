# SPDX-License-Identifier: Apache-2.0
"""Soft consensus smoothed in space: Gaussian blur and spatially varying label smoothing (SVLS).

Both are linear, so the raters are averaged first and smoothed once. Both leave alone what is constant in reach of
their kernel, so only the bounding box of the votes, grown by the reach, is computed: the same numbers, less work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from monai_multirater.fusion.patterns import Stack, open_stack
from monai_multirater.fusion.regions import union_box
from monai_multirater.votes import count_votes

__all__ = ["soft_gaussian", "svls"]

_TOGETHER = 1 << 20  # voxels of cases that are smoothed in one go


def soft_gaussian(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    sigma: float | Sequence[float] = 2.0,
    unit: str = "voxels",
    spacing: Sequence[float] | None = None,
    truncate: float = 4.0,
    batched: bool | None = None,
) -> Tensor:
    """Soft consensus convolved with a Gaussian.

    The kernel along an axis is ``exp(-i^2 / (2 sigma^2))`` for whole i up to ``round(truncate * sigma)``, normalized to
    sum to 1; beyond the border the nearest voxel is repeated. A constant stays the same, so does the total wherever the
    kernel does not reach the border.

    Args:
        ratings: ``[R, *spatial]`` or ``[B, R, *spatial]``, zeros and ones, bool or integer.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present.
        sigma: standard deviation, one or one per spatial axis; 0 leaves an axis as it is.
        unit: of ``sigma``: ``"voxels"``, or ``"mm"``, which ``spacing`` converts to voxels.
        spacing: voxel size in mm per spatial axis.
        truncate: reach of the kernel in standard deviations.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.

    Returns:
        float32 ``[1, *spatial]`` or ``[B, 1, *spatial]``, in [0, 1].

    Raises:
        ValueError: a negative sigma, not one or one per axis; an unknown unit; ``"mm"`` without spacing, or a spacing
            that is not positive; and as in :func:`monai_multirater.votes.count_votes`.
    """
    stack = open_stack(ratings, rater_mask, batched)
    axes = len(stack.shape) - 1 - stack.batched
    sigmas = _sigma_voxels(sigma, unit, spacing, axes)
    kernels = [_gaussian(s, int(truncate * s + 0.5)) for s in sigmas]

    def blur(shares: Tensor) -> Tensor:
        for axis, kernel in enumerate(kernels):
            shares = _convolve(shares, kernel, axis + 1)
        return shares

    return _smoothed(stack, blur, [len(k) // 2 for k in kernels])


def svls(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    kernel_size: int = 3,
    sigma: float = 1.0,
    batched: bool | None = None,
) -> Tensor:
    """Spatially varying label smoothing of the soft consensus.

    With the Gaussian weights ``g_i = exp(-|i|^2 / (2 sigma^2))`` of the ``kernel_size^d`` neighborhood, the central
    weight is replaced by the sum S of the others and all are divided by S. The kernel then sums to 2, in every class,
    so that after renormalizing over classes

        ``svls(v) = (y(v) + sum_{i != 0} g_i y(v + i) / S) / 2``:

    half the voxel's own mean vote y, half the weighted mean of its neighbors. Beyond the border the nearest voxel is
    repeated. It is linear: the mean of the smoothed raters is the smoothed mean. (Published code for 2D takes S from
    the central 3 x 3 weights whatever the kernel size; this does not.)

    Args:
        ratings, rater_mask, batched: see :func:`soft_gaussian`.
        kernel_size: odd, at least 3.
        sigma: of the Gaussian, in voxels.

    Returns:
        float32 ``[1, *spatial]`` or ``[B, 1, *spatial]``, in [0, 1].

    Raises:
        ValueError: ``kernel_size`` that is even or below 3, or a ``sigma`` that is not positive; and as in
            :func:`monai_multirater.votes.count_votes`.

    Source: Islam and Glocker 2021, arXiv:2104.05788.
    """
    if kernel_size < 3 or kernel_size % 2 == 0 or not sigma > 0:
        raise ValueError(
            f"svls: kernel_size must be odd and at least 3, sigma positive. Got {kernel_size} and {sigma}."
        )
    stack = open_stack(ratings, rater_mask, batched)
    axes, reach = len(stack.shape) - 1 - stack.batched, kernel_size // 2
    kernel = _gaussian(sigma, reach)
    center = float(kernel[reach]) ** axes  # share of the center; the kernel sums to 1

    def smooth(shares: Tensor) -> Tensor:
        blurred = shares
        for axis in range(axes):
            blurred = _convolve(blurred, kernel, axis + 1)
        return blurred.mul_(0.5 / (1 - center)).add_(shares, alpha=0.5 - 0.5 * center / (1 - center))

    return _smoothed(stack, smooth, [reach] * axes)


def _sigma_voxels(sigma: float | Sequence[float], unit: str, spacing: Sequence[float] | None, axes: int) -> list[float]:
    fits = np.size(sigma) in (1, axes)
    values = [float(s) for s in np.broadcast_to(np.ravel(np.asarray(sigma, float)), (axes,))] if fits else []
    if not values or not all(np.isfinite(s) and s >= 0 for s in values):
        raise ValueError(f"soft_gaussian: sigma must be one number >= 0 or one for each of {axes} axes. Got {sigma}.")
    if unit not in ("voxels", "mm"):
        raise ValueError(f"soft_gaussian: unit must be 'voxels' or 'mm'. Got {unit!r}.")
    if unit == "voxels":
        return values
    sizes = [] if spacing is None else [float(s) for s in spacing]
    if len(sizes) != axes or not all(s > 0 for s in sizes):
        raise ValueError(f"soft_gaussian: unit='mm' needs the voxel size of {axes} axes as spacing. Got {spacing}.")
    return [s / size for s, size in zip(values, sizes, strict=True)]


def _gaussian(sigma: float, reach: int) -> np.ndarray:
    """Weights of ``-reach..reach``, float64, sum 1."""
    if reach == 0 or sigma == 0:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def _smoothed(stack: Stack, smooth: Callable[[Tensor], Tensor], reach: Sequence[int]) -> Tensor:
    """Smooth mean votes ``[b, *box]`` of a few cases at a time, in the box of their votes grown by the reach."""
    items, spatial = len(stack.present), stack.shape[1 + stack.batched :]
    planes = stack.planes.view(items, stack.raters, *spatial)
    present = torch.from_numpy(stack.present).to(planes.device)
    whole = torch.zeros((items, *spatial), dtype=torch.float32, device=planes.device)
    complete, together = bool(stack.present.all()), max(1, _TOGETHER // stack.planes.shape[2])
    for start in range(0, items, together):
        cases = slice(start, start + together)
        votes = count_votes(planes[cases], None if complete else present[cases], dim=1)
        box = tuple(
            slice(max(0, s.start - r), min(n, s.stop + r)) if s.stop > s.start else slice(0, 0)
            for s, r, n in zip(union_box(votes.amax(0)), reach, spatial, strict=True)
        )
        shares = votes[(slice(None), *box)].to(torch.float32)
        shares /= present[cases].sum(1).view(-1, *[1] * len(spatial))
        whole[(cases, *box)] = smooth(shares).clamp_(0, 1)
    return whole.reshape(stack.shape)


def _convolve(values: Tensor, kernel: np.ndarray, axis: int) -> Tensor:
    """Convolution along one axis with a symmetric kernel, as a sum of shifted copies; the border is repeated."""
    reach = len(kernel) // 2
    if reach == 0 or values.numel() == 0:
        return values.clone()
    size = values.shape[axis]
    first, last = values.narrow(axis, 0, 1), values.narrow(axis, size - 1, 1)
    repeat = [reach if d == axis else -1 for d in range(values.ndim)]
    wide = torch.cat([first.expand(repeat), values, last.expand(repeat)], dim=axis)
    out = values * float(kernel[reach])
    for offset in range(1, reach + 1):
        weight = float(kernel[reach + offset])
        out.add_(wide.narrow(axis, reach - offset, size), alpha=weight)
        out.add_(wide.narrow(axis, reach + offset, size), alpha=weight)
    return out
