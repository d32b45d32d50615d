# SPDX-License-Identifier: Apache-2.0
"""The table of pairs of raters: its columns, and the levels of the factors in them.

One row per case and pair of raters (or of masks): ``case``, ``rater_a``, ``rater_b``, a column per measure,
``<factor>_a`` and ``<factor>_b`` for factors of masks or raters, ``<factor>`` for factors of cases.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "case_factor",
    "check_columns",
    "factor_levels",
    "is_mask_factor",
    "level_means",
    "level_name",
    "mask_factor",
]


def check_columns(pairs: pd.DataFrame, columns: Iterable[str], *, function: str) -> None:
    """ValueError for a table without rows, or without a column; names the nearest columns there are."""
    if not len(pairs):
        raise ValueError(f"{function}: pairs must have at least one row. Got none.")
    existing = [str(column) for column in pairs.columns]
    for column in columns:
        if column not in pairs.columns:
            near = difflib.get_close_matches(column, existing, n=3, cutoff=0.5) or existing[:8]
            raise ValueError(
                f"{function}: pairs must have the column {column!r}. Nearest are: {', '.join(map(repr, near))}."
            )


def is_mask_factor(pairs: pd.DataFrame, factor: str) -> bool:
    """Whether the factor has a value for each mask of a pair: columns ``<factor>_a`` and ``<factor>_b``."""
    return {f"{factor}_a", f"{factor}_b"} <= set(pairs.columns)


def mask_factor(pairs: pd.DataFrame, factor: str, *, function: str) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Values of the factor for both masks of each pair."""
    check_columns(pairs, (f"{factor}_a", f"{factor}_b"), function=function)
    return pairs[f"{factor}_a"], pairs[f"{factor}_b"]


def case_factor(pairs: pd.DataFrame, column: str, *, function: str) -> pd.Series[Any]:
    """Values of a factor of cases; ValueError where two pairs of one case differ in it."""
    check_columns(pairs, ("case", column), function=function)
    values = pairs[column]
    changing = values.groupby(pairs["case"]).nunique(dropna=False)
    changing = changing[changing > 1]
    if len(changing):
        raise ValueError(
            f"{function}: {column!r} must have one value per case. "
            f"Got {len(changing)} cases with several, such as {changing.index[0]!r}."
        )
    return values


def factor_levels(values: pd.Series[Any], *, factor: str, function: str) -> list[Any]:
    """Sorted levels without missing ones; ValueError with fewer than two."""
    levels = list(values.dropna().unique())
    if len(levels) < 2:
        only = f"only the level {level_name(levels[0])!r}" if levels else "no level"
        raise ValueError(
            f"{function}: factor {factor!r} must have at least two levels to compare. "
            f"Got {only} in {int(values.notna().sum())} of {len(values)} rows."
        )
    try:
        return sorted(levels)
    except TypeError:
        return sorted(levels, key=str)


def level_means(pairs: pd.DataFrame, factor: str, *, measure: str = "dice") -> pd.DataFrame:
    """Mean agreement of each combination of levels of a factor of masks or raters.

    Args:
        pairs: table of pairs with ``<factor>_a`` and ``<factor>_b``.
        factor: factor; ``"rater"`` gives the agreement of each pair of raters.
        measure: column of the values; NaN is left out.

    Returns:
        Data frame with one row per unordered combination that occurs: ``level_1`` <= ``level_2``, ``pairs``,
        ``cases``, ``mean``, ``std`` (n - 1), ``median``.

    Raises:
        ValueError: a missing column, named with the nearest.
    """
    check_columns(pairs, ("case", measure), function="level_means")
    a, b = mask_factor(pairs, factor, function="level_means")
    used = (a.notna() & b.notna() & pairs[measure].notna()).to_numpy(np.bool_)
    names = np.sort(np.stack([a[used].map(level_name), b[used].map(level_name)], axis=1).astype(str), axis=1)
    table = pd.DataFrame(
        {
            "level_1": names[:, 0],
            "level_2": names[:, 1],
            "case": pairs["case"].to_numpy()[used],
            "value": pairs[measure].to_numpy(np.float64)[used],
        }
    )
    return (
        table.groupby(["level_1", "level_2"], sort=True)
        .agg(
            pairs=("value", "size"),
            cases=("case", "nunique"),
            mean=("value", "mean"),
            std=("value", "std"),
            median=("value", "median"),
        )
        .reset_index()
    )


def level_name(level: Any) -> str:
    """Level in words: yes and no for truth values, 1 for 1.0."""
    if isinstance(level, bool | np.bool_):
        return "yes" if level else "no"
    if isinstance(level, float | np.floating) and float(level).is_integer():
        return str(int(level))
    return str(level)
