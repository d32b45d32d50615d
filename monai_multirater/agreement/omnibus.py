# SPDX-License-Identifier: Apache-2.0
"""One test for all levels of a factor at once, before its levels are compared two by two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from monai_multirater.agreement.comparison import Level, chosen_levels
from monai_multirater.agreement.pair_table import case_factor, check_columns, factor_levels, is_mask_factor, mask_factor

__all__ = ["omnibus_tests"]

_COLUMNS = ("analysis", "factor", "measure", "level", "sets", "n", "cases", "statistic", "p")


def omnibus_tests(
    pairs: pd.DataFrame,
    *,
    factors: Sequence[str],
    measures: Sequence[str] = ("dice",),
    levels: Level | Sequence[Level] = ("pairs", "cases"),
) -> pd.DataFrame:
    """Kruskal-Wallis test of the agreement by the levels of each factor, through SciPy.

    Do all levels have the same distribution of values? Of a factor of cases the sets are its levels; of a factor of
    masks or raters, the pairs whose two masks share a level, by that level. With two sets this is the rank test of
    the comparison itself. At the level of pairs it takes the pairs of one case as independent; at that of cases, where
    a set holds means of cases, the means of one case in several sets of a factor of masks. p is not corrected.

    Args:
        pairs: table of pairs, see :mod:`monai_multirater.agreement.pair_table`.
        factors: with columns ``<factor>_a`` and ``<factor>_b`` of masks or raters, else of cases.
        measures: columns of values; NaN is left out.
        levels: ``"pairs"``, ``"cases"`` or both.

    Returns:
        Data frame: ``analysis`` (``"group"`` or ``"levels"``, as in the table of comparisons), ``factor``,
        ``measure``, ``level``, ``sets`` (levels with values), ``n`` values, ``cases``, ``statistic`` H (corrected for
        ties), ``p``; both NaN with fewer than two sets or without spread.

    Raises:
        ValueError: a missing column (named with the nearest), or a factor with one level.

    Reference: Kruskal and Wallis 1952, doi:10.1080/01621459.1952.10483441.
    """
    function = "omnibus_tests"
    check_columns(pairs, ("case", *measures), function=function)
    rows = []
    for factor in factors:
        analysis, labels = _labels(pairs, factor, function)
        for measure in measures:
            table = pd.DataFrame({"case": pairs["case"], "label": labels, "value": pairs[measure]}).dropna()
            for level in chosen_levels(levels):
                rows.append((analysis, factor, measure, level, *_test(table, level)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _labels(pairs: pd.DataFrame, factor: str, function: str) -> tuple[str, pd.Series[Any]]:
    """Which set each pair belongs to, as a number; NaN for none."""
    if is_mask_factor(pairs, factor):
        a, b = (side.astype(object) for side in mask_factor(pairs, factor, function=function))
        found = factor_levels(pd.concat([a, b]), factor=factor, function=function)
        return "levels", a.where(a == b).map({value: place for place, value in enumerate(found)})
    values = case_factor(pairs, factor, function=function).astype(object)
    found = factor_levels(values, factor=factor, function=function)
    return "group", values.map({value: place for place, value in enumerate(found)})


def _test(table: pd.DataFrame, level: Level) -> tuple[int, int, int, float, float]:
    """Sets, values, cases, statistic and p-value."""
    cases = table["case"].nunique()
    if level == "cases":
        table = table.groupby(["label", "case"], sort=True)["value"].mean().reset_index()
    sets = [part.to_numpy(np.float64) for _, part in table.groupby("label", sort=True)["value"]]
    if len(sets) < 2 or np.ptp(table["value"].to_numpy(np.float64)) == 0:
        return len(sets), len(table), cases, math.nan, math.nan
    found = stats.kruskal(*sets)
    return len(sets), len(table), cases, float(found.statistic), float(found.pvalue)
