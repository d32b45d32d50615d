# SPDX-License-Identifier: Apache-2.0
"""Surface distances between all pairs of raters of one case: computed once, read in many ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement.boundary import planes_box, stack_boundaries
from monai_multirater.agreement.measures import SURFACE_MEASURES
from monai_multirater.agreement.reference import check_case, check_spacing
from monai_multirater.agreement.surface_areas import SurfaceAreas, surface_areas
from monai_multirater.agreement.surface_distances import surface_distances, surface_points

__all__ = [
    "PairSurfaces",
    "pair_surfaces",
    "pairwise_average_surface_distance",
    "pairwise_hausdorff",
    "pairwise_surface_dice",
]

PERCENTILE_DEFINITIONS = ("larger", "pooled", "area")
DICE_DEFINITIONS = ("voxels", "area")
_TIE = 1 + 1e-6  # distances are this exact: one that equals the tolerance must count


@dataclass(frozen=True, eq=False)
class PairSurfaces:
    """Surface distances of every pair of raters of one case; the methods read measures off them.

    All methods return float64 ``[R, R]``, symmetric, NaN in the rows and columns of absent raters. Two empty masks
    are at distance 0 with surface Dice 1; of an empty and another mask the distance is NaN, the surface Dice 0. The
    diagonal of a present rater is 0, or 1 for the surface Dice.

    Attributes:
        present: bool ``[R]``.
        empty: bool ``[R]``, present and nothing marked.
        unit: ``"voxels"`` or ``"mm"``, the unit of distances and tolerances.
        spacing: voxel size along the axes that carry a boundary.
        groups: for each rater, which of the distinct masks is theirs; -1 where empty or absent.
        masks: the distinct masks, packed bits of the box of all masks with a margin of 0 at the end of each axis.
        box: shape of box and margin.
        squared: squared distances from each boundary voxel of distinct mask a to the boundary of b, in units of
            ``spacing[-1] ** 2``.
    """

    present: Tensor
    empty: Tensor
    unit: str
    spacing: tuple[float, ...] = field(repr=False)
    groups: tuple[int, ...] = field(repr=False)
    masks: tuple[bytes, ...] = field(repr=False)
    box: tuple[int, ...] = field(repr=False)
    squared: Mapping[tuple[int, int], NDArray[Any]] = field(repr=False)

    @property
    def undefined(self) -> int:
        """Number of pairs of present raters whose distance is NaN: one has an empty mask, the other has not."""
        empty = int(self.empty.sum())
        return empty * (int(self.present.sum()) - empty)

    def hausdorff(self) -> Tensor:
        """Hausdorff distance: the largest distance of a boundary voxel of one mask to the other mask's boundary."""
        return self._table("hausdorff", lambda a, b: self._distance(max(a.max(), b.max())))

    def hausdorff_percentile(self, percentile: float = 95, *, definition: str = "larger") -> Tensor:
        """Percentile of the surface distances instead of their maximum; three definitions are in use.

        Args:
            percentile: 0 to 100; 100 is the Hausdorff distance.
            definition: ``"larger"``, the larger of the percentiles of both directions, as MONAI's
                ``compute_hausdorff_distance``; ``"pooled"``, the percentile of the distances of both directions
                together, as medpy's ``hd95``; both interpolate linearly between two distances. ``"area"``, as
                ``compute_robust_hausdorff`` of DeepMind's surface-distance (doi:10.2196/26151): distances between
                the surfaces through the corners of voxels, see
                :func:`~monai_multirater.agreement.surface_areas.surface_areas`, each with the area it stands for; the
                larger of the smallest distances that hold `percentile` % of the area, without interpolation.

        Raises:
            ValueError: unknown definition or a percentile outside [0, 100].
        """
        _check_choice("hausdorff_percentile", definition, PERCENTILE_DEFINITIONS)
        if not 0 <= percentile <= 100:
            raise ValueError(f"hausdorff_percentile: percentile must be in [0, 100]. Got {percentile}.")
        share = percentile / 100
        if definition == "area":
            return self._area_table("hausdorff95", lambda a, b: self._areas.percentile(a, b, share))
        if definition == "pooled":
            return self._table("hausdorff95", lambda a, b: self._quantile(np.concatenate([a, b]), share))
        return self._table("hausdorff95", lambda a, b: max(self._quantile(a, share), self._quantile(b, share)))

    def average_symmetric(self) -> Tensor:
        """Average symmetric surface distance: the mean over the boundary voxels of both masks together.

        A mask with more boundary voxels weighs more, as in MONAI's
        ``compute_average_surface_distance(symmetric=True)``; medpy's ``assd`` is the mean of the two directed means.
        """
        return self._table(
            "assd",
            lambda a, b: self.spacing[-1] * float((_root_sum(a) + _root_sum(b)) / (len(a) + len(b))),
        )

    def surface_dice(self, tolerance: float, *, definition: str = "voxels") -> Tensor:
        """Surface Dice (normalized surface distance): share of both surfaces within a tolerance of the other.

        Args:
            tolerance: the largest distance that counts as agreement, in `unit`; a distance equal to it counts.
            definition: ``"voxels"``, the share of boundary voxels, as MONAI's ``compute_surface_dice`` without
                subvoxels; ``"area"``, the share of surface area, as ``compute_surface_dice_at_tolerance`` of
                DeepMind's surface-distance (doi:10.2196/26151).

        Raises:
            ValueError: unknown definition, or a tolerance that is negative or not finite.
        """
        _check_choice("surface_dice", definition, DICE_DEFINITIONS)
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"surface_dice: tolerance must be a length of 0 or more. Got {tolerance}.")
        limit = (tolerance / self.spacing[-1] * _TIE) ** 2
        if definition == "area":
            return self._area_table("surface_dice", lambda a, b: self._areas.dice(a, b, limit))
        return self._table(
            "surface_dice",
            lambda a, b: (np.count_nonzero(a <= limit) + np.count_nonzero(b <= limit)) / (len(a) + len(b)),
        )

    @cached_property
    def _areas(self) -> SurfaceAreas:
        """Surfaces through the corners of voxels; most readings do without."""
        size = math.prod(self.box)
        masks = [np.unpackbits(np.frombuffer(bits, np.uint8), count=size).reshape(self.box) for bits in self.masks]
        return surface_areas(np.stack(masks), self.spacing)

    def _distance(self, squared: float) -> float:
        return self.spacing[-1] * math.sqrt(squared)

    def _quantile(self, squared: NDArray[Any], share: float) -> float:
        """Quantile of the distances, linear between the two that enclose it."""
        rank = share * (len(squared) - 1)
        low = min(int(rank), len(squared) - 1)
        high = min(low + 1, len(squared) - 1)
        parted = np.partition(squared, (low, high))
        below, above = math.sqrt(parted[low]), math.sqrt(parted[high])
        return self.spacing[-1] * (below + (rank - low) * (above - below))

    def _table(self, measure: str, value: Callable[[NDArray[Any], NDArray[Any]], float]) -> Tensor:
        return self._area_table(measure, lambda a, b: value(self.squared[a, b], self.squared[b, a]))

    def _area_table(self, measure: str, value: Callable[[int, int], float]) -> Tensor:
        """``value(a, b)`` of each pair of distinct masks, laid out over the raters."""
        rules = SURFACE_MEASURES[measure]
        distinct = len(self.masks)
        table = np.full((distinct + 1, distinct + 1), rules.one_empty, dtype=np.float64)  # the last is the empty mask
        for a in range(distinct):
            table[a, a] = rules.best
            for b in range(a + 1, distinct):
                table[a, b] = table[b, a] = value(a, b)
        table[distinct, distinct] = rules.both_empty
        found = torch.from_numpy(table[np.ix_(self.groups, self.groups)])
        return found.masked_fill(~(self.present[:, None] & self.present), math.nan)


