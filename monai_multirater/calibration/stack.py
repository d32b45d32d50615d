# SPDX-License-Identifier: Apache-2.0
"""Fine histograms of many cases, stored by their non-empty bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.histogram import (
    HISTOGRAM_BINS,
    CaseHistogram,
    auc_error_bound,
    auc_from_counts,
    single_valued,
)
from monai_multirater.calibration.inputs import IntArray

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class HistogramStack:
    """Positive and negative pair counts of several cases, for the bins in use.

    Attributes:
        entries: int64 `[3, entries]`: bin, positives, negatives; case after case, bins increasing within a case.
        counts: int64 `[cases]`, entries of each case.
    """

    entries: IntArray
    counts: IntArray

    @classmethod
    def from_histograms(cls, histograms: Sequence[CaseHistogram]) -> HistogramStack:
        """Stack the histograms of several cases."""
        return cls.from_entries([sparse_entries(histogram) for histogram in histograms])

    @classmethod
    def from_entries(cls, parts: Sequence[IntArray]) -> HistogramStack:
        """Stack what `sparse_entries` returned for several cases."""
        entries = np.concatenate([np.zeros((3, 0), np.int64), *parts], axis=1)
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
            plus[case], minus[case] = self.entries[1, part].sum(), self.entries[2, part].sum()
        return plus, minus

    def auc(self, exact: npt.NDArray[np.float64] | None = None) -> float:
        """AUC over the pairs of all cases together; NaN without both classes.

        Args:
            exact: float64 `[cases]`, exact number of concordant pairs within each case where it is known
                (`PairRanking.concordant`); only comparisons between cases then rest on the bins.
        """
        plus, minus = self._pooled()
        value = auc_from_counts(plus, minus)
        if exact is None or np.isnan(value):
            return value
        return value + float((exact - self._within()).sum()) / float(plus.sum() * minus.sum())

    def auc_error_bound(self, *, exact: bool = False) -> float:
        """Largest possible error of `auc()`, with or without `exact`; NaN without both classes."""
        bins, plus, minus = self.entries
        shared = ~single_valued()[bins]
        own = float((plus[shared].astype(np.float64) * minus[shared]).sum()) if exact else 0.0
        return auc_error_bound(*self._pooled(), own)

    def concordance(self) -> npt.NDArray[np.float64]:
        r"""Concordant pairs between cases, float64 `[cases, cases]`: positives of i against negatives of j.

        \( U_{ij} = H^+_i \cdot (\mathrm{cum} H^-_j - H^-_j / 2) \), so that the AUC of any weighted set of cases is
        \( w^T U w / ((w \cdot P)(w \cdot N)) \): resampling cases never touches voxels. Ties within a bin count one
        half. Works through 4096 bins of every case at a time, which bounds the memory.
        """
        result = np.zeros((self.cases, self.cases))
        before = np.zeros((self.cases, 1))
        edges = np.arange(0, HISTOGRAM_BINS + 1, _CHUNK)
        cuts = [part.start + np.searchsorted(self.entries[0, part], edges) for part in self._slices()]
        plus, minus = dense = np.empty((2, self.cases, _CHUNK))
        below = np.empty((self.cases, _CHUNK))
        for position in range(len(edges) - 1):
            self._fill(dense, cuts, position)
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

    def _fill(self, dense: npt.NDArray[np.float64], cuts: list[IntArray], position: int) -> None:
        """Write block `position` of the bins of every case to `dense [2, cases, block]`."""
        dense[:] = 0
        for case, cut in enumerate(cuts):
            part = slice(cut[position], cut[position + 1])
            bins = self.entries[0, part] - position * _CHUNK
            dense[0, case][bins] = self.entries[1, part].astype(np.float64)
            dense[1, case][bins] = self.entries[2, part].astype(np.float64)

    def _pooled(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        weights = self.entries[1:].astype(np.float64)
        plus, minus = (np.bincount(self.entries[0], weights=w, minlength=HISTOGRAM_BINS) for w in weights)
        return plus.astype(np.float64), minus.astype(np.float64)

    def _within(self) -> npt.NDArray[np.float64]:
        """Concordant pairs within each case, as far as the bins tell."""
        _, plus, minus = self.entries
        before = np.concatenate(([0], np.cumsum(self.totals()[1])[:-1]))  # negatives of the cases before
        below = np.cumsum(minus) - np.repeat(before, self.counts) - 0.5 * minus
        case = np.repeat(np.arange(self.cases), self.counts)
        return np.bincount(case, weights=plus * below, minlength=self.cases).astype(np.float64)


def sparse_entries(histogram: CaseHistogram) -> IntArray:
    """Non-empty bins of a histogram: bin, positives, negatives, int64 `[3, entries]`."""
    used = np.flatnonzero(histogram.positives + histogram.negatives)
    return np.stack([used, histogram.positives[used], histogram.negatives[used]]).astype(np.int64)
