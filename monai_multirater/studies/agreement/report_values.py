# SPDX-License-Identifier: Apache-2.0
"""What a report reads from the tables of a study: values of measures, their means, pairs of raters, comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from monai_multirater.agreement.measures import GROUP_MEASURES, MEASURES
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.studies.agreement.unordered import has_unordered, unordered_values

__all__ = [
    "Spread",
    "is_missing",
    "is_same_different",
    "main_measure",
    "measures_present",
    "pair_means",
    "problems_of",
    "rows_of",
    "spread",
    "stratum_name",
    "student_interval",
    "values_of",
]

_ALL = ("", "all", "overall", "nan", "none", "all cases")


@dataclass(frozen=True)
class Spread:
    """Summary of the values of one measure."""

    n: int
    undefined: int
    mean: float
    std: float
    quartiles: tuple[float, float, float]
    low: float
    high: float


def measures_present(study: AgreementStudy) -> tuple[str, ...]:
    """Measures that the tables hold with at least one defined value, in the order of ``MEASURES``."""
    return tuple(name for name in MEASURES if np.isfinite(values_of(study, name)).any())


def values_of(study: AgreementStudy, name: str) -> npt.NDArray[np.float64]:
    """Values over pairs, or over cases for group measures; empty where the study has none.

    They do not depend on the order of the raters; where only one order is known there are none.
    """
    if name in GROUP_MEASURES:
        values = study.cases.get(name, pd.Series(dtype=float))
    else:
        values = unordered_values(study.pairs, name) if has_unordered(study.pairs, name) else pd.Series(dtype=float)
    return values.to_numpy(dtype=np.float64, na_value=math.nan)


def main_measure(study: AgreementStudy) -> str:
    """Dice where the study has it, else its first measure, else ""."""
    return next(iter(measures_present(study)), "")


def spread(study: AgreementStudy, name: str) -> Spread:
    """Summary of a measure; the interval is the study's own, or made from the cases as wholes.

    With s and n the sum and the number of defined values of each of C cases and m the mean of all, the latter is
    ``m +- 1.96 sqrt(C / (C - 1) sum (s - m n)^2) / sum n``.
    """
    table = study.cases if name in GROUP_MEASURES else study.pairs
    values = values_of(study, name)
    defined = ~np.isnan(values)
    found = values[defined]
    mean = float(found.mean()) if found.size else math.nan
    quartiles = np.quantile(found, [0.25, 0.5, 0.75]) if found.size else np.full(3, math.nan)
    std = float(found.std(ddof=1)) if found.size > 1 else math.nan
    own = _given(study.summary, name)
    low, high = own or _interval(
        pd.Series(found).groupby(table["case"].to_numpy()[defined]).agg(["sum", "count"]), mean
    )
    return Spread(found.size, int((~defined).sum()), mean, std, (*map(float, quartiles),), low, high)  # type: ignore[arg-type]


def _given(summary: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    entry = summary.get("measures", {})
    entry = entry.get(name, {}) if isinstance(entry, Mapping) else {}
    if not isinstance(entry, Mapping) or entry.get("low") is None or entry.get("high") is None:
        return None
    return float(entry["low"]), float(entry["high"])


def _interval(sums: pd.DataFrame, mean: float) -> tuple[float, float]:
    if len(sums) < 2:
        return math.nan, math.nan
    residual = sums["sum"].to_numpy() - mean * sums["count"].to_numpy()
    factor = len(sums) / (len(sums) - 1)
    error = math.sqrt(factor * float(residual @ residual)) / float(sums["count"].sum())
    return mean - 1.96 * error, mean + 1.96 * error


def student_interval(mean: float, std: float, n: float) -> tuple[float, float]:
    """95 % interval of the mean of n independent values; NaN for fewer than two."""
    if not n >= 2 or math.isnan(std):
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return mean - half, mean + half


def pair_means(study: AgreementStudy, name: str) -> pd.DataFrame:
    """Mean and number of the defined values of each pair of raters: ``first``, ``second`` (sorted), ``mean``, ``n``."""
    if name not in study.pairs or not len(study.pairs):
        return pd.DataFrame({"first": [], "second": [], "mean": [], "n": []})
    names: Any = np.sort(study.pairs[["rater_a", "rater_b"]].astype(str).to_numpy(), axis=1)
    table = pd.DataFrame({"first": names[:, 0], "second": names[:, 1], "value": values_of(study, name)})
    found = table.groupby(["first", "second"], sort=True)["value"].agg(["mean", "count"]).reset_index()
    return found.rename(columns={"count": "n"})


def stratum_name(value: Any) -> str:
    """Which cases a comparison looks at; "all cases" for all."""
    text = "" if value is None or pd.isna(value) else str(value).strip()
    if text.lower() in _ALL:
        return "all cases"
    name, equals, level = text.partition("=")
    if equals and level in ("yes", "no"):
        return name if level == "yes" else f"not {name}"
    return text.replace("=", ": ", 1)


def is_same_different(row: Mapping[str, Any]) -> bool:
    """Whether a comparison is that of pairs with the same and with different levels of a factor."""
    return str(row["analysis"]) == "same-different"


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN or NA."""
    return value is None or bool(pd.isna(value))


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def problems_of(study: AgreementStudy, kind: str) -> pd.DataFrame:
    """Rows of one kind of problem."""
    return study.problems[study.problems["kind"] == kind] if len(study.problems) else study.problems
