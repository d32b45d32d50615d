# SPDX-License-Identifier: Apache-2.0
"""Bring a rater's mask onto the voxel grid of the image, or say why it does not lie there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing, to_affine_nd
from numpy.typing import NDArray
from scipy import ndimage

from monai_multirater.transforms.mask_files import RaterMask

__all__ = ["known_affine", "known_spacing", "on_grid"]


def known_affine(reference: torch.Tensor) -> NDArray[np.float64] | None:
    """Return the RAS affine ``[4, 4]`` of an image, or None when its file format has none (PNG, NPY)."""
    if not isinstance(reference, MetaTensor):
        return None
    affine = to_affine_nd(3, np.asarray(reference.affine, dtype=np.float64))
    if "original_affine" not in reference.meta and np.array_equal(affine, np.eye(4)):
        return None
    return np.asarray(affine, dtype=np.float64)


def known_spacing(ratings: torch.Tensor) -> tuple[float, ...] | None:
    """Size of the voxels along each spatial axis in mm; None where the file had no affine (PNG, NPY)."""
    affine = known_affine(ratings)
    if affine is None:
        return None
    assert isinstance(ratings, MetaTensor)
    if "original_affine" not in ratings.meta and ratings.applied_operations:
        return None  # the affine tells what transforms did to voxels of an unknown size
    return tuple(float(size) for size in affine_to_spacing(affine)[: ratings.ndim - 1])


def on_grid(
    mask: RaterMask,
    shape: tuple[int, ...],
    affine: NDArray[np.float64] | None,
    *,
    affine_atol: float,
    resample: bool,
) -> NDArray[Any]:
    """Return the mask's values on the grid ``(shape, affine)``.

    Without geometry on either side only the shapes are compared. Resampling takes the nearest voxel center in
    space, 0 outside the mask's own field of view; without geometry both grids are taken to span one field.

    Raises:
        ValueError: if the grids differ and ``resample`` is False.
    """
    array = _drop_trailing(mask.array, len(shape))
    if array.ndim != len(shape):
        raise ValueError(f"has {array.ndim} spatial axes {array.shape}, the image has {len(shape)} {shape}")
    compare = affine is not None and mask.affine is not None
    offset = float(np.abs(mask.affine - affine).max()) if compare else 0.0  # type: ignore[operator]
    if array.shape == shape and offset <= affine_atol:
        return array
    if resample and compare:
        assert mask.affine is not None
        return _nearest_in_space(array, mask.affine, shape, affine)  # type: ignore[arg-type]
    if resample:
        return _nearest_in_field(array, shape)
    if array.shape != shape:
        swapped = " (axes swapped? see 'reverse_indexing')" if array.shape == shape[::-1] else ""
        raise ValueError(f"has the shape {array.shape}, the image has {shape}{swapped}; resample=True resamples")
    raise ValueError(
        f"lies elsewhere than the image: their affines differ by {offset:.4g} mm "
        f"(affine_atol={affine_atol:g}); resample=True resamples"
    )


def _drop_trailing(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    while array.ndim > ndim and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def _nearest_in_space(
    array: NDArray[Any],
    mask_affine: NDArray[np.float64],
    shape: tuple[int, ...],
    image_affine: NDArray[np.float64],
) -> NDArray[Any]:
    """Read, for each image voxel, the mask voxel whose center is nearest."""
    to_mask = np.linalg.solve(mask_affine, image_affine)
    volume = array.reshape(array.shape + (1,) * (3 - array.ndim))
    return ndimage.affine_transform(
        volume,
        to_mask[:3, :3],
        offset=to_mask[:3, 3],
        output_shape=shape + (1,) * (3 - len(shape)),
        order=0,
        mode="grid-constant",
        cval=0,
        prefilter=False,
    ).reshape(shape)


def _nearest_in_field(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Stretch the mask over the image, reading the voxel under each voxel center."""
    indices = [
        ((2 * np.arange(new, dtype=np.int64) + 1) * old) // (2 * new)
        for new, old in zip(shape, array.shape, strict=True)
    ]
    return array[np.ix_(*indices)]
