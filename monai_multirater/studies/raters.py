# SPDX-License-Identifier: Apache-2.0
"""Thresholded Dice of every method with each rater, and of each rater with the others: the human ceiling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_multirater.metrics import DICE_PARTNERS, RaterDice
from monai_multirater.resampling import BootstrapResult
from monai_multirater.studies.evidence import Draws, Resampling, draw_cases, evaluations
from monai_multirater.studies.runs import Run

__all__ = ["CEILINGS", "MEAN", "rater_table"]

CEILINGS = {
    "consensus": "rater vs majority of others",
    "others": "rater vs each other (mean)",
}
MEAN = "mean"
Array = npt.NDArray[np.float64]


def rater_table(runs: Sequence[Run], *, resamples: int = 1000, fraction: float = 0.6, seed: int = 0) -> pd.DataFrame:
    """Return one row per data set, method, foreground rule and rater: the mean Dice over cases with an interval.

    The Dice is that of the foreground ``p > 0.5`` with the rater's mask, see
    :func:`~monai_multirater.metrics.rater_dice`; a case where both are empty, or that the rater did not mark, does not
    count. Values are averaged over runs, intervals are percentiles over the resamples of
    :func:`~monai_multirater.studies.tabulate`. The rater ``mean`` is the mean over raters. Last come the raters
    themselves under the names of ``CEILINGS`` without a rule, from the same cases and resamples. Evaluations without
    ``dice.csv``, which older versions made, have no rows.

    Args:
        runs, resamples, fraction, seed: see :func:`~monai_multirater.studies.tabulate`.
    """
    evaluated = evaluations(runs)
    draws = draw_cases(evaluated, Resampling(resamples, fraction, seed))
    models: dict[tuple[str, str, str], list[tuple[Draws, RaterDice]]] = {}
    humans: dict[str, dict[Any, tuple[Draws, RaterDice]]] = {}
    for each in evaluated:
        dice = each.dice()
        if dice is not None:
            found = (draws[each.run.manifest.parent], dice)
            models.setdefault(each.key, []).append(found)
            humans.setdefault(each.dataset, {})[each.run.manifest] = found
    rows = []
    for dataset, manifests in humans.items():
        for key, parts in models.items():
            if key[0] == dataset:
                rows += _rows(key, parts, "model")
        for partner, name in CEILINGS.items():
            rows += _rows((dataset, name, ""), manifests.values(), partner)
    return pd.DataFrame(rows)


def _rows(key: tuple[str, str, str], parts: Iterable[tuple[Draws, RaterDice]], partner: str) -> list[dict[str, Any]]:
    """Rows of the raters and of their mean; raters without a value have none."""
    values: dict[str, list[tuple[float, Array]]] = {}
    for draws, dice in parts:
        means, resampled = dice.means(draws.weights, draws.names)
        column = DICE_PARTNERS.index(partner)
        for index, rater in enumerate(dice.raters):
            if not np.isnan(means[index, column]):
                values.setdefault(rater, []).append((float(means[index, column]), resampled[:, index, column]))
    found = {
        rater: (float(np.mean([mean for mean, _ in each])), np.mean([line for _, line in each], axis=0), len(each))
        for rater, each in values.items()
    }
    if not found:
        return []
    lines = np.stack([line for _, line, _ in found.values()])
    defined = (~np.isnan(lines)).sum(axis=0)
    middle = np.divide(np.nansum(lines, axis=0), defined, out=np.full(defined.shape, np.nan), where=defined > 0)
    overall = float(np.mean([mean for mean, _, _ in found.values()]))
    rows = []
    for rater, (mean, line, runs) in {**found, MEAN: (overall, middle, max(n for _, _, n in found.values()))}.items():
        low, high = BootstrapResult.from_distribution(mean, line).interval
        row = dict(zip(("dataset", "method", "rule"), key, strict=True))
        rows.append({**row, "rater": rater, "mean": mean, "low": low, "high": high, "runs": runs})
    return rows
