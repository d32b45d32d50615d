# SPDX-License-Identifier: Apache-2.0
"""Surface distances between raters, and of each rater to the majority of the others, from one set of distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement.boundary import BoolArray, distinct_masks, stack_boundaries
from monai_multirater.agreement.measures import SURFACE_MEASURES
from monai_multirater.agreement.surface import PairSurfaces, case_planes
from monai_multirater.agreement.surface_distances import surface_distances, surface_points
from monai_multirater.agreement.surface_readings import SurfaceReadings

__all__ = ["MajoritySurfaces", "case_surfaces"]


@dataclass(frozen=True, eq=False)
class MajoritySurfaces(SurfaceReadings):
    """Surface distances of every rater of one case to the strict majority of the other raters present.

    All methods return float64 ``[R]``, NaN for absent raters and for a rater alone. What empty masks give is as in
    :class:`~monai_multirater.agreement.PairSurfaces`.

    Attributes:
        compared: bool ``[R]``, present and not alone.
        groups: for each rater, which of the distinct masks is theirs; -1 where empty.
        references: which of them is the majority of the others; -1 where empty.
        inside: for each pair of a mask and a reference, which boundary voxels of the mask lie in the reference.
    """

    compared: Tensor
    groups: tuple[int, ...] = field(repr=False)
    references: tuple[int, ...] = field(repr=False)
    inside: dict[tuple[int, int], BoolArray] = field(repr=False)

    def boundary_bias(self) -> Tensor:
        """Mean signed distance of the rater's boundary to the majority's, positive where the rater goes outside.

        As ``boundary_bias`` of :func:`~monai_multirater.agreement.rater_performance`: 0 where both masks are empty, NaN
        where one is.
        """
        return self._area_table("assd", lambda a, b: self._mean(a, b, signed=True))

    def boundary_distance(self) -> Tensor:
        """Mean of its absolute value."""
        return self._area_table("assd", lambda a, b: self._mean(a, b, signed=False))

    def _mean(self, a: int, b: int, *, signed: bool) -> float:
        distance = np.sqrt(self.squared[a, b], dtype=np.float64)
        if signed:
            np.negative(distance, where=self.inside[a, b], out=distance)
        return self.spacing[-1] * float(distance.mean())

    def _area_table(self, measure: str, value: Callable[[int, int], float]) -> Tensor:
        rules = SURFACE_MEASURES[measure]
        chosen = list(zip(self.groups, self.references, strict=True))
        known: dict[tuple[int, int], float] = {}
        for a, b in set(chosen):
            if a == b:
                known[a, b] = rules.best if a >= 0 else rules.both_empty
            else:
                known[a, b] = value(a, b) if min(a, b) >= 0 else float(rules.one_empty or 0.0)
        found = torch.tensor([known[pair] for pair in chosen], dtype=torch.float64)
        return found.masked_fill(~self.compared, math.nan)


def case_surfaces(
    ratings: Tensor, rater_mask: Tensor | None = None, *, spacing: Sequence[float] | None = None
) -> tuple[PairSurfaces, MajoritySurfaces]:
    """Distances between the surfaces of all pairs of raters of one case, and to the majority of the others.

    The strict majority of the other raters present is what ``rater_performance`` compares a rater with: a tie is
    background. Equal masks are measured once, whether they are of raters or majorities.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer, 2D or 3D, on any device.
        rater_mask: ``[R]`` bool, True = present.
        spacing: voxel size in mm along each spatial axis; None measures in voxels.

    Returns:
        What :func:`~monai_multirater.agreement.pair_surfaces` gives, and the same for raters and majorities.

    Raises:
        TypeError, ValueError: as :func:`~monai_multirater.agreement.pair_surfaces`.
    """
    planes, present, sizes = case_planes(ratings, rater_mask, spacing)
    groups, masks, stack = distinct_masks(planes, present)
    references, every, whole = _with_majorities(groups, masks, stack, present)
    surfaces = stack_boundaries(whole)
    points = surface_points(surfaces)
    own = [(a, b) for a in range(len(masks)) for b in range(a + 1, len(masks))]
    other = {(a, b) for a, b in zip(groups, references, strict=True) if min(a, b) >= 0 and a != b}
    pairs = sorted({*own, *((min(pair), max(pair)) for pair in other)})
    squared = surface_distances(surfaces, points, sizes, pairs)
    inside = {(a, b): whole[b].reshape(-1)[points[a]].view(np.bool_) for a, b in other}
    shared = ("voxels" if spacing is None else "mm", sizes)
    here, box = torch.from_numpy(present), whole.shape[1:]
    among = {pair: squared[pair] for a, b in own for pair in ((a, b), (b, a))}
    against = {pair: squared[pair] for a, b in other for pair in ((a, b), (b, a))}
    empty = torch.from_numpy(present & (np.asarray(groups) < 0))
    return (
        PairSurfaces(*shared, masks, box, among, here, empty, groups),
        MajoritySurfaces(*shared, every, box, against, here & bool(present.sum() > 1), groups, references, inside),
    )


def _with_majorities(
    groups: Sequence[int], masks: tuple[bytes, ...], stack: NDArray[np.uint8], present: NDArray[np.bool_]
) -> tuple[tuple[int, ...], tuple[bytes, ...], NDArray[np.uint8]]:
    """Which distinct mask is the reference of each rater, -1 for none; the masks and their stack with them added.

    Raters of equal masks have equal references.
    """
    weights = np.bincount([group for group in groups if group >= 0], minlength=len(masks)).astype(np.uint8)
    votes = np.zeros(stack.shape[1:], np.uint8)
    for weight, mask in zip(weights, stack, strict=True):
        votes += weight * mask
    most = (int(present.sum()) - 1) // 2
    planes = {group: (votes - stack[group] if group >= 0 else votes) > most for group in dict.fromkeys(groups)}
    found = {mask: index for index, mask in enumerate(masks)}
    added, reference = [], {}
    for group, plane in planes.items():
        key = np.packbits(plane.reshape(-1)).tobytes()
        if not plane.any():
            reference[group] = -1
            continue
        if key not in found:
            added.append(plane.view(np.uint8))
        reference[group] = found.setdefault(key, len(found))
    whole = np.concatenate([stack, np.stack(added)]) if added else stack
    return tuple(reference[group] for group in groups), tuple(found), whole
