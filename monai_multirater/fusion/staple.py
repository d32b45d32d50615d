# SPDX-License-Identifier: Apache-2.0
"""STAPLE: simultaneous truth and performance level estimation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from torch import Tensor

from monai_multirater.fusion.patterns import Floats, PatternVolume, open_stack
from monai_multirater.fusion.regions import Region, in_region

__all__ = ["StapleResult", "staple"]

NEVER = -1e5
"""Stands for log 0: sums of it and of what 64 raters can add give exactly 0 or 1 in double precision."""


@dataclass(frozen=True, eq=False)
class StapleResult:
    """Result of :func:`staple`; for a batch every entry but the prior's shape has the batch as its first axis.

    Attributes:
        probability: float32 ``[1, *spatial]``, probability of foreground.
        sensitivity: float64 ``[R]``, p of each rater; NaN for absent raters and when nothing is foreground.
        specificity: float64 ``[R]``, q of each rater; NaN for absent raters and when nothing is background.
        prior: float64 scalar, probability of foreground anywhere, fixed during the iterations.
        iterations: as ITK counts them.
        converged: False when ``max_iterations`` was reached.
    """

    probability: Tensor
    sensitivity: Tensor
    specificity: Tensor
    prior: Tensor
    iterations: int | Tensor
    converged: bool | Tensor


def staple(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    confidence_weight: float = 1.0,
    region: Region = None,
    max_iterations: int = 10_000,
    tolerance: float = 1e-7,
    batched: bool | None = None,
) -> StapleResult:
    """Estimate the true segmentation and every rater's sensitivity and specificity by expectation maximization.

    With the votes ``d_r(v)``, start from ``W(v)`` = mean vote and the prior ``g = confidence_weight * mean_v W(v)``,
    which stays fixed, and repeat

    * ``p_r = sum_v W d_r / sum_v W`` and ``q_r = sum_v (1 - W)(1 - d_r) / sum_v (1 - W)``,
    * ``W(v) = g a / (g a + (1 - g) b)``, a = product of ``p_r`` where the rater says yes and ``1 - p_r`` where not, b =
      product of ``1 - q_r`` and ``q_r``,

    until no p and no q changes by more than ``tolerance``. Initialization, prior and stop rule are ITK's, and so
    are the numbers and the count of iterations. The work is done on counts of vote patterns, not on voxels.

    The prior is the share of foreground in the region, so that **the region changes the answer**: a wider margin of
    voxels that nobody marks lowers the prior and raises every specificity. Only the number of such voxels matters.

    Raters who contradict each other can be estimated worse than chance (p < 1 - q), in ITK as here; then a vote for
    foreground counts against it, and even a unanimous one can be overturned.

    Args:
        ratings: ``[R, *spatial]`` or ``[B, R, *spatial]``, zeros and ones, bool or integer.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present; the planes of absent raters are ignored.
        confidence_weight: factor on the prior.
        region: voxels to work on: None for the whole image; ``"union"`` for the bounding box of all foreground votes of
            each case; one slice per spatial axis; or a bool mask ``[*spatial]``. Outside the probability is 0.
        max_iterations: ITK's own limit, 2^32 - 1, lets noise run for minutes.
        tolerance: largest change of a sensitivity or specificity that counts as none.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.

    Returns:
        a :class:`StapleResult`. When all raters present left a case empty, where ITK returns NaN, everything is
        background, sensitivities are NaN, and a warning says so; likewise for cases that all raters filled.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.votes.count_votes`; a prior outside (0, 1) due to
            ``confidence_weight``; a region that does not fit or holds no voxel; ``max_iterations`` or ``tolerance`` out
            of range.

    Source: Warfield, Zou, Wells 2004, doi:10.1109/TMI.2004.828354.
    """
    if max_iterations < 1 or not tolerance > 0 or not confidence_weight > 0:
        raise ValueError(
            "staple: max_iterations must be at least 1, tolerance and confidence_weight positive. "
            f"Got {max_iterations}, {tolerance} and {confidence_weight}."
        )
    if region is not None:
        return in_region(staple, ratings, rater_mask, region, batched, confidence_weight=confidence_weight,
                         max_iterations=max_iterations, tolerance=tolerance)  # fmt: skip
    stack = open_stack(ratings, rater_mask, batched)
    volume = PatternVolume.count(stack)
    model = _Model(volume, confidence_weight)
    model.run(max_iterations, tolerance)
    return StapleResult(
        volume.fill(model.weights),
        stack.per_case(model.p),
        stack.per_case(model.q),
        stack.per_case(model.prior),
        stack.number(model.iterations),
        stack.number(model.converged),
    )


class _Model:
    """Expectation maximization of all cases of a batch side by side; cases that have converged rest."""

    def __init__(self, volume: PatternVolume, confidence_weight: float) -> None:
        self.volume, self.present = volume, volume.stack.present
        self.bits = volume.bits.astype(np.float64)
        self.weights: Floats = volume.votes / self.present.sum(1, keepdims=True)
        items, raters = self.present.shape
        self.p, self.q = np.full((items, raters), np.nan), np.full((items, raters), np.nan)
        self.iterations, self.converged = np.zeros(items, np.int64), np.zeros(items, bool)
        mean = (volume.counts * self.weights).sum(1) / volume.counts.sum(1)
        self._settle_unanimous(mean)
        self.prior = np.where(self.converged, mean, confidence_weight * mean)
        if (self.prior[~self.converged] >= 1).any():
            raise ValueError(
                f"staple: confidence_weight = {confidence_weight:g} makes the prior {self.prior.max():g}, which "
                "must be below 1."
            )

    def _settle_unanimous(self, mean: Floats) -> None:
        """Cases that all raters left empty, or filled: nothing to estimate, where ITK divides 0 by 0."""
        for value, name, defined in ((0, "left empty", self.q), (1, "filled", self.p)):
            cases = np.flatnonzero(mean == value)
            if len(cases):
                answer = "foreground" if value else "background"
                undefined = "specificities" if value else "sensitivities"
                warnings.warn(
                    f"staple: all raters {name} {len(cases)} of {len(mean)} cases: everything is {answer}, "
                    f"{undefined} are undefined.",
                    stacklevel=5,
                )
                defined[cases] = np.where(self.present[cases], 1.0, np.nan)
                self.converged[cases] = True

    @np.errstate(divide="ignore")  # log 0, see NEVER
    def run(self, max_iterations: int, tolerance: float) -> None:
        """Iterate until no case changes; a case that has converged is set aside."""
        active = np.flatnonzero(~self.converged)
        counts, weights, rates = self.volume.counts[active], self.weights[active], np.empty(0)
        sizes, volumes = counts.sum(1, keepdims=True), counts @ self.bits
        log_odds = np.log(self.prior[active] / (1 - self.prior[active]))[:, None]
        for iteration in range(max_iterations):
            if not len(active):
                return
            before, rates = rates, _rates(counts * weights, sizes, volumes, self.bits)
            weights = _posterior(log_odds, rates, self.bits)
            change = np.abs(rates - before).max((1, 2)) if iteration else np.full(len(active), np.inf)
            if change.min() <= tolerance or iteration + 1 == max_iterations:
                done, rest = change <= tolerance, change > tolerance
                self._keep(active, weights, rates, max_iterations)
                self._keep(active[done], weights[done], rates[done], iteration)
                self.converged[active[done]] = True
                active, counts, weights, rates = active[rest], counts[rest], weights[rest], rates[rest]
                sizes, volumes, log_odds = sizes[rest], volumes[rest], log_odds[rest]

    def _keep(self, cases: npt.NDArray[np.int64], weights: Floats, rates: Floats, iteration: int) -> None:
        self.weights[cases], self.iterations[cases] = weights, iteration
        self.p[cases] = np.where(self.present[cases], rates[:, 0], np.nan)
        self.q[cases] = np.where(self.present[cases], 1 - rates[:, 1], np.nan)


def _rates(inside: Floats, sizes: Floats, volumes: Floats, bits: Floats) -> Floats:
    """M-step ``[n, 4, R]``: true and false positive rate of every rater, and what is missing to 1.

    The first two are 0 for a rater without a vote.
    """
    total, hits = inside.sum(1, keepdims=True), inside @ bits
    rates = np.empty((len(inside), 4, bits.shape[1]))
    positive = rates[:, :2]
    np.divide(hits, total, out=rates[:, 0])
    np.divide(volumes - hits, sizes - total, out=rates[:, 1])
    np.minimum(np.maximum(positive, 0.0, out=positive), 1.0, out=positive)
    np.subtract(1.0, positive, out=rates[:, 2:])
    return rates


def _posterior(log_odds: Floats, rates: Floats, bits: Floats) -> Floats:
    """E-step: foreground probability of each pattern ``[n, P]``, from the sum of the raters' log-likelihood ratios."""
    logs = np.log(rates)
    np.maximum(logs, NEVER, out=logs)
    ratios = logs[:, ::2] - logs[:, 1::2]  # of a vote for foreground, and of one for background
    return expit(log_odds + ratios[:, 1].sum(1, keepdims=True) + (ratios[:, 0] - ratios[:, 1]) @ bits.T)
