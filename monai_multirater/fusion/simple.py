# SPDX-License-Identifier: Apache-2.0
"""SIMPLE: selective and iterative method for performance level estimation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monai_multirater.fusion.patterns import Floats, PatternVolume, open_stack

__all__ = ["SimpleResult", "simple"]

Bools = npt.NDArray[np.bool_]
_EQUAL = 1e-12  # Dice scores closer than this are the same number, rounded differently


@dataclass(frozen=True, eq=False)
class SimpleResult:
    """Result of :func:`simple`; for a batch every entry has the batch as its first axis.

    Attributes:
        consensus: uint8 ``[1, *spatial]``.
        dice: float64 ``[R]``, of each rater present, dropped ones too, against the consensus; NaN for absent raters.
        weights: float64 ``[R]``, share of each rater in the last vote; 0 for absent and dropped raters.
        dropped: bool ``[R]``, raters present who were left out.
        iterations: rounds of estimating, dropping and voting.
        converged: False when ``max_iterations`` was reached.
    """

    consensus: Tensor
    dice: Tensor
    weights: Tensor
    dropped: Tensor
    iterations: int | Tensor
    converged: bool | Tensor


def simple(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    alpha: float = 1.0,
    step: float = 0.5,
    min_raters: int = 3,
    max_iterations: int = 100,
    batched: bool | None = None,
) -> SimpleResult:
    """Vote, measure every rater against the vote, drop the worst, vote again with the rest weighted by performance.

    Start from the majority of the raters present. In round k = 0, 1, ...

    1. performance ``phi_r`` = Dice of rater r with the current estimate, for the raters still in;
    2. rater r is dropped for good when ``phi_r < mean(phi) - (alpha + k * step) * std(phi)`` (standard deviation over
       the raters still in), a threshold that falls from round to round; the worst go first, and at least ``min_raters``
       stay;
    3. the new estimate is foreground where raters with more than half of the weight ``phi`` of those left say so,

    until the estimate and the selection stay as they are. Langerak's threshold and weights are meant for dozens of
    registered atlases; with few raters it is relative all the same, and drops the worst of four who nearly agree.

    Args:
        ratings: ``[R, *spatial]`` or ``[B, R, *spatial]``, zeros and ones, bool or integer.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present; the planes of absent raters are ignored.
        alpha: standard deviations below the mean at which a rater is dropped in the first round; larger keeps more.
        step: what every round adds to ``alpha``.
        min_raters: with fewer raters present none is dropped. Two raters left would be no vote: the better one
            would decide alone.
        max_iterations: most rounds.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.

    Returns:
        a :class:`SimpleResult`. Two empty masks have a Dice of 1. When all raters left the case empty the consensus is
        empty and nobody is dropped.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.votes.count_votes`; an option out of range.

    Source: Langerak et al. 2010, doi:10.1109/TMI.2010.2057442.
    """
    stack = open_stack(ratings, rater_mask, batched)
    volume = PatternVolume.count(stack, torch.uint8)
    found = select_raters(volume, alpha=alpha, step=step, min_raters=min_raters, max_iterations=max_iterations)
    return SimpleResult(
        volume.fill(found.estimate),
        stack.per_case(found.dice),
        stack.per_case(found.weights),
        stack.per_case(found.dropped),
        stack.number(found.iterations),
        stack.number(found.converged),
    )


@dataclass(frozen=True, eq=False)
class Selection:
    """What SIMPLE finds for patterns ``[B, P]`` and raters ``[B, R]``; see :class:`SimpleResult`."""

    estimate: Bools
    dice: Floats
    weights: Floats
    dropped: Bools
    iterations: npt.NDArray[np.int64]
    converged: Bools


def select_raters(
    volume: PatternVolume, *, alpha: float = 1.0, step: float = 0.5, min_raters: int = 3, max_iterations: int = 100
) -> Selection:
    """Run :func:`simple` on pattern counts; for errors see there."""
    if alpha < 0 or step < 0 or min_raters < 1 or max_iterations < 1:
        raise ValueError(
            "simple: alpha and step must not be negative, min_raters and max_iterations at least 1. "
            f"Got {alpha}, {step}, {min_raters} and {max_iterations}."
        )
    state = _State(volume)
    active = np.arange(len(volume.counts))
    for round_ in range(max_iterations):
        active = state.advance(active, alpha + round_ * step, min_raters)
        if not len(active):
            break
    present = volume.stack.present
    dice = np.where(present, _dice(volume.counts, state.bits, state.sizes, state.estimate), np.nan)
    converged = ~np.isin(np.arange(len(present)), active)
    return Selection(state.estimate, dice, state.weights, present & ~state.kept, state.iterations, converged)


class _State:
    """Estimates ``[B, P]``, selections and weights ``[B, R]`` of all cases of a batch, which advance side by side."""

    def __init__(self, volume: PatternVolume) -> None:
        self.counts, self.bits = volume.counts, volume.bits.astype(np.float64)
        self.sizes, self.kept = self.counts @ self.bits, volume.stack.present.copy()
        self.weights = self.kept / self.kept.sum(1, keepdims=True)
        self.estimate = _vote(self.bits, self.weights)
        self.iterations = np.zeros(len(self.counts), np.int64)

    def advance(self, cases: npt.NDArray[np.int64], deviations: float, min_raters: int) -> npt.NDArray[np.int64]:
        """One round for some cases; returns those that changed."""
        counts, estimate, kept = self.counts[cases], self.estimate[cases], self.kept[cases]
        dice = _dice(counts, self.bits, self.sizes[cases], estimate)
        inside = _keep(dice, kept, deviations, min_raters)
        weights = np.where(inside, dice, 0.0)
        weights = np.where(weights.sum(1, keepdims=True) > 0, weights, inside)
        weights = weights / weights.sum(1, keepdims=True)
        voted = _vote(self.bits, weights)
        self.estimate[cases], self.kept[cases], self.weights[cases] = voted, inside, weights
        self.iterations[cases] += 1
        same = ((voted == estimate) | (counts == 0)).all(1) & (inside == kept).all(1)
        return cases[~same]


def _vote(bits: Floats, weights: Floats) -> Bools:
    """Foreground where more than half of the weight says so, beyond rounding; ties are background."""
    return weights @ bits.T > 0.5 + _EQUAL


def _dice(counts: Floats, bits: Floats, sizes: Floats, estimate: Bools) -> Floats:
    inside = counts * estimate
    total = sizes + inside.sum(1, keepdims=True)
    return np.divide(2 * (inside @ bits), total, out=np.ones_like(total), where=total > 0)


def _keep(dice: Floats, kept: Bools, deviations: float, min_raters: int) -> Bools:
    """Raters left after dropping those below the threshold, the worst first, down to ``min_raters``."""
    number = kept.sum(1, keepdims=True)
    mean = (dice * kept).sum(1, keepdims=True) / number
    spread = np.sqrt((kept * (dice - mean) ** 2).sum(1, keepdims=True) / number)
    below = kept & (dice < mean - deviations * spread - _EQUAL)
    rank = np.where(below, dice, np.inf).argsort(1, kind="stable").argsort(1, kind="stable")
    return kept & ~(below & (rank < number - min_raters))
