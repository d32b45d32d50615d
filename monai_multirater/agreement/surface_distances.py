# SPDX-License-Identifier: Apache-2.0
"""Distances from the points of each surface to the nearest point of each other surface, all pairs at once.

Two exact ways, the cheaper one is taken. With few points (images, as a rule) the matrix of squared distances
|a|^2 + |b|^2 - 2 a.b of a pair is one product of matrices, whose smallest entries along its rows and along its
columns are both directions of the pair; integer coordinates make it exact in float32 below 2^24. With many points
(volumes) there is one Euclidean distance transform per surface, read at the points of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from monai_multirater.agreement.boundary import BoolArray

try:
    import edt as _edt
except ImportError:  # SciPy's transform gives the same distances in about one and a half times the time
    _edt = None

__all__ = ["SquaredDistances", "surface_distances"]

SquaredDistances = dict[tuple[int, int], NDArray[Any]]

_EXACT = 2**24  # up to here float32 holds every integer
_BLOCK = 2**17  # entries of one block of the matrix of distances, to stay in the cache
_TRANSFORM_COST = 40  # entries of the matrix that cost as much as one voxel of a transform


def surface_distances(
    surfaces: Sequence[BoolArray], points: Sequence[NDArray[np.intp]], spacing: Sequence[float]
) -> SquaredDistances:
    """Squared distances from every point of surface a to the nearest point of surface b, for all ordered pairs.

    Args:
        surfaces: bool arrays of one shape, C-contiguous, none of them empty.
        points: ``np.flatnonzero`` of each of them.
        spacing: distance of neighbors along each axis.

    Returns:
        For each (a, b), a != b, an array in the order of ``points[a]``, in units of ``spacing[-1] ** 2``: integers,
        held exactly, where the spacing is the same along all axes. A point of both surfaces is at distance 0 exactly.
        Otherwise relative errors are below 1e-6.
    """
    sizes = [len(own) for own in points]
    entries = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
    relative = np.asarray(spacing, dtype=np.float64) / spacing[-1]
    if entries <= _TRANSFORM_COST * len(surfaces) * surfaces[0].size if surfaces else True:
        return _by_product(surfaces, points, relative)
    return _by_transform(surfaces, points, relative)


def _by_product(
    surfaces: Sequence[BoolArray], points: Sequence[NDArray[np.intp]], relative: NDArray[np.float64]
) -> SquaredDistances:
    """Smallest entries along the rows and columns of one matrix of squared distances per surface and all later ones."""
    if len(surfaces) < 2:
        return {}
    shape = surfaces[0].shape
    exact = bool((relative == 1).all())
    dtype = np.float32 if exact and sum((n - 1) ** 2 for n in shape) < _EXACT else np.float64
    every = np.stack(np.unravel_index(np.concatenate(points), shape), axis=1)
    where = ((every - [n // 2 for n in shape]) * relative).astype(dtype)
    norms, ones = (where**2).sum(1, keepdims=True), np.ones((len(where), 1), dtype)
    left = torch.from_numpy(np.hstack([where, norms, ones]))
    right = torch.from_numpy(np.hstack([-2 * where, ones, norms])).T
    ends = np.cumsum([0, *map(len, points)])
    found: SquaredDistances = {}
    for a in range(len(surfaces) - 1):
        start = ends[a + 1]
        rows, columns = _smallest(left[ends[a] : start], right[:, start:], ends[a + 1 :] - start)
        for k, b in enumerate(range(a + 1, len(surfaces))):
            found[a, b] = rows[k]
            found[b, a] = columns[ends[b] - start : ends[b + 1] - start]
    if not exact:  # rounding must not move what coincides; everything else is at least one voxel away
        for (a, b), squared in found.items():
            squared[surfaces[b].ravel()[points[a]]] = 0
    return found


def _smallest(left: torch.Tensor, right: torch.Tensor, ends: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of ``left @ right``: minima along the rows, for each group of columns, and minima of all columns."""
    rows = np.empty((len(ends) - 1, len(left)), left.numpy().dtype)
    columns = None
    step = max(1, _BLOCK // right.shape[1])
    for first in range(0, len(left), step):
        block = (left[first : first + step] @ right).numpy()
        for k in range(len(ends) - 1):
            block[:, ends[k] : ends[k + 1]].min(axis=1, out=rows[k, first : first + step])
        columns = block.min(axis=0) if columns is None else np.minimum(columns, block.min(axis=0), out=columns)
    assert columns is not None
    return rows, columns


def _by_transform(
    surfaces: Sequence[BoolArray], points: Sequence[NDArray[np.intp]], relative: NDArray[np.float64]
) -> SquaredDistances:
    """One Euclidean distance transform per surface, read at the points of the others."""
    found: SquaredDistances = {}
    for b, surface in enumerate(surfaces):
        squared = _transform(surface, relative).ravel()
        for a, own in enumerate(points):
            if a != b:
                found[a, b] = squared[own]
    return found


def _transform(surface: BoolArray, relative: NDArray[np.float64]) -> NDArray[Any]:
    """Squared distance of every voxel to the surface; the last axis has spacing 1."""
    if _edt is None or surface.ndim > 3:
        distance = ndimage.distance_transform_edt(~surface, sampling=relative)
        squared = np.asarray(distance) ** 2
        return np.rint(squared) if (relative == 1).all() else squared
    return np.asarray(_edt.edtsq(~surface, anisotropy=tuple(relative), black_border=False, parallel=1))
