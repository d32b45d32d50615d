# SPDX-License-Identifier: Apache-2.0
"""Factors of cases, raters and masks: read from tables and the manifest, and joined to pairs and cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.agreement.pair_table import level_name
from monai_multirater.data import Manifest
from monai_multirater.studies.agreement.matching import Names, examples, key_columns, read_table
from monai_multirater.studies.agreement.request import nearest
from monai_multirater.studies.agreement.unordered import REVERSE

__all__ = [
    "Factors",
    "attach_factors",
    "check_group",
    "choose_factors",
    "manifest_factors",
    "read_factors",
    "split_group",
]

MOST_LEVELS, MOST_CASE_LEVELS = 10, 4  # of factors of masks and raters, of cases, that nobody asks for
MOST_ASKED = 20
_RESERVED = {
    "case", "rater", "rater_a", "rater_b", "volume_a", "volume_b", "raters", "size", "min_dice", "undefined_distances",
    *MEASURES, *(f"mean_{name}" for name in MEASURES), *(f"{name}{REVERSE}" for name in MEASURES),
}  # fmt: skip
_FUNCTION = "agreement_study"


@dataclass(frozen=True)
class Factors:
    """Values of factors.

    Attributes:
        cases: by factor, value by case.
        raters: by factor, value by rater.
        masks: by factor, value by case and rater.
        remarks: what a person should know of how the tables fit.
    """

    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    raters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    masks: Mapping[str, Mapping[tuple[str, str], Any]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All factors."""
        return (*self.cases, *self.raters, *self.masks)

    def merge(self, other: Factors) -> Factors:
        """Return the factors of both.

        Raises:
            ValueError: for a factor that is in both.
        """
        twice = sorted(set(self.names) & set(other.names))
        if twice:
            raise ValueError(f"{_FUNCTION}: a factor must come from one place only. Got twice: {', '.join(twice)}.")
        return Factors(
            {**self.cases, **other.cases},
            {**self.raters, **other.raters},
            {**self.masks, **other.masks},
            (*self.remarks, *other.remarks),
        )


def manifest_factors(data: Manifest) -> Factors:
    """Factors of cases that the manifest states: ``diagnosis``, ``group`` and further keys with single values."""
    found: dict[str, dict[str, Any]] = {}
    for record in data.cases:
        stated = {"diagnosis": record.diagnosis, "group": record.group, **record.extra}
        for name, value in stated.items():
            if isinstance(value, str | int | float) and name not in _RESERVED:
                found.setdefault(name, {})[record.case] = value
    return Factors(found)


def read_factors(path: Path, cases: Sequence[str], raters: Sequence[str], *, key: str | None = None) -> Factors:
    """Read a CSV file of factors, one row per case, rater or mask.

    The columns ``case`` and ``rater`` say what a row is about; all others are factors. Another column is taken for
    ``case`` where ``key`` names it, where it has a name that is usual for it, or where it is the only one whose values
    are cases. A case is also found by its name without the suffix of a file.

    Raises:
        ValueError: for a file without key, or two values of a factor for one key.
    """
    table = read_table(path)
    names = Names(cases)
    case_column, rater_column = key_columns(table, names, raters, path=path, key=key)
    keys = [column for column in (case_column, rater_column) if column]
    _check_rows(table, keys, path)
    remarks: list[str] = []
    given = {column: list(table[column].dropna().unique()) for column in keys}
    if case_column:
        table[case_column] = [names.find(value) for value in table[case_column]]
    if rater_column:
        known = set(raters)
        table[rater_column] = [value if value in known else None for value in table[rater_column]]
    lost = int(table[keys].isna().any(axis=1).sum())
    if lost:
        remarks.append(f"{path.name}: {lost} of {len(table)} rows belong to no case or rater of the study.")
    table = table.dropna(subset=keys)
    if not len(table):
        found = "; ".join(f"{column} {examples(values)}" for column, values in given.items())
        raise ValueError(
            f"{_FUNCTION}: {path} must have rows of the cases or raters of the study. Got {found or 'none'}; "
            f"the raters are {examples(raters)}, cases {examples(cases)}."
        )
    columns = [column for column in table.columns if column not in keys]
    reserved = [column for column in columns if column in _RESERVED or column.endswith(("_a", "_b"))]
    if reserved:
        remarks.append(f"{path.name}: left out, their names have another meaning here: {', '.join(reserved)}.")
    values = {name: _values(table, keys, name, path) for name in columns if name not in reserved}
    if empty := [name for name, found in values.items() if not found]:
        remarks.append(f"{path.name}: left out, they have no values: {', '.join(empty)}.")
    values = {name: found for name, found in values.items() if found}
    if rater_column and case_column:
        return Factors(masks=values, remarks=tuple(remarks))
    return Factors(raters=values, remarks=tuple(remarks)) if rater_column else Factors(values, remarks=tuple(remarks))


