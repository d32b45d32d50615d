# SPDX-License-Identifier: Apache-2.0
"""Tables and remarks of a fused data set, put together from the records of its cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_multirater.agreement import RaterPerformance, RaterSummary, RaterTable
from monai_multirater.studies.fusing_case import STEPS
from monai_multirater.studies.records import plain, write_csv, write_json

__all__ = ["FusingSummary", "seconds_of", "write_fusing_tables"]

_SIZES = ("size_voxels", "size_ml", "size_mm2")
_RATERS = ("case", "rater", "present", "sensitivity", "specificity", "weight", "dropped", *_SIZES, "dice")
_FLIPS = ("flip", "flip_dice_before", "flip_dice_after", "flip_ambiguous")
_VIEW = ("agreement", "dice_others", "size_bias", "boundary_bias", "boundary_distance")
_OUTLIERS = ("outlier_rater", "outlier_mask")
_SECONDS = tuple(f"seconds_{step}" for step in STEPS)
_CASES = ("case", "status", "raters", "method", "iterations", "converged", *_SIZES, *_SECONDS, "remarks")
_SHOWN = 10


@dataclass(frozen=True)
class FusingSummary:
    """What a run did.

    Attributes:
        out: the folder.
        cases: number of cases asked for.
        fused: cases fused in this run.
        kept: cases that were finished before.
        failures: reason by case.
        seconds: of checking and, summed over the cases of this run, of each step.
        wall: seconds from start to end.
        remarks: what a person should know.
        files: tables written.
    """

    out: Path
    cases: int
    fused: int
    kept: int
    failures: Mapping[str, str]
    seconds: Mapping[str, float]
    wall: float
    remarks: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=())

    @property
    def timing(self) -> str:
        """One line: cases, wall time, and the share of each step in the work (of all processes together)."""
        total = sum(self.seconds.values())
        shares = [f"{step} {100 * seconds / total:.0f} %" for step, seconds in self.seconds.items() if total]
        line = f"{self.fused} cases in {self.wall:.1f} s: {', '.join(shares)}"
        if self.kept:
            line += f"; {self.kept} were finished before"
        return line + (f"; {len(self.failures)} failed" if self.failures else "")


def seconds_of(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sum the seconds of each step over the cases that this run fused; writing records counts as writing."""
    seconds = {step: sum(record["case"][f"seconds_{step}"] for record in records) for step in STEPS}
    seconds["writing"] += sum(record.get("recording", 0.0) for record in records)
    return seconds


