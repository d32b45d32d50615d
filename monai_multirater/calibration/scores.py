# SPDX-License-Identifier: Apache-2.0
"""Calibration and probability scores over (voxel, rater) pairs, as plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import numpy as np

from monai_multirater.calibration.equal_mass import equal_mass_error
from monai_multirater.calibration.inputs import (
    ArrayLike,
    VoteCase,
    as_case,
    as_cases,
    check_probability,
    rater_planes,
    to_numpy,
)
from monai_multirater.calibration.ranking import rank_cases
from monai_multirater.calibration.reliability import ReliabilityTable, check_bins, tabulate

Cases = ArrayLike | Sequence[ArrayLike]
Counts = int | ArrayLike | Sequence[int]
Masks = ArrayLike | Sequence[ArrayLike | None]


def _table(cases: list[VoteCase], *, bins: int, log_loss: bool = False) -> ReliabilityTable:
    return reduce(ReliabilityTable.merge, (tabulate(case, bins=bins, log_loss=log_loss) for case in cases))


def multirater_ece(
    probability: Cases,
    votes: Cases | None = None,
    n_raters: Counts | None = None,
    *,
    ratings: Cases | None = None,
    rater_mask: Masks | None = None,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
) -> float:
    r"""Multi-rater expected calibration error (MR-ECE) over all (voxel, rater) pairs.

    \( \mathrm{MR\text{-}ECE} = \frac{1}{N} \sum_k \bigl| \sum_{(v,r) \in B_k} y_{vr} - p_v \bigr| \), where
    `N` is the number of pairs. With the same raters on every case it equals the ECE against the mean vote. It
    is not the mean of the per-rater errors: see `per_rater_ece`.

    Args:
        probability: foreground probability of one case `[*spatial]`, of a batch `[B, 1, *spatial]` (then
            `n_raters` is `[B]`), or a list of cases of any sizes.
        votes: raters present who say foreground, whole numbers, same layout.
        n_raters: raters present: int, `[B]`, or a list.
        ratings: instead of votes, masks `[R, *spatial]` in {0, 1} (a batch `[B, R, *spatial]` needs
            `rater_mask`).
        rater_mask: bool `[R]` or `[B, R]`, True for a rater present; the other planes are ignored.
        bins: number of bins.
        binning: "width" for bins of equal width, closed on the right; "mass" for bins that hold as many pairs
            each, cut at quantiles of the probability (equal probabilities stay together, so that many equal
            values give fewer bins).

    Returns:
        The error, in [0, 1]; NaN without a voxel.

    Raises:
        TypeError, ValueError: for logits, NaN, votes that are fractional or above `n_raters`, unequal shapes,
            no rater present, an unknown `binning`.
    """
    check_bins(bins, function="multirater_ece")
    cases = as_cases(probability, votes, n_raters, ratings=ratings, rater_mask=rater_mask, function="multirater_ece")
    if binning == "width":
        return _table(cases, bins=bins).compute()
    if binning == "mass":
        return equal_mass_error(cases, bins)
    raise ValueError(f"multirater_ece: 'binning' must be 'width' or 'mass', got {binning!r}.")


def per_rater_ece(
    probability: ArrayLike, ratings: ArrayLike, *, rater_mask: ArrayLike | None = None, bins: int = 15
) -> float:
    """Mean over the raters present of the ECE of `probability [*spatial]` against each rater's own mask.

    Never below `multirater_ece` on the same case (the mean of absolute values against the absolute value of
    the mean). `ratings` is `[R, *spatial]`; a missing rater is left out of the mean.
    """
    check_bins(bins, function="per_rater_ece")
    planes = rater_planes(ratings, rater_mask, function="per_rater_ece")
    cases = [as_case(probability, plane, 1, function="per_rater_ece") for plane in planes]
    return float(np.mean([tabulate(case, bins=bins, log_loss=False).compute() for case in cases]))


def top_label_ece(
    probability: ArrayLike,
    ratings: ArrayLike,
    *,
    rater_mask: ArrayLike | None = None,
    bins: int = 50,
    multiclass: bool = False,
) -> float:
    """Top-label ECE against each rater, averaged over the raters present (the CURVAS challenge uses 50 bins).

    Confidence is the probability of the predicted label, which is right where it equals the rater's label.
    Binary (default): `probability [*spatial]` of the foreground, `ratings [R, *spatial]` in {0, 1}; the
    predicted label is foreground from 0.5 on. `multiclass=True`: `probability [C, *spatial]` sums to one over
    classes, `ratings [R, *spatial]` hold class numbers 0..C-1, the first of equal classes is predicted.
    """
    name = "top_label_ece"
    check_bins(bins, function=name)
    p = to_numpy(probability)
    if multiclass:
        flat = check_probability(p, function=name).reshape(p.shape[0], -1)
        labels = to_numpy(ratings).reshape(len(ratings), -1)
        if rater_mask is not None:
            labels = labels[to_numpy(rater_mask).astype(bool)]
        confidence, predicted = flat.max(axis=0), flat.argmax(axis=0)
    else:
        labels = rater_planes(ratings, rater_mask, function=name)
        labels = labels.reshape(len(labels), -1)
        flat = check_probability(p, function=name)
        confidence, predicted = np.maximum(flat, 1 - flat), flat >= 0.5
    if not len(labels):
        raise ValueError(f"{name}: no rater is present; a case needs at least one.")
    errors = [
        tabulate(as_case(confidence, labels_r == predicted, 1, function=name), bins=bins, log_loss=False).compute()
        for labels_r in labels
    ]
    return float(np.mean(errors))


def imagewise_ece(
    probability: Cases,
    votes: Cases | None = None,
    n_raters: Counts | None = None,
    *,
    ratings: Cases | None = None,
    rater_mask: Masks | None = None,
    bins: int = 15,
) -> float:
    """Mean over cases of the MR-ECE of each case. With one rater: MONAI's image-wise marginal calibration
    error.

    Large and small images weigh the same, and errors of opposite sign on two images do not cancel. NaN cases
    (no voxel) are left out. Arguments as in `multirater_ece`.
    """
    name = "imagewise_ece"
    check_bins(bins, function=name)
    cases = as_cases(probability, votes, n_raters, ratings=ratings, rater_mask=rater_mask, function=name)
    errors = [tabulate(case, bins=bins, log_loss=False).compute() for case in cases if case.votes.size]
    return float(np.mean(errors)) if errors else float("nan")


def brier_score(
    probability: Cases,
    votes: Cases | None = None,
    n_raters: Counts | None = None,
    *,
    ratings: Cases | None = None,
    rater_mask: Masks | None = None,
) -> float:
    """Brier score, the mean of `(p - y)^2` over all (voxel, rater) pairs; NaN without a pair.

    Arguments as in `multirater_ece`. Source: Brier 1950
    (doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).
    """
    cases = as_cases(probability, votes, n_raters, ratings=ratings, rater_mask=rater_mask, function="brier_score")
    return _table(cases, bins=1).brier_score()


def negative_log_likelihood(
    probability: Cases,
    votes: Cases | None = None,
    n_raters: Counts | None = None,
    *,
    ratings: Cases | None = None,
    rater_mask: Masks | None = None,
) -> float:
    """Mean of `-y log p - (1 - y) log(1 - p)` over all (voxel, rater) pairs, in nats; NaN without a pair.

    Logarithms are bounded below by -100, as in `torch.nn.functional.binary_cross_entropy`: a probability that
    float32 rounds to exactly 0 or 1 and that is wrong costs 100. Arguments as in `multirater_ece`.
    """
    cases = as_cases(
        probability,
        votes,
        n_raters,
        ratings=ratings,
        rater_mask=rater_mask,
        function="negative_log_likelihood",
    )
    return _table(cases, bins=1, log_loss=True).negative_log_likelihood()


def multirater_auc(
    probability: Cases,
    votes: Cases | None = None,
    n_raters: Counts | None = None,
    *,
    ratings: Cases | None = None,
    rater_mask: Masks | None = None,
) -> float:
    """Area under the ROC curve over all (voxel, rater) pairs of all cases together, exact; ties count one
    half.

    The probability that a random (voxel, rater) pair that says foreground gets a higher `p` than a random one
    that says background. NaN when no pair, or every pair, says foreground. Arguments as in `multirater_ece`.
    """
    cases = as_cases(probability, votes, n_raters, ratings=ratings, rater_mask=rater_mask, function="multirater_auc")
    return rank_cases(cases).auc
