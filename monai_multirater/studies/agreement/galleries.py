# SPDX-License-Identifier: Apache-2.0
"""The most disputed cases of a study, to look at: every outline over the image, beside the mean vote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_multirater.data import CaseRecord, Manifest, read_mask
from monai_multirater.studies.agreement.request import Record
from monai_multirater.studies.agreement.result import Gallery
from monai_multirater.studies.pictures import background, picture_paths, save_picture
from monai_multirater.studies.pool import one_thread
from monai_multirater.studies.records import file_name
from monai_multirater.visualize import case_figure

__all__ = ["disputed_cases", "draw_galleries"]

_LONGEST = 200  # bytes of a file name; file systems allow 255, and a file has a longer name until it is complete


def disputed_cases(cases: pd.DataFrame, records: Sequence[Record], number: int) -> list[str]:
    """Return the cases of lowest mean Dice, the worst first.

    Cases in which at least two raters marked something come first: an outline beside empty masks has nothing to
    compare in a picture. Ties go by name.
    """
    marked = {record["case"]: sum(row[i] > 0 for i, row in enumerate(record["gram"])) for record in records
              if len(record["raters"]) > 1}  # fmt: skip
    found = [
        (marked[case] < 2, dice, case)
        for case, dice in zip(cases["case"], cases["mean_dice"], strict=True)
        if dice < 1 and marked[case]
    ]
    return [case for _, _, case in sorted(found)[:number]]


def draw_galleries(
    data: Manifest, cases: pd.DataFrame, records: Sequence[Record], out: Path, number: int
) -> tuple[Gallery, ...]:
    """Write ``pictures/<case>.png`` of the most disputed cases, and remove pictures of others.

    A name that is too long for a file becomes a short one that stands for it.
    """
    by_name = {record.case: record for record in data.cases}
    known = {record["case"]: record for record in records}
    means, least = (dict(zip(cases["case"], cases[name], strict=True)) for name in ("mean_dice", "min_dice"))
    chosen = disputed_cases(cases, records, number)
    found = []
    for case, path in zip(chosen, picture_paths(out / "pictures", list(map(_short, chosen))), strict=True):
        dice = float(means[case])
        names = [data.raters[index] for index in known[case]["raters"]]
        with one_thread():
            save_picture(_draw(data, by_name[case], names, dice), path)
        found.append(Gallery(case, path, _text(case, names, dice, float(least[case]), known[case])))
    return tuple(found)


def _short(case: str) -> str:
    fits = len(file_name(case).encode()) <= _LONGEST
    return case if fits else hashlib.blake2b(case.encode(), digest_size=10).hexdigest()


def _draw(data: Manifest, case: CaseRecord, names: Sequence[str], dice: float) -> Any:
    stack = np.stack([read_mask(data.path(case.ratings[name])).array for name in names])
    return case_figure(background(data, case, stack), stack, names=names, title=f"{case.case}: Dice {dice:.2f}")


def _text(case: str, names: Sequence[str], dice: float, least: float, record: Record) -> str:
    """What the picture shows, for those who cannot see it."""
    gram: list[list[int]] = record["gram"]
    shares = [100 * gram[i][i] / record["voxels"] for i in range(len(names))]
    marks = ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, shares, strict=True))
    return (
        f"Case {case}: outlines of {len(names)} raters over the image, beside the share of raters who mark each point. "
        f"Mean Dice of the pairs {dice:.2f}, least {least:.2f}. Share of the image that is marked: {marks}."
    )
