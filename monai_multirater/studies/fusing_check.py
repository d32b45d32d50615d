# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a fusion of a whole data set, found before work starts."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from monai_multirater.data import CaseRecord, ImageHeader, Manifest, Problem, ReadError, read_header
from monai_multirater.data.check import inspect_cases, raise_or_remark
from monai_multirater.data.dicom import DicomSeries, Segment, read_series
from monai_multirater.fusion import fuse

__all__ = ["check_files", "check_method", "read_segment", "series_path", "tie_rule"]

_logger = logging.getLogger(__name__)
_UNTIED = ("random", "union", "intersection")


def check_method(method: str, options: Mapping[str, Any], raters: int, header: ImageHeader) -> None:
    """Try a method and its options on a small made case with geometry and number of raters of the data set.

    Raises:
        ValueError: for an option that the method does not have, with those it has, or a value that it refuses.
    """
    shape = tuple(min(size, 16) for size in header.spatial_shape)
    ratings = torch.zeros(raters, *shape, dtype=torch.uint8)
    ratings[:, shape[0] // 2 :] = 1
    spacing = None if header.affine is None else (1.0,) * len(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fuse(ratings, method, None, spacing=spacing, generator=torch.Generator().manual_seed(0), **options)
        except (TypeError, ValueError) as error:
            if str(error).startswith("fuse:"):
                raise
            raise ValueError(f"fuse: {method} cannot take {dict(options)}: {error}") from None


def tie_rule(method: str, options: Mapping[str, Any]) -> str:
    """Return what the consensus is where the raters are split evenly; empty for methods without ties."""
    if method in _UNTIED:
        return ""
    if method == "majority":
        return f"where exactly half of the raters say foreground, it is {options.get('ties', 'background')}"
    return "where the probability is exactly 0.5, it is background"


def series_path(manifest: Manifest, record: CaseRecord) -> str | None:
    """Return the folder of a case's DICOM series: its ``dicom``, or its image if that is a folder."""
    stated = record.extra.get("dicom")
    if isinstance(stated, str):
        return stated
    return record.image if manifest.path(record.image).is_dir() else None


def read_segment(manifest: Manifest, method: str) -> Segment:
    """Return what the masks show, from the manifest's ``"segment": {"label", "category", "type"}``.

    Raises:
        ValueError: if it has another form.
    """
    stated = manifest.meta.get("segment", {})
    codes = {key: stated[key] for key in ("category", "type") if key in stated} if isinstance(stated, dict) else {}
    fits = isinstance(stated, dict) and set(stated) <= {"label", "category", "type"}
    if not fits or not all(
        isinstance(c, list) and len(c) == 3 and all(isinstance(part, str) for part in c) for c in codes.values()
    ):
        raise ValueError(
            'fuse: \'segment\' of the manifest must be {"label": name, "category": [value, scheme, meaning], '
            f'"type": [value, scheme, meaning]}}. Got {stated!r}.'
        )
    label = str(stated.get("label", manifest.name or "Segment"))
    return Segment(label, method=method, **{key: tuple(code) for key, code in codes.items()})


def check_files(manifest: Manifest, form: str, *, progress: bool = False) -> None:
    """Open the headers of all files; log remarks about the data set.

    Raises:
        ManifestError: everything wrong: what :func:`~monai_multirater.data.check_manifest` finds, masks that are not on
            the grid of their DICOM series, and what the output format needs and a case does not have.
    """
    folders = {record.case: series_path(manifest, record) for record in manifest.cases}

    def stand_in(record: CaseRecord) -> CaseRecord:
        """The first mask in place of an image that is a folder."""
        is_series = folders[record.case] == record.image and record.ratings
        return replace(record, image=next(iter(record.ratings.values()))) if is_series else record

    splits = {name: tuple(map(stand_in, records)) for name, records in manifest.splits.items()}
    checked = replace(manifest, splits=splits)
    reports = inspect_cases(checked, progress=progress)
    for number, (report, record) in enumerate(zip(reports, manifest.cases, strict=True)):
        if not report.problems and (form != "same" or folders[record.case] == record.image):
            more = _format_problems(manifest, record, folders[record.case], form)
            reports[number] = replace(report, problems=tuple(more))
    raise_or_remark(checked, reports)


def _format_problems(manifest: Manifest, record: CaseRecord, folder: str | None, form: str) -> list[Problem]:
    if form == "dicom-seg" and folder is None:
        reason = "is not DICOM, which dicom-seg needs: give a folder with a series as image, or as 'dicom' of the case"
        return [Problem(reason, case=record.case, path=record.image)]
    series: DicomSeries | None = None
    if folder is not None and (form == "dicom-seg" or folder == record.image):
        try:
            series = read_series(manifest.path(folder))
        except ReadError as error:
            return [Problem(str(error), case=record.case, path=folder)]
    problems = []
    for rater, path in record.ratings.items():
        reason = _mask_problem(manifest.path(path), series, form)
        if reason:
            problems.append(Problem(reason, case=record.case, rater=rater, path=path))
    return problems


def _mask_problem(path: Path, series: DicomSeries | None, form: str) -> str:
    header = read_header(path)
    if form == "nrrd" and (header.affine is None or len(header.spatial_shape) != 3):
        return "is not a volume with geometry, which .seg.nrrd needs"
    if series is not None:
        try:
            series.match(header.spatial_shape, header.affine)
        except ReadError as error:
            return str(error)
    return ""
