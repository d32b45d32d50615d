# SPDX-License-Identifier: Apache-2.0
"""Errors of a predicted probability against the true vote probability (known for phantoms)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.inputs import BLOCK, ArrayLike, FloatArray, IntArray, check_probability, dot
from monai_multirater.calibration.reliability import bin_index, check_bins, exact_edges


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Mergeable sums over voxels, `q` being the true probability: per bin of `p` (equal width, closed on the
    right).

    `voxels [K]` int64, `sum_probability [K]`, `sum_truth [K]` float64, and over all voxels the sums of `|p -
    q|` and `(p - q)^2`.
    """

    voxels: IntArray
    sum_probability: npt.NDArray[np.float64]
    sum_truth: npt.NDArray[np.float64]
    absolute_error: float = 0.0
    squared_error: float = 0.0

    @classmethod
    def from_case(cls, probability: ArrayLike, truth: ArrayLike, *, bins: int = 15) -> TruthTable:
        """Table of one case: `probability` and `truth` `[*spatial]` in [0, 1], floating point."""
        name = "TruthTable.from_case"
        check_bins(bins, function=name)
        p = check_probability(probability, function=name)
        q = check_probability(truth, function=name, argument="truth")
        if p.size != q.size:
            raise ValueError(f"{name}: 'truth' must have the shape of 'probability', got {q.size} for {p.size} voxels.")
        return _tabulate_truth(p, q, bins)

    def merge(self, other: TruthTable) -> TruthTable:
        """Return the table of both sets of cases; both must have as many bins."""
        if len(self.voxels) != len(other.voxels):
            raise ValueError(
                f"TruthTable.merge: 'other' must have as many bins, got {len(other.voxels)} for {len(self.voxels)}."
            )
        return TruthTable(
            self.voxels + other.voxels,
            self.sum_probability + other.sum_probability,
            self.sum_truth + other.sum_truth,
            self.absolute_error + other.absolute_error,
            self.squared_error + other.squared_error,
        )

    __add__ = merge

    def compute(self) -> TruthErrors:
        """Errors per voxel; NaN without a voxel."""
        total = int(self.voxels.sum())
        if not total:
            return TruthErrors(float("nan"), float("nan"), float("nan"))
        gap = float(np.abs(self.sum_probability - self.sum_truth).sum())
        return TruthErrors(self.absolute_error / total, self.squared_error / total, gap / total)


@dataclass(frozen=True)
class TruthErrors:
    """Mean absolute error, Brier score (mean squared error) and binned calibration error, per voxel."""

    mean_absolute_error: float
    brier_score: float
    calibration_error: float


def truth_errors(probability: ArrayLike, truth: ArrayLike, *, bins: int = 15) -> TruthErrors:
    r"""Errors of `probability` against the true probability `truth` that a rater says foreground.

    Mean of `|p - q|`, mean of `(p - q)^2`, and the calibration against truth
    \( \frac{1}{N} \sum_k | \sum_{v \in B_k} p_v - q_v | \) with bins of equal width over `p`. Unlike scores
    against
    sampled votes they have no noise floor: the perfect model scores 0 everywhere.

    Args:
        probability, truth: `[*spatial]`, floating point, in [0, 1], as many voxels.
        bins: number of bins of the calibration error.
    """
    return TruthTable.from_case(probability, truth, bins=bins).compute()


def _tabulate_truth(p: FloatArray, q: FloatArray, bins: int) -> TruthTable:
    edges = exact_edges(p.dtype, bins)
    voxels, sum_p, sum_q = np.zeros(bins, np.int64), np.zeros(bins), np.zeros(bins)
    absolute = squared = 0.0
    for start in range(0, p.size, BLOCK):
        block = p[start : start + BLOCK]
        wide, truth = block.astype(np.float64), q[start : start + BLOCK].astype(np.float64)
        index = bin_index(block, edges)
        voxels += np.bincount(index, minlength=bins)
        sum_p += np.bincount(index, weights=wide, minlength=bins)
        sum_q += np.bincount(index, weights=truth, minlength=bins)
        gap = wide - truth
        absolute += float(np.abs(gap).sum())
        squared += dot(gap, gap)
    return TruthTable(voxels, sum_p, sum_q, absolute, squared)
