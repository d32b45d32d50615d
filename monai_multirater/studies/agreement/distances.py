# SPDX-License-Identifier: Apache-2.0
"""Distances between the raters of a case and to the majority of the others, and masks that look flipped."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from monai_multirater.agreement import detect_flips
from monai_multirater.agreement.measures import SURFACE_MEASURES
from monai_multirater.agreement.overlap import upper_pairs
from monai_multirater.agreement.surface import PairSurfaces
from monai_multirater.agreement.surface_majority import MajoritySurfaces, case_surfaces
from monai_multirater.agreement.surface_readings import SurfaceReadings
from monai_multirater.studies.agreement.request import AgreementRequest, Record
from monai_multirater.studies.records import plain
from monai_multirater.studies.stacks import MaskStack, Stopwatch

__all__ = ["CEILING_DISTANCES", "measure_details"]

CEILING_DISTANCES = ("hausdorff95", "assd")
_FLIP_DICE, _FLIP_VOXELS = 0.7, 30  # detect_flips looks at raters below this Dice, from so many voxels on


def measure_details(
    record: Record, stack: MaskStack, spacing: tuple[float, ...] | None, request: AgreementRequest, watch: Stopwatch
) -> Record:
    """Return what the counts of a case do not tell: distances, boundary bias, flips. ``spacing`` is as in the stack."""
    found: Record = {"surfaces": {}, "undefined": 0, "ceiling": {}, "boundary": {}, "flips": []}
    if len(record["raters"]) < 2:
        return found
    if request.surfaces:
        surfaces, others = case_surfaces(stack.planes, spacing=spacing)
        found["surfaces"] = _pairs(surfaces, request)
        found["undefined"] = int(surfaces.undefined)
        watch.lap("surfaces")
        found["ceiling"] = _ceiling(others, request)
        found["boundary"] = {
            "bias": plain(others.boundary_bias().tolist()),
            "distance": plain(others.boundary_distance().tolist()),
        }
    if _may_be_flipped(record):
        found["flips"] = [
            {
                "rater": record["raters"][flip.rater],
                "transform": flip.transform,
                "dice_before": flip.dice_before,
                "dice_after": flip.dice_after,
                "ambiguous": flip.ambiguous,
            }
            for flip in detect_flips(stack.turn(stack.planes))
        ]
    watch.lap("raters")
    return found


def _value(surfaces: SurfaceReadings, name: str, request: AgreementRequest) -> Tensor:
    if name == "hausdorff":
        return surfaces.hausdorff()
    if name == "hausdorff95":
        return surfaces.hausdorff_percentile(95, definition=request.hd95)
    if name == "assd":
        return surfaces.average_symmetric()
    return surfaces.surface_dice(request.tolerance)


def _pairs(surfaces: PairSurfaces, request: AgreementRequest) -> dict[str, Any]:
    names = request.chosen(SURFACE_MEASURES)
    return {name: plain(upper_pairs(_value(surfaces, name, request)).tolist()) for name in names}


def _ceiling(others: MajoritySurfaces, request: AgreementRequest) -> dict[str, Any]:
    """Distances of each rater to the strict majority of the others, as a model's to the raters' majority."""
    names = [name for name in CEILING_DISTANCES if name in request.measures]
    return {name: plain(_value(others, name, request).tolist()) for name in names}


def _may_be_flipped(record: Record) -> bool:
    """Whether the Dice of a rater with the others' majority is low enough for a search."""
    return any(
        2 * tp < _FLIP_DICE * (2 * tp + fp + fn) and min(tp + fp, tp + fn) >= _FLIP_VOXELS
        for tp, fp, fn, _ in record["cells"]
    )