def _check_rows(table: pd.DataFrame, keys: list[str], path: Path) -> None:
    if not len(table) or len(table.columns) == len(keys):
        what = "a row" if not len(table) else "a column of a factor"
        raise ValueError(f"{_FUNCTION}: {path} must have {what}. Got only the columns {', '.join(table.columns)}.")


def _values(table: pd.DataFrame, keys: list[str], name: str, path: Path) -> dict[Any, Any]:
    rows = table[[*keys, name]].dropna().drop_duplicates()
    if rows.duplicated(keys).any():
        first = rows[rows.duplicated(keys)].iloc[0]
        where = ", ".join(str(first[column]) for column in keys)
        two = rows.loc[(rows[keys] == first[keys]).all(axis=1), name].tolist()
        raise ValueError(
            f"{_FUNCTION}: {path}: factor {name!r} must have one value for each key. Got {examples(two)} for {where}."
        )
    numbers = pd.to_numeric(rows[name], errors="coerce")
    values = rows[name] if numbers.isna().any() else numbers
    index = [rows[column].tolist() for column in keys]
    return dict(zip(index[0] if len(keys) == 1 else zip(*index, strict=True), values.tolist(), strict=True))


def attach_factors(pairs: pd.DataFrame, cases: pd.DataFrame, factors: Factors) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with the columns of the factors; missing values are NaN."""
    more: dict[str, Any] = {}
    for name, by_case in factors.cases.items():
        more[name] = pairs["case"].map(by_case)
    for name, by_rater in factors.raters.items():
        more |= {f"{name}_{side}": pairs[f"rater_{side}"].map(by_rater) for side in "ab"}
    for name, by_mask in factors.masks.items():
        for side in "ab":
            keys = zip(pairs["case"], pairs[f"rater_{side}"], strict=True)
            more[f"{name}_{side}"] = pd.Series([by_mask.get(key) for key in keys], index=pairs.index, dtype=object)
    own = {name: cases["case"].map(by_case) for name, by_case in factors.cases.items()}
    return pd.concat([pairs, pd.DataFrame(more)], axis=1), pd.concat([cases, pd.DataFrame(own)], axis=1)


def split_group(pairs: pd.DataFrame, cases: pd.DataFrame, factors: Sequence[str], group: str) -> str:
    """Return the name of the column that divides the cases; ``COLUMN=VALUE`` adds one that says yes or no.

    Args:
        pairs, cases: tables; get the column.
        factors: of cases.
        group: ``COLUMN``, or ``COLUMN=VALUE`` for this value against all others. Cases without a value are in neither.

    Raises:
        ValueError: for an unknown column or value, or a column that cannot divide the cases.
    """
    name, _, value = group.partition("=")
    level = check_group({factor: cases[factor] for factor in factors}, group)
    if not value:
        return name
    column = value if value.isidentifier() and value not in {*pairs.columns, *factors} else group
    for table in (pairs, cases):
        known = table[name].notna()
        table[column] = (table[name] == level).astype(object).where(known, None)
    return column


def check_group(factors: Mapping[str, Any], group: str) -> Any:
    """Return the level that a group names, None if it names only a column; ``factors`` are values by factor.

    Raises:
        ValueError: as :func:`split_group`.
    """
    name, equals, value = group.partition("=")
    if name not in factors:
        raise ValueError(f"{_FUNCTION}: group must name a factor of cases. Got {name!r}; {nearest(name, factors)}.")
    levels = _levels(pd.Series(factors[name], dtype=object))
    if len(levels) < 2:
        only = level_name(levels[0]) if levels else "none"
        raise ValueError(f"{_FUNCTION}: group {name!r} must have two values or more. Got {only}.")
    if not equals:
        if len(levels) > MOST_LEVELS:
            raise ValueError(
                f"{_FUNCTION}: group {name!r} must have 2 to {MOST_LEVELS} values. Got {len(levels)}; give one of them "
                f"as {name}=VALUE."
            )
        return None
    level = _find_level(levels, value)
    if level is None:
        words = nearest(value, map(level_name, levels))
        raise ValueError(f"{_FUNCTION}: group {name!r} has no value {value!r}; {words}.")
    return level


def _find_level(levels: Sequence[Any], text: str) -> Any:
    """The level with this text or number (``1``, ``01`` and ``1.0`` are one); None if there is none."""
    by_text = {word: level for level in levels for word in (str(level), level_name(level))}
    if text in by_text:
        return by_text[text]
    try:
        number = float(text)
    except ValueError:
        return None
    return next((level for level in levels if not isinstance(level, str) and level == number), None)


def choose_factors(
    pairs: pd.DataFrame, known: Sequence[str], asked: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return the factors to analyse and remarks on those left out.

    By default these are factors of masks and raters with 2 to 10 levels and factors of cases with 2 to 4, for every
    two levels are compared; a factor of masks also needs pairs that share a level and pairs that do not. One asked for
    by name must fit, with up to 20 levels.

    Raises:
        ValueError: for an unknown factor, or one asked for that has a single level or too many.
    """
    names = list(dict.fromkeys(known if asked is None else asked))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{_FUNCTION}: there is no factor {unknown[0]!r}; {nearest(unknown[0], known)}.")
    reasons = {name: _unfit(pairs, name, asked is not None) for name in names}
    bad = {name: reason for name, reason in reasons.items() if reason}
    if asked and bad:
        name, reason = next(iter(bad.items()))
        raise ValueError(f"{_FUNCTION}: factor {name!r} cannot be analysed: {reason}.")
    remarks = [f"Factor {name!r} is not analysed: {reason}." for name, reason in bad.items()]
    return [name for name in names if name not in bad], remarks


def _unfit(pairs: pd.DataFrame, name: str, asked: bool) -> str:
    """Why a factor is not analysed; empty if it is."""
    of_cases = name in pairs
    if of_cases:
        levels = _levels(pairs[name])
    else:
        a, b = pairs[f"{name}_a"], pairs[f"{name}_b"]
        known = a.notna() & b.notna()
        same = a[known].astype(object) == b[known].astype(object)
        levels = _levels(pd.concat([a, b]))
        if len(levels) > 1 and (same.all() or not same.any()):
            return f"all pairs have {'the same' if same.all() else 'different'} levels"
    if len(levels) < 2:
        return f"it has one level only ({level_name(levels[0])})" if levels else "it has no values"
    most = MOST_ASKED if asked else MOST_CASE_LEVELS if of_cases else MOST_LEVELS
    if len(levels) <= most:
        return ""
    if asked or len(levels) > MOST_ASKED:
        return f"it has {len(levels)} levels, more than {MOST_ASKED}"
    return f"it has {len(levels)} levels; with more than {most} it is only if asked for by its name (--factor)"


def _levels(values: pd.Series[Any]) -> list[Any]:
    return list(values.dropna().unique())
