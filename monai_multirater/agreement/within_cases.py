# SPDX-License-Identifier: Apache-2.0
"""Permutation test of labels of pairs, within cases: what is hard about a case cancels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_multirater.agreement.effects import Alternative, FloatArray, as_sample
from monai_multirater.agreement.permutation import PermutationResult, permutation_p_value, random_draws

__all__ = ["within_case_test"]

Cases = Sequence[Hashable] | npt.NDArray[np.generic]
_FUNCTION = "within_case_test"
_CHUNK = 2**19  # values permuted at once


@dataclass(frozen=True, eq=False)
class _Case:
    """Values of a case with both labels, those of the first set first."""

    values: FloatArray
    first: int

    @property
    def weights(self) -> FloatArray:
        """Of the difference of the means of both sets."""
        second = len(self.values) - self.first
        return np.r_[np.full(self.first, 1 / self.first), np.full(second, -1 / second)]

    @property
    def divisions(self) -> int:
        return math.comb(len(self.values), self.first)

    def differences(self) -> FloatArray:
        """Of every division of the values into two sets of these sizes, the observed one first."""
        whole = self.values.sum()
        sums = [sum(chosen) for chosen in itertools.combinations(self.values.tolist(), self.first)]
        part = np.asarray(sums)
        return part / self.first - (whole - part) / (len(self.values) - self.first)


def within_case_test(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    first_cases: Cases,
    second_cases: Cases,
    alternative: Alternative = "two-sided",
    resamples: int = 9999,
    seed: int | np.random.Generator = 0,
) -> PermutationResult:
    """Test whether the labels "first" and "second" of values could be exchanged within their case.

    For labels that belong to pairs of raters, such as "same tool" and "different tools". Cases with values of both
    labels are looked at, the others say nothing here. The statistic is the mean over these cases of the difference of
    the means of their two sets, so that it does not matter which cases are hard, nor which label hard cases have more
    often. Under the null hypothesis all divisions of the values of a case into sets of their sizes are equally likely;
    this takes the pairs of a case as exchangeable, although two pairs may share a rater. All divisions are compared if
    there are at most `resamples`, else random ones, and ``p = (1 + extreme) / (1 + resamples)``; two-sided is twice
    the smaller one-sided p, at most 1.

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out and counted.
        first_cases, second_cases: case of each value.
        alternative: ``"two-sided"``, ``"less"`` (first has the smaller values) or ``"greater"``.
        resamples: random permutations, or the most that are enumerated.
        seed: whole number or NumPy generator.

    Returns:
        Result; ``units_first`` and ``units_second`` both count the cases looked at. Statistic and p-value are NaN if
        there is none.

    Raises:
        ValueError: infinite values, cases that do not fit the values, another alternative, or no resample.

    Reference: Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, doi:10.1007/b138696.
    """
    if alternative not in ("two-sided", "less", "greater") or resamples < 1:
        raise ValueError(
            f"{_FUNCTION}: alternative must be 'two-sided', 'less' or 'greater' and resamples at least 1. "
            f"Got {alternative!r} and {resamples} instead."
        )
    here, out_first = _by_case(first, first_cases, "first")
    there, out_second = _by_case(second, second_cases, "second")
    cases = [_Case(np.r_[here[name], there[name]], len(here[name])) for name in here if name in there]
    if not cases:
        return PermutationResult(math.nan, math.nan, 0, False, 0, 0, out_first + out_second)
    observed = float(np.mean([case.weights @ case.values for case in cases]))
    exact = math.prod(case.divisions for case in cases) <= resamples
    found = _all_divisions(cases) if exact else _random_divisions(cases, resamples, np.random.default_rng(seed))
    size = max(float(np.abs(case.values).max()) for case in cases)
    p_value = permutation_p_value(observed, found, alternative, exact, 1e-12 * size)
    return PermutationResult(observed, p_value, found.size, exact, len(cases), len(cases), out_first + out_second)


def _by_case(values: npt.ArrayLike, cases: Cases, argument: str) -> tuple[dict[Hashable, FloatArray], int]:
    """Values of each case without NaN, and how many NaN there were."""
    kept, left_out = as_sample(values, function=_FUNCTION, argument=argument)
    defined = ~np.isnan(np.asarray(values, np.float64))
    if len(cases) != defined.size:
        raise ValueError(
            f"{_FUNCTION}: {argument}_cases must name the case of each value. "
            f"Got {len(cases)} names of {defined.size} values."
        )
    found: dict[Hashable, list[float]] = {}
    for name, value in zip(itertools.compress(cases, defined), kept.tolist(), strict=True):
        found.setdefault(name, []).append(value)
    return {name: np.asarray(part) for name, part in found.items()}, left_out


def _all_divisions(cases: Sequence[_Case]) -> FloatArray:
    total = np.zeros(1)
    for case in cases:
        total = np.add.outer(total, case.differences()).ravel()
    return total / len(cases)


def _random_divisions(cases: Sequence[_Case], resamples: int, generator: np.random.Generator) -> FloatArray:
    """Statistic of random divisions; cases with sets of the same sizes are divided together."""
    groups: dict[tuple[int, int], list[FloatArray]] = {}
    for case in cases:
        groups.setdefault((len(case.values), case.first), []).append(case.values)
    found = np.zeros(resamples)
    for (n, first), group in groups.items():
        values = np.stack(group, axis=1)
        step = max(1, _CHUNK // values.size)
        for start in range(0, resamples, step):
            part = found[start : start + step]
            part += _sum_of_differences(values, first, n, part.size, generator)
    return found / len(cases)


def _sum_of_differences(
    values: FloatArray, first: int, n: int, resamples: int, generator: np.random.Generator
) -> FloatArray:
    """Sum over the cases ``values[n, cases]`` of the difference of means; the smaller set is drawn."""
    drawn, fewer = np.zeros(resamples), min(first, n - first)
    case = np.arange(values.shape[1])[:, None]
    for chosen in random_draws(n, fewer, (values.shape[1], resamples), generator):
        drawn += values[chosen, case].sum(0)
    rest = values.sum() - drawn
    difference = drawn / fewer - rest / (n - fewer)
    return difference if fewer == first else -difference
