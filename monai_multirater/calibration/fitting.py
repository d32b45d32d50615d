# SPDX-License-Identifier: Apache-2.0
"""Fits of post-hoc calibrators to rater votes, from fine histograms of the probability; no voxel is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq, minimize
from scipy.special import expit
from sklearn.isotonic import isotonic_regression

from monai_multirater.calibration.histogram import CaseHistogram, fine_bin_ranges
from monai_multirater.calibration.inputs import dot
from monai_multirater.calibration.posthoc import (
    Calibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    bounded_logit,
)
from monai_multirater.calibration.reliability import bin_index, block_log_loss, check_bins, exact_edges
from monai_multirater.calibration.stack import HistogramStack

__all__ = ["TEMPERATURES", "CalibrationScores", "calibration_scores", "fit_calibrator"]

Array = npt.NDArray[np.float64]
Evidence = CaseHistogram | HistogramStack

TEMPERATURES = (0.01, 100.0)
"""Range in which a temperature is looked for."""


@dataclass(frozen=True)
class CalibrationScores:
    """MR-ECE, Brier score and negative log likelihood (nats) over (voxel, rater) pairs."""

    mr_ece: float
    brier: float
    nll: float


@dataclass(frozen=True, eq=False)
class _Bins:
    """Fine bins that hold a pair, in increasing probability: their range, their middle, their pairs."""

    low: Array
    high: Array
    positives: Array
    pairs: Array

    @property
    def probability(self) -> Array:
        return 0.5 * (self.low + self.high)

    @property
    def logit(self) -> Array:
        logits: Array = bounded_logit(torch.from_numpy(self.probability)).numpy()
        return logits


def fit_calibrator(method: str, evidence: Evidence) -> Calibrator:
    r"""Fit a calibrator to all (voxel, rater) pairs of the evidence.

    - `temperature`: the \( T \) with the lowest mean \( -y \log q - (1 - y) \log(1 - q) \), where
      \( q = \sigma(\mathrm{logit}(p) / T) \) and y is a rater's vote. The loss is convex in \( 1 / T \); its derivative
      is brought to zero by Brent's method.
    - `platt`: slope and intercept with the lowest mean loss, maximum likelihood without a prior (a convex problem,
      Newton steps in a trust region). With as many pairs as images have, Platt's smoothed targets change nothing.
    - `isotonic`: the nondecreasing function with the lowest Brier score (and lowest mean loss: it is the same one),
      pool-adjacent-violators with the pairs as weights. Its values keep `1 / (N + 2)` away from 0 and 1, N being the
      number of all pairs, so that one unforeseen vote does not cost an infinite loss.

    Every pair counts the same, as in MR-ECE: a rater who is missing in a case adds no pair, and a case with more raters
    or voxels weighs more. Empty masks are evidence like any other.

    **Resolution.** The 2^18 bins of `CaseHistogram` are so narrow that taking every pair at the middle of its bin
    changes a probability calibrated by temperature or Platt by less than 1e-5 (times the slope, where that is above 1),
    and by less than 1e-6 as a rule, against a fit on all pairs one by one. Isotonic regression treats the numbers
    within a bin as tied: it is exact where no bin holds two different probabilities, and elsewhere the ends of its
    steps move by a bin. Its calibration error on the evidence itself is at most `1 / (N + 2)`.

    Args:
        method: `temperature`, `platt` or `isotonic`.
        evidence: histogram of the cases together, or a stack of several cases.

    Raises:
        ValueError: unknown method; no pair; no pair, or every pair, says foreground; for temperature and Platt, when no
            finite increasing map is the best: the probability separates the votes without error, is the same
            everywhere, or falls where votes rise. The message says which.
    """
    fits: dict[str, Callable[[_Bins], Calibrator]] = {
        "temperature": _fit_temperature,
        "platt": _fit_platt,
        "isotonic": _fit_isotonic,
    }
    if method not in fits:
        raise ValueError(f"fit_calibrator: 'method' must be one of {', '.join(fits)}, got {method!r}.")
    bins = _occupied(evidence)
    positives, pairs = float(bins.positives.sum()), float(bins.pairs.sum())
    if not 0 < positives < pairs:
        reason = "has no pair" if not pairs else f"says {'foreground' if positives else 'background'} in every pair"
        raise ValueError(f"fit_calibrator: 'evidence' {reason} of a voxel and a rater; there is nothing to fit.")
    return fits[method](bins)


def calibration_scores(
    evidence: Evidence, calibrator: Calibrator | None = None, *, bins: int = 15
) -> CalibrationScores:
    """Scores of the evidence under a calibrator (None: as it is), every pair at the middle of its fine bin.

    Brier score and loss agree with what `brier_score` and `negative_log_likelihood` say about the calibrated maps, to
    6e-6 times the slope of the calibrator (half a bin) at the worst and 1e-7 as a rule; so does the calibration error,
    but for pairs so close to an edge of its bins that they change sides. NaN without a pair.

    Args:
        evidence: as in `fit_calibrator`.
        calibrator: applied to the probability first.
        bins: bins of equal width of the calibration error.
    """
    check_bins(bins, function="calibration_scores")
    found = _occupied(evidence)
    p = found.probability
    if calibrator is not None:
        p = calibrator(torch.from_numpy(p)).numpy()
    total = float(found.pairs.sum())
    if not total:
        return CalibrationScores(float("nan"), float("nan"), float("nan"))
    index = bin_index(p, exact_edges(p.dtype, bins))
    gaps = np.bincount(index, weights=found.positives - found.pairs * p)
    squares = dot(found.positives, (1 - p) ** 2) + dot(found.pairs - found.positives, p**2)
    logs = block_log_loss(p, found.positives, found.pairs)
    return CalibrationScores(float(np.abs(gaps).sum()) / total, squares / total, logs / total)


def _occupied(evidence: Evidence) -> _Bins:
    plus, minus = evidence.pooled()
    used = np.flatnonzero(plus + minus)
    low, high = (edge[used] for edge in fine_bin_ranges())
    return _Bins(low, high, plus[used].astype(np.float64), (plus + minus)[used].astype(np.float64))


def _fit_temperature(bins: _Bins) -> TemperatureCalibrator:
    z, share = bins.logit, bins.pairs / bins.pairs.sum()
    observed = dot(bins.positives / bins.pairs.sum(), z)

    def slope(inverse: float) -> float:
        """Derivative of the mean loss with respect to 1 / T; it increases."""
        return dot(share * expit(inverse * z), z) - observed

    lowest, highest = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    outside = "fit_calibrator: no temperature between {} and {} is the best: ".format(*TEMPERATURES)
    if slope(lowest) >= 0:
        raise ValueError(outside + "the probability tells nothing about the votes, or the opposite.")
    if slope(highest) <= 0:
        raise ValueError(outside + "the probability separates the votes (nearly) without error.")
    return TemperatureCalibrator(1 / float(brentq(slope, lowest, highest, xtol=1e-13, rtol=1e-13)))


def _fit_platt(bins: _Bins) -> PlattCalibrator:
    z, total = bins.logit, float(bins.pairs.sum())
    _check_overlap(z, bins)
    center = dot(bins.pairs, z) / total
    scale = float(np.sqrt(dot(bins.pairs, (z - center) ** 2) / total))
    x, plus, weight = (z - center) / scale, bins.positives / total, bins.pairs / total

    def loss(at: Array) -> float:
        t = at[0] * x + at[1]
        return dot(weight, np.logaddexp(0, t)) - dot(plus, t)

    def gradient(at: Array) -> Array:
        residual = weight * expit(at[0] * x + at[1]) - plus
        return np.array([dot(residual, x), float(residual.sum())])

    def hessian(at: Array) -> Array:
        q = expit(at[0] * x + at[1])
        curvature = weight * q * (1 - q)
        mixed = dot(curvature, x)
        return np.array([[dot(curvature, x * x), mixed], [mixed, float(curvature.sum())]])

    start = np.array([scale, center])  # the probability as it is
    found = minimize(loss, start, method="trust-exact", jac=gradient, hess=hessian, options={"gtol": 1e-7})
    best: Array = found.x
    while True:  # the last digits, where differences of the loss are below its rounding
        better = best - np.linalg.solve(hessian(best), gradient(best))
        if not np.abs(gradient(better)).max() < 0.5 * np.abs(gradient(best)).max():
            break
        best = better
    slope = float(best[0]) / scale
    if not slope > 0:
        raise ValueError("fit_calibrator: no increasing Platt map is the best: the probability falls where votes rise.")
    return PlattCalibrator(slope, float(best[1]) - slope * center)


def _check_overlap(z: Array, bins: _Bins) -> None:
    """Refuse evidence for which no finite slope and intercept are the best."""
    plus, minus = z[bins.positives > 0], z[bins.positives < bins.pairs]
    problem = "fit_calibrator: no finite Platt map is the best: "
    if z.min() == z.max():
        raise ValueError(problem + "the probability is the same everywhere.")
    if plus.min() >= minus.max():
        raise ValueError(problem + "no background vote has a higher probability than any foreground vote.")
    if plus.max() <= minus.min():
        raise ValueError(problem + "no foreground vote has a higher probability than any background vote.")


def _fit_isotonic(bins: _Bins) -> IsotonicCalibrator:
    least = 1 / (float(bins.pairs.sum()) + 2)
    rate = bins.positives / bins.pairs
    values = isotonic_regression(rate, sample_weight=bins.pairs, y_min=least, y_max=1 - least)
    change = np.flatnonzero(np.diff(values))
    first, last = np.append(0, change + 1), np.append(change, len(values) - 1)
    # a block is flat from its lowest to its highest number; between blocks, where no evidence is, lines
    nodes = [(bins.low[a], values[a]) for a in first] + [(bins.high[b], values[b]) for b in last]
    thresholds, heights = zip(*sorted({(float(x), float(y)) for x, y in nodes}), strict=True)
    return IsotonicCalibrator(thresholds, heights)
