# SPDX-License-Identifier: Apache-2.0
"""Bootstrap over cases: one matrix product over per-case sums, without touching a voxel again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
Seed = int | np.random.Generator


@dataclass(frozen=True, eq=False)
class BootstrapResult:
    """A statistic on all cases and its distribution over resamples of the cases.

    Attributes:
        estimate: the statistic of all cases.
        mean, standard_error: mean and standard deviation over the resamples in which it is defined.
        interval: percentile interval (lower, upper).
        confidence: coverage of the interval, for instance 0.95.
        distribution: float64 `[resamples]`; NaN where a resample leaves the statistic undefined.

    With `fraction < 1` fewer cases are drawn than there are, so that the spread is that of a smaller study:
    wider than the classical bootstrap by about `fraction ** -0.5`.
    """

    estimate: float
    mean: float
    standard_error: float
    interval: tuple[float, float]
    confidence: float
    distribution: npt.NDArray[np.float64]

    @classmethod
    def from_distribution(
        cls, estimate: float, distribution: npt.NDArray[np.float64], *, confidence: float = 0.95
    ) -> BootstrapResult:
        """Summarize a distribution; everything is NaN when no resample is defined."""
        defined = distribution[~np.isnan(distribution)]
        if not defined.size:
            nan = float("nan")
            return cls(estimate, nan, nan, (nan, nan), confidence, distribution)
        low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
        error = float(defined.std(ddof=1)) if defined.size > 1 else float("nan")
        return cls(estimate, float(defined.mean()), error, (float(low), float(high)), confidence, distribution)


@dataclass(frozen=True, eq=False)
class PairedResult:
    """Two methods on the same cases: their results, and the result of the difference first minus second.

    `p_value` is two-sided: twice the smaller share of resamples in which the difference is `<= 0` or `>= 0`,
    counting the sample itself once, so that it is never zero.
    """

    first: BootstrapResult
    second: BootstrapResult
    difference: BootstrapResult
    p_value: float


def case_weights(
    cases: int, *, resamples: int = 1000, fraction: float = 0.6, seed: Seed = 0
) -> npt.NDArray[np.float64]:
    """How often each case occurs in each resample.

    Draws `max(1, round(fraction * cases))` cases with replacement, `resamples` times.

    Args:
        cases: number of cases, at least one.
        resamples: number of resamples, at least one.
        fraction: cases drawn per resample, relative to all; positive, may exceed one.
        seed: whole number or NumPy generator; equal seeds give equal weights.

    Returns:
        float64 `[resamples, cases]`, whole numbers.
    """
    if cases < 1 or resamples < 1:
        raise ValueError(f"case_weights: 'cases' and 'resamples' must be at least 1, got {cases} and {resamples}.")
    if not fraction > 0 or not np.isfinite(fraction):
        raise ValueError(f"case_weights: 'fraction' must be positive and finite, got {fraction}.")
    drawn = max(1, round(fraction * cases))
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, cases, size=(resamples, drawn))
    picks += np.arange(resamples)[:, None] * cases
    return np.bincount(picks.ravel(), minlength=resamples * cases).reshape(resamples, cases).astype(np.float64)


def bootstrap_cases(
    statistics: npt.ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = 1000,
    fraction: float = 0.6,
    seed: Seed = 0,
    confidence: float = 0.95,
    weights: npt.NDArray[np.float64] | None = None,
) -> BootstrapResult:
    """Bootstrap of a statistic of summed per-case tables.

    Args:
        statistics: `[cases, columns]`, additive sums of each case (a flattened mergeable table).
        statistic: maps sums over cases `[n, columns]` to values `[n]`, row by row, NaN where undefined.
        resamples, fraction, seed: see `case_weights`.
        confidence: coverage of the percentile interval.
        weights: `[resamples, cases]` from `case_weights`, to share the resamples among several statistics.

    Example:
        >>> sums = np.array([[3.0, 10.0], [8.0, 10.0], [5.0, 10.0]])
        >>> bootstrap_cases(sums, lambda s: s[:, 0] / s[:, 1], resamples=100, seed=1).estimate
        0.5333333333333333
    """
    matrix = np.asarray(statistics, np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"bootstrap_cases: 'statistics' must be [cases, columns], got shape {matrix.shape}.")
    weights = _weights(weights, len(matrix), resamples, fraction, seed, "bootstrap_cases")
    estimate = float(statistic(matrix.sum(axis=0, keepdims=True))[0])
    return BootstrapResult.from_distribution(estimate, statistic(weights @ matrix), confidence=confidence)


def bootstrap_auc(
    concordance: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    *,
    resamples: int = 1000,
    fraction: float = 0.6,
    seed: Seed = 0,
    confidence: float = 0.95,
    weights: npt.NDArray[np.float64] | None = None,
) -> BootstrapResult:
    r"""Bootstrap of the AUC over all pairs: \( w^T U w / ((w \cdot P)(w \cdot N)) \).

    Args:
        concordance: `U [cases, cases]`, concordant pairs between the positives of one case and the negatives
            of another (`monai_multirater.calibration.HistogramStack.concordance`).
        positives, negatives: `[cases]`, pairs of either class per case.
        resamples, fraction, seed, confidence, weights: see `bootstrap_cases`.
    """
    matrix = np.asarray(concordance, np.float64)
    plus, minus = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    if matrix.shape != (len(plus), len(minus)) or len(plus) != len(minus):
        raise ValueError(
            "bootstrap_auc: 'concordance' must be [cases, cases] with 'positives' and 'negatives' [cases], "
            f"got {matrix.shape}, {plus.shape} and {minus.shape}."
        )
    weights = _weights(weights, len(plus), resamples, fraction, seed, "bootstrap_auc")
    everything = np.ones((1, len(plus)))
    estimate = float(_weighted_auc(everything, matrix, plus, minus)[0])
    distribution = _weighted_auc(weights, matrix, plus, minus)
    return BootstrapResult.from_distribution(estimate, distribution, confidence=confidence)


def _weighted_auc(
    weights: npt.NDArray[np.float64],
    matrix: npt.NDArray[np.float64],
    plus: npt.NDArray[np.float64],
    minus: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    concordant = np.einsum("bc,bc->b", weights @ matrix, weights)
    total = (weights @ plus) * (weights @ minus)
    return np.divide(concordant, total, out=np.full(len(weights), np.nan), where=total > 0)


def paired_difference(first: BootstrapResult, second: BootstrapResult) -> PairedResult:
    """Compare two results that come from the same resamples (the same `weights`) of the same cases."""
    if len(first.distribution) != len(second.distribution):
        raise ValueError(
            "paired_difference: both results must come from the same resamples, "
            f"got {len(first.distribution)} and {len(second.distribution)}."
        )
    distribution = first.distribution - second.distribution
    difference = BootstrapResult.from_distribution(
        first.estimate - second.estimate, distribution, confidence=first.confidence
    )
    defined = distribution[~np.isnan(distribution)]
    if not defined.size:
        return PairedResult(first, second, difference, float("nan"))
    tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return PairedResult(first, second, difference, min(1.0, 2 * (tail + 1) / (defined.size + 1)))


def _weights(
    weights: npt.NDArray[np.float64] | None,
    cases: int,
    resamples: int,
    fraction: float,
    seed: Seed,
    name: str,
) -> npt.NDArray[np.float64]:
    if weights is None:
        return case_weights(cases, resamples=resamples, fraction=fraction, seed=seed)
    if weights.ndim != 2 or weights.shape[1] != cases:
        raise ValueError(f"{name}: 'weights' must be [resamples, {cases}], got shape {weights.shape}.")
    return weights
