# SPDX-License-Identifier: Apache-2.0
"""First-order stochastic dominance: does one set of values tend to larger values over its whole range?

The bootstrap of Barrett and Donald needs of every resample only how many values fall between each two neighbors of
the grid. These counts of a resample of n values are multinomial, so that they are drawn directly; cumulative sums
make them distribution functions. Memory does not depend on the number of values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from monai_multirater.agreement.effects import FloatArray, as_sample

__all__ = ["DominanceResult", "dominance_both_ways", "stochastic_dominance"]

Seed = int | np.random.Generator
_CHUNK = 2**17  # counts held at once
_FUNCTION = "stochastic_dominance"


@dataclass(frozen=True, eq=False)
class DominanceResult:
    """Test of the null hypothesis that the *first* set dominates the second.

    A small p-value rejects "the first set dominates the second". A large one does not prove it: data and hypothesis
    agree, no more.

    Attributes:
        statistic: ``sqrt(n m / (n + m)) max over g of (F_first(g) - F_second(g))``; large where the first set has
            more small values than dominance allows.
        p_value: share of resamples whose statistic is at least that large; 0 means none of them.
        grid: float64 ``[grid]``, evenly spaced from the smallest to the largest value of both sets.
        first_cdf, second_cdf: float64 ``[grid]``, share of values strictly below each grid point.
        distribution: float64 ``[resamples]``, the recentered statistic of each resample.
        n_first, n_second: values used.
        left_out_first, left_out_second: NaN values left out.
    """

    statistic: float
    p_value: float
    grid: FloatArray
    first_cdf: FloatArray
    second_cdf: FloatArray
    distribution: FloatArray
    n_first: int
    n_second: int
    left_out_first: int
    left_out_second: int


@dataclass(frozen=True, eq=False)
class _Cells:
    """A set of values as counts between the points of a grid: ``counts[k]`` values lie at or above k points."""

    counts: npt.NDArray[np.int64]
    cdf: FloatArray
    n: int

    @classmethod
    def of(cls, values: FloatArray, grid: FloatArray) -> _Cells:
        counts = np.bincount(np.searchsorted(grid, values, side="right"), minlength=grid.size + 1)
        return cls(counts, _distribution(counts[None], values.size)[0], values.size)

    def resample(self, generator: np.random.Generator, resamples: int) -> npt.NDArray[np.int64]:
        """Counts ``[resamples, grid + 1]`` of samples of the same size with replacement."""
        found = np.zeros((resamples, self.counts.size), np.int64)
        used = np.flatnonzero(self.counts)
        found[:, used] = generator.multinomial(self.n, self.counts[used] / self.n, size=resamples)
        return found


def stochastic_dominance(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    resamples: int = 1000,
    grid: int = 100,
    seed: Seed = 0,
    method: Literal["fast", "pysdtest"] = "fast",
) -> DominanceResult:
    """Test whether the first set of values dominates the second stochastically, in first order.

    The first set dominates where ``F_first(g) <= F_second(g)`` for every g, that is where it tends to *larger*
    values throughout. This is the null hypothesis; the alternative is that it does not hold somewhere. So for Dice,
    ``stochastic_dominance(malignant, benign)`` with p near 0 rejects that malignant lesions have the higher
    agreement, and ``stochastic_dominance(benign, malignant)`` with a large p keeps that benign ones have: together
    they say that benign dominates malignant. If both are rejected the distribution functions cross. For a distance,
    larger values mean less agreement.

    Under the null hypothesis the statistic is distributed at most as that of recentered resamples, in which
    ``(F*_first - F_first) - (F*_second - F_second)`` stands in for ``F_first - F_second`` (Barrett and Donald 2003,
    doi:10.1111/1468-0262.00390). ``F(g)`` is the share of values strictly below g, as in the package PySDTest.
    The values count as independent; for pairs of raters of the same case this is not so, use the means of cases.

    Args:
        first, second: values ``[n]`` and ``[m]``; NaN is left out and counted.
        resamples: bootstrap samples of both sets.
        grid: points at which the distribution functions are compared.
        seed: whole number or NumPy generator.
        method: ``"fast"`` draws counts of the cells of the grid; ``"pysdtest"`` calls that package, which gives the
            same statistic, needs memory for n x grid x resamples numbers, and is seeded through NumPy's global
            generator, whose state is put back.

    Returns:
        Result; statistic and p-value are NaN where a set has no value left.

    Raises:
        ValueError: infinite values, fewer than two grid points, no resample, or another method.
    """
    if method not in ("fast", "pysdtest"):
        raise ValueError(f"{_FUNCTION}: method must be 'fast' or 'pysdtest'. Got {method!r} instead.")
    x, y, empty = _prepare(first, second, grid, resamples)
    if not (x.size and y.size):
        return empty
    if method == "pysdtest":
        return _by_pysdtest(x, y, empty, resamples, seed)
    return _both_ways(x, y, empty, resamples, seed)[0]


def dominance_both_ways(
    first: npt.ArrayLike, second: npt.ArrayLike, *, resamples: int = 1000, grid: int = 100, seed: Seed = 0
) -> tuple[DominanceResult, DominanceResult]:
    """Test both hypotheses on the same resamples: the first set dominates, and the second does.

    Returns:
        Result with the null hypothesis "first dominates second", equal to that of :func:`stochastic_dominance`, and
        result with "second dominates first", in which the sets have changed places.

    Arguments and errors: see :func:`stochastic_dominance`.
    """
    x, y, empty = _prepare(first, second, grid, resamples)
    if not (x.size and y.size):
        return empty, _exchanged(empty)
    return _both_ways(x, y, empty, resamples, seed)


def _prepare(
    first: npt.ArrayLike, second: npt.ArrayLike, points: int, resamples: int
) -> tuple[FloatArray, FloatArray, DominanceResult]:
    """Both sets checked, and the result to fill."""
    if points < 2 or resamples < 1:
        raise ValueError(
            f"{_FUNCTION}: grid must be at least 2 points and resamples at least 1. Got {points} and {resamples}."
        )
    x, out_x = as_sample(first, function=_FUNCTION, argument="first")
    y, out_y = as_sample(second, function=_FUNCTION, argument="second")
    everything = np.concatenate([x, y])
    grid = np.linspace(everything.min(), everything.max(), points) if everything.size else np.full(points, math.nan)
    nan, none = math.nan, np.full(points, math.nan)
    lost = np.full(resamples, math.nan)
    return x, y, DominanceResult(nan, nan, grid, none, none, lost, x.size, y.size, out_x, out_y)


def _both_ways(
    x: FloatArray, y: FloatArray, empty: DominanceResult, resamples: int, seed: Seed
) -> tuple[DominanceResult, DominanceResult]:
    generator = np.random.default_rng(seed)
    cells, others = _Cells.of(x, empty.grid), _Cells.of(y, empty.grid)
    forward, backward = np.empty(resamples), np.empty(resamples)
    step = max(1, _CHUNK // cells.counts.size)
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        size = part.stop - start
        found = recentered(cells, others, cells.resample(generator, size), others.resample(generator, size))
        forward[part], backward[part] = found
    observed, reverse = _extremes(cells.cdf - others.cdf, cells.n, others.n)
    result = replace(
        empty,
        statistic=float(observed),
        p_value=float((forward >= observed).mean()),
        first_cdf=cells.cdf,
        second_cdf=others.cdf,
        distribution=forward,
    )
    exchanged = replace(
        _exchanged(result),
        statistic=float(reverse),
        p_value=float((backward >= reverse).mean()),
        distribution=backward,
    )
    return result, exchanged


def recentered(
    first: _Cells, second: _Cells, first_counts: npt.NDArray[np.int64], second_counts: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Recentered statistic of resamples given by their cell counts ``[resamples, grid + 1]``, both ways."""
    moved = _distribution(first_counts, first.n) - first.cdf
    moved -= _distribution(second_counts, second.n) - second.cdf
    return _extremes(moved, first.n, second.n)


