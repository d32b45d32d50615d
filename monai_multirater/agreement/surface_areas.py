# SPDX-License-Identifier: Apache-2.0
"""Surfaces that run between the voxels, in pieces of known area, as DeepMind's surface-distance has them.

The image is seen through blocks of 2 x 2 (x 2) neighboring voxels, whose centers are the corners of a square (cube)
around a corner of the voxel grid. A block that the surface crosses is one surface point, at its center, and stands for
the contour length (the area) that runs through it. The rule for the area, in 2D and 3D alike:

1. Of the corners inside and the corners outside, take the fewer (both give the same if they are equally many).
2. Each group of them that edges connect is cut off on its own, through the midpoints of the edges that leave it.
   This settles the ambiguous cases, where groups touch only diagonally.
3. The cut is the part of the convex hull of the group and these midpoints that does not lie on a side of the cube.
4. One exception: four corners along a path of three edges in three directions, whose complement is such a path too, so
   that the hull would depend on the side. There the cut consists of two quadrilaterals that meet between the midpoints
   of the two edges that leave the ends of the path parallel to its middle edge; each is bent along a diagonal, and both
   diagonals give the same area.

These are the areas of the 16 and 256 neighborhoods in surface-distance (Nikolov 2021, doi:10.2196/26151).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from monai_multirater.agreement.surface_distances import SquaredDistances, surface_distances, surface_points

__all__ = ["SurfaceAreas", "neighborhood_areas", "surface_areas"]

FloatArray = NDArray[np.float64]
_Corner = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SurfaceAreas:
    """Surface points of distinct masks, their areas and their distances to each other.

    Attributes:
        areas: of the surface points of each mask, in voxel sides or mm to the power d - 1.
        squared: squared distances from each point of a to the surface of b, in units of ``unit ** 2``.
        unit: length of that unit.
    """

    areas: tuple[FloatArray, ...]
    squared: SquaredDistances
    unit: float

    def percentile(self, a: int, b: int, share: float) -> float:
        """The larger of both directed distances within which `share` of the area lies."""
        return self.unit * math.sqrt(max(self._directed(a, b, share), self._directed(b, a, share)))

    def dice(self, a: int, b: int, limit: float) -> float:
        """Share of the area of both surfaces whose squared distance, in the unit's square, is at most `limit`."""
        close = [float(self.areas[i][self.squared[i, j] <= limit].sum()) for i, j in ((a, b), (b, a))]
        return sum(close) / float(self.areas[a].sum() + self.areas[b].sum())

    def _directed(self, a: int, b: int, share: float) -> float:
        squared = self.squared[a, b]
        order = np.argsort(squared, kind="stable")
        areas = self.areas[a][order]
        held = np.cumsum(areas) / areas.sum()
        return float(squared[order[min(int(np.searchsorted(held, share)), len(order) - 1)]])


def surface_areas(
    masks: NDArray[np.uint8], spacing: Sequence[float], pairs: Sequence[tuple[int, int]] | None = None
) -> SurfaceAreas:
    """Surface points of masks ``[D, *spatial]``, none of them empty, whose last entry along each axis is 0.

    ``pairs`` (a, b), a < b, are those whose distances are wanted; by default all.
    """
    table = neighborhood_areas(spacing)
    codes = _codes(masks)
    surfaces = (codes != 0) & (codes != len(table) - 1)
    points = surface_points(surfaces)
    areas = tuple(table[code.ravel()[own]] for code, own in zip(codes, points, strict=True))
    return SurfaceAreas(areas, surface_distances(surfaces, points, spacing, pairs), spacing[-1])


def neighborhood_areas(spacing: Sequence[float]) -> FloatArray:
    """Area of the surface through each of the ``2 ** 2 ** d`` blocks of voxels, by the code of the block.

    The first voxel of the block (in C order) is the highest bit of its code. In 2D it is the length of the contour.
    """
    sides = np.asarray(spacing, dtype=np.float64)
    codes, normals = _pieces(len(sides))
    areas = np.linalg.norm(normals * (sides.prod() / sides), axis=1)
    found: FloatArray = np.zeros(2**2 ** len(sides))
    np.add.at(found, codes, areas)
    return found


