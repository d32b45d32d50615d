# SPDX-License-Identifier: Apache-2.0
"""Pictures of the most disputed cases of a fused data set: every outline, the mean vote, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_multirater.data import CaseRecord, Manifest, ReadError, read_mask
from monai_multirater.data.readers import read_image
from monai_multirater.studies.pictures import background, picture_paths, save_picture
from monai_multirater.visualize import case_figure

__all__ = ["disputed_cases", "draw_cases"]

_GRAY_16 = 65535


def disputed_cases(records: Mapping[str, Mapping[str, Any]], number: int) -> list[str]:
    """Return the cases whose raters agree least with the consensus, by their mean Dice; the most disputed first.

    A case with one rater has nothing to dispute and is left out.
    """
    found = []
    for case, record in records.items():
        values = [row["dice"] for row in record["raters"] if row["present"]]
        if len(values) > 1:
            found.append((sum(values) / len(values), case))
    return [case for _, case in sorted(found)[:number]]


def draw_cases(data: Manifest, records: Mapping[str, Mapping[str, Any]], out: Path, number: int) -> tuple[Path, ...]:
    """Write ``pictures/<case>.png`` of the most disputed cases, and remove pictures of others.

    The background is the image of the case where it is a picture or volume on the grid of the masks, and else the mean
    vote (a DICOM series, an image of another size). Without a readable probability map, as for DICOM segmentations, the
    panel is left out.
    """
    by_name = {record.case: record for record in data.cases}
    chosen = disputed_cases(records, number)
    paths = picture_paths(out / "pictures", chosen)
    for case, path in zip(chosen, paths, strict=True):
        save_picture(_draw(data, by_name[case], records[case], out), path)
    return paths


def _draw(data: Manifest, case: CaseRecord, record: Mapping[str, Any], out: Path) -> Any:
    masks = {rater: read_mask(data.path(path)).array for rater, path in case.ratings.items()}
    stack = np.stack(list(masks.values()))
    dice = np.mean([row["dice"] for row in record["raters"] if row["present"]])
    return case_figure(
        background(data, case, stack),
        stack,
        probability={record["case"]["method"]: _probability(record, out)},
        names=list(masks),
        title=f"{case.case}: Dice {dice:.2f}",
    )


def _probability(record: Mapping[str, Any], out: Path) -> NDArray[Any] | None:
    path = next(out / name for name in record["outputs"] if name.startswith("probability/"))
    try:
        values = read_image(path).array
    except ReadError:
        return None
    return values / np.float32(_GRAY_16) if values.dtype.kind in "ui" else values
