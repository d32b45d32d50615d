# SPDX-License-Identifier: Apache-2.0
"""What a person should know about the masks of a study: unreadable, empty, flipped, copied, outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from monai_multirater.agreement import OutlierReport
from monai_multirater.studies.agreement.raters import Ceiling
from monai_multirater.studies.agreement.request import Record
from monai_multirater.studies.agreement.tables import Masks

__all__ = ["FAILURES", "PROBLEM_COLUMNS", "outlier_rows", "problem_table", "remarks_of"]

FAILURES = ("unreadable", "mismatch", "failed")
"""Kinds of problems after which a study is not complete."""
PROBLEM_COLUMNS = ("kind", "case", "rater", "detail")
_COPY_VOXELS = 100  # equal masks of fewer voxels occur by chance, see detect_duplicates
_SHOWN = 10
Row = tuple[str, str, str, str]
_WORDS = {
    "unreadable": "masks could not be read and count as missing",
    "mismatch": "cases have masks that do not fit together and are left out",
    "failed": "cases could not be measured",
    "one rater": "cases have fewer than two raters and are left out",
    "empty": "masks are empty",
    "flipped": "masks agree far better after a flip; they were measured as they are",
    "duplicate": "pairs of masks are equal voxel by voxel",
    "outlier rater": "raters are outliers",
    "outlier mask": "masks are outliers",
}


def problem_table(
    records: Sequence[Record], failures: Mapping[str, str], raters: Sequence[str], masks: Masks, ceiling: Ceiling
) -> pd.DataFrame:
    """One row per problem: kind, case, rater, detail."""
    rows: list[Row] = [("failed", case, "", reason) for case, reason in failures.items()]
    for record in records:
        rows += _case_problems(record, raters)
    rows += outlier_rows(ceiling.outliers, [record["case"] for record in records], raters)
    ordered = [row for kind in _WORDS for row in rows if row[0] == kind]
    return pd.DataFrame(ordered, columns=list(PROBLEM_COLUMNS))


def outlier_rows(found: OutlierReport, cases: Sequence[str], raters: Sequence[str]) -> list[Row]:
    """Outliers among raters, then among masks."""
    rows = [
        ("outlier rater", "", rater, f"agreement {found.gap[index]:.2f} below the others in the median case")
        for index, rater in enumerate(raters)
        if found.flagged[index]
    ]
    for mask in found.cases:
        detail = f"median Dice {mask.agreement:.2f}, usual for the rater {mask.usual_of_rater:.2f}"
        rows.append(("outlier mask", cases[mask.case], raters[mask.rater], detail))
    return rows


def _case_problems(record: Record, raters: Sequence[str]) -> list[Row]:
    case, here = record["case"], [raters[index] for index in record["raters"]]
    rows = [("unreadable", case, raters[int(index)], reason) for index, reason in record["unreadable"].items()]
    if record["failed"]:
        who = raters[record["failed_rater"]] if "failed_rater" in record else ""
        return [*rows, ("mismatch", case, who, record["failed"])]
    if len(here) < 2:
        return [*rows, ("one rater", case, here[0] if here else "", "no pair to compare")]
    gram: list[list[int]] = record["gram"]
    rows += [("empty", case, rater, "nothing is marked") for i, rater in enumerate(here) if gram[i][i] == 0]
    for flip in record["flips"]:
        detail = f"Dice {flip['dice_before']:.2f}, after {flip['transform']} {flip['dice_after']:.2f}"
        detail += "; who of the raters is turned is open" if flip["ambiguous"] else ""
        rows.append(("flipped", case, raters[flip["rater"]], detail))
    for i in range(len(here)):
        for j in range(i):
            if gram[i][i] == gram[j][j] == gram[i][j] >= _COPY_VOXELS:
                rows.append(("duplicate", case, here[i], f"equal to the mask of {here[j]}, {gram[i][i]} voxels"))
    return rows


def remarks_of(problems: pd.DataFrame, cases: int) -> tuple[str, ...]:
    """Sentences for the log: one per kind, and the first few problems of each but one-rater cases."""
    lines = []
    for kind, found in problems.groupby("kind", sort=False):
        total = f" of {cases}" if kind in ("one rater", "mismatch", "failed") else ""
        lines.append(f"{len(found)}{total} {_WORDS[str(kind)]}.")
        if kind in ("one rater", "empty"):
            continue
        for row in found.head(_SHOWN).to_dict("records"):
            lines.append(_line(row))
    return tuple(lines)


def _line(row: Mapping[Any, Any]) -> str:
    where = [f"{name} {row[name]}" for name in ("case", "rater") if row[name]]
    return f"{', '.join(where)}: {row['detail'].rstrip('.')}."
