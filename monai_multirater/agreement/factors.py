# SPDX-License-Identifier: Apache-2.0
"""What goes with agreement: comparisons by factors of cases, of raters and of masks, on a table of pairs.

A row whose factor is missing is in neither set. For the columns of the table see
:mod:`monai_multirater.agreement.pair_table`; repeated masks by one rater are pairs with ``rater_a == rater_b``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_multirater.agreement.comparison import Comparison, Level, chosen_levels, compare, comparison_table
from monai_multirater.agreement.pair_table import (
    case_factor,
    check_columns,
    factor_levels,
    is_mask_factor,
    level_name,
    mask_factor,
)

__all__ = ["compare_groups", "compare_levels", "compare_same_different", "factor_tests"]

BoolArray = npt.NDArray[np.bool_]
LEVELS: tuple[Level, ...] = ("pairs", "cases")


@dataclass(frozen=True)
class _Settings:
    """How every comparison of a call is computed."""

    measure: str
    levels: Level | Sequence[Level]
    resamples: int
    permutations: int
    seed: int


def compare_groups(
    pairs: pd.DataFrame,
    column: str,
    *,
    measure: str = "dice",
    versus: Any = None,
    levels: Level | Sequence[Level] = LEVELS,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> list[Comparison]:
    """Compare the agreement on cases of different kinds, such as diagnoses.

    Two levels give one comparison, more levels one per pair of levels, in sorted order; `versus` compares one level
    with all others. A column of truth values compares ``column`` with ``not column``.

    Args:
        pairs: table of pairs.
        column: factor of cases; missing values are left out, with `versus` too.
        measure: column of the values.
        versus: level that forms the first set; the second is called ``"not <level>"``.
        levels: ``"pairs"``, ``"cases"`` (means of cases) or both.
        resamples, permutations, seed: see :func:`compare`.

    Returns:
        Comparisons with analysis ``"group"``, pairs before cases.

    Raises:
        ValueError: a missing column (named with the nearest), a factor with one level, a case with several values of
            the factor, or a level that does not occur.
    """
    function = "compare_groups"
    check_columns(pairs, (measure,), function=function)
    values = case_factor(pairs, column, function=function)
    found = factor_levels(values, factor=column, function=function)
    settings = _Settings(measure, levels, resamples, permutations, seed)
    if versus is None and pd.api.types.is_bool_dtype(values.dropna().infer_objects()):
        sets = [(values == True, values == False, (column, f"not {column}"))]  # noqa: E712
    elif versus is not None:
        if versus not in found:
            raise ValueError(
                f"{function}: versus must be a level of {column!r}: {', '.join(map(level_name, found))}. "
                f"Got {versus!r} instead."
            )
        name = column if isinstance(versus, bool) and versus else level_name(versus)
        sets = [(values == versus, values.notna() & (values != versus), (name, f"not {name}"))]
    else:
        sets = [
            (values == one, values == other, (level_name(one), level_name(other)))
            for one, other in itertools.combinations(found, 2)
        ]
    return [
        comparison
        for one, other, names in sets
        for comparison in _compare(pairs, _mask(one), _mask(other), settings, ("group", column, "all"), names)
    ]


def compare_same_different(
    pairs: pd.DataFrame,
    factor: str,
    *,
    measure: str = "dice",
    strata: str | None = None,
    levels: Level | Sequence[Level] = LEVELS,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> list[Comparison]:
    """Compare pairs whose masks share a level of the factor with pairs whose masks do not.

    The factor ``"rater"`` compares repeated masks by one rater with pairs of two raters. A stratum in which one of the
    sets is empty gives a row of NaN.

    Args:
        pairs: table of pairs with ``<factor>_a`` and ``<factor>_b``.
        factor: factor of masks or raters.
        measure: column of the values.
        strata: factor of cases; the comparison is repeated within each of its levels.
        levels: ``"pairs"``, ``"cases"`` or both. A case with several pairs may be in both sets (`cases_both`).
        resamples, permutations, seed: see :func:`compare`.

    Returns:
        Comparisons with analysis ``"same-different"``, sets ``"same"`` and ``"different"``, overall and by stratum.

    Raises:
        ValueError: a missing column (named with the nearest), all pairs same or all different.
    """
    function = "compare_same_different"
    check_columns(pairs, ("case", measure), function=function)
    a, b = mask_factor(pairs, factor, function=function)
    known = _mask(a.notna() & b.notna())
    same = _equal(a, b) & known
    if not same.any() or not (known & ~same).any():
        only = "same" if same.any() else "different"
        detail = f"in {int(known.sum())} of {len(pairs)} rows both masks are known, all {only}"
        levels_there = sorted({level_name(level) for level in pd.concat([a, b]).dropna()})
        raise ValueError(
            f"{function}: factor {factor!r} must have pairs of the same level and of different levels. "
            f"Got levels {levels_there}: {detail}."
        )
    settings = _Settings(measure, levels, resamples, permutations, seed)
    rows: list[Comparison] = []
    for stratum, inside in _strata(pairs, strata, function):
        labels = ("same-different", factor, stratum)
        rows += _compare(pairs, same & inside, known & ~same & inside, settings, labels, ("same", "different"))
    return rows


def compare_levels(
    pairs: pd.DataFrame,
    factor: str,
    *,
    measure: str = "dice",
    levels: Level | Sequence[Level] = LEVELS,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> list[Comparison]:
    """Compare the agreement within one level of a factor with that within another: experts with novices, say.

    Takes the pairs whose two masks share a level, and compares each two levels that have such pairs.

    Arguments, errors: see :func:`compare_same_different`.

    Returns:
        Comparisons with analysis ``"levels"``; none where fewer than two levels have pairs of their own.
    """
    function = "compare_levels"
    check_columns(pairs, ("case", measure), function=function)
    a, b = mask_factor(pairs, factor, function=function)
    found = factor_levels(pd.concat([a, b]), factor=factor, function=function)
    within = {level_name(level): _mask((a == level) & (b == level)) for level in found}
    settings = _Settings(measure, levels, resamples, permutations, seed)
    labels = ("levels", factor, "all")
    return [
        comparison
        for one, other in itertools.combinations([name for name, inside in within.items() if inside.any()], 2)
        for comparison in _compare(pairs, within[one], within[other], settings, labels, (one, other))
    ]


def factor_tests(
    pairs: pd.DataFrame,
    *,
    factors: Sequence[str],
    group: str | None = None,
    measures: Sequence[str] = ("dice",),
    seed: int = 0,
    resamples: int = 1000,
    permutations: int = 9999,
) -> pd.DataFrame:
    """All comparisons of a study in one table, with Holm's correction.

    For each measure: cases by `group`; for a factor of masks or raters, same against different, overall and within
    each level of `group`, and the levels against each other; for a factor of cases, its levels. Each at the level
    of pairs and of cases.

    Args:
        pairs: table of pairs.
        factors: names; with columns ``<factor>_a`` and ``<factor>_b`` a factor of masks or raters (``"rater"``
            among them), else of cases.
        group: factor of cases that also divides the comparisons of the others, the diagnosis for example.
        measures: columns of values.
        seed, resamples, permutations: see :func:`compare`.

    Returns:
        Data frame of :func:`comparison_table`, which says what the family of the correction is.

    Raises:
        ValueError: a missing column (named with the nearest), or a factor with one level only.
    """
    check_columns(pairs, ("case", *measures), function="factor_tests")
    rows: list[Comparison] = []
    for measure in measures:
        shared: dict[str, Any] = {
            "measure": measure,
            "resamples": resamples,
            "permutations": permutations,
            "seed": seed,
        }
        for factor in dict.fromkeys([*([group] if group else []), *factors]):
            if is_mask_factor(pairs, factor):
                rows += compare_same_different(pairs, factor, strata=group, **shared)
                rows += compare_levels(pairs, factor, **shared) if factor != "rater" else []
            else:
                rows += compare_groups(pairs, factor, **shared)
    return comparison_table(rows)


def _strata(pairs: pd.DataFrame, strata: str | None, function: str) -> Iterator[tuple[str, BoolArray]]:
    yield "all", np.ones(len(pairs), np.bool_)
    if strata is not None:
        values = case_factor(pairs, strata, function=function)
        for level in factor_levels(values, factor=strata, function=function):
            yield f"{strata}={level_name(level)}", _mask(values == level)


def _compare(
    pairs: pd.DataFrame,
    first: BoolArray,
    second: BoolArray,
    settings: _Settings,
    labels: tuple[str, str, str],
    names: tuple[str, str],
) -> Iterator[Comparison]:
    values = pairs[settings.measure].to_numpy(np.float64)
    cases = pairs["case"].to_numpy(dtype=object)
    analysis, factor, stratum = labels
    for level in chosen_levels(settings.levels):
        yield compare(
            values[first],
            values[second],
            first_cases=cases[first],
            second_cases=cases[second],
            level=level,
            analysis=analysis,
            factor=factor,
            stratum=stratum,
            measure=settings.measure,
            names=names,
            resamples=settings.resamples,
            permutations=settings.permutations,
            seed=settings.seed,
        )


def _equal(a: pd.Series[Any], b: pd.Series[Any]) -> BoolArray:
    """Where both values are equal; categories are compared by value."""
    return np.asarray(a.astype(object).to_numpy() == b.astype(object).to_numpy(), np.bool_)


def _mask(values: pd.Series[Any]) -> BoolArray:
    return values.fillna(False).to_numpy(dtype=np.bool_)
