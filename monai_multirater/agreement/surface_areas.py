# SPDX-License-Identifier: Apache-2.0
"""Surfaces through the corners of voxels, with the area that each piece stands for."""

from __future__ import annotations

from collections.abc import Sequence

from monai_multirater.agreement.boundary import BoolArray

__all__ = ["SurfaceAreas", "surface_areas"]


class SurfaceAreas:
    def percentile(self, a: int, b: int, share: float) -> float:
        raise NotImplementedError

    def dice(self, a: int, b: int, limit: float) -> float:
        raise NotImplementedError


def surface_areas(masks: Sequence[BoolArray], spacing: Sequence[float]) -> SurfaceAreas:
    raise NotImplementedError
