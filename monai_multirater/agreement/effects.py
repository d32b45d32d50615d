# SPDX-License-Identifier: Apache-2.0
"""How two sets of values differ: rank test, effect sizes, correction for many tests.

Everywhere, NaN (an undefined value) is left out and counted, and infinite values are refused. A result that is not
defined, for lack of values or of spread, is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Alternative", "MannWhitneyResult", "cliffs_delta", "cohens_d", "holm", "mann_whitney"]

Alternative = Literal["two-sided", "less", "greater"]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MannWhitneyResult:
    """Mann-Whitney U test of two sets of values.

    Attributes:
        statistic: U of the first set: pairs (x of the first, y of the second) with x > y, ties counted half.
        p_value: by the chosen alternative.
        probability_of_superiority: ``P(x > y) + P(x = y) / 2 = U / (n_first n_second)``; 0.5 without a difference.
        n_first, n_second: values used.
        left_out_first, left_out_second: NaN values left out.
    """

    statistic: float
    p_value: float
    probability_of_superiority: float
    n_first: int
    n_second: int
    left_out_first: int
    left_out_second: int


def mann_whitney(
    first: npt.ArrayLike, second: npt.ArrayLike, *, alternative: Alternative = "two-sided"
) -> MannWhitneyResult:
    """Mann-Whitney U test (Wilcoxon rank-sum test) of two independent sets of values, through SciPy.

    The p-value is exact for sets of which one has at most 8 values, without ties, else from the normal
    approximation with correction for ties and continuity.

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out and counted.
        alternative: ``"two-sided"``, ``"less"`` (first tends to smaller values) or ``"greater"``.

    Returns:
        Result; all of it NaN where a set has no value left.

    Raises:
        ValueError: values that are infinite or not one-dimensional, or another alternative.

    Reference: Mann and Whitney 1947, doi:10.1214/aoms/1177730491.
    """
    if alternative not in ("two-sided", "less", "greater"):
        raise ValueError(
            f"mann_whitney: alternative must be 'two-sided', 'less' or 'greater'. Got {alternative!r} instead."
        )
    x, out_x = as_sample(first, function="mann_whitney", argument="first")
    y, out_y = as_sample(second, function="mann_whitney", argument="second")
    if not (x.size and y.size):
        return MannWhitneyResult(math.nan, math.nan, math.nan, x.size, y.size, out_x, out_y)
    found = stats.mannwhitneyu(x, y, alternative=alternative)
    statistic = float(found.statistic)
    return MannWhitneyResult(
        statistic, float(found.pvalue), statistic / (x.size * y.size), x.size, y.size, out_x, out_y
    )


def cohens_d(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Standardized difference of means, ``(mean(x) - mean(y)) / s``, positive where the first set is larger.

    The pooled standard deviation is ``s^2 = ((n - 1) var(x) + (m - 1) var(y)) / (n + m - 2)`` with the sample
    variances (n - 1).

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out.

    Returns:
        d; NaN where a set is empty, with fewer than three values together, or without spread.

    Raises:
        ValueError: values that are infinite or not one-dimensional.

    Reference: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, doi:10.4324/9780203771587.
    """
    x, _ = as_sample(first, function="cohens_d", argument="first")
    y, _ = as_sample(second, function="cohens_d", argument="second")
    if not (x.size and y.size) or x.size + y.size < 3:
        return math.nan
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return math.nan
    squares = float(np.square(x - x.mean()).sum() + np.square(y - y.mean()).sum())
    return float((x.mean() - y.mean()) / math.sqrt(squares / (x.size + y.size - 2)))


def cliffs_delta(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Share of pairs in which the first value is larger, minus the share in which it is smaller; -1 to 1.

    ``delta = P(x > y) - P(x < y)``, counted by sorting, without the n x m comparisons.

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out.

    Returns:
        delta; NaN where a set is empty.

    Raises:
        ValueError: values that are infinite or not one-dimensional.

    Reference: Cliff 1993, doi:10.1037/0033-2909.114.3.494.
    """
    x, _ = as_sample(first, function="cliffs_delta", argument="first")
    y, _ = as_sample(second, function="cliffs_delta", argument="second")
    if not (x.size and y.size):
        return math.nan
    ordered = np.sort(y)
    below = int(np.searchsorted(ordered, x, side="left").sum())
    above = x.size * y.size - int(np.searchsorted(ordered, x, side="right").sum())
    return (below - above) / (x.size * y.size)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's step-down correction, which keeps the chance of any false positive in the family below the level.

    With the m defined values in rising order, ``p_(i)`` becomes ``max over j <= i of (m - j + 1) p_(j)``, at most 1.

    Args:
        p_values: family of tests ``[m]``; NaN is no test, stays NaN and does not count.

    Returns:
        float64 ``[m]``, corrected, in the order given.

    Raises:
        ValueError: values outside 0..1 or not one-dimensional.

    Reference: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1:
        raise ValueError(f"holm: p_values must be one-dimensional. Got shape {given.shape} instead.")
    tested = np.flatnonzero(~np.isnan(given))
    values = given[tested]
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f"holm: p_values must be between 0 and 1. Got {values.min()} to {values.max()} instead.")
    order = np.argsort(values, kind="stable")
    corrected = np.full(given.shape, math.nan)
    stepped = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    corrected[tested[order]] = np.minimum(stepped, 1)
    return corrected


def as_sample(values: npt.ArrayLike, *, function: str, argument: str) -> tuple[FloatArray, int]:
    """Values as float64 ``[n]`` without NaN, and how many NaN there were; names function and argument in errors."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{function}: {argument} must be one-dimensional. Got shape {array.shape} instead.")
    kept = array[~np.isnan(array)]
    if np.isinf(kept).any():
        raise ValueError(
            f"{function}: {argument} must be finite; NaN stands for undefined. "
            f"Got {int(np.isinf(kept).sum())} infinite of {array.size} values."
        )
    return kept, int(array.size - kept.size)
