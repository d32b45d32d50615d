# SPDX-License-Identifier: Apache-2.0
"""Open every file of a manifest and report everything wrong with it in one error."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from monai_multirater.data.datalist import CaseRecord, Manifest, structure_problems
from monai_multirater.data.problems import ManifestError, Problem, path_problem
from monai_multirater.data.readers import (
    ImageData,
    ImageHeader,
    ReadError,
    read_header,
    read_image,
    read_mask,
)

LEVELS = ("headers", "full")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseReport:
    """What was found in the files of one case.

    Attributes:
        record: the case.
        problems: everything wrong.
        header: of the image; None if it cannot be read.
        areas: foreground fraction of each rater's mask; empty for level ``"headers"``.
        digests: of each rater's mask; equal digests are equal masks.
    """

    record: CaseRecord
    problems: tuple[Problem, ...]
    header: ImageHeader | None
    areas: Mapping[str, float] = field(default_factory=dict)
    digests: Mapping[str, bytes] = field(default_factory=dict)


def check_manifest(
    manifest: Manifest, *, level: str = "headers", affine_atol: float = 1e-3, progress: bool = False
) -> tuple[str, ...]:
    """Check a whole data set before work starts.

    Level ``"headers"`` checks structure, existence, format, shape, affine, number of channels and dimensions.
    Level ``"full"`` also decodes every file: truncated images, NaN or infinite intensities, masks that are
    not binary, truth outside [0, 1].

    Args:
        manifest: the data set.
        level: ``"headers"`` or ``"full"``.
        affine_atol: largest absolute difference between the affine of a mask and that of its image.
        progress: show a progress bar.

    Returns:
        Remarks that are no errors, also logged as warnings: only one rater, a rater without any mask, raters
        with identical masks, masks that are all empty.

    Raises:
        ManifestError: lists every problem with case, rater, path and reason.
        ValueError: if ``level`` is unknown.
    """
    reports = inspect_cases(manifest, level=level, affine_atol=affine_atol, progress=progress)
    return raise_or_remark(manifest, reports)


def raise_or_remark(manifest: Manifest, reports: Sequence[CaseReport]) -> tuple[str, ...]:
    """Raise one error with all problems of structure and files, or log and return the remarks."""
    problems = structure_problems(manifest)
    problems += [problem for report in reports for problem in report.problems]
    problems += _mixture_problems(reports)
    if problems:
        raise ManifestError(manifest.name or manifest.root, problems)
    remarks = _remarks(manifest, reports)
    for remark in remarks:
        _logger.warning("%s", remark)
    return remarks


def inspect_cases(
    manifest: Manifest, *, level: str = "headers", affine_atol: float = 1e-3, progress: bool = False
) -> list[CaseReport]:
    """Open the files of all cases; see :func:`check_manifest` for the arguments."""
    if level not in LEVELS:
        raise ValueError(f"check_manifest: 'level' must be one of {LEVELS}, got {level!r}.")
    bar = tqdm(manifest.cases, desc="Checking", unit="case", disable=not progress, leave=False)
    return [_inspect(manifest, record, level == "full", affine_atol) for record in bar]


def _inspect(manifest: Manifest, record: CaseRecord, full: bool, affine_atol: float) -> CaseReport:
    problems: list[Problem] = []
    image = _open(manifest, record, "", record.image, full, problems)
    header = None if image is None else image.header
    if full and image is not None and image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        bad = int((~np.isfinite(image.array)).sum())
        problems.append(Problem(f"has {bad} NaN or infinite values", case=record.case, path=record.image))
    areas: dict[str, float] = {}
    digests: dict[str, bytes] = {}
    for rater, path in record.ratings.items():
        mask = _open(manifest, record, rater, path, full, problems, mask=True)
        if mask is None:
            continue
        problems += _geometry_problems(record, rater, path, mask.header, header, affine_atol)
        if full:
            areas[rater] = float(mask.array.mean())
            digests[rater] = hashlib.blake2b(np.packbits(mask.array).tobytes(), digest_size=16).digest()
    if record.truth is not None:
        truth = _open(manifest, record, "", record.truth, full, problems)
        if truth is not None:
            problems += _geometry_problems(record, "", record.truth, truth.header, header, affine_atol)
            if full and not ((truth.array >= 0) & (truth.array <= 1)).all():
                problems.append(Problem("has values outside of [0, 1]", case=record.case, path=record.truth))
    return CaseReport(record, tuple(problems), header, areas, digests)


def _open(
    manifest: Manifest,
    record: CaseRecord,
    rater: str,
    relative: str,
    full: bool,
    problems: list[Problem],
    *,
    mask: bool = False,
) -> ImageData | None:
    if path_problem(relative):
        return None
    path = manifest.path(relative)
    try:
        if not full:
            return ImageData(np.empty(0), read_header(path))
        return read_mask(path) if mask else read_image(path)
    except ReadError as error:
        problems.append(Problem(str(error), case=record.case, rater=rater, path=relative))
        return None


def _geometry_problems(
    record: CaseRecord, rater: str, path: str, found: ImageHeader, image: ImageHeader | None, atol: float
) -> list[Problem]:
    if image is None:
        return []
    reasons = []
    if found.spatial_shape != image.spatial_shape:
        reasons.append(f"has shape {found.spatial_shape}, its image has {image.spatial_shape}")
    elif found.affine is not None and image.affine is not None:
        difference = float(np.abs(found.affine - image.affine).max())
        if not difference <= atol:
            reasons.append(f"has an affine that differs by {difference:.3g} from its image's (tolerance {atol:g})")
    return [Problem(reason, case=record.case, rater=rater, path=path) for reason in reasons]


def _mixture_problems(reports: Sequence[CaseReport]) -> list[Problem]:
    """Cases whose image differs in channels or dimensions from most of the others."""
    kinds = {r.record.case: (len(r.header.spatial_shape), r.header.channels) for r in reports if r.header}
    if len(set(kinds.values())) < 2:
        return []
    usual = Counter(kinds.values()).most_common(1)[0][0]
    problems = []
    for report in reports:
        kind = kinds.get(report.record.case, usual)
        if kind != usual:
            reason = f"is {kind[0]}D with {kind[1]} channels, most images are {usual[0]}D with {usual[1]}"
            problems.append(Problem(reason, case=report.record.case, path=report.record.image))
    return problems


def _remarks(manifest: Manifest, reports: Sequence[CaseReport]) -> tuple[str, ...]:
    """Things that are allowed but that a user should know."""
    remarks = []
    marked = Counter(rater for record in manifest.cases for rater in record.ratings)
    if len(manifest.raters) == 1:
        remarks.append(
            f"Only one rater ({manifest.raters[0]}): agreement is undefined, and ordinal or soft targets "
            "are the same as training on this rater's masks."
        )
    elif len(manifest.cases) and max(len(record.ratings) for record in manifest.cases) == 1:
        remarks.append("No case was marked by more than one rater: agreement is undefined on every case.")
    remarks += [f"Rater {rater} marked no case." for rater in manifest.raters if not marked[rater]]
    for first, second in itertools.combinations(manifest.raters, 2):
        shared = [r.digests for r in reports if first in r.digests and second in r.digests]
        if len(shared) > 1 and all(digests[first] == digests[second] for digests in shared):
            remarks.append(f"Raters {first} and {second} have identical masks in all {len(shared)} shared cases.")
    for rater in manifest.raters:
        areas = [r.areas[rater] for r in reports if rater in r.areas]
        if areas and not any(areas):
            remarks.append(f"All {len(areas)} masks of rater {rater} are empty.")
    return tuple(remarks)
