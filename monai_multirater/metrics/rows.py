# SPDX-License-Identifier: Apache-2.0
"""The row of sums that each case leaves behind, and the scores that are read from sums of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.inputs import VoteCase
from monai_multirater.calibration.ranking import rank_cases
from monai_multirater.calibration.reliability import tabulate
from monai_multirater.calibration.scores import per_rater_ece
from monai_multirater.calibration.truth import TruthTable
from monai_multirater.metrics.cases import RatedCase

__all__ = ["MEANS", "SCALARS", "SCORES", "RowLayout", "case_row", "overlap"]

Array = npt.NDArray[np.float64]

SCALARS = (
    "voxels",
    "raters",
    "positives",
    "negatives",
    "concordant",
    "squared_error",
    "log_loss",
    "truth_voxels",
    "truth_absolute",
    "truth_squared",
    "mr_ece_imagewise",
    "per_rater_ece",
    "dice_majority",
    "dice_raters",
)
BINNED = ("pairs", "confidence", "votes", "truth_count", "truth_confidence", "truth_sum")
MEANS = ("mr_ece_imagewise", "per_rater_ece", "dice_majority", "dice_raters")


@dataclass(frozen=True)
class RowLayout:
    """Where each quantity lies in a row: `SCALARS` first, then `bins` numbers for each of `BINNED`."""

    bins: int

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return len(SCALARS) + self.bins * len(BINNED)

    def __getitem__(self, name: str) -> int | slice:
        """Return the column of a scalar, or the columns of a binned quantity."""
        if name in SCALARS:
            return SCALARS.index(name)
        start = len(SCALARS) + BINNED.index(name) * self.bins
        return slice(start, start + self.bins)


def case_row(case: RatedCase, layout: RowLayout, *, log_loss: bool = True, ranking: bool = True) -> Array:
    """Row of one case: sums over its (voxel, rater) pairs; NaN for what its label does not tell."""
    row = np.full(layout.width, np.nan)
    votes = case.votes
    table = tabulate(votes, bins=layout.bins, log_loss=log_loss)
    row[layout["voxels"]], row[layout["raters"]] = votes.votes.size, votes.raters
    row[layout["positives"]] = table.sum_votes.sum()
    row[layout["negatives"]] = table.pairs.sum() - table.sum_votes.sum()
    row[layout["squared_error"]], row[layout["log_loss"]] = table.squared_error, table.log_loss
    row[layout["pairs"]], row[layout["votes"]] = table.pairs, table.sum_votes
    row[layout["confidence"]] = table.sum_confidence
    row[layout["mr_ece_imagewise"]] = table.compute()
    row[layout["dice_majority"]] = overlap(votes.probability, 2 * votes.votes.astype(np.int16) > votes.raters)
    if ranking:
        row[layout["concordant"]] = rank_cases([votes]).concordant
    if case.planes is not None:
        planes = case.planes.reshape(len(case.planes), -1)
        row[layout["per_rater_ece"]] = per_rater_ece(votes.probability, planes, bins=layout.bins)
        dice = np.array([overlap(votes.probability, plane > 0) for plane in planes])
        row[layout["dice_raters"]] = _divide(np.nansum(dice)[None], np.sum(~np.isnan(dice))[None])[0]
    if case.truth is not None:
        _add_truth(row, votes, case, layout)
    return row


def _add_truth(row: Array, votes: VoteCase, case: RatedCase, layout: RowLayout) -> None:
    assert case.truth is not None
    truth = TruthTable.from_case(votes.probability, case.truth, bins=layout.bins)
    row[layout["truth_voxels"]] = truth.voxels.sum()
    row[layout["truth_absolute"]], row[layout["truth_squared"]] = truth.absolute_error, truth.squared_error
    row[layout["truth_count"]], row[layout["truth_sum"]] = truth.voxels, truth.sum_truth
    row[layout["truth_confidence"]] = truth.sum_probability


def overlap(probability: npt.NDArray[np.floating] | npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_]) -> float:
    """Dice of the prediction (`p > 0.5`, or a mask) and a mask; NaN, undefined, when both are empty."""
    predicted = probability > 0.5
    size = int(np.count_nonzero(predicted)) + int(np.count_nonzero(mask))
    return 2 * int(np.count_nonzero(predicted & mask)) / size if size else float("nan")


def _divide(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full(len(denominator), np.nan), where=denominator > 0)


def _gap(first: str, second: str, count: str) -> Callable[[Array, RowLayout], Array]:
    def score(sums: Array, layout: RowLayout) -> Array:
        return _divide(
            np.abs(sums[:, layout[first]] - sums[:, layout[second]]).sum(axis=1),
            sums[:, layout[count]].sum(axis=1),
        )

    return score


def _per(total: str, *counts: str) -> Callable[[Array, RowLayout], Array]:
    def score(sums: Array, layout: RowLayout) -> Array:
        return _divide(sums[:, layout[total]], np.sum([sums[:, layout[name]] for name in counts], axis=0))

    return score


# Scores of sums of rows `[n, width]`, one value per row of sums.
SCORES: dict[str, Callable[[Array, RowLayout], Array]] = {
    "mr_ece": _gap("votes", "confidence", "pairs"),
    "brier": _per("squared_error", "positives", "negatives"),
    "nll": _per("log_loss", "positives", "negatives"),
    "truth_mae": _per("truth_absolute", "truth_voxels"),
    "truth_brier": _per("truth_squared", "truth_voxels"),
    "truth_calibration": _gap("truth_sum", "truth_confidence", "truth_count"),
}
