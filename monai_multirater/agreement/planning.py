# SPDX-License-Identifier: Apache-2.0
"""How many raters and cases a study of agreement needs, simulated from one that exists.

A pilot study holds, for each case, the agreement of every two of its raters; this is all that the simulation needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from monai_multirater.agreement.effects import FloatArray
from monai_multirater.agreement.panels import LEAST_CASES, CaseMatrix, Pool, case_matrices, fixed_pools, open_pool
from monai_multirater.votes import VoteTable

__all__ = ["plan_study", "required_cases"]

Panel = Literal["per case", "fixed"]


@dataclass(frozen=True, eq=False)
class _Pilot:
    """What studies with a number of raters can be drawn from; no pools if there are not that many raters."""

    pools: list[Pool]
    remark: str

    @classmethod
    def of(cls, matrices: list[CaseMatrix], raters: int, panel: Panel, seed: int) -> _Pilot:
        generator = np.random.default_rng([seed, raters])
        if panel == "fixed":
            pools = fixed_pools(matrices, raters, generator)
        else:
            pools = [pool for pool in [open_pool(matrices, raters, generator)] if pool.count.size]
        alone = bool(pools) and max(pool.count.size for pool in pools) < 2  # nothing varies between such studies
        most = max((len(matrix.raters) for matrix in matrices), default=0)
        remark = ""
        if most < raters:
            remark = f"not available: at most {most} raters marked the same case"
        elif alone:
            remark = f"not available: only one case of the pilot has {raters} raters"
        elif not pools:
            remark = f"not available: no {raters} raters marked {LEAST_CASES} cases together"
        elif max(pool.count.size for pool in pools) < LEAST_CASES:
            remark = f"little to go by: only {pools[0].count.size} cases of the pilot have {raters} raters"
        elif panel == "fixed" and len(pools) == 1:
            remark = f"the pilot has one panel of {raters} raters, and cannot tell what the choice of raters adds"
        return cls([] if alone else pools, remark)

    def means(self, cases: int, resamples: int, seed: int) -> FloatArray:
        """Mean agreement found by each simulated study."""
        generator = np.random.default_rng([seed, cases])
        chosen = np.bincount(generator.integers(0, len(self.pools), resamples), minlength=len(self.pools))
        parts = [pool.draw_means(cases, int(n), generator) for pool, n in zip(self.pools, chosen, strict=True) if n]
        return np.concatenate(parts)

    @property
    def cases(self) -> int:
        """Cases that can be drawn; with fixed panels, of the panel with the most."""
        return max((pool.count.size for pool in self.pools), default=0)

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the value of a case, over the panels."""
        if not self.pools:
            return math.nan, math.nan
        means, deviations = np.array([pool.moments for pool in self.pools]).T
        return float(means.mean()), float(np.sqrt(np.square(deviations).mean() + means.var()))


