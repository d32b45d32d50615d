# SPDX-License-Identifier: Apache-2.0
"""Exact area under the ROC curve over (voxel, rater) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.inputs import FloatArray, VoteCase, dot

Counts: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PairRanking:
    """`concordant` pairs of a positive and a negative (a tie is one half) of `positives * negatives`."""

    concordant: float
    positives: int
    negatives: int

    @property
    def auc(self) -> float:
        """`concordant / (positives * negatives)`; NaN when one class is absent."""
        total = self.positives * self.negatives
        return self.concordant / total if total else float("nan")


def rank_cases(cases: Sequence[VoteCase]) -> PairRanking:
    """Rank all pairs of all cases together, exactly.

    Only the overlap of the two classes is sorted: a voxel below every positive, or above every negative, wins
        or
    loses all its comparisons. In between, keys (bits of the float32 probability, positives, negatives) are
    sorted and equal probabilities form a group.
    """
    positives = sum(int(case.votes.sum(dtype=np.int64)) for case in cases)
    negatives = sum(case.votes.size * case.raters for case in cases) - positives
    if not positives or not negatives:
        return PairRanking(0.0, positives, negatives)
    low = min(_lowest_positive(case) for case in cases)
    high = max(_highest_negative(case) for case in cases)
    parts = [_between(case, low, high) for case in cases]
    p, plus, minus = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    inside, outside_minus = int(plus.sum(dtype=np.int64)), negatives - int(minus.sum(dtype=np.int64))
    # negatives outside lie below every positive; positives outside lie above every negative
    concordant = float(positives) * outside_minus + float(positives - inside) * (negatives - outside_minus)
    return PairRanking(concordant + _sorted_concordance(p, plus, minus), positives, negatives)


def _lowest_positive(case: VoteCase) -> float:
    return float(case.probability[case.votes > 0].min(initial=np.inf))


def _highest_negative(case: VoteCase) -> float:
    return float(case.probability[case.votes < case.raters].max(initial=-1.0))


def _between(case: VoteCase, low: float, high: float) -> tuple[FloatArray, Counts, Counts]:
    keep = np.flatnonzero((case.probability >= low) & (case.probability <= high))
    votes = case.votes[keep]
    return case.probability[keep], votes, np.subtract(np.uint8(case.raters), votes)


def _sorted_concordance(p: FloatArray, plus: Counts, minus: Counts) -> float:
    if not p.size:
        return 0.0
    plus, minus, change = _sort_keys(p, plus, minus) if p.dtype == np.float32 else _sort_any(p, plus, minus)
    ends = np.append(np.flatnonzero(change), len(plus) - 1)
    upto_plus, upto_minus = (np.cumsum(x, dtype=np.int64)[ends].astype(np.float64) for x in (plus, minus))
    upto_minus[1:] += upto_minus[:-1].copy()  # twice the negatives below, plus those in the group
    return 0.5 * dot(np.diff(upto_plus, prepend=0.0), upto_minus)


def _sort_keys(p: FloatArray, plus: Counts, minus: Counts) -> tuple[Counts, Counts, npt.NDArray[np.bool_]]:
    keys = (p + np.float32(0)).view(np.uint32).astype(np.uint64)  # adding zero turns -0.0 into 0.0
    keys <<= np.uint64(16)
    keys |= (plus.astype(np.uint16) << np.uint16(8)) | minus
    keys.sort()
    counts = keys.astype(np.uint16)
    keys >>= np.uint64(16)
    return (counts >> np.uint16(8)).astype(np.uint8), counts.astype(np.uint8), keys[1:] != keys[:-1]


def _sort_any(p: FloatArray, plus: Counts, minus: Counts) -> tuple[Counts, Counts, npt.NDArray[np.bool_]]:
    order = np.argsort(p, kind="stable")
    p = p[order]
    return plus[order], minus[order], p[1:] != p[:-1]
