# SPDX-License-Identifier: Apache-2.0
"""The mergeable reliability table: all that binned calibration error, Brier score and log loss need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.inputs import (
    BLOCK,
    ArrayLike,
    FloatArray,
    IntArray,
    VoteCase,
    as_case,
    as_cases,
    dot,
)

LOG_FLOOR = -100.0


@dataclass(frozen=True, eq=False)
class ReliabilityTable:
    r"""Counts and sums over (voxel, rater) pairs in bins of equal width over the foreground probability.

    Bin `k` of `K` is the interval `(k/K, (k+1)/K]`; the first one also holds 0. Bins are closed on the right,
    as in Guo et al. 2017 and MONAI's `calibration_binning`; torchmetrics closes them on the left. A
    probability is compared with the float64 edges, never multiplied and rounded. A rater who did not mark a
    case forms no pair. Counts are int64 and sums float64, so that nothing saturates (float32 counts stop at
    2^24).

    Attributes:
        pairs: int64 `[K]`, number of (voxel, rater) pairs.
        sum_confidence: float64 `[K]`, sum of the probability over these pairs.
        sum_votes: int64 `[K]`, number of pairs in which the rater says foreground.
        squared_error: sum over all pairs of `(p - y)^2`.
        log_loss: sum over all pairs of `-y log p - (1 - y) log(1 - p)`; logarithms are bounded below by -100,
            the convention of `torch.nn.functional.binary_cross_entropy`. NaN when the table was built without
            it.
        cases: number of cases in the table.

    Tables are immutable: `update` and `merge` return a new one. References: Guo et al. 2017
        (arXiv:1706.04599).
    """

    pairs: IntArray
    sum_confidence: npt.NDArray[np.float64]
    sum_votes: IntArray
    squared_error: float = 0.0
    log_loss: float = 0.0
    cases: int = 0

    @classmethod
    def empty(cls, bins: int = 15) -> ReliabilityTable:
        """Return a table with `bins` empty bins."""
        check_bins(bins, function="ReliabilityTable.empty")
        return cls(np.zeros(bins, np.int64), np.zeros(bins), np.zeros(bins, np.int64))

    @classmethod
    def from_case(
        cls, probability: ArrayLike, votes: ArrayLike, n_raters: int, *, bins: int = 15, log_loss: bool = True
    ) -> ReliabilityTable:
        """Table of one case.

        Args:
            probability: foreground probability `[*spatial]` in [0, 1], floating point.
            votes: `[*spatial]`, raters present who say foreground, whole numbers 0..n_raters.
            n_raters: raters present, 1 to 64.
            bins: number of bins, at least one.
            log_loss: also sum the logarithmic loss (about half of the time).

        Raises:
            TypeError, ValueError: for logits, NaN, fractional votes, votes above `n_raters`, unequal shapes.
        """
        check_bins(bins, function="ReliabilityTable.from_case")
        case = as_case(probability, votes, n_raters, function="ReliabilityTable.from_case")
        return tabulate(case, bins=bins, log_loss=log_loss)

    def update(
        self, probability: ArrayLike, votes: ArrayLike, n_raters: int | ArrayLike, *, log_loss: bool = True
    ) -> ReliabilityTable:
        """Return this table plus one case, or plus a batch `[B, 1, *spatial]` when `n_raters` is `[B]`."""
        table = self
        for case in as_cases(probability, votes, n_raters, function="ReliabilityTable.update"):
            table = table.merge(tabulate(case, bins=len(self.pairs), log_loss=log_loss))
        return table

    def merge(self, other: ReliabilityTable) -> ReliabilityTable:
        """Return the table of both sets of cases; both must have as many bins."""
        if len(self.pairs) != len(other.pairs):
            raise ValueError(
                f"ReliabilityTable.merge: 'other' must have as many bins, got {len(other.pairs)} for {len(self.pairs)}."
            )
        return ReliabilityTable(
            self.pairs + other.pairs,
            self.sum_confidence + other.sum_confidence,
            self.sum_votes + other.sum_votes,
            self.squared_error + other.squared_error,
            self.log_loss + other.log_loss,
            self.cases + other.cases,
        )

    __add__ = merge

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Bin edges `[K + 1]`, `k / K`."""
        return bin_edges(len(self.pairs))

    @property
    def mean_confidence(self) -> npt.NDArray[np.float64]:
        """Mean probability per bin `[K]`; NaN in an empty bin."""
        return ratio(self.sum_confidence, self.pairs)

    @property
    def observed_frequency(self) -> npt.NDArray[np.float64]:
        """Share of the pairs that say foreground per bin `[K]`; NaN in an empty bin."""
        return ratio(self.sum_votes, self.pairs)

    def compute(self) -> float:
        """Multi-rater expected calibration error, `sum_k |sum votes - sum p| / sum pairs`; NaN if empty."""
        return self._per_pair(float(np.abs(self.sum_votes - self.sum_confidence).sum()))

    def maximum_calibration_error(self) -> float:
        """Largest `|observed frequency - mean confidence|` over the bins that hold a pair, else NaN."""
        gaps = np.abs(self.observed_frequency - self.mean_confidence)[self.pairs > 0]
        return float(gaps.max()) if gaps.size else float("nan")

    def brier_score(self) -> float:
        """Mean of `(p - y)^2` over pairs; NaN if empty."""
        return self._per_pair(self.squared_error)

    def negative_log_likelihood(self) -> float:
        """Mean logarithmic loss over pairs, in nats; NaN if empty or not collected."""
        return self._per_pair(self.log_loss)

    def _per_pair(self, total: float) -> float:
        pairs = int(self.pairs.sum())
        return total / pairs if pairs else float("nan")


