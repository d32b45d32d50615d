# SPDX-License-Identifier: Apache-2.0
"""From the table of pairs to comparisons, curves, a mixed model, and the plan of another study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_multirater.agreement import factor_tests, mixed_model, omnibus_tests
from monai_multirater.agreement.design import fixed_design, term_values
from monai_multirater.agreement.measures import GROUP_MEASURES, MEASURES
from monai_multirater.agreement.pair_table import is_mask_factor, level_name
from monai_multirater.resampling import bootstrap_cases
from monai_multirater.studies.agreement.raters import bootstrap_weights, mean_interval, quotient
from monai_multirater.studies.agreement.unordered import has_unordered, unordered_values

__all__ = ["MOST_PAIRS", "SIZE_TERM", "Analysis", "add_size", "analyse", "drawn_comparisons", "measure_summary"]

_POINTS = 100  # of the test of dominance
MOST_PAIRS = 3
SIZE_TERM = "log2_size"
_DOMINANCE = ("comparison", "measure", "value", "first", "second")
_MIXED = ("model", "term", "estimate", "low", "high", "p")


@dataclass(frozen=True, eq=False)
class Analysis:
    """Tables of tests, cumulative distributions and mixed models, and what is to be said of them."""

    tests: pd.DataFrame
    omnibus: pd.DataFrame
    dominance: pd.DataFrame
    mixed: pd.DataFrame
    remarks: tuple[str, ...]


def analyse(
    pairs: pd.DataFrame,
    *,
    factors: Sequence[str],
    group: str | None,
    measures: Sequence[str],
    fixed: Sequence[str],
    seed: int,
    resamples: int,
    permutations: int,
) -> Analysis:
    """Compare agreement by factors and fit mixed models.

    Args:
        pairs: table of pairs with the columns of the factors; values do not depend on the order of the raters.
        factors: names, of cases, raters or masks.
        group: factor of cases that also divides the comparisons of the others.
        measures: columns of values.
        fixed: fixed effects of the mixed model; one without any gives the shares of cases and raters, and one has
            ``log2_size`` beside them where :func:`add_size` could add it.
        seed, resamples, permutations: of the tests of dominance and permutation.
    """
    if not len(pairs):
        none = pd.DataFrame()
        return Analysis(none, none, pd.DataFrame(columns=list(_DOMINANCE)), pd.DataFrame(columns=list(_MIXED)), ())
    tests = factor_tests(
        pairs, factors=factors, group=group, measures=measures, seed=seed, resamples=resamples,
        permutations=permutations,
    )  # fmt: skip
    compared = tests.loc[tests["analysis"] != "same-different", ["factor", "first", "second"]].drop_duplicates()
    several = compared["factor"].value_counts(sort=False)
    remarks: list[str] = []
    models: list[Sequence[str]] = [()]
    if terms := _independent(pairs, fixed, remarks):
        models.append(terms)
        if SIZE_TERM in pairs and SIZE_TERM in (sized := _independent(pairs, [*terms, SIZE_TERM], remarks)):
            models.append(sized)
    tables = [_mixed(pairs, measure, terms, remarks) for measure in measures for terms in models]
    mixed = [table for table in tables if table is not None]
    return Analysis(
        tests,
        omnibus_tests(pairs, factors=list(several.index[several > 1]), measures=measures),
        _curves(pairs, tests, group),
        pd.concat(mixed, ignore_index=True) if mixed else pd.DataFrame(columns=list(_MIXED)),
        tuple(dict.fromkeys(remarks)),
    )


def add_size(pairs: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Pairs with ``log2_size``: doublings of the size of the case (mean volume of its masks) from the median case.

    Overlap rises with size whatever raters do, so that groups of other sizes differ in it. Missing where all masks are
    empty; the table as it is where sizes are not known.
    """
    if "size" not in cases:
        return pairs
    sizes = cases["size"].to_numpy(np.float64)
    doublings = np.log2(sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    by_case = dict(zip(cases["case"], doublings - np.nanmedian(doublings), strict=True)) if (sizes > 0).any() else {}
    return pairs.assign(**{SIZE_TERM: pairs["case"].map(by_case).to_numpy(np.float64)})


def _independent(pairs: pd.DataFrame, terms: Sequence[str], remarks: list[str]) -> list[str]:
    """Leave out terms that follow from those before them, or that do not vary where all are known."""
    kept: list[str] = []
    known = np.ones(len(pairs), bool)
    for term in terms:
        complete = known & term_values(pairs, term, function="mixed_model").notna().to_numpy(bool)
        try:
            fixed_design(pairs[complete], [*kept, term], function="mixed_model")
        except ValueError as error:
            remarks.append(f"The mixed model is without {term!r}: {error}")
            continue
        kept, known = [*kept, term], complete
    return kept


def _mixed(pairs: pd.DataFrame, measure: str, terms: Sequence[str], remarks: list[str]) -> pd.DataFrame | None:
    name = f"{measure} by {', '.join(terms)}" if terms else f"{measure}, no factors"
    try:
        found = mixed_model(pairs, measure=measure, fixed=terms)
    except ValueError as error:
        remarks.append(f"No mixed model of {name}: {error}")
        return None
    if found.remark or found.left_out:
        left = f"{found.left_out} pairs have a missing value and are left out" if found.left_out else ""
        remarks.append(f"Mixed model of {name}: {'; '.join(part for part in (left, found.remark) if part)}.")
    return found.to_table(name)


def _curves(pairs: pd.DataFrame, tests: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """Cumulative distributions of both sets of the comparisons over all cases that are shown as figures."""
    parts = []
    for row in drawn_comparisons(tests, group).to_dict("records"):
        first, second = (_values(pairs, row, mask) for mask in _sets(pairs, row))
        if not first.size or not second.size:
            continue
        grid = np.linspace(min(first.min(), second.min()), max(first.max(), second.max()), _POINTS)
        parts.append(
            pd.DataFrame(
                {
                    "comparison": f"{row['factor']}: {row['first']} and {row['second']}, {row['level']}",
                    "measure": row["measure"],
                    "value": grid,
                    "first": _cumulative(first, grid),
                    "second": _cumulative(second, grid),
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_DOMINANCE))


def drawn_comparisons(tests: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """Rows of the group, of same against different, and of factors with two levels; over all cases."""
    rows = tests[tests["stratum"] == "all"]
    two_by_two = rows[["analysis", "factor", "first", "second"]].drop_duplicates()
    counts = two_by_two.groupby(["analysis", "factor"], sort=False).size()
    number = np.array([counts[key] for key in zip(rows["analysis"], rows["factor"], strict=True)])
    most = np.where(rows["factor"] == group, MOST_PAIRS, 1)
    return rows[(rows["analysis"] == "same-different").to_numpy(bool) | (number <= most)]


def _sets(pairs: pd.DataFrame, row: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows of both sets of a comparison."""
    factor, first, second = str(row["factor"]), str(row["first"]), str(row["second"])
    if is_mask_factor(pairs, factor):
        a, b = pairs[f"{factor}_a"], pairs[f"{factor}_b"]
        known = (a.notna() & b.notna()).to_numpy(bool)
        same = (a.astype(object) == b.astype(object)).to_numpy(bool) & known
        if row["analysis"] == "same-different":
            return same, known & ~same
        names = a.map(level_name).to_numpy(object)
        return same & (names == first), same & (names == second)
    values, known = pairs[factor], pairs[factor].notna().to_numpy(bool)
    names = values.map(level_name).to_numpy(object)
    if second == f"not {first}":
        chosen = names == ("yes" if first == factor else first)
        return known & chosen, known & ~chosen
    return known & (names == first), known & (names == second)


def _values(pairs: pd.DataFrame, row: Any, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = pairs.loc[chosen, ["case", str(row["measure"])]].dropna()
    if row["level"] == "cases":
        return values.groupby("case", sort=True)[str(row["measure"])].mean().to_numpy(np.float64)
    return values[str(row["measure"])].to_numpy(np.float64)


def _cumulative(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of values strictly below each point, as in the test of dominance."""
    return np.asarray(np.searchsorted(np.sort(values), grid, side="left") / len(values))


def measure_summary(pairs: pd.DataFrame, cases: pd.DataFrame, seed: int) -> dict[str, dict[str, float]]:
    """Mean of each measure: of pairs, and of cases with a 95 % bootstrap interval over cases.

    Group measures have one value a case. ``mean`` is that over all pairs (of a group measure over the cases), ``low``
    and ``high`` its interval when cases are drawn with all their pairs. Measures whose value depends on the order of
    the raters are summarized without it, or not at all, see :func:`unordered
    <monai_multirater.studies.agreement.unordered.unordered>`.
    """
    found = {}
    for name in MEASURES:
        if name in GROUP_MEASURES and name in cases:
            found[name] = {"undefined": int(cases[name].isna().sum()), **mean_interval(_floats(cases[name]), seed)}
        elif has_unordered(pairs, name):
            found[name] = _pair_summary(pairs, cases, name, seed)
    return found


def _pair_summary(pairs: pd.DataFrame, cases: pd.DataFrame, name: str, seed: int) -> dict[str, float]:
    values = _floats(unordered_values(pairs, name))
    defined = ~np.isnan(values)
    by_case = _floats(cases[f"mean_{name}"])
    summary = {"pairs": int(defined.sum()), "undefined": int((~defined).sum())}
    means = mean_interval(by_case, seed)
    case_std = float(np.nanstd(by_case, ddof=1)) if means["cases"] > 1 else np.nan
    if not defined.any():
        return {**summary, "mean": np.nan, "std": np.nan, "low": np.nan, "high": np.nan, "case_mean": np.nan}
    index = pd.factorize(pairs["case"])[0]
    sums = np.stack([np.bincount(index, weights=np.where(defined, values, 0)), np.bincount(index, weights=defined)], 1)
    weights = bootstrap_weights(len(sums), seed)
    interval = bootstrap_cases(sums, quotient, weights=weights).interval
    return {
        **summary,
        "mean": float(values[defined].mean()),
        "std": float(values[defined].std(ddof=1)) if defined.sum() > 1 else np.nan,
        "median": float(np.median(values[defined])),
        "low": interval[0],
        "high": interval[1],
        "case_mean": means["mean"],
        "case_std": case_std,
        "case_low": means["low"],
        "case_high": means["high"],
    }


def _floats(values: pd.Series[Any]) -> NDArray[np.float64]:
    return values.to_numpy(np.float64)
