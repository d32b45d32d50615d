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
    found = []
    for counts, here in zip(volume.counts, volume.stack.present, strict=True):
        occurs = counts > 0
        case = _select(counts[occurs], volume.bits[occurs], here, alpha, step, min_raters, max_iterations)
        estimate = np.zeros(len(counts), bool)
        estimate[occurs] = case[0]
        found.append((estimate, *case[1:]))
    return Selection(*(np.stack(values) for values in zip(*found, strict=True)))


def _select(
    counts: Floats, bits: Bools, present: Bools, alpha: float, step: float, min_raters: int, max_iterations: int
) -> tuple[Bools, Floats, Floats, Bools, int, bool]:
    sizes, kept = counts @ bits, present.copy()
    weights = kept / kept.sum()
    estimate, converged, iterations = _vote(bits, weights), False, 0
    while iterations < max_iterations and not converged:
        dice = _dice(counts, bits, sizes, estimate)
        inside = _keep(dice, kept, alpha + iterations * step, min_raters)
        weights = np.where(inside, dice, 0.0)
        weights = weights / weights.sum() if weights.sum() > 0 else inside / inside.sum()
        voted = _vote(bits, weights)
        converged = bool((voted == estimate).all() and (inside == kept).all())
        estimate, kept, iterations = voted, inside, iterations + 1
    dice = np.where(present, _dice(counts, bits, sizes, estimate), np.nan)
    return estimate, dice, weights, present & ~kept, iterations, converged


def _vote(bits: Bools, weights: Floats) -> Bools:
    """Foreground where more than half of the weight says so, beyond rounding; ties are background."""
    return bits @ weights > 0.5 + _EQUAL


def _dice(counts: Floats, bits: Bools, sizes: Floats, estimate: Bools) -> Floats:
    inside = counts * estimate
    total = sizes + inside.sum()
    return np.divide(2 * (inside @ bits), total, out=np.ones_like(total), where=total > 0)


def _keep(dice: Floats, kept: Bools, deviations: float, min_raters: int) -> Bools:
    """Raters left after dropping those below the threshold, the worst first, down to ``min_raters``."""
    scores = dice[kept]
    threshold = scores.mean() - deviations * scores.std()
    below = np.flatnonzero(kept & (dice < threshold - _EQUAL))
    allowed = max(0, int(kept.sum()) - min_raters)
    inside = kept.copy()
    inside[below[np.argsort(dice[below], kind="stable")][:allowed]] = False
    return inside
