# SPDX-License-Identifier: Apache-2.0
"""Existing tables of pairs of raters, made by other programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_multirater.agreement.measures import MEASURES, OVERLAP_MEASURES, SURFACE_MEASURES
from monai_multirater.studies.agreement.matching import CASE_COLUMNS, read_table
from monai_multirater.studies.agreement.request import nearest
from monai_multirater.studies.agreement.unordered import REVERSE

__all__ = ["ExistingPairs", "read_pairs"]

_FUNCTION = "agreement_from_pairs"
_RATER_PAIRS = (
    ("rater_a", "rater_b"), ("rater_1", "rater_2"), ("rater1", "rater2"), ("annotator_a", "annotator_b"),
    ("annotator_1", "annotator_2"), ("annotator1", "annotator2"), ("reader_1", "reader_2"), ("reader1", "reader2"),
    ("observer_1", "observer_2"), ("observer1", "observer2"),
)  # fmt: skip
_MEASURE_NAMES: Mapping[str, tuple[str, ...]] = {
    "dice": ("dice", "dice_score", "dsc"),
    "iou": ("iou", "iou_score", "jaccard", "jaccard_score"),
    "kappa": ("kappa", "cohen_kappa", "cohens_kappa"),
    "sensitivity": ("sensitivity",),
    "specificity": ("specificity",),
    "volume_difference": ("volume_difference",),
    "hausdorff": ("hausdorff", "hd", "hd_score", "hausdorff_distance"),
    "hausdorff95": ("hausdorff95", "hd95", "hd95_score"),
    "assd": ("assd", "assd_score", "asd"),
    "surface_dice": ("surface_dice", "nsd"),
}
_SIDES = (("_a", "_b"), ("_1", "_2"), ("1", "2"))
_CONSENSUS = re.compile(r"(st|mv|staple|simple|majority([ _-]?vot(e|ing))?|consensus|fused|soft|average|mean)", re.I)
_MOST_LEVELS = 10


@dataclass(frozen=True, eq=False)
class ExistingPairs:
    """A table of pairs with the columns of an agreement study.

    Attributes:
        pairs: ``case``, ``rater_a``, ``rater_b``, measures, factors.
        case_factors, mask_factors: names of factors in it.
        remarks: what a person should know of how it was read.
        excluded: raters whose rows were left out, and how many rows.
    """

    pairs: pd.DataFrame
    case_factors: tuple[str, ...]
    mask_factors: tuple[str, ...]
    remarks: tuple[str, ...]
    excluded: Mapping[str, int]


def read_pairs(
    path: Path,
    *,
    case_column: str | None = None,
    rater_columns: Sequence[str] | None = None,
    measure_columns: Mapping[str, str] | None = None,
    exclude: Sequence[str] | None = None,
    asked: Sequence[str] = (),
) -> ExistingPairs:
    """Read a table of pairs; see :func:`agreement_from_pairs` for the arguments.

    Columns of cases with many values are factors only if they are among those ``asked`` for.

    Raises:
        ValueError: for a missing column, a value that is no number or out of range, or a table without pairs.
    """
    table = read_table(path)
    columns = [str(column) for column in table.columns]
    case = _column(columns, case_column, CASE_COLUMNS, path, "case_column (--case-column)")
    raters = _rater_columns(columns, rater_columns, path)
    table, remarks, excluded = _without(table, raters, exclude)
    if not len(table):
        raise ValueError(f"{_FUNCTION}: {path} must have at least one pair of raters. Got none.")
    incomplete = table[[case, *raters]].isna().any(axis=1)
    if incomplete.any():
        row = table.index[incomplete][0]
        raise ValueError(f"{_FUNCTION}: {path}: every row must name case and raters. Got an empty cell in row {row}.")
    found = {"case": table[case], "rater_a": table[raters[0]], "rater_b": table[raters[1]]}
    measures = _measure_columns(columns, measure_columns or {}, path)
    for name, column in measures.items():
        found[name] = _numbers(table[column], name, path, remarks)
        if (reverse := f"{column}{REVERSE}") in columns and not MEASURES[name].symmetric:
            found[f"{name}{REVERSE}"] = _numbers(table[reverse], name, path, remarks)
    if not found["dice"].notna().any():
        raise ValueError(f"{_FUNCTION}: {path}: {measures['dice']} must have a value in some row. Got none.")
    if repeated := int(table.duplicated().sum()):
        remarks.append(f"{path.name}: {repeated} rows are equal to an earlier one in every cell; they count again.")
    taken = {case, *raters, *measures.values(), *(f"{column}{REVERSE}" for column in measures.values())}
    rest = [column for column in columns if column not in taken]
    more, case_factors, mask_factors = _factor_columns(table, rest, table[case], asked)
    used = {column for _, (_, sources) in more.items() for column in sources}
    unused = [column for column in rest if column not in used]
    if unused:
        remarks.append(f"{path.name}: columns without a meaning here are left out: {', '.join(unused)}.")
    found |= {name: values for name, (values, _) in more.items()}
    pairs = pd.DataFrame(found).reset_index(drop=True)
    return ExistingPairs(pairs, tuple(case_factors), tuple(mask_factors), tuple(remarks), excluded)


def _column(columns: Sequence[str], asked: str | None, usual: Sequence[str], path: Path, argument: str) -> str:
    if asked is not None:
        if asked not in columns:
            raise ValueError(f"{_FUNCTION}: {path} has no column {asked!r}; {nearest(asked, columns)}.")
        return asked
    found = next((name for name in usual if name in columns), None)
    if found is None:
        raise ValueError(
            f"{_FUNCTION}: {path} has none of the usual columns {', '.join(usual)}: give {argument}. "
            f"There are: {', '.join(columns)}."
        )
    return found


def _rater_columns(columns: Sequence[str], asked: Sequence[str] | None, path: Path) -> tuple[str, str]:
    if asked is None:
        found = next((pair for pair in _RATER_PAIRS if set(pair) <= set(columns)), None)
        if found is None:
            usual = ", ".join("/".join(pair) for pair in _RATER_PAIRS)
            raise ValueError(
                f"{_FUNCTION}: {path} has none of the usual columns of raters ({usual}): give rater_columns "
                f"(--rater-columns A,B). There are: {', '.join(columns)}."
            )
        return found
    if len(asked) != 2 or asked[0] == asked[1]:
        raise ValueError(f"{_FUNCTION}: rater_columns must be two names, as A,B. Got {list(asked)}.")
    first, second = (_column(columns, name, (), path, "rater_columns") for name in asked)
    return first, second


def _measure_columns(columns: Sequence[str], asked: Mapping[str, str], path: Path) -> dict[str, str]:
    known = {**OVERLAP_MEASURES, **SURFACE_MEASURES}
    for name, column in asked.items():
        if name not in known:
            raise ValueError(f"{_FUNCTION}: unknown measure {name!r}; {nearest(name, known)}.")
        _column(columns, column, (), path, "measure_columns")
    found = {}
    for name, usual in _MEASURE_NAMES.items():
        known_columns = [asked[name]] if name in asked else [column for column in usual if column in columns]
        if known_columns:
            found[name] = known_columns[0]
    if "dice" not in found:
        raise ValueError(
            f"{_FUNCTION}: {path} must have a column with the Dice of each pair, such as dice or dice_score. "
            f"There are: {', '.join(columns)}."
        )
    return found


def _without(
    table: pd.DataFrame, raters: tuple[str, str], exclude: Sequence[str] | None
) -> tuple[pd.DataFrame, list[str], dict[str, int]]:
    """Leave out rows that name certain raters; by default those that look like a consensus of the others."""
    names = sorted({*table[raters[0]].dropna(), *table[raters[1]].dropna()})
    alike = [name for name in names if _CONSENSUS.fullmatch(name)]
    chosen = alike if exclude is None else [name for name in dict.fromkeys(exclude) if name]
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ValueError(f"{_FUNCTION}: exclude must name raters. Got {unknown[0]!r}; {nearest(unknown[0], names)}.")
    counts = {name: int(((table[raters[0]] == name) | (table[raters[1]] == name)).sum()) for name in chosen}
    kept = table[~table[raters[0]].isin(chosen) & ~table[raters[1]].isin(chosen)]
    remarks, left = [], [name for name in alike if name not in chosen]
    if chosen:
        why = " They look like consensus masks; exclude (--exclude) says otherwise." if exclude is None else ""
        remarks.append(f"{len(table) - len(kept)} of {len(table)} rows name {', '.join(chosen)} and are left out.{why}")
    if left:
        remarks.append(
            f"{', '.join(left)} look like consensus masks, not raters; exclude (--exclude NAME) leaves them out."
        )
    return kept, remarks, counts


def _numbers(values: pd.Series[Any], name: str, path: Path, remarks: list[str]) -> pd.Series[Any]:
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    bad = numbers.isna() & values.notna() & ~values.astype(str).str.lower().isin(("nan", "na", "none"))
    if bad.any():
        row = values.index[bad][0]
        raise ValueError(
            f"{_FUNCTION}: {path}: {values.name} must be a number. Got {values[bad].iloc[0]!r} in row {row}."
        )
    infinite = np.isinf(numbers)
    if infinite.any():
        remarks.append(f"{path.name}: {int(infinite.sum())} infinite values of {values.name} count as undefined.")
        numbers = numbers.mask(infinite)
    low, high = _range(name)
    wrong = (numbers < low) | (numbers > high)
    if wrong.any():
        row = values.index[wrong][0]
        raise ValueError(
            f"{_FUNCTION}: {path}: {values.name} must lie in [{low:g}, {high:g}]. Got {numbers[wrong].iloc[0]} in "
            f"row {row}."
        )
    return numbers


def _range(name: str) -> tuple[float, float]:
    if MEASURES[name].unit:
        return 0.0, math.inf
    return {"kappa": (-1.0, 1.0), "volume_difference": (-2.0, 2.0)}.get(name, (0.0, 1.0))


def _factor_columns(
    table: pd.DataFrame, rest: Sequence[str], case: pd.Series[Any], asked: Sequence[str]
) -> tuple[dict[str, tuple[pd.Series[Any], tuple[str, ...]]], list[str], list[str]]:
    """Columns of factors: their values and sources; names of factors of cases; names of factors of masks."""
    found: dict[str, tuple[pd.Series[Any], tuple[str, ...]]] = {}
    case_factors, mask_factors = [], []
    for column in rest:
        for one, other in _SIDES:
            name, partner = column.removesuffix(one), column.removesuffix(one) + other
            if name and column.endswith(one) and partner in rest and f"{name}_a" not in found and name != "volume":
                found[f"{name}_a"] = (table[column], (column,))
                found[f"{name}_b"] = (table[partner], (partner,))
                mask_factors.append(name)
    paired = {source for _, sources in found.values() for source in sources}
    for column in rest:
        few = column in asked or table[column].nunique() <= _MOST_LEVELS
        if (
            few
            and column not in paired
            and column not in MEASURES
            and (table[column].groupby(case).nunique(dropna=False) <= 1).all()
        ):
            found[column] = (table[column], (column,))
            case_factors.append(column)
    return found, case_factors, mask_factors
