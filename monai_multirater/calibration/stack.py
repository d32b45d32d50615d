# SPDX-License-Identifier: Apache-2.0
"""Fine histograms of many cases, stored by their non-empty bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.histogram import (
    HISTOGRAM_BINS,
    CaseHistogram,
    auc_error_bound,
    auc_from_counts,
    fine_bin,
    histogram,
    single_valued,
)
from monai_multirater.calibration.inputs import IntArray, VoteCase, dot

_FOLD = 4  # 2^4 neighboring bins together when cases are resampled
_CHUNK = 4096
_SORTED = 1 << 17  # voxels that are sorted faster than 2^18 bins are gone through


@dataclass(frozen=True, eq=False)
class HistogramStack:
    """Positive and negative pair counts of several cases, for the bins in use.

    Attributes:
        entries: `[3, entries]`: bin, positives, negatives; case after case, bins increasing within a case; int32
            where that holds the counts of every case, else int64.
        counts: int64 `[cases]`, entries of each case.
        coarse, coarse_counts: the same with 16 neighboring bins together, for resampling; made from the others.
    """

    entries: IntArray
    counts: IntArray
    coarse: IntArray = field(init=False)
    coarse_counts: IntArray = field(init=False)

    def __post_init__(self) -> None:
        coarse, counts = _fold(self.entries, self.counts)
        object.__setattr__(self, "coarse", coarse)
        object.__setattr__(self, "coarse_counts", counts)

    @classmethod
    def from_histograms(cls, histograms: Sequence[CaseHistogram]) -> HistogramStack:
        """Stack the histograms of several cases."""
        return cls.from_entries([sparse_entries(each) for each in histograms])

    @classmethod
    def from_entries(cls, parts: Sequence[IntArray]) -> HistogramStack:
        """Stack what `sparse_entries` returned for several cases."""
        entries = np.concatenate([np.zeros((3, 0), np.int32), *parts], axis=1)
        return cls(entries, np.array([part.shape[1] for part in parts], np.int64))

    @property
    def cases(self) -> int:
        """Number of cases."""
        return len(self.counts)

    def select(self, cases: Sequence[int] | IntArray) -> HistogramStack:
        """Return the chosen cases, in the order given."""
        slices = self._slices()
        return self.from_entries([self.entries[:, slices[case]] for case in cases])

    def totals(self) -> tuple[IntArray, IntArray]:
        """Positives and negatives of each case, int64 `[cases]` each."""
        plus, minus = np.zeros((2, self.cases), np.int64)
        for case, part in enumerate(self._slices()):
            plus[case], minus[case] = self.entries[1:, part].sum(axis=1, dtype=np.int64)
        return plus, minus

    def auc(self, exact: npt.NDArray[np.float64] | None = None) -> float:
        """AUC over the pairs of all cases together; NaN without both classes.

        Args:
            exact: float64 `[cases]`, exact number of concordant pairs within each case where it is known
                (`PairRanking.concordant`); only comparisons between cases then rest on the bins.
        """
        plus, minus = self.pooled()
        value = auc_from_counts(plus, minus)
        if exact is None or np.isnan(value):
            return value
        return value + float((exact - self._within()).sum()) / float(plus.sum() * minus.sum())

    def auc_error_bound(self, *, exact: bool = False) -> float:
        """Largest possible error of `auc()`, with or without `exact`; NaN without both classes."""
        own = 0.0
        for part in self._slices() if exact else ():
            bins, plus, minus = self.entries[:, part]
            shared = ~single_valued()[bins]
            own += dot(plus[shared].astype(np.float64), minus[shared].astype(np.float64))
        return auc_error_bound(*self.pooled(), own)

    def concordance(self) -> npt.NDArray[np.float64]:
        r"""Concordant pairs between cases, float64 `[cases, cases]`: positives of i against negatives of j.

        \( U_{ij} = H^+_i \cdot (\mathrm{cum} H^-_j - H^-_j / 2) \), so that the AUC of any weighted set of cases is
        \( w^T U w / ((w \cdot P)(w \cdot N)) \): resampling cases never touches voxels. Ties within a bin count one
        half. Uses the coarse bins: far finer than what resampling asks for, and the work grows with the number of
        bins. Goes through 4096 bins of every case at a time, which bounds the memory.
        """
        entries, starts = self.coarse, np.concatenate(([0], np.cumsum(self.coarse_counts)))
        result = np.zeros((self.cases, self.cases))
        before = np.zeros((self.cases, 1))
        edges = np.arange(0, (HISTOGRAM_BINS >> _FOLD) + 1, _CHUNK)
        cuts = [start + np.searchsorted(entries[0, start:end], edges) for start, end in pairwise(starts)]
        plus, minus = dense = np.empty((2, self.cases, _CHUNK))
        below = np.empty((self.cases, _CHUNK))
        for position in range(len(edges) - 1):
            dense[:] = 0
            for case, cut in enumerate(cuts):
                part = slice(cut[position], cut[position + 1])
                bins = entries[0, part] - position * _CHUNK
                plus[case][bins], minus[case][bins] = entries[1:, part]
            np.cumsum(minus, axis=1, out=below)
            below += before
            before = below[:, -1:].copy()
            minus *= 0.5
            below -= minus
            result += plus @ below.T
        return result

    def _slices(self) -> list[slice]:
        ends = np.cumsum(self.counts).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def pooled(self) -> tuple[IntArray, IntArray]:
        """Positives and negatives of all cases together, int64 `[262144]` each."""
        plus, minus = np.zeros((2, HISTOGRAM_BINS), np.int64)
        for part in self._slices():
            bins = self.entries[0, part]
            plus[bins] += self.entries[1, part]
            minus[bins] += self.entries[2, part]
        return plus, minus

    def _within(self) -> npt.NDArray[np.float64]:
        """Concordant pairs within each case, as far as the bins tell."""
        within = np.zeros(self.cases)
        for case, part in enumerate(self._slices()):
            plus, minus = self.entries[1:, part].astype(np.float64)
            within[case] = dot(plus, np.cumsum(minus) - 0.5 * minus)
        return within


def _fold(entries: IntArray, counts: IntArray) -> tuple[IntArray, IntArray]:
    """Entries with `2^_FOLD` bins together, and how many each case has."""
    starts = np.concatenate(([0], np.cumsum(counts)))
    bins = entries[0] >> _FOLD
    change = np.empty(len(bins), np.bool_)
    np.not_equal(bins[1:], bins[:-1], out=change[1:])
    change[starts[:-1][counts > 0]] = True
    first = np.flatnonzero(change)
    if not len(first):
        return entries, counts
    sums = [np.add.reduceat(row, first, dtype=np.int64) for row in entries[1:]]
    return compact(np.stack([bins[first], *sums])), np.diff(np.searchsorted(first, starts))


def case_entries(case: VoteCase) -> IntArray:
    """What `sparse_entries` of the case's histogram returns; without the 2^18 bins where a case has fewer voxels."""
    if case.probability.size > _SORTED:
        return sparse_entries(histogram(case))
    bins, position = np.unique(fine_bin(case.probability), return_inverse=True)
    voxels = np.bincount(position, minlength=len(bins))
    plus = np.bincount(position, weights=case.votes, minlength=len(bins)).astype(np.int64)
    return compact(np.stack([bins, plus, voxels * case.raters - plus]))


def sparse_entries(table: CaseHistogram) -> IntArray:
    """Non-empty bins of a histogram: bin, positives, negatives, `[3, entries]`; int32 where that holds them."""
    used = np.flatnonzero(table.positives + table.negatives)
    return compact(np.stack([used, table.positives[used], table.negatives[used]]))


def compact(entries: IntArray) -> IntArray:
    """Whole numbers as int32 if that holds them, else int64."""
    fits = not entries.size or int(entries.max()) <= np.iinfo(np.int32).max
    return entries.astype(np.int32 if fits else np.int64, copy=False)
