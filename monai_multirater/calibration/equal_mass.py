# SPDX-License-Identifier: Apache-2.0
"""Calibration error with bins that hold equal numbers of (voxel, rater) pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.inputs import IntArray, VoteCase


def equal_mass_error(cases: Sequence[VoteCase], bins: int) -> float:
    """MR-ECE with bins of equal numbers of pairs: bin g ends where the running count reaches g N / bins."""
    p = np.concatenate([case.probability.astype(np.float64) for case in cases])
    if not p.size:
        return float("nan")
    votes = np.concatenate([case.votes for case in cases])
    raters = np.concatenate([np.full(case.votes.size, case.raters, np.uint8) for case in cases])
    order = np.argsort(p, kind="stable")
    p = p[order]
    ends = np.append(np.flatnonzero(p[1:] != p[:-1]), p.size - 1)
    pairs = np.cumsum(raters[order], dtype=np.int64)[ends]
    gap = np.cumsum(votes[order] - raters[order] * p)[ends]
    return quantile_error(pairs, gap, bins)


def quantile_error(pairs: IntArray, gap: npt.NDArray[np.float64], bins: int) -> float:
    """Sum of absolute gaps between cuts, from running sums `pairs` and `gap` over increasing probability."""
    total = int(pairs[-1])
    # the first group whose running count reaches g / bins of the total closes bin g
    targets = np.array([-(-g * total // bins) for g in range(1, bins + 1)], dtype=np.int64)
    cuts = np.unique(np.searchsorted(pairs, targets, side="left"))
    return float(np.abs(np.diff(gap[cuts], prepend=0.0)).sum() / total)
