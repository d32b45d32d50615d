# SPDX-License-Identifier: Apache-2.0
"""Dice of a model's foreground with each rater, and of each rater with the others, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from monai_multirater.calibration.inputs import ArrayLike, rater_planes, to_numpy
from monai_multirater.metrics.gather import gather_names, gather_rows
from monai_multirater.metrics.rows import overlap
from monai_multirater.resampling import BootstrapResult

__all__ = ["DICE_PARTNERS", "RaterDice", "RaterDiceCollector", "rater_dice"]

Array = npt.NDArray[np.float64]
DICE_PARTNERS = ("model", "consensus", "others")
"""Whom a rater's mask is compared with: the model's foreground, the majority of the others, each of the others."""


def rater_dice(probability: ArrayLike, ratings: ArrayLike, rater_mask: ArrayLike | None = None) -> Array:
    r"""Dice \( 2 |A \cap B| / (|A| + |B|) \) of each rater's mask with a model and with the other raters.

    Args:
        probability: foreground probability `[1, *spatial]` or `[*spatial]`; the model's foreground is `p > 0.5`.
        ratings: masks `[R, *spatial]` in {0, 1}.
        rater_mask: bool `[R]`, False for a rater who did not mark this case; all are present by default.

    Returns:
        float64 `[R, 3]`. Columns: with the model; with the consensus of the other raters present, foreground where
        more than half of them say so (a tie is background); the mean of the Dice with each other rater present.
        NaN for absent raters and where both masks are empty; such pairs do not enter the mean. A rater who is
        alone has only the first.

    Raises:
        ValueError: no rater is present, masks hold other numbers, or shapes differ.
    """
    planes = rater_planes(ratings, rater_mask, function="rater_dice") > 0
    predicted = to_numpy(probability)
    if predicted.size != planes[0].size or predicted.shape[-(planes.ndim - 1) :] != planes.shape[1:]:
        raise ValueError(
            f"rater_dice: 'probability' must have the shape of a mask, {planes.shape[1:]}. Got {predicted.shape}."
        )
    predicted, total = predicted.reshape(planes.shape[1:]), planes.sum(axis=0, dtype=np.int16)
    found = np.full((len(planes), 3), np.nan)
    pairs = np.full((len(planes), len(planes)), np.nan)
    for first, second in combinations(range(len(planes)), 2):
        pairs[first, second] = pairs[second, first] = overlap(planes[first], planes[second])
    for index, plane in enumerate(planes):
        found[index, 0] = overlap(predicted, plane)
        if len(planes) > 1:
            found[index, 1] = overlap(plane, 2 * (total - plane) > len(planes) - 1)
    found[:, 2] = _mean(np.nansum(pairs, axis=1), (~np.isnan(pairs)).sum(axis=1))
    present = np.ones(len(to_numpy(ratings)), bool) if rater_mask is None else to_numpy(rater_mask).astype(bool)
    result = np.full((len(present), 3), np.nan)
    result[present] = found
    return result


@dataclass(frozen=True, eq=False)
class RaterDice:
    """What `rater_dice` finds in the cases of an evaluation.

    Attributes:
        cases: name of each case.
        raters: name of each rater.
        present: bool `[cases, R]`, whether the rater marked the case.
        values: float64 `[cases, R, 3]`, see `rater_dice`.
    """

    cases: tuple[str, ...]
    raters: tuple[str, ...]
    present: npt.NDArray[np.bool_]
    values: Array

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return one entry per rater and case that the rater marked: `rater`, `case`, and the three Dice values."""
        rater, case = np.nonzero(self.present.T)
        columns: dict[str, npt.NDArray[np.generic]] = {
            "rater": np.array(self.raters, dtype=str)[rater],
            "case": np.array(self.cases, dtype=str)[case],
        }
        return columns | {name: self.values[case, rater, index] for index, name in enumerate(DICE_PARTNERS)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> RaterDice:
        """Put together what `columns` took apart; raters in the order in which they come, cases sorted."""
        raters = tuple(dict.fromkeys(str(name) for name in columns["rater"]))
        cases = tuple(sorted({str(name) for name in columns["case"]}))
        rater = [raters.index(str(name)) for name in columns["rater"]]
        places = {name: index for index, name in enumerate(cases)}
        case = [places[str(name)] for name in columns["case"]]
        present = np.zeros((len(cases), len(raters)), bool)
        values = np.full((len(cases), len(raters), 3), np.nan)
        present[case, rater] = True
        values[case, rater] = np.stack([np.asarray(columns[name], np.float64) for name in DICE_PARTNERS], axis=1)
        return cls(cases, raters, present, values)

    def means(self, weights: Array, names: Sequence[str]) -> tuple[Array, Array]:
        """Mean over cases of every value, and the same in resamples of the cases.

        Args:
            weights: `[resamples, len(names)]`, see `monai_multirater.resampling.case_weights`.
            names: the cases that the columns of `weights` stand for, among them all of these.

        Returns:
            float64 `[R, 3]` and `[resamples, R, 3]`; NaN where no case drawn has a value.
        """
        column = {name: index for index, name in enumerate(names)}
        drawn = weights[:, [column[name] for name in self.cases]]
        flat = self.values.reshape(len(self.cases), -1)
        defined = (~np.isnan(flat)).astype(np.float64)
        shape = (len(self.raters), 3)
        everything = _mean(np.nansum(flat, axis=0), defined.sum(axis=0)).reshape(shape)
        return everything, _mean(drawn @ np.nan_to_num(flat), drawn @ defined).reshape(-1, *shape)

    def compute_summary(self, weights: Array, names: Sequence[str]) -> dict[str, dict[str, BootstrapResult]]:
        """`means` with 95 % percentile intervals, by rater and partner, without what no case defines."""
        values, resampled = self.means(weights, names)
        return {
            rater: {
                partner: BootstrapResult.from_distribution(float(values[r, p]), resampled[:, r, p])
                for p, partner in enumerate(DICE_PARTNERS)
                if not np.isnan(values[r, p])
            }
            for r, rater in enumerate(self.raters)
        }


class RaterDiceCollector:
    """Collect `rater_dice` of the cases of an evaluation, on all processes.

    Args:
        raters: names, in the order of the rater axis.
    """

    def __init__(self, raters: Sequence[str]) -> None:
        self.raters = tuple(raters)
        self.reset()

    def reset(self) -> None:
        """Forget all cases."""
        self._names: list[str] = []
        self._rows: list[Array] = []

    def update(self, probability: ArrayLike, label: Mapping[str, Any]) -> None:
        """Add one case: `ratings [R, *]`, and optionally `rater_mask [R]` and `case`."""
        mask = label.get("rater_mask")
        values = rater_dice(probability, label["ratings"], mask)
        if len(values) != len(self.raters):
            raise ValueError(
                f"RaterDiceCollector: 'ratings' must have the planes of {len(self.raters)} raters. Got {len(values)}."
            )
        present = np.ones(len(values)) if mask is None else to_numpy(mask).astype(np.float64)
        self._rows.append(np.concatenate([present[:, None], values], axis=1).ravel())
        self._names.append(str(label.get("case", "")))

    def evidence(self) -> RaterDice:
        """All cases of all processes, each once if all are named, sorted by name; collective."""
        width = 4 * len(self.raters)
        local = np.stack(self._rows) if self._rows else np.zeros((0, width))
        rows = torch.cat(gather_rows(torch.from_numpy(local))).cpu().numpy()
        names = gather_names(self._names)
        order = list(range(len(names)))
        if all(names):
            first = {name: index for index, name in reversed(list(enumerate(names)))}
            order = [first[name] for name in sorted(first)]
        chosen = rows[order].reshape(len(order), len(self.raters), 4)
        kept = tuple(names[index] or str(index) for index in order)
        return RaterDice(kept, self.raters, chosen[..., 0] > 0, chosen[..., 1:])


def _mean(total: Array, count: npt.NDArray[Any]) -> Array:
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)
