# SPDX-License-Identifier: Apache-2.0
"""Permutation test of two sets of values; values of one case move together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from monai_multirater.agreement.effects import Alternative, FloatArray, as_sample

__all__ = ["PermutationResult", "permutation_p_value", "permutation_test", "random_draws"]

Statistic = Literal["mean", "median", "rank"]
Picks = npt.NDArray[np.integer[Any]]
Difference = Callable[[Picks], FloatArray]
_FUNCTION = "permutation_test"
_CHUNK = 2**21  # units drawn from at once


@dataclass(frozen=True)
class PermutationResult:
    """Permutation test of two sets of values.

    Attributes:
        statistic: difference of the means, medians or mean ranks, first minus second.
        p_value: by the chosen alternative.
        permutations: how many were compared.
        exact: whether these are all there are; then the observed one is among them.
        units_first, units_second: what is exchanged: cases where groups are given, else values.
        left_out: NaN values left out, of both sets.
    """

    statistic: float
    p_value: float
    permutations: int
    exact: bool
    units_first: int
    units_second: int
    left_out: int


@dataclass(frozen=True, eq=False)
class _Units:
    """Values of both sets, the unit that each belongs to; the first ``k`` of ``n`` units form the first set."""

    values: FloatArray
    unit: npt.NDArray[np.intp]
    k: int
    n: int


def permutation_test(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    statistic: Statistic = "mean",
    alternative: Alternative = "two-sided",
    resamples: int = 9999,
    seed: int | np.random.Generator = 0,
    first_groups: Sequence[Hashable] | npt.NDArray[np.generic] | None = None,
    second_groups: Sequence[Hashable] | npt.NDArray[np.generic] | None = None,
) -> PermutationResult:
    """Test whether the labels "first" and "second" could be exchanged.

    With groups (names of cases) whole cases exchange their label with all their values, because the values of one
    case, such as its pairs of raters, are not independent. This is valid only for labels that belong to the case, a
    diagnosis for example: a name in both sets is refused. All divisions of the units into sets of the given numbers
    of units are equally likely under the null hypothesis. If there are at most `resamples` of them all are compared;
    else random ones, and ``p = (1 + extreme) / (1 + resamples)``. The two-sided p is twice the smaller one-sided p, at
    most 1, as in SciPy. Memory does not grow with `resamples` beyond one number each.

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out and counted.
        statistic: difference of ``"mean"``, of ``"median"``, or of mean ``"rank"`` (the Mann-Whitney U test).
        alternative: ``"two-sided"``, ``"less"`` (first has the smaller values) or ``"greater"``.
        resamples: random permutations, or the most that are enumerated.
        seed: whole number or NumPy generator.
        first_groups, second_groups: case of each value, both or neither.

    Returns:
        Result; statistic and p-value are NaN where a set has no value left.

    Raises:
        ValueError: an unknown option, no resample, groups for one set only or of another length, or a case that is
            in both sets.

    Reference: Ernst 2004, doi:10.1214/088342304000000396.
    """
    if statistic not in ("mean", "median", "rank") or alternative not in ("two-sided", "less", "greater"):
        raise ValueError(
            f"{_FUNCTION}: statistic must be 'mean', 'median' or 'rank' and alternative 'two-sided', 'less' or "
            f"'greater'. Got {statistic!r} and {alternative!r} instead."
        )
    if resamples < 1:
        raise ValueError(f"{_FUNCTION}: resamples must be at least 1. Got {resamples} instead.")
    units, left_out = _units(first, second, first_groups, second_groups)
    if not 0 < units.k < units.n:
        return PermutationResult(math.nan, math.nan, 0, False, units.k, units.n - units.k, left_out)
    exact = math.comb(units.n, units.k) <= resamples
    turned = 2 * units.k > units.n  # the smaller set is drawn
    drawn = _turned(units) if turned else units
    picks = _all_picks(drawn) if exact else _random_picks(drawn, resamples, np.random.default_rng(seed))
    observed, found = _statistics(drawn, statistic, picks)
    if turned:
        observed, found = -observed, -found
    size = units.values.size if statistic == "rank" else float(np.abs(units.values).max())
    p_value = permutation_p_value(observed, found, alternative, exact, 1e-12 * size)
    return PermutationResult(observed, p_value, found.size, exact, units.k, units.n - units.k, left_out)


def _units(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    first_groups: Sequence[Hashable] | npt.NDArray[np.generic] | None,
    second_groups: Sequence[Hashable] | npt.NDArray[np.generic] | None,
) -> tuple[_Units, int]:
    """Values without NaN, numbered by unit in the order of appearance, and how many were left out."""
    if (first_groups is None) != (second_groups is None):
        raise ValueError(f"{_FUNCTION}: groups must be given for both sets or for neither. Got one.")
    numbers: dict[Hashable, int] = {}
    parts, units, ends = [], [], []
    for argument, values, groups in (("first", first, first_groups), ("second", second, second_groups)):
        kept, _ = as_sample(values, function=_FUNCTION, argument=argument)
        defined = np.flatnonzero(~np.isnan(np.asarray(values, np.float64)))
        names: list[Hashable] = [(argument, i) for i in defined] if groups is None else list(groups)
        if groups is not None:
            if len(names) != np.size(np.asarray(values)):
                raise ValueError(
                    f"{_FUNCTION}: {argument}_groups must name the case of each value. "
                    f"Got {len(names)} names of {np.size(np.asarray(values))} values."
                )
            names = [names[i] for i in defined]
        before = len(numbers)
        unit = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.intp)
        if argument == "second" and unit.size and unit.min() < before:
            shared = names[int(unit.argmin())]
            raise ValueError(
                f"{_FUNCTION}: a case must be in one set only, so that its label can move with all its values. "
                f"Got case {shared!r} in both."
            )
        parts.append(kept)
        units.append(unit)
        ends.append(len(numbers))
    left_out = np.size(np.asarray(first)) + np.size(np.asarray(second)) - sum(part.size for part in parts)
    return _Units(np.concatenate(parts), np.concatenate(units), ends[0], ends[1]), left_out


def _turned(units: _Units) -> _Units:
    """Return the same with the sets exchanged."""
    return _Units(units.values, units.n - 1 - units.unit, units.n - units.k, units.n)


def _all_picks(units: _Units) -> Iterator[Picks]:
    yield np.array(list(itertools.combinations(range(units.n), units.k)), np.intp).T


def _random_picks(units: _Units, resamples: int, generator: np.random.Generator) -> Iterator[Picks]:
    """Units of the first set of each permutation, many permutations at once."""
    step = max(1, _CHUNK // units.n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield np.stack(list(random_draws(units.n, units.k, (size,), generator)))


def random_draws(n: int, k: int, shape: tuple[int, ...], generator: np.random.Generator) -> Iterator[Picks]:
    """Draw k of n without replacement, once for each entry of `shape` (Fisher and Yates, side by side).

    Yields:
        `k` times an array of `shape`: what every entry draws next, a number below n.
    """
    entries = math.prod(shape)
    order = np.repeat(np.arange(n, dtype=np.int32), entries)
    place = np.arange(entries)
    for start in range(k):
        chosen = generator.integers(start, n, entries)
        chosen *= entries
        chosen += place
        picked = order[chosen]
        order[chosen] = order[start * entries : (start + 1) * entries]
        yield picked.reshape(shape)


def _statistics(units: _Units, statistic: Statistic, picks: Iterator[Picks]) -> tuple[float, FloatArray]:
    """Observed statistic and that of each permutation."""
    if statistic == "median":
        compute = _median_difference(units)
    else:
        values = units.values if statistic == "mean" else np.asarray(stats.rankdata(units.values), np.float64)
        compute = _mean_difference(values, units)
    observed = compute(np.arange(units.k)[:, None])
    return float(observed[0]), np.concatenate([compute(chosen) for chosen in picks])


def _mean_difference(values: FloatArray, units: _Units) -> Difference:
    sums, counts = np.bincount(units.unit, values, units.n), np.bincount(units.unit, minlength=units.n)
    total, size = float(sums.sum()), int(counts.sum())

    def compute(chosen: Picks) -> FloatArray:
        part, n = sums[chosen].sum(0), counts[chosen].sum(0)
        return np.asarray(part / n - (total - part) / (size - n))

    return compute


def _median_difference(units: _Units) -> Difference:
    def compute(chosen: Picks) -> FloatArray:
        found = np.empty(chosen.shape[1])
        for column in range(len(found)):
            inside = np.zeros(units.n, np.bool_)
            inside[chosen[:, column]] = True
            mask = inside[units.unit]
            found[column] = np.median(units.values[mask]) - np.median(units.values[~mask])
        return found

    return compute


def permutation_p_value(
    observed: float, found: FloatArray, alternative: Alternative, exact: bool, tolerance: float
) -> float:
    """Share of permutations at least as extreme; differences within the rounding of sums count as equal."""
    extra = 0 if exact else 1
    less = (int((found <= observed + tolerance).sum()) + extra) / (found.size + extra)
    greater = (int((found >= observed - tolerance).sum()) + extra) / (found.size + extra)
    if alternative == "two-sided":
        return min(1.0, 2 * min(less, greater))
    return less if alternative == "less" else greater
