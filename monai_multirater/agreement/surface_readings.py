# SPDX-License-Identifier: Apache-2.0
"""What is read off squared surface distances: percentiles, means and shares of two surfaces."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement.surface_areas import SurfaceAreas, surface_areas

__all__ = ["PERCENTILE_DEFINITIONS", "SurfaceReadings", "check_choice"]

PERCENTILE_DEFINITIONS = ("larger", "pooled", "area")
DICE_DEFINITIONS = ("voxels", "area")
_TIE = 1 + 1e-6  # distances are this exact: one that equals the tolerance must count


@dataclass(frozen=True, eq=False)
class SurfaceReadings(ABC):
    """Squared distances between distinct masks of one case, and the measures that are read off them.

    Which pairs of masks are looked at, and how their values are laid out, is up to the classes derived from this one.

    Attributes:
        unit: ``"voxels"`` or ``"mm"``, the unit of distances and tolerances.
        spacing: voxel size along the axes that carry a boundary.
        masks: the distinct masks, packed bits of the box of all masks with a margin of 0 at the end of each axis.
        box: shape of box and margin.
        squared: squared distances from each boundary voxel of distinct mask a to the boundary of b, in units of
            ``spacing[-1] ** 2``.
    """

    unit: str
    spacing: tuple[float, ...] = field(repr=False)
    masks: tuple[bytes, ...] = field(repr=False)
    box: tuple[int, ...] = field(repr=False)
    squared: Mapping[tuple[int, int], NDArray[Any]] = field(repr=False)

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
        check_choice("hausdorff_percentile", definition, PERCENTILE_DEFINITIONS)
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
        check_choice("surface_dice", definition, DICE_DEFINITIONS)
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
        pairs = sorted((a, b) for a, b in self.squared if a < b)
        return surface_areas(np.stack(masks), self.spacing, pairs)

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

    @abstractmethod
    def _area_table(self, measure: str, value: Callable[[int, int], float]) -> Tensor:
        """Lay out ``value(a, b)`` of two distinct masks; what empty masks give is in ``SURFACE_MEASURES[measure]``."""


def _root_sum(squared: NDArray[Any]) -> float:
    return float(np.sqrt(squared, dtype=np.float64).sum())


def check_choice(function: str, definition: str, known: Sequence[str]) -> None:
    """Refuse a definition that is not known."""
    if definition not in known:
        raise ValueError(f"{function}: definition must be one of {', '.join(known)}. Got {definition!r}.")
