# SPDX-License-Identifier: Apache-2.0
"""Fine histograms of the probability: mergeable AUC with an error bound, equal-mass calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.equal_mass import quantile_error
from monai_multirater.calibration.inputs import ArrayLike, FloatArray, IntArray, VoteCase, as_case, as_cases, dot
from monai_multirater.calibration.reliability import check_bins

HISTOGRAM_BINS = 1 << 18
_HALF = HISTOGRAM_BINS // 2
_OCTAVES = 126  # binary exponents of float32 below 1/2, subnormal numbers included
_LEAST = 16  # bins per octave, at least


@dataclass(frozen=True, eq=False)
class CaseHistogram:
    """Numbers of positive and negative (voxel, rater) pairs in 2^18 fine bins over the foreground
    probability.

    The bins are equal, to a good approximation, in `arcsin(sqrt(p))`, which suits calibrated predictions
    best, and every factor of two towards 0 (down to the smallest float32) and towards 1 has at least 16 bins.
    0 and 1 have bins of their own. The bin is computed from the bits of the float32 number by whole-number
    arithmetic alone, so it is monotone in `p`, equal on every machine, and mirrored under `p -> 1 - p`.
    float64 is rounded to float32 first, and the error bound holds for the rounded numbers.

    Attributes:
        positives, negatives: int64 `[262144]`.
        sum_confidence: float64 `[262144]`, sum of `p` over the pairs of a bin.
        ties: comparisons of two raters who disagree on one voxel; they are exact ties, not loss of
            resolution.
    """

    positives: IntArray
    negatives: IntArray
    sum_confidence: npt.NDArray[np.float64]
    ties: int = 0

    @classmethod
    def empty(cls) -> CaseHistogram:
        """Return a histogram without a pair."""
        zeros = np.zeros(HISTOGRAM_BINS, np.int64)
        return cls(zeros, zeros.copy(), np.zeros(HISTOGRAM_BINS))

    @classmethod
    def from_case(cls, probability: ArrayLike, votes: ArrayLike, n_raters: int) -> CaseHistogram:
        """Histogram of one case; arguments and errors as in `ReliabilityTable.from_case`."""
        return histogram(as_case(probability, votes, n_raters, function="CaseHistogram.from_case"))

    def update(self, probability: ArrayLike, votes: ArrayLike, n_raters: int | ArrayLike) -> CaseHistogram:
        """Return this histogram plus one case, or plus a batch `[B, 1, *spatial]` when `n_raters` is `[B]`."""
        table = self
        for case in as_cases(probability, votes, n_raters, function="CaseHistogram.update"):
            table = table.merge(histogram(case))
        return table

    def merge(self, other: CaseHistogram) -> CaseHistogram:
        """Return the histogram of both sets of cases."""
        return CaseHistogram(
            self.positives + other.positives,
            self.negatives + other.negatives,
            self.sum_confidence + other.sum_confidence,
            self.ties + other.ties,
        )

    __add__ = merge

    def pooled(self) -> tuple[IntArray, IntArray]:
        """Positives and negatives, int64 `[262144]` each."""
        return self.positives, self.negatives

    def auc(self) -> float:
        """AUC over all pairs; two pairs within one bin count one half; NaN without both classes."""
        return auc_from_counts(self.positives, self.negatives)

    def auc_error_bound(self) -> float:
        """Largest possible distance between `auc()` and the exact value: half of the share of unresolved
        pairs.

        Bins that hold a single float32 number (0, and the numbers next to 1) are exact ties and add nothing.
        No choice of M bins can promise less than `BC^2 / (2 M)`, with BC the sum over bins of the square root of the
        shares of both classes (Cauchy-Schwarz). With M = 2^18 that is 1e-6 at BC = 0.72, two normal distributions with
        an AUC of 0.87. These bins stay below twice the limit where predictions are calibrated: below 1e-6 for lesions
        with an AUC of 0.93 and more. Predictions that crowd into few bins have a larger bound. The actual error is far
        smaller.
        """
        return auc_error_bound(self.positives, self.negatives, self.ties)

    def multirater_ece(self, bins: int = 15) -> float:
        """MR-ECE with `bins` bins of equal numbers of pairs, cut at edges of the fine bins; NaN if empty."""
        check_bins(bins, function="CaseHistogram.multirater_ece")
        pairs = np.cumsum(self.positives + self.negatives)
        if not pairs[-1]:
            return float("nan")
        return quantile_error(pairs, np.cumsum(self.positives - self.sum_confidence), bins)


def histogram(case: VoteCase) -> CaseHistogram:
    """Histogram of a checked case."""
    voxels = np.zeros(HISTOGRAM_BINS, np.int64)
    positives, confidence = np.zeros(HISTOGRAM_BINS), np.zeros(HISTOGRAM_BINS)
    p, votes, ties = case.probability, case.votes, 0
    for start in range(0, p.size, HISTOGRAM_BINS):
        where = slice(start, start + HISTOGRAM_BINS)
        block, block_votes = p[where], votes[where]
        index = fine_bin(block)
        voxels += np.bincount(index, minlength=HISTOGRAM_BINS)
        confidence += np.bincount(index, weights=block, minlength=HISTOGRAM_BINS)
        marked = np.flatnonzero(block_votes)
        if marked.size:
            weights, bins = block_votes[marked].astype(np.int64), index[marked]
            positives += np.bincount(bins, weights=weights, minlength=HISTOGRAM_BINS)
            ties += int((weights * (case.raters - weights))[~single_valued()[bins]].sum())
    plus = positives.astype(np.int64)
    return CaseHistogram(plus, voxels * case.raters - plus, confidence * case.raters, ties)


def fine_bin(p: FloatArray) -> npt.NDArray[np.intp]:
    """Bin 0..262143 of each probability."""
    single = p.astype(np.float32, copy=False)
    upper = single >= np.float32(0.5)
    tail = np.where(upper, np.float32(1) - single, single) + np.float32(0)  # exact; turns -0.0 into 0.0
    bits = tail.view(np.uint32)
    first, width = _octave_tables()
    octave = (bits >> np.uint32(23)).astype(np.intp)
    offset = ((bits & np.uint32(0x7FFFFF)).astype(np.intp) * width[octave]) >> 23
    index = first[octave] + offset
    index[bits == 0] = 0
    return np.where(upper, HISTOGRAM_BINS - 1 - index, index)


@lru_cache(maxsize=1)
def fine_bin_ranges() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lowest and highest float32 number of each fine bin, `[262144]` each; NaN where a bin holds none."""
    first, width = _octave_tables()
    octave = np.repeat(np.arange(len(width)), width)
    offset = np.arange(1, _HALF) - first[octave]
    # the bin of mantissa m is floor(m * width / 2^23)
    start, end = (-((-(offset + more) << 23) // width[octave]) for more in (0, 1))
    start[0] = max(start[0], 1)  # zero has a bin of its own
    low, high = ((1.0 + m * 2.0**-23) * 2.0 ** (octave - 127.0) for m in (start, end - 1))
    small = octave == 0  # subnormal numbers
    low[small], high[small] = start[small] * 2.0**-149, (end[small] - 1) * 2.0**-149
    low, high = np.append(0.0, low), np.append(0.0, high)
    # towards 1 the numbers are 1 - k 2^-24, and 1/2 belongs to the bin that ends there
    least, most = np.ceil(low * 2.0**24), np.floor(high * 2.0**24)
    most[-1] = 2.0**23
    least[least > most] = np.nan
    most[np.isnan(least)] = np.nan
    upper_low, upper_high = 1.0 - most[::-1] * 2.0**-24, 1.0 - least[::-1] * 2.0**-24
    return np.concatenate([low, upper_low]), np.concatenate([high, upper_high])


def auc_from_counts(positives: npt.NDArray[np.generic], negatives: npt.NDArray[np.generic]) -> float:
    """AUC of histograms `[bins]` in increasing probability; ties count one half; NaN without both classes."""
    plus, minus = positives.astype(np.float64), negatives.astype(np.float64)
    total = plus.sum() * minus.sum()
    return dot(plus, np.cumsum(minus) - 0.5 * minus) / float(total) if total else float("nan")


def auc_error_bound(
    positives: npt.NDArray[np.generic], negatives: npt.NDArray[np.generic], resolved: float = 0
) -> float:
    """Bound from counts `[262144]`, less `resolved` comparisons known exactly; NaN without both classes."""
    plus, minus = positives.astype(np.float64), negatives.astype(np.float64)
    total = plus.sum() * minus.sum()
    unresolved = np.where(single_valued(), 0.0, plus)
    return max(0.0, 0.5 * (dot(unresolved, minus) - resolved) / float(total)) if total else float("nan")


@lru_cache(maxsize=1)
def _octave_tables() -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First bin and number of bins per binary exponent, index = exponent bits of float32."""
    tops = 2.0 ** -np.arange(1, _OCTAVES + 2)  # 1/2, 1/4, ...
    share = -np.diff(2 * np.arcsin(np.sqrt(tops)) / np.arcsin(1.0))  # of the half, from 1/2 downwards
    floored = np.maximum(_LEAST, np.floor(share * (_HALF - 2 * _LEAST * _OCTAVES))).astype(np.intp)
    spare = _HALF - 1 - int(floored.sum())
    wanted = share[:8] / share[:8].sum()
    floored[:8] += np.floor(wanted * spare).astype(np.intp)
    floored[0] += _HALF - 1 - int(floored.sum())
    width = np.append(floored[::-1], 0)  # exponent 126 is 1/2 itself: the last bin of the half
    first = np.concatenate(([1], 1 + np.cumsum(width[:-1])))
    first[-1] = _HALF - 1
    return first.astype(np.intp), width.astype(np.intp)


@lru_cache(maxsize=1)
def single_valued() -> npt.NDArray[np.bool_]:
    """True for bins that can hold one float32 number at most."""
    near_one = 1 - np.arange(1 << 14) * np.float64(2.0**-24)
    counts = np.bincount(fine_bin(near_one.astype(np.float32)), minlength=HISTOGRAM_BINS)
    single = counts <= 1
    single[: int(np.flatnonzero(counts)[0]) + 1] = False  # not enumerated, or in part
    single[0] = True
    return single