def tabulate(case: VoteCase, *, bins: int, log_loss: bool = True) -> ReliabilityTable:
    """Build the table of a checked case, in one pass over blocks that stay in the cache.

    Only voxels above the first bin, few in most images, are sorted into bins; the first bin is what remains.
    """
    raters = case.raters
    edges = exact_edges(case.probability.dtype, bins)
    joint = np.zeros((bins, raters + 1), np.int64)  # voxels by bin and number of votes
    confidence = np.zeros(bins)
    squares = products = logs = 0.0
    total, voted = 0.0, 0
    for start in range(0, case.votes.size, BLOCK):
        block, votes = case.probability[start : start + BLOCK], case.votes[start : start + BLOCK]
        wide, wide_votes = block.astype(np.float64), votes.astype(np.float64)
        total += float(wide.sum())
        voted += int(wide_votes.sum())
        squares += dot(wide, wide)
        products += dot(wide, wide_votes)
        if log_loss:
            logs += block_log_loss(wide, wide_votes, raters)
        above = np.flatnonzero(block > edges[0]) if bins > 1 else ()
        if len(above):
            index = bin_index(block[above], edges)
            joint += np.bincount(index * (raters + 1) + votes[above], minlength=joint.size).reshape(joint.shape)
            confidence += np.bincount(index, weights=wide[above], minlength=bins)
    counts, agreed = joint.sum(axis=1), joint @ np.arange(raters + 1)
    counts[0] = case.votes.size - counts.sum()
    agreed[0] = voted - agreed.sum()
    confidence[0] = total - confidence.sum() if counts[0] else 0.0
    return ReliabilityTable(
        counts * raters,
        confidence * raters,
        agreed,
        raters * squares - 2.0 * products + voted,
        logs if log_loss else float("nan"),
        1,
    )


def block_log_loss(
    p: npt.NDArray[np.float64], votes: npt.NDArray[np.float64], raters: int | npt.NDArray[np.float64]
) -> float:
    """Sum over voxels of `-votes log p - (raters - votes) log(1 - p)`, logarithms bounded below by -100."""
    with np.errstate(divide="ignore"):
        yes = np.maximum(np.log(p), LOG_FLOOR)
        no = np.maximum(np.log1p(-p), LOG_FLOOR)
    return -(dot(votes, yes) + dot(raters - votes, no))


def bin_edges(bins: int) -> npt.NDArray[np.float64]:
    """Edges `k / bins`, k = 0..bins."""
    return np.arange(bins + 1) / bins


def exact_edges(dtype: np.dtype[np.floating], bins: int) -> FloatArray:
    """Inner edges: the largest numbers of `dtype` not above `k / bins`, to compare as in float64."""
    inner = bin_edges(bins)[1:-1]
    edges = inner.astype(dtype)
    return np.where(edges > inner, np.nextafter(edges, dtype.type(0)), edges).astype(dtype)


def bin_index(p: FloatArray, edges: FloatArray) -> npt.NDArray[np.intp]:
    """Bin of each value, the number of inner edges below it; a few edges are compared one by one."""
    if len(edges) > 64:
        return np.searchsorted(edges, p, side="left")
    index = np.zeros(p.shape, np.uint8)
    above = np.empty(p.shape, bool)
    for edge in edges:
        np.greater(p, edge, out=above)
        np.add(index, above, out=index)
    return index.astype(np.intp)


def ratio(numerator: npt.NDArray[np.generic], denominator: IntArray) -> npt.NDArray[np.float64]:
    """Quotient in float64, NaN where the denominator is zero."""
    out = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def check_bins(bins: int, *, function: str) -> None:
    """Raise unless `bins` is a whole number of at least one."""
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 1:
        raise ValueError(f"{function}: 'bins' must be a whole number of at least 1, got {bins!r}.")
