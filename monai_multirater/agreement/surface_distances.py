# SPDX-License-Identifier: Apache-2.0
"""Distances from the points of each surface to the nearest point of each other surface, all pairs at once.

Two exact ways, the cheaper one is taken. With few points (images, as a rule) the matrix of squared distances
|a|^2 + |b|^2 - 2 a.b of a pair is one product of matrices, whose smallest entries along its rows and along its
columns are both directions of the pair; integer coordinates make it exact in float32 below 2^24. With many points
(volumes) there is one Euclidean distance transform per surface, read at the points of the others.
"""

from __future__ import annotations

import itertools
import math
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

__all__ = ["SquaredDistances", "surface_distances", "surface_points"]

SquaredDistances = dict[tuple[int, int], NDArray[Any]]

_EXACT = 2**24  # up to here float32 holds every integer
_BLOCK = 2**18  # entries of one block of the matrix of distances, to stay in the cache
_TRANSFORM_COST = 60  # entries of the matrix that cost as much as one voxel of a transform


def surface_points(surfaces: BoolArray) -> list[NDArray[np.intp]]:
    """Flat indices of the points of each of ``surfaces [D, *spatial]``."""
    size = math.prod(surfaces.shape[1:])
    every = np.flatnonzero(surfaces)
    bounds = np.searchsorted(every, size * np.arange(len(surfaces) + 1))
    return [every[bounds[k] : bounds[k + 1]] - k * size for k in range(len(surfaces))]


def surface_distances(
    surfaces: BoolArray,
    points: Sequence[NDArray[np.intp]],
    spacing: Sequence[float],
    pairs: Sequence[tuple[int, int]] | None = None,
) -> SquaredDistances:
    """Squared distances from every point of surface a to the nearest point of surface b, in both directions.

    Args:
        surfaces: bool ``[D, *spatial]``, C-contiguous, none of them empty.
        points: of each of them, see :func:`surface_points`.
        spacing: distance of neighbors along each axis.
        pairs: (a, b), a < b, that are wanted; by default all.

    Returns:
        For each (a, b) and (b, a) an array in the order of ``points[a]``, ``points[b]``, in units of
        ``spacing[-1] ** 2``: integers, held exactly, where the spacing is the same along all axes. A point of both
        surfaces is at distance 0 exactly. Otherwise relative errors are below 1e-6.
    """
    wanted = list(itertools.combinations(range(len(surfaces)), 2)) if pairs is None else sorted(pairs)
    if not wanted:
        return {}
    relative = np.asarray(spacing, dtype=np.float64) / spacing[-1]
    transformed = _transformed(list(map(len, points)), wanted, math.prod(surfaces.shape[1:]))
    products = [(a, b) for a, b in wanted if not {a, b} <= transformed]
    found = _by_product(surfaces, points, relative, products) if products else {}
    for b in transformed:
        squared = _transform(surfaces[b], relative).ravel()
        for pair in wanted:
            if b in pair and set(pair) <= transformed:
                a = sum(pair) - b
                found[a, b] = squared[points[a]]
    return found


def _transformed(sizes: Sequence[int], pairs: Sequence[tuple[int, int]], voxels: int) -> set[int]:
    """Surfaces that get a transform; pairs in which one gets none go by a product of matrices."""
    entries = {(a, b): sizes[a] * sizes[b] for a, b in pairs}
    transform = _TRANSFORM_COST * voxels
    chosen = {surface for pair in pairs for surface in pair}
    if sum(entries.values()) <= transform * len(chosen):
        return set()
    for surface in sorted(chosen, key=lambda surface: sizes[surface]):
        if sum(n for pair, n in entries.items() if surface in pair and set(pair) <= chosen) <= transform:
            chosen.discard(surface)
    return {surface for pair in pairs if set(pair) <= chosen for surface in pair}


def _by_product(
    surfaces: BoolArray,
    points: Sequence[NDArray[np.intp]],
    relative: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
) -> SquaredDistances:
    """Smallest entries along rows and columns of the matrix of squared distances of each surface to later ones."""
    exact = bool((relative == 1).all())
    left, right = _factors(points, surfaces.shape[1:], relative, exact)
    buffer = left.new_empty(max(_BLOCK, len(left)))
    ends = list(itertools.accumulate(map(len, points), initial=0))
    found: SquaredDistances = {}
    for a, first, last in _runs(pairs):
        start = ends[first]
        others = right[:, start : ends[last + 1]]
        rows, columns = _smallest(
            left[ends[a] : ends[a + 1]], others, [end - start for end in ends[first : last + 2]], buffer
        )
        for k, b in enumerate(range(first, last + 1)):
            found[a, b] = rows[:, k]
            found[b, a] = columns[ends[b] - start : ends[b + 1] - start]
    if not exact:  # rounding must not move what coincides; everything else is at least one voxel away
        for (a, b), squared in found.items():
            squared[surfaces[b].ravel()[points[a]]] = 0
    return found


def _runs(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Sorted pairs as (a, first b, last b): runs of consecutive surfaces."""
    runs: list[tuple[int, int, int]] = []
    for a, b in pairs:
        if runs and runs[-1][0] == a and runs[-1][2] == b - 1:
            runs[-1] = (a, runs[-1][1], b)
        else:
            runs.append((a, b, b))
    return runs


def _factors(
    points: Sequence[NDArray[np.intp]], shape: tuple[int, ...], relative: NDArray[np.float64], exact: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices whose product holds |a|^2 + |b|^2 - 2 a.b for all points, with the center of the box as origin."""
    dtype = np.float32 if exact and sum(n**2 for n in shape) < _EXACT else np.float64
    every = np.concatenate(points)
    left = np.ones((len(every), len(shape) + 2), dtype)
    for axis, where in enumerate(np.unravel_index(every, shape)):
        left[:, axis] = where - shape[axis] // 2
        left[:, axis] *= relative[axis]
    coordinates = left[:, : len(shape)]
    norms = np.einsum("nk,nk->n", coordinates, coordinates)
    right = np.ones((len(shape) + 2, len(every)), dtype)
    np.multiply(coordinates.T, -2, out=right[: len(shape)])
    left[:, -2], right[-1] = norms, norms
    return torch.from_numpy(left), torch.from_numpy(right)


def _smallest(
    left: torch.Tensor, right: torch.Tensor, ends: Sequence[int], buffer: torch.Tensor
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of ``left @ right``: minima along the rows, for each group of columns, and minima of all columns."""
    rows, columns = [], []
    width = right.shape[1]
    step = max(1, len(buffer) // width)
    bits = np.dtype(f"i{left.element_size()}")  # floats from 0 up are in the order of their bits, compared faster
    for first in range(0, len(left), step):
        some = left[first : first + step]
        block = torch.mm(some, right, out=buffer[: len(some) * width].view(len(some), width)).numpy()
        rows.append(np.minimum.reduceat(block.view(bits), ends[:-1], axis=1))
        columns.append(block.view(bits).min(axis=0))
    kind = block.dtype
    return np.concatenate(rows).view(kind), np.min(columns, axis=0).view(kind)


def _transform(surface: BoolArray, relative: NDArray[np.float64]) -> NDArray[Any]:
    """Squared distance of every voxel to the surface; the last axis has spacing 1."""
    if _edt is None or surface.ndim > 3:
        distance = ndimage.distance_transform_edt(~surface, sampling=relative)
        squared = np.asarray(distance) ** 2
        return np.rint(squared) if (relative == 1).all() else squared
    return np.asarray(_edt.edtsq(~surface, anisotropy=tuple(relative), black_border=False, parallel=1))
