# SPDX-License-Identifier: Apache-2.0
"""One comparison of the agreement of two sets of pairs or cases: everything that a row of the tests' table says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_multirater.agreement.dominance import dominance_both_ways
from monai_multirater.agreement.effects import FloatArray, as_sample, cliffs_delta, cohens_d, holm, mann_whitney
from monai_multirater.agreement.permutation import permutation_test
from monai_multirater.agreement.within_cases import within_case_test

__all__ = ["Comparison", "Level", "chosen_levels", "compare", "comparison_table"]

Level = Literal["pairs", "cases"]


@dataclass(frozen=True)
class Comparison:
    """Two sets of values of a measure, and how they differ.

    Attributes:
        analysis: ``"group"`` (a factor of cases), ``"same-different"`` (pairs whose masks share a level of the factor
            against pairs that do not) or ``"levels"`` (pairs that share one level against those that share another).
        factor: column, or first part of the columns, that divides the pairs.
        stratum: ``"all"``, or the cases looked at, ``"malignant=yes"`` for example.
        measure: column of the values.
        level: ``"pairs"``: one value a pair of raters. ``"cases"``: the mean of a case over its pairs in the set.
        first, second: names of the two sets.
        n_first, n_second: values in the sets.
        cases_first, cases_second: cases that they come from; cases_both: cases with values in both sets.
        left_out: rows of the two sets whose value is NaN.
        mean_first, std_first, median_first: mean, sample standard deviation (n - 1) and median of the first set.
        mean_second, std_second, median_second: the same of the second.
        mann_whitney_u: U of the first set; p_mann_whitney: two-sided. At the level of pairs it takes the pairs of one
            case as independent.
        p_permutation: two-sided, difference of means, whole cases exchanged; NaN where cases have values in both
            sets, since the label does not belong to the case there.
        difference_within, p_within: mean over the cases with values in both sets of the difference of their means,
            first minus second, and the p-value of :func:`~monai_multirater.agreement.within_case_test`, in which
            labels are exchanged within cases only: hard cases cannot be mistaken for an effect. NaN where no case
            has both.
        cohens_d, cliffs_delta: effect sizes, positive where the first set is larger.
        dominance_first, p_dominance_first: statistic and p-value of the null hypothesis that the first set dominates
            the second stochastically: tends to larger values throughout. A small p rejects this.
        dominance_second, p_dominance_second: the same with the null hypothesis that the second dominates the first.
        p_holm: `p_mann_whitney` corrected over the family that :func:`comparison_table` says; NaN before.
    """

    analysis: str
    factor: str
    stratum: str
    measure: str
    level: str
    first: str
    second: str
    n_first: int
    n_second: int
    cases_first: int
    cases_second: int
    cases_both: int
    left_out: int
    mean_first: float
    std_first: float
    median_first: float
    mean_second: float
    std_second: float
    median_second: float
    mann_whitney_u: float
    p_mann_whitney: float
    p_permutation: float
    difference_within: float
    p_within: float
    cohens_d: float
    cliffs_delta: float
    dominance_first: float
    p_dominance_first: float
    dominance_second: float
    p_dominance_second: float
    p_holm: float = math.nan


@dataclass(frozen=True, eq=False)
class _Set:
    """Values of one set without NaN, and the case of each."""

    values: FloatArray
    cases: npt.NDArray[np.object_]
    left_out: int

    @classmethod
    def of(cls, values: npt.ArrayLike, cases: npt.ArrayLike | None, argument: str, level: Level) -> _Set:
        kept, left_out = as_sample(values, function="compare", argument=argument)
        size = kept.size + left_out
        names = np.arange(size).astype(object) if cases is None else np.asarray(cases, dtype=object)
        if names.shape != (size,):
            raise ValueError(
                f"compare: {argument}_cases must name the case of each value. Got {names.size} names of {size} values."
            )
        names = names[~np.isnan(np.asarray(values, np.float64))]
        if level == "cases":
            means = pd.Series(kept).groupby(names, sort=True).mean()
            kept, names = np.asarray(means, np.float64), np.asarray(means.index, dtype=object)
        return cls(kept, names, left_out)


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    first_cases: npt.ArrayLike | None = None,
    second_cases: npt.ArrayLike | None = None,
    level: Level = "pairs",
    analysis: str = "group",
    factor: str = "",
    stratum: str = "all",
    measure: str = "dice",
    names: tuple[str, str] = ("first", "second"),
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of values by rank test, permutation of cases, effect sizes and stochastic dominance.

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out and counted.
        first_cases, second_cases: case of each value, for both sets or for neither; without them every value is a
            case of its own.
        level: ``"pairs"`` compares the values, ``"cases"`` the means of cases.
        analysis, factor, stratum, measure, names: what the row is called.
        resamples: bootstrap samples of the tests of dominance.
        permutations: of the permutation test.
        seed: of both; equal seeds give equal p-values, whatever else is compared.

    Returns:
        Comparison; numbers without enough values are NaN.

    Raises:
        ValueError: infinite values, another level, or cases that do not fit the values.
    """
    if level not in ("pairs", "cases"):
        raise ValueError(f"compare: level must be 'pairs' or 'cases'. Got {level!r} instead.")
    if (first_cases is None) != (second_cases is None):
        raise ValueError("compare: cases must be given for both sets or for neither. Got one.")
    x = _Set.of(first, first_cases, "first", level)
    y = _Set.of(second, second_cases, "second", level)
    here, there = set(x.cases), set(y.cases)
    both = 0 if first_cases is None else len(here & there)
    within, p_within = _within(x, y, permutations, seed) if both else (math.nan, math.nan)
    ranks = mann_whitney(x.values, y.values)
    dominance, reverse = dominance_both_ways(x.values, y.values, resamples=resamples, seed=seed)
    return Comparison(
        analysis, factor, stratum, measure, level, *names, x.values.size, y.values.size, len(here), len(there), both,
        x.left_out + y.left_out, *_moments(x.values), *_moments(y.values), ranks.statistic, ranks.p_value,
        math.nan if both else _permutation(x, y, first_cases is not None, permutations, seed),
        within, p_within,
        cohens_d(x.values, y.values), cliffs_delta(x.values, y.values),
        dominance.statistic, dominance.p_value, reverse.statistic, reverse.p_value,
    )  # fmt: skip


