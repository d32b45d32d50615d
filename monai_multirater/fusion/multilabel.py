# SPDX-License-Identifier: Apache-2.0
"""Multi-label STAPLE: several classes at once, with fixed class frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monai_multirater.fusion.confusion import LabelPatterns, posterior
from monai_multirater.fusion.results import case_by_case

__all__ = ["MultiLabelStapleResult", "multilabel_staple"]


@dataclass(frozen=True, eq=False)
class MultiLabelStapleResult:
    """Result of :func:`multilabel_staple`; for a batch every entry has the batch as its first axis.

    Attributes:
        labels: int64 ``[1, *spatial]``, most probable class; ``undecided`` where several are equally probable.
        probability: float32 ``[C, *spatial]``, probability of each class.
        confusion: float64 ``[R, C, C]``: P(rater says l | truth is c) at ``[r, c, l]``; 0 for classes that no voxel can
            be, NaN for absent raters. (ITK's matrices have the truth in the second axis.)
        prior: float64 ``[C]``, share of each class among all labels of the raters present.
        iterations: rounds of expectation and maximization.
        converged: False when ``max_iterations`` was reached.
    """

    labels: Tensor
    probability: Tensor
    confusion: Tensor
    prior: Tensor
    iterations: int | Tensor
    converged: bool | Tensor


def multilabel_staple(
    labels: Tensor,
    rater_mask: Tensor | None = None,
    *,
    classes: int,
    undecided: int | None = None,
    max_iterations: int = 10_000,
    tolerance: float = 1e-5,
    batched: bool | None = None,
) -> MultiLabelStapleResult:
    """STAPLE for several classes, as in ITK's ``MultiLabelSTAPLEImageFilter``, on counts of label patterns.

    The prior of a class is its share among all labels of all raters and stays fixed. The confusion matrices start from
    the majority vote (of the voxels that rater r calls l, the share that the vote calls c; voxels with a tied vote
    count in no class) and are then estimated by expectation maximization until none changes by ``tolerance`` or more.

    Args:
        labels: ``[R, *spatial]`` or ``[B, R, *spatial]``, integers in 0..classes-1.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present; the planes of absent raters are ignored.
        classes: C.
        undecided: label of voxels whose most probable class is not unique; by default C, as in ITK.
        max_iterations: most rounds.
        tolerance: change of a confusion matrix below which the estimation ends.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so. Cases are
            estimated one by one.

    Returns:
        a :class:`MultiLabelStapleResult`.

    Raises:
        TypeError, ValueError: labels that are no integers or out of range, a mask that does not fit, an option out of
            range.

    Source: Rohlfing, Russakoff, Maurer 2004, doi:10.1109/TMI.2004.830803.
    """
    if max_iterations < 1 or not tolerance > 0:
        raise ValueError(
            "multilabel_staple: max_iterations must be at least 1, tolerance positive. "
            f"Got {max_iterations} and {tolerance}."
        )
    options = {"undecided": undecided, "max_iterations": max_iterations, "tolerance": tolerance}
    several = case_by_case(multilabel_staple, labels, rater_mask, batched, classes=classes, **options)
    if several is not None:
        return several
    patterns = LabelPatterns.count(labels, rater_mask, classes, "multilabel_staple")
    said = patterns.counts @ patterns.one_hot.sum(1)
    prior, confusion = said / said.sum(), _confusion_from_voting(patterns)
    iterations, converged = 0, False
    while iterations < max_iterations and not converged:
        before = confusion
        confusion = np.nan_to_num(patterns.confusion(posterior(prior, patterns.likelihood(before))))
        iterations += 1
        converged = bool(np.abs(confusion - before).max() < tolerance)
    truth = posterior(prior, patterns.likelihood(confusion))
    decided = np.where(_ties(truth), classes if undecided is None else undecided, truth.argmax(1))
    confusion[~patterns.present] = np.nan
    return MultiLabelStapleResult(
        patterns.spread(decided, torch.int64).unsqueeze(0),
        patterns.spread(truth, torch.float32),
        torch.from_numpy(confusion),
        torch.from_numpy(prior),
        iterations,
        converged,
    )


def _ties(scores: np.ndarray) -> np.ndarray:
    """Whether the largest score of each row ``[P, C]`` occurs more than once, or is 0."""
    best = scores.max(1, keepdims=True)
    return np.asarray(((scores == best).sum(1) > 1) | (best[:, 0] == 0))


def _confusion_from_voting(patterns: LabelPatterns) -> np.ndarray:
    """``[R, C, L]``: of the voxels that r calls l, the share that the majority calls c; 0 where r never says l."""
    votes = patterns.one_hot.sum(1)
    winner = (votes == votes.max(1, keepdims=True)) & ~_ties(votes)[:, None]
    joint = np.einsum("pc,prl->rcl", patterns.counts[:, None] * winner, patterns.one_hot)
    whole = np.broadcast_to(joint.sum(1, keepdims=True), joint.shape)
    return np.divide(joint, whole, out=np.zeros(joint.shape), where=whole > 0)