def _extremes(difference: FloatArray, n: int, m: int) -> tuple[FloatArray, FloatArray]:
    scale = (n * m / (n + m)) ** 0.5
    return scale * difference.max(-1), 0.0 - scale * difference.min(-1)  # 0.0 - keeps zero positive


def _distribution(counts: npt.NDArray[np.int64], n: int) -> FloatArray:
    """Share of values strictly below each grid point, from cell counts ``[..., grid + 1]``."""
    return counts[..., :-1].cumsum(-1) / n


def _exchanged(result: DominanceResult) -> DominanceResult:
    return replace(
        result,
        first_cdf=result.second_cdf,
        second_cdf=result.first_cdf,
        n_first=result.n_second,
        n_second=result.n_first,
        left_out_first=result.left_out_second,
        left_out_second=result.left_out_first,
    )


def _by_pysdtest(x: FloatArray, y: FloatArray, empty: DominanceResult, resamples: int, seed: Seed) -> DominanceResult:
    from pysdtest import CDF, test_sd

    number = int(seed.integers(2**32)) if isinstance(seed, np.random.Generator) else seed
    state = np.random.get_state()  # noqa: NPY002  the package draws from the global generator
    try:
        np.random.seed(number)  # noqa: NPY002
        test = test_sd(x, y, empty.grid.size, 1, "bootstrap", nboot=resamples, quiet=True)
        test.testing()
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return replace(
        empty,
        statistic=float(test.result["test_stat"]),
        p_value=float(test.result["p_val"]),
        first_cdf=np.ravel(CDF(x, test.grid, 1)),
        second_cdf=np.ravel(CDF(y, test.grid, 1)),
        distribution=np.atleast_1d(test.result["test_stat_b"]),
    )