def plan_study(
    tables_or_pairs: pd.DataFrame | Iterable[VoteTable],
    *,
    measure: str = "dice",
    raters: Sequence[int] = (2, 3, 5),
    cases: Sequence[int] = (10, 20, 50, 100, 200, 500, 1000),
    panel: Panel = "per case",
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Width of the interval of the mean agreement for numbers of raters and cases.

    Each simulated study draws its cases with replacement, and raters without. Its result is the mean over cases of the
    mean over the pairs of raters. The middle `confidence` of the results of all simulated studies is the interval.
    With ``panel="per case"`` each case is marked by any of its own raters; so the interval is that of the
    mean over raters such as these, and is about ``2 z sd / sqrt(cases)`` wide. With ``panel="fixed"`` the same
    raters mark all cases; which ones these are adds to the width, and this part does not shrink with the number of
    cases. Panels that marked fewer than 10 cases of the pilot together are left out.

    Where raters are missing, rows with other numbers of raters come from other cases of the pilot: compare `mean`.

    Args:
        tables_or_pairs: the pilot: a table of pairs, or the pattern table of each case (measures ``dice``, ``iou``,
            ``kappa``). Pairs of one rater with itself are left out, repeated pairs averaged.
        measure: what is measured.
        raters: numbers of raters, each at least 2. More than marked a case of the pilot are not available.
        cases: numbers of cases, each at least 1; may exceed those of the pilot.
        panel: how raters are drawn. If there are more than 256 choices, 256 random ones stand for them.
        confidence: of the interval.
        resamples: simulated studies per row; the width varies by about 3 % between seeds with 1000.
        seed: equal seeds give equal rows, whatever other rows are asked for.

    Returns:
        Data frame: ``raters``, ``cases``, ``width``, ``low``, ``high``, ``mean``, ``std`` (of a case),
        ``pilot_cases`` (that have enough raters), ``available``, ``remark``. Rows that are not available are NaN.

    Raises:
        ValueError: numbers out of range, an unknown measure or panel, or a pilot without cases.
    """
    _check(raters, cases, panel, confidence, resamples, "plan_study")
    matrices = case_matrices(tables_or_pairs, measure, function="plan_study")
    rows = []
    for k in raters:
        pilot = _Pilot.of(matrices, k, panel, seed)
        mean, std = pilot.moments
        for n in cases:
            low, high = _interval(pilot, n, confidence, resamples, seed) if pilot.pools else (math.nan, math.nan)
            row = {"raters": k, "cases": n, "width": high - low, "low": low, "high": high, "mean": mean, "std": std}
            rows.append({**row, "pilot_cases": pilot.cases, "available": bool(pilot.pools), "remark": pilot.remark})
    return pd.DataFrame(rows)


def required_cases(
    width: float,
    tables_or_pairs: pd.DataFrame | Iterable[VoteTable],
    *,
    measure: str = "dice",
    raters: Sequence[int] = (2, 3, 5),
    panel: Panel = "per case",
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    max_cases: int = 20_000,
) -> pd.DataFrame:
    """Fewest cases with which the interval of the mean agreement is at most `width` wide, for numbers of raters.

    Found by bisection of the simulation of :func:`plan_study`, to within 1 %; the simulation varies by a few percent
    itself.

    Args:
        width: of the interval, in units of the measure; positive.
        max_cases: where the search ends.
        tables_or_pairs, measure, raters, panel, confidence, resamples, seed: see :func:`plan_study`.

    Returns:
        Data frame: ``raters``, ``cases`` (NaN where there is no answer), ``width`` (of that many cases),
        ``pilot_cases``, ``remark``.

    Raises:
        ValueError: as :func:`plan_study`, or a width that is not positive.
    """
    if not (width > 0 and math.isfinite(width)):
        raise ValueError(f"required_cases: width must be positive and finite. Got {width} instead.")
    _check(raters, (max_cases,), panel, confidence, resamples, "required_cases")
    matrices = case_matrices(tables_or_pairs, measure, function="required_cases")
    rows = []
    for k in raters:
        pilot = _Pilot.of(matrices, k, panel, seed)
        cases, reached, remark = math.nan, math.nan, pilot.remark
        if pilot.pools:
            cases, reached, why_not = _search(pilot, width, confidence, resamples, seed, max_cases)
            remark = why_not or remark
        rows.append({"raters": k, "cases": cases, "width": reached, "pilot_cases": pilot.cases, "remark": remark})
    return pd.DataFrame(rows)


def _search(
    pilot: _Pilot, width: float, confidence: float, resamples: int, seed: int, max_cases: int
) -> tuple[float, float, str]:
    """Number of cases, the width it gives, and a remark if there is none."""

    def simulated(cases: int) -> float:
        low, high = _interval(pilot, cases, confidence, resamples, seed)
        return high - low

    least = _width(np.array([pool.moments[0] for pool in pilot.pools]), confidence)
    guess = math.ceil((2 * float(stats.norm.ppf((1 + confidence) / 2)) * pilot.moments[1] / width) ** 2)
    if len(pilot.pools) > 1 and least > width:
        return math.nan, math.nan, f"not reached: the choice of raters alone gives a width of {least:.4g}"
    low, high = 0, min(max(guess, 1), max_cases)
    while simulated(high) > width:
        if high == max_cases:
            return math.nan, math.nan, f"not reached with {max_cases} cases"
        low, high = high, min(2 * high, max_cases)
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if simulated(middle) <= width else (middle, high)
    return float(high), simulated(high), ""


def _interval(pilot: _Pilot, cases: int, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    found = pilot.means(cases, resamples, seed)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _width(values: FloatArray, confidence: float) -> float:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(high - low)


def _check(
    raters: Sequence[int], cases: Sequence[int], panel: str, confidence: float, resamples: int, function: str
) -> None:
    for argument, numbers, least in (("raters", raters, 2), ("cases", cases, 1), ("resamples", (resamples,), 2)):
        if not len(numbers) or min(numbers) < least:
            raise ValueError(
                f"{function}: {argument} must be numbers of at least {least}. Got {tuple(numbers)} instead."
            )
    if panel not in ("per case", "fixed"):
        raise ValueError(f"{function}: panel must be 'per case' or 'fixed'. Got {panel!r} instead.")
    if not 0 < confidence < 1:
        raise ValueError(f"{function}: confidence must be between 0 and 1. Got {confidence} instead.")