def pair_surfaces(
    ratings: Tensor, rater_mask: Tensor | None = None, *, spacing: Sequence[float] | None = None
) -> PairSurfaces:
    """Distances between the surfaces of every pair of raters of one case.

    The surface of a mask are the centers of its voxels with a face neighbor outside the mask, and beyond the image
    all is outside, as in MONAI's ``get_mask_edges``. Distances are Euclidean and exact; they run from each boundary
    voxel of one mask to the nearest boundary voxel of the other. Equal masks are measured once, everything in the box
    of all masks. An axis of length 1 carries no boundary, so that a slice gives the same in 2D and in 3D. MONAI,
    medpy and surface-distance differ there: for them every voxel of a one-slice volume lies on the surface, which
    makes distances smaller than those of the outlines. They also differ for empty masks: MONAI gives infinity where
    one is empty and NaN where both are, medpy raises an error.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer, 2D or 3D, on any device.
        rater_mask: ``[R]`` bool, True = present.
        spacing: voxel size in mm along each spatial axis; None measures in voxels.

    Returns:
        :class:`PairSurfaces`, on the CPU; says what empty masks and absent raters give.

    Raises:
        TypeError: floating-point ratings.
        ValueError: values other than 0 and 1, nobody present, a batch, not 2D or 3D, or a spacing that does not fit.
    """
    if ratings.ndim not in (3, 4):
        raise ValueError(f"pair_surfaces: ratings must be [R, *spatial] in 2D or 3D. Got shape {tuple(ratings.shape)}.")
    check_case(ratings[..., :0], rater_mask, function="pair_surfaces")  # the values are checked in the box
    shape = ratings.shape[1:]
    sizes = check_spacing(spacing, len(shape), function="pair_surfaces")
    present = np.ones(len(ratings), np.bool_) if rater_mask is None else np.array(rater_mask.cpu().numpy(), np.bool_)
    axes = [axis for axis, length in enumerate(shape) if length > 1] or [0]
    planes = ratings.as_subclass(Tensor).cpu().numpy().reshape(len(ratings), *(shape[axis] for axis in axes))
    kept = tuple(sizes[axis] for axis in axes)
    groups, masks, stack = _distinct(planes, present)
    surfaces = stack_boundaries(stack)
    return PairSurfaces(
        torch.from_numpy(present),
        torch.from_numpy(present & (np.asarray(groups) < 0)),
        "voxels" if spacing is None else "mm",
        kept,
        groups,
        masks,
        stack.shape[1:],
        surface_distances(surfaces, surface_points(surfaces), kept),
    )