def comparison_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Table with one row per comparison, in the order given, and `p_holm` filled.

    The family of Holm's correction is all Mann-Whitney tests of the table at the same level: the rows at the level of
    pairs are one family, over factors, strata and measures, and the rows at the level of cases, which ask the same
    questions of other units, another. The column ``family`` says so, with the number of tests.

    Returns:
        Data frame with the attributes of :class:`Comparison` as columns, and ``family``.
    """
    rows = list(comparisons)
    family = [""] * len(rows)
    for level in dict.fromkeys(row.level for row in rows):
        members = [i for i, row in enumerate(rows) if row.level == level]
        corrected = holm([rows[i].p_mann_whitney for i in members])
        tests = int((~np.isnan(corrected)).sum())
        for i, p_holm in zip(members, corrected, strict=True):
            rows[i] = replace(rows[i], p_holm=float(p_holm))
            family[i] = f"{tests} Mann-Whitney tests of {level}"
    columns = [field.name for field in dataclasses.fields(Comparison)]
    table = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=columns)
    return table.assign(family=family)


def _moments(values: FloatArray) -> tuple[float, float, float]:
    if not values.size:
        return math.nan, math.nan, math.nan
    std = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return float(values.mean()), std, float(np.median(values))


def _permutation(x: _Set, y: _Set, named: bool, permutations: int, seed: int) -> float:
    first, second = (x.cases, y.cases) if named else (None, None)
    return permutation_test(
        x.values, y.values, resamples=permutations, seed=seed, first_groups=first, second_groups=second
    ).p_value


def _within(x: _Set, y: _Set, permutations: int, seed: int) -> tuple[float, float]:
    found = within_case_test(
        x.values, y.values, first_cases=x.cases, second_cases=y.cases, resamples=permutations, seed=seed
    )
    return found.statistic, found.p_value


def chosen_levels(levels: Level | Sequence[Level]) -> tuple[Level, ...]:
    """Levels of analysis of an argument that may be the name of one."""
    return cast("tuple[Level, ...]", (levels,) if isinstance(levels, str) else tuple(levels))