def _codes(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Code of the block of voxels that ends at each voxel; before the first voxel is 0."""
    code = masks.copy()
    for axis in reversed(range(1, masks.ndim)):
        before = np.moveaxis(code << 2 ** (masks.ndim - 1 - axis), axis, 0)
        np.moveaxis(code, axis, 0)[1:] |= before[:-1]
    return code


@cache
def _pieces(dimensions: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Flat pieces of the surface through every block: its code, and the normal as long as the piece's area."""
    corners: list[_Corner] = list(itertools.product((0.0, 1.0), repeat=dimensions))
    full = 2 ** len(corners) - 1
    codes, normals = [], []
    for code in range(1, full):
        inside = {corner for k, corner in enumerate(corners) if code >> (len(corners) - 1 - k) & 1}
        fewer = inside if 2 * len(inside) <= len(corners) else set(corners) - inside
        for group in _connected(fewer):
            cut = _cut(group)
            normals += cut
            codes += [code] * len(cut)
    return np.asarray(codes, dtype=np.intp), np.asarray(normals, dtype=np.float64)


def _across(corner: _Corner, axis: int) -> _Corner:
    """The corner at the other end of the edge along `axis`."""
    return tuple(1 - value if k == axis else value for k, value in enumerate(corner))


def _neighbors(corner: _Corner) -> list[_Corner]:
    return [_across(corner, axis) for axis in range(len(corner))]


def _connected(corners: set[_Corner]) -> list[set[_Corner]]:
    """Groups of corners that edges connect."""
    groups: list[set[_Corner]] = []
    for corner in sorted(corners):
        touching = [group for group in groups if group & set(_neighbors(corner))]
        groups = [group for group in groups if group not in touching]
        groups.append({corner}.union(*touching))
    return groups


def _cut(group: set[_Corner]) -> list[FloatArray]:
    """Normals, as long as the areas, of the flat pieces that cut the group off from the other corners."""
    degrees = {corner: len(group & set(_neighbors(corner))) for corner in group}
    ends = sorted(corner for corner, degree in degrees.items() if degree == 1)
    if len(group) == 4 and len(ends) == 2:
        return _cut_path(group, ends)
    middles = [_middle(one, other) for one in group for other in _neighbors(one) if other not in group]
    if len(next(iter(group))) == 1:
        return [np.ones(1)]
    hull = np.asarray([*group, *middles])
    found = []
    for simplex in ConvexHull(hull).simplices:
        piece = hull[simplex]
        if not ((piece == piece[0]).all(0) & np.isin(piece[0], (0, 1))).any():
            found.append(_normal(piece))
    return found


def _cut_path(group: set[_Corner], ends: list[_Corner]) -> list[FloatArray]:
    """The two quadrilaterals that cut off a path of four corners, one beside each edge from an end."""
    inner = [next(iter(group & set(_neighbors(end)))) for end in ends]
    axis = int(np.flatnonzero(np.not_equal(inner[0], inner[1]))[0])
    found = []
    for end, beside, other in zip(ends, inner, reversed(ends), strict=True):
        free = next(corner for corner in _neighbors(beside) if corner not in group)
        leaving = int(np.flatnonzero(np.not_equal(free, beside))[0])
        near, far = _middle(end, _across(end, axis)), _middle(other, _across(other, axis))
        quad = np.asarray([near, far, _middle(beside, free), _middle(end, _across(end, leaving))])
        found += [_normal(quad[[0, 1, 2]]), _normal(quad[[0, 2, 3]])]
    return found


def _middle(one: _Corner, other: _Corner) -> _Corner:
    return tuple((a + b) / 2 for a, b in zip(one, other, strict=True))


def _normal(piece: NDArray[Any]) -> FloatArray:
    """Normal of a segment or triangle, as long as its length or area."""
    edges = piece[1:] - piece[0]
    if len(edges) == 1:
        return np.asarray([edges[0, 1], -edges[0, 0]])
    return np.asarray(np.cross(edges[0], edges[1]) / 2)
