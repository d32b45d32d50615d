# SPDX-License-Identifier: Apache-2.0
"""Dawid-Skene: true classes and confusion matrices of the raters, with the class frequencies estimated too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monai_multirater.fusion.confusion import LabelPatterns, posterior
from monai_multirater.fusion.patterns import Floats
from monai_multirater.fusion.results import case_by_case

__all__ = ["DawidSkeneResult", "dawid_skene"]


@dataclass(frozen=True, eq=False)
class DawidSkeneResult:
    """Result of :func:`dawid_skene`; for a batch every entry has the batch as its first axis.

    Attributes:
        probability: float32 ``[C, *spatial]``, probability of each class.
        confusion: float64 ``[R, C, C]``: P(rater says l | truth is c) at ``[r, c, l]``; NaN for absent raters and for
            classes that no voxel can be.
        prior: float64 ``[C]``, estimated frequency of each class.
        iterations: rounds of expectation and maximization.
        converged: False when ``max_iterations`` was reached.
    """

    probability: Tensor
    confusion: Tensor
    prior: Tensor
    iterations: int | Tensor
    converged: bool | Tensor


def dawid_skene(
    labels: Tensor,
    rater_mask: Tensor | None = None,
    *,
    classes: int = 2,
    max_iterations: int = 10_000,
    tolerance: float = 1e-7,
    batched: bool | None = None,
) -> DawidSkeneResult:
    """Maximum likelihood by expectation maximization, on counts of label patterns.

    Start from T(v, c) = share of the raters present who say c, and repeat

    * ``prior_c = mean_v T(v, c)`` and ``confusion_r[c, l]`` = share of class c that rater r calls l, weighted by T,
    * ``T(v, c)`` proportional to ``prior_c`` times the product over raters of ``confusion_r[c, label_r(v)]``,

    until no prior and no confusion changes by more than ``tolerance``. With two classes it differs from STAPLE in the
    prior only, which STAPLE fixes at the first mean vote.

    Args:
        labels: ``[R, *spatial]`` or ``[B, R, *spatial]``, integers in 0..classes-1; masks for two classes.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present; the planes of absent raters are ignored.
        classes: C.
        max_iterations: most rounds.
        tolerance: largest change that counts as none.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so. Cases are
            estimated one by one.

    Returns:
        a :class:`DawidSkeneResult`. A class that nobody uses has prior 0, probability 0 and an undefined (NaN) row of
        every confusion matrix.

    Raises:
        TypeError, ValueError: labels that are no integers or out of range, a mask that does not fit, an option out of
            range.

    Source: Dawid and Skene 1979, doi:10.2307/2346806.
    """
    if max_iterations < 1 or not tolerance > 0:
        raise ValueError(
            f"dawid_skene: max_iterations must be at least 1, tolerance positive. Got {max_iterations}, {tolerance}."
        )
    options = {"classes": classes, "max_iterations": max_iterations, "tolerance": tolerance}
    several = case_by_case(dawid_skene, labels, rater_mask, batched, **options)
    if several is not None:
        return several
    patterns = LabelPatterns.count(labels, rater_mask, classes, "dawid_skene")
    truth = patterns.vote_shares()
    prior, confusion = np.full(classes, np.nan), np.full((len(labels), classes, classes), np.nan)
    iterations, converged = 0, False
    while iterations < max_iterations and not converged:
        before = prior, confusion
        prior = patterns.counts @ truth / patterns.counts.sum()
        confusion = patterns.confusion(truth)
        truth = posterior(prior, patterns.likelihood(np.nan_to_num(confusion)))
        iterations += 1
        converged = iterations > 1 and max(map(_change, before, (prior, confusion))) <= tolerance
    return DawidSkeneResult(
        patterns.spread(truth, torch.float32),
        torch.from_numpy(confusion),
        torch.from_numpy(prior),
        iterations,
        converged,
    )


def _change(before: Floats, after: Floats) -> float:
    return float(np.abs(np.nan_to_num(after) - np.nan_to_num(before)).max())
