# SPDX-License-Identifier: Apache-2.0
"""Exact area under the ROC curve over (voxel, rater) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.inputs import FloatArray, VoteCase


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
    kept = [_at_least(case, low) for case in cases]
    below = negatives - sum(int(minus.sum(dtype=np.int64)) for _, _, minus in kept)
    high = max(float(p[minus > 0].max(initial=-1.0)) for p, _, minus in kept)
    overlap = [(p[p <= high], plus[p <= high], minus[p <= high]) for p, plus, minus in kept]
    inside = sum(int(plus.sum(dtype=np.int64)) for _, plus, _ in overlap)
    concordant = float(positives) * below + float(positives - inside) * (negatives - below)
    p, plus, minus = (np.concatenate(parts) for parts in zip(*overlap, strict=True))
    return PairRanking(concordant + _sorted_concordance(p, plus, minus), positives, negatives)


def _lowest_positive(case: VoteCase) -> float:
    chosen = case.probability[case.votes > 0]
    return float(chosen.min()) if chosen.size else float("inf")


def _at_least(case: VoteCase, low: float) -> tuple[FloatArray, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    keep = np.flatnonzero(case.probability >= low)
    votes = case.votes[keep]
    return case.probability[keep], votes, np.subtract(case.raters, votes, dtype=np.uint8, casting="unsafe")


def _sorted_concordance(p: FloatArray, plus: npt.NDArray[np.uint8], minus: npt.NDArray[np.uint8]) -> float:
    if not p.size:
        return 0.0
    if p.dtype == np.float32:
        keys = (p + np.float32(0)).view(np.uint32).astype(np.uint64)  # adding zero turns -0.0 into 0.0
        keys = (keys << np.uint64(16)) | (plus.astype(np.uint64) << np.uint64(8)) | minus
        keys.sort()
        plus, minus = (keys >> np.uint64(8)).astype(np.uint8), keys.astype(np.uint8)
        keys >>= np.uint64(16)
        change = keys[1:] != keys[:-1]
    else:
        order = np.argsort(p, kind="stable")
        p, plus, minus = p[order], plus[order], minus[order]
        change = p[1:] != p[:-1]
    ends = np.append(np.flatnonzero(change), len(plus) - 1)
    up_to_plus = np.cumsum(plus, dtype=np.int64)[ends]
    up_to_minus = np.cumsum(minus, dtype=np.int64)[ends]
    group_plus = np.diff(up_to_plus, prepend=0)
    twice_below = up_to_minus + np.concatenate(([0], up_to_minus[:-1]))
    return 0.5 * float(np.dot(group_plus.astype(np.float64), twice_below.astype(np.float64)))