def write_fusing_tables(
    out: Path,
    records: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
    raters: tuple[str, ...],
    facts: Mapping[str, Any],
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write ``cases.csv``, ``raters.csv``, ``summary.json`` and, with a rater view, ``rater_summary.csv``.

    Args:
        out: the folder.
        records: of finished cases, in the order of the tables.
        failures: reason by case.
        raters: of the data set.
        facts: what else stands in the summary.

    Returns:
        The files, and remarks about flipped masks and outliers.
    """
    view = _rater_view(records, raters)
    flips = {(case, flip["rater"]): flip for case, record in records.items() for flip in record["flips"]}
    rows = list(_rater_rows(records, flips, view, raters))
    columns = (*_RATERS, *_FLIPS, *((*_VIEW, *_OUTLIERS) if view else ()))
    cases = [{"status": "finished", **record["case"]} for record in records.values()]
    cases += [{"case": case, "status": "failed", "remarks": reason} for case, reason in failures.items()]
    files = [write_csv(out / "cases.csv", _CASES, cases), write_csv(out / "raters.csv", columns, rows)]
    if view:
        table = [{key: plain(value) for key, value in row.items()} for row in view[1].to_rows()]
        files.append(write_csv(out / "rater_summary.csv", tuple(table[0]), table))
    elif (out / "rater_summary.csv").is_file():
        (out / "rater_summary.csv").unlink()
    summary = {
        **facts,
        "finished": len(records),
        "failed": dict(failures),
        "not_converged": [case for case, record in records.items() if not record["case"]["converged"]],
        "flips": [{"case": case, **flip} for (case, _), flip in flips.items()],
        "raters": {rater: _means([row for row in rows if row["rater"] == rater]) for rater in raters},
    }
    files.append(write_json(out / "summary.json", summary))
    return tuple(files), (*_flip_remarks(flips), *_outlier_remarks(view), *_case_remarks(records))


def _rater_view(
    records: Mapping[str, Mapping[str, Any]], raters: tuple[str, ...]
) -> tuple[RaterTable, RaterSummary] | None:
    views = {case: record["view"] for case, record in records.items() if "view" in record}
    if not views:
        return None
    cases = {}
    for case, stored in views.items():
        floats = {key: [_number(value) for value in stored[key]] for key in ("boundary_bias", "boundary_distance")}
        cases[case] = RaterPerformance.from_dict({**stored, **floats})
    table = RaterTable(raters, cases)
    return table, table.compute()


def _rater_rows(
    records: Mapping[str, Mapping[str, Any]],
    flips: Mapping[tuple[str, str], Mapping[str, Any]],
    view: tuple[RaterTable, RaterSummary] | None,
    raters: tuple[str, ...],
) -> Iterable[dict[str, Any]]:
    masks = {(case, rater) for case, rater, _ in view[1].case_outliers} if view else set()
    for case, record in records.items():
        for row in record["raters"]:
            rater, flip = row["rater"], flips.get((case, row["rater"]))
            more: dict[str, Any] = {}
            if flip:
                more = {"flip": flip["transform"]} | {f"flip_{key}": flip[key] for key in list(flip)[2:]}
            if view and row["present"]:
                seen, r = view[0].cases[case], raters.index(rater)
                names = {name: "dice" if name == "dice_others" else name for name in _VIEW}
                more |= {column: plain(getattr(seen, name)[r].item()) for column, name in names.items()}
                more |= {"outlier_rater": bool(view[1].outlier[r]), "outlier_mask": (case, rater) in masks}
            yield {**row, **more}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    present = [row for row in rows if row["present"]]
    means: dict[str, Any] = {"cases": len(present), "dropped": sum(bool(row["dropped"]) for row in present)}
    for name in ("sensitivity", "specificity", "dice"):
        values = [row[name] for row in present if row[name] is not None]
        means[f"mean_{name}"] = math.fsum(values) / len(values) if values else None
    return means


def _flip_remarks(flips: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    lines = [
        f"Case {case}: the mask of rater {rater} agrees far better after {flip['transform']} (Dice "
        f"{flip['dice_before']:.2f}, then {flip['dice_after']:.2f}); it was used as it is."
        + (" Who of the raters is turned is open." if flip["ambiguous"] else "")
        for (case, rater), flip in flips.items()
    ]
    return _first(lines, "masks agree far better after a flip: column 'flip' of raters.csv")


def _outlier_remarks(view: tuple[RaterTable, RaterSummary] | None) -> list[str]:
    if view is None:
        return []
    summary = view[1]
    lines = [
        f"Rater {rater} is an outlier: agreement with the others {summary.outlier_gap[r]:.2f} below theirs in the "
        "median case."
        for r, rater in enumerate(summary.raters)
        if summary.outlier[r]
    ]
    masks = [
        f"Case {case}: the mask of rater {rater} is an outlier (Dice with the others {found.agreement:.2f}, usual for "
        f"the rater {found.usual_of_rater:.2f})."
        for case, rater, found in summary.case_outliers
    ]
    return lines + _first(masks, "masks are outliers: column 'outlier_mask' of raters.csv")


def _case_remarks(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    said = {case: record["case"]["remarks"] for case, record in records.items()}
    lines = [f"Case {case}: {remark}" for case, remark in said.items() if remark]
    open_cases = [case for case, record in records.items() if not record["case"]["converged"]]
    lines += [f"Case {case}: the iterations did not converge." for case in open_cases]
    return _first(lines, "remarks on cases: column 'remarks' of cases.csv")


def _first(lines: list[str], rest: str) -> list[str]:
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"In all {len(lines)} {rest}."]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
