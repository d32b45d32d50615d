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
    concordance_matrix,
    single_valued,
)
from monai_multirater.calibration.inputs import IntArray


@dataclass(frozen=True, eq=False)
class HistogramStack:
    """Positive and negative pair counts of `cases` cases, one entry `(case, bin, positives, negatives)` per
    bin in use.

    Attributes:
        entries: int64 `[entries, 4]`.
        cases: number of cases, empty ones included.
    """

    entries: IntArray
    cases: int

    @classmethod
    def from_histograms(cls, histograms: Sequence[CaseHistogram]) -> HistogramStack:
        """Stack the histograms of several cases."""
        parts = [sparse_entries(histogram, case) for case, histogram in enumerate(histograms)]
        entries = np.concatenate(parts) if parts else np.zeros((0, 4), np.int64)
        return cls(entries, len(histograms))

    def select(self, cases: Sequence[int] | IntArray) -> HistogramStack:
        """Return the chosen cases, in the order given."""
        position = np.full(self.cases, -1, np.int64)
        position[np.asarray(cases, np.int64)] = np.arange(len(cases))
        moved = self.entries.copy()
        moved[:, 0] = position[moved[:, 0]]
        return HistogramStack(moved[moved[:, 0] >= 0], len(cases))

    def totals(self) -> tuple[IntArray, IntArray]:
        """Positives and negatives of each case, int64 `[cases]` each."""
        case = self.entries[:, 0]
        totals = np.zeros((2, self.cases), np.int64)
        np.add.at(totals[0], case, self.entries[:, 2])
        np.add.at(totals[1], case, self.entries[:, 3])
        return totals[0], totals[1]

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
        plus, minus = self._pooled()
        shared = self.entries[~single_valued()[self.entries[:, 1]], 2:].astype(np.float64)
        return auc_error_bound(plus, minus, float((shared[:, 0] * shared[:, 1]).sum()) if exact else 0.0)

    def _pooled(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        index, counts = self.entries[:, 1], self.entries[:, 2:].astype(np.float64)
        plus, minus = (np.bincount(index, weights=w, minlength=HISTOGRAM_BINS) for w in counts.T)
        return plus.astype(np.float64), minus.astype(np.float64)

    def _within(self) -> npt.NDArray[np.float64]:
        """Concordant pairs within each case, as far as the bins tell."""
        case, _, plus, minus = self.entries[np.lexsort((self.entries[:, 1], self.entries[:, 0]))].T
        before = np.concatenate(([0], np.cumsum(self.totals()[1])[:-1]))  # negatives of the cases before
        below = np.cumsum(minus) - before[case] - 0.5 * minus
        return np.bincount(case, weights=plus * below, minlength=self.cases).astype(np.float64)

    def concordance(self, *, chunk: int = 4096) -> npt.NDArray[np.float64]:
        """Matrix `U [cases, cases]` of `concordance_matrix`, read `chunk` bins at a time."""
        bins, where = np.unique(self.entries[:, 1], return_inverse=True)
        order = np.argsort(where, kind="stable")
        case, column = self.entries[order, 0], where[order]
        counts = self.entries[order, 2:]
        result = np.zeros((self.cases, self.cases))
        before = np.zeros(self.cases)
        for start in range(0, len(bins), chunk):
            part = slice(*np.searchsorted(column, [start, start + chunk]))
            dense = np.zeros((2, self.cases, min(chunk, len(bins) - start)))
            dense[:, case[part], column[part] - start] = counts[part].T
            result += concordance_matrix(dense[0], dense[1], chunk=chunk)
            result += np.outer(dense[0].sum(axis=1), before)
            before += dense[1].sum(axis=1)
        return result


def sparse_entries(histogram: CaseHistogram, case: int) -> IntArray:
    """Non-empty bins of a histogram as rows `(case, bin, positives, negatives)`."""
    used = np.flatnonzero(histogram.positives + histogram.negatives)
    return np.stack(
        [np.full(len(used), case), used, histogram.positives[used], histogram.negatives[used]], axis=1
    ).astype(np.int64)