def _distinct(
    planes: NDArray[Any], present: NDArray[np.bool_]
) -> tuple[tuple[int, ...], tuple[bytes, ...], NDArray[np.uint8]]:
    """Which of the distinct masks each rater has, -1 for none; their bits; they in the box of all and a margin of 0."""
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


def _root_sum(squared: NDArray[Any]) -> float:
    return float(np.sqrt(squared, dtype=np.float64).sum())


def _check_choice(function: str, definition: str, known: Sequence[str]) -> None:
    if definition not in known:
        raise ValueError(f"{function}: definition must be one of {', '.join(known)}. Got {definition!r}.")


def pairwise_hausdorff(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    spacing: Sequence[float] | None = None,
    percentile: float | None = None,
    definition: str = "larger",
) -> Tensor:
    """Hausdorff distance of every pair of raters, or a percentile of it; float64 ``[R, R]``.

    See :func:`pair_surfaces` for the arguments, :meth:`PairSurfaces.hausdorff` and
    :meth:`PairSurfaces.hausdorff_percentile` for the definitions; `percentile` None is the maximum.
    """
    _check_choice("pairwise_hausdorff", definition, PERCENTILE_DEFINITIONS)
    surfaces = pair_surfaces(ratings, rater_mask, spacing=spacing)
    if percentile is None and definition != "area":
        return surfaces.hausdorff()
    return surfaces.hausdorff_percentile(100 if percentile is None else percentile, definition=definition)


def pairwise_average_surface_distance(
    ratings: Tensor, rater_mask: Tensor | None = None, *, spacing: Sequence[float] | None = None
) -> Tensor:
    """Average symmetric surface distance of every pair of raters, float64 ``[R, R]``.

    See :func:`pair_surfaces` for the arguments and :meth:`PairSurfaces.average_symmetric` for the definition.
    """
    return pair_surfaces(ratings, rater_mask, spacing=spacing).average_symmetric()


def pairwise_surface_dice(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    tolerance: float,
    spacing: Sequence[float] | None = None,
    definition: str = "voxels",
) -> Tensor:
    """Surface Dice of every pair of raters, float64 ``[R, R]``.

    See :func:`pair_surfaces` for the arguments and :meth:`PairSurfaces.surface_dice` for the definitions;
    `tolerance` is in mm if `spacing` is given, else in voxels.
    """
    return pair_surfaces(ratings, rater_mask, spacing=spacing).surface_dice(tolerance, definition=definition)
