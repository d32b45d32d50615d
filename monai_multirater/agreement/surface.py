# SPDX-License-Identifier: Apache-2.0
"""Surface distances between all pairs of raters of one case: computed once, read in many ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement.boundary import distinct_masks, stack_boundaries
from monai_multirater.agreement.measures import SURFACE_MEASURES
from monai_multirater.agreement.reference import check_case, check_spacing
from monai_multirater.agreement.surface_distances import surface_distances, surface_points
from monai_multirater.agreement.surface_readings import PERCENTILE_DEFINITIONS, SurfaceReadings, check_choice

__all__ = [
    "PairSurfaces",
    "case_planes",
    "pair_surfaces",
    "pairwise_average_surface_distance",
    "pairwise_hausdorff",
    "pairwise_surface_dice",
]


@dataclass(frozen=True, eq=False)
class PairSurfaces(SurfaceReadings):
    """Surface distances of every pair of raters of one case; the methods read measures off them.

    All methods return float64 ``[R, R]``, symmetric, NaN in the rows and columns of absent raters. Two empty masks
    are at distance 0 with surface Dice 1; of an empty and another mask the distance is NaN, the surface Dice 0. The
    diagonal of a present rater is 0, or 1 for the surface Dice.

    Attributes:
        present: bool ``[R]``.
        empty: bool ``[R]``, present and nothing marked.
        groups: for each rater, which of the distinct masks is theirs; -1 where empty or absent.
    """

    present: Tensor
    empty: Tensor
    groups: tuple[int, ...] = field(repr=False)

    @property
    def undefined(self) -> int:
        """Number of pairs of present raters whose distance is NaN: one has an empty mask, the other has not."""
        empty = int(self.empty.sum())
        return empty * (int(self.present.sum()) - empty)

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
    planes, present, sizes = case_planes(ratings, rater_mask, spacing)
    groups, masks, stack = distinct_masks(planes, present)
    surfaces = stack_boundaries(stack)
    return PairSurfaces(
        "voxels" if spacing is None else "mm",
        sizes,
        masks,
        stack.shape[1:],
        surface_distances(surfaces, surface_points(surfaces), sizes),
        torch.from_numpy(present),
        torch.from_numpy(present & (np.asarray(groups) < 0)),
        groups,
    )


def case_planes(
    ratings: Tensor, rater_mask: Tensor | None, spacing: Sequence[float] | None
) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, ...]]:
    """Planes of a case without axes of length 1, who is present, and the voxel size along the axes that are left.

    The arguments and errors are those of :func:`pair_surfaces`; the values are not looked at.
    """
    if ratings.ndim not in (3, 4):
        raise ValueError(f"pair_surfaces: ratings must be [R, *spatial] in 2D or 3D. Got shape {tuple(ratings.shape)}.")
    check_case(ratings[..., :0], rater_mask, function="pair_surfaces")
    shape = ratings.shape[1:]
    sizes = check_spacing(spacing, len(shape), function="pair_surfaces")
    present = np.ones(len(ratings), np.bool_) if rater_mask is None else np.array(rater_mask.cpu().numpy(), np.bool_)
    axes = [axis for axis, length in enumerate(shape) if length > 1] or [0]
    planes = ratings.as_subclass(Tensor).cpu().numpy().reshape(len(ratings), *(shape[axis] for axis in axes))
    return planes, present, tuple(sizes[axis] for axis in axes)


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
    check_choice("pairwise_hausdorff", definition, PERCENTILE_DEFINITIONS)
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
