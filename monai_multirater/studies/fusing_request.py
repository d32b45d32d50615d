# SPDX-License-Identifier: Apache-2.0
"""What is asked of a fusion of a whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_multirater.data import CaseRecord, Manifest
from monai_multirater.data.dicom import Segment
from monai_multirater.data.readers import NUMPY_SUFFIXES, PILLOW_SUFFIXES, file_suffix
from monai_multirater.fusion import fusion_method
from monai_multirater.studies.fusing_case import FORMATS, FusingTask
from monai_multirater.studies.fusing_check import read_segment, series_path
from monai_multirater.studies.fusing_records import FusingFolder

__all__ = ["FusingRequest"]


@dataclass(frozen=True)
class FusingRequest:
    """What decides the results.

    Attributes:
        method: name in ``FUSIONS``.
        options: of the method.
        seed: of methods that draw.
        form: output format.
        rater_view: measure raters against each other.
        millimeters: whether lengths of the rater view are in mm: all masks have a geometry.
        segment: what DICOM segmentations show.
        content: what the folder remembers of the request.
    """

    method: str
    options: Mapping[str, Any]
    seed: int
    form: str
    rater_view: bool
    millimeters: bool
    segment: Segment
    content: Mapping[str, Any]

    @classmethod
    def of(
        cls, data: Manifest, path: Path, method: str, options: Mapping[str, Any], seed: int, form: str, rater_view: bool
    ) -> FusingRequest:
        """Make the request of a data set.

        Raises:
            ValueError: for an unknown format or method, or a malformed ``segment`` in the manifest.
        """
        if form not in FORMATS:
            raise ValueError(f"fuse: the format must be one of {', '.join(FORMATS)}. Got {form!r}.")
        method = fusion_method(method).name
        masks = [path for record in data.cases for path in record.ratings.values()]
        flat = any(file_suffix(mask) in (*PILLOW_SUFFIXES, *NUMPY_SUFFIXES) for mask in masks)
        segment = read_segment(data, method)
        content = {
            "manifest": str(path.resolve()),
            "raters": list(data.raters),
            "method": method,
            "options": dict(options),
            "seed": seed,
            "format": form,
            "rater_view": rater_view,
        }
        if form == "dicom-seg":
            content["segment"] = [segment.label, list(segment.category), list(segment.type)]
        return cls(method, dict(options), seed, form, rater_view, not flat, segment, content)

    def task(self, folder: FusingFolder, data: Manifest, record: CaseRecord) -> FusingTask:
        """Return the task of one case."""
        names = {rater: record.ratings[rater] for rater in data.raters if rater in record.ratings}
        series = series_path(data, record) if self.form == "dicom-seg" else None
        return FusingTask(
            folder,
            record.case,
            data.raters,
            {rater: data.path(name) for rater, name in names.items()},
            names,
            method=self.method,
            options=self.options,
            seed=self.seed,
            form=self.form,
            series=None if series is None else data.path(series),
            segment=self.segment,
            rater_view=self.rater_view,
            millimeters=self.millimeters,
        )
