# SPDX-License-Identifier: Apache-2.0
"""Tables of raters: who agrees with whom, the human ceiling, outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_multirater.agreement import OutlierReport, find_outliers
from monai_multirater.resampling import bootstrap_cases, case_weights
from monai_multirater.studies.agreement.tables import Floats, Masks

__all__ = [
    "ALL_RATERS",
    "Ceiling",
    "bootstrap_weights",
    "by_rater",
    "ceiling_table",
    "human_ceiling",
    "mean_interval",
    "mean_with_others",
    "quotient",
    "rater_rows",
]

ALL_RATERS = "all raters"


@dataclass(frozen=True, eq=False)
class Ceiling:
    """What each mask reaches against the strict majority of the other raters of its case.

    Attributes:
        values: by measure, one per mask; NaN where undefined.
        size_bias: ``(V - V_others) / V_others``.
        outliers: by the rule of ``find_outliers`` on the median Dice with each of the others.
    """

    values: Mapping[str, Floats]
    size_bias: Floats
    outliers: OutlierReport


def human_ceiling(masks: Masks, cases: int, raters: int) -> Ceiling:
    """Compare every mask with the others' majority."""
    tp, fp, fn, tn = masks.cells.T
    overlap = _ratio(2 * tp, 2 * tp + fp + fn)
    overlap[(tp + fp + fn) == 0] = 1.0
    values = {"dice": overlap, "sensitivity": _ratio(tp, tp + fn), "specificity": _ratio(tn, tn + fp)}
    matrix = np.full((cases, raters), np.nan)
    matrix[masks.case, masks.rater] = masks.agreement
    return Ceiling({**values, **masks.distances}, _ratio(fp - fn, tp + fn), find_outliers(matrix))


def ceiling_table(ceiling: Ceiling, masks: Masks, raters: Sequence[str], seed: int) -> pd.DataFrame:
    """Mean over cases with a 95 % interval from a bootstrap of cases, by rater and for all raters together.

    For all raters together the value of a case is the mean over its raters.
    """
    rows: list[dict[str, Any]] = []
    for name, values in ceiling.values.items():
        for index, rater in enumerate(raters):
            own = values[masks.rater == index]
            rows.append({"rater": rater, "measure": name, **mean_interval(own, seed)})
        rows.append({"rater": ALL_RATERS, "measure": name, **mean_interval(_by_case(values, masks.case), seed)})
    return pd.DataFrame(rows, columns=["rater", "measure", "cases", "mean", "low", "high"])


def mean_interval(values: Floats, seed: int) -> dict[str, float]:
    """Number and mean of the defined values and its 95 % bootstrap interval; NaN without any."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return {"cases": 0, "mean": np.nan, "low": np.nan, "high": np.nan}
    sums = np.stack([defined, np.ones_like(defined)], axis=1)
    found = bootstrap_cases(sums, quotient, weights=bootstrap_weights(len(defined), seed))
    return {"cases": len(defined), "mean": found.estimate, "low": found.interval[0], "high": found.interval[1]}


def quotient(sums: Floats) -> Floats:
    """Mean from sums and counts ``[n, 2]``; NaN where nothing was counted."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1])


@lru_cache(maxsize=4)
def bootstrap_weights(cases: int, seed: int) -> Floats:
    """How often each case occurs in each of 1000 resamples; many measures share them."""
    return case_weights(cases, fraction=1.0, seed=seed)


def rater_rows(
    pairs: pd.DataFrame, masks: Masks, ceiling: Ceiling, table: pd.DataFrame, raters: Sequence[str]
) -> pd.DataFrame:
    """One row per rater of the data set; ``table`` is that of :func:`ceiling_table`."""
    found = {(row["rater"], row["measure"]): row for row in table.to_dict("records")}
    with_others = mean_with_others(pairs)
    rows = []
    for index, rater in enumerate(raters):
        own = masks.rater == index
        dice = found[rater, "dice"]
        row = {
            "rater": rater,
            "cases": int(own.sum()),
            "empty_masks": int((masks.voxels[own] == 0).sum()),
            "mean_dice": with_others.get(rater, np.nan),
            "ceiling_dice": dice["mean"],
            "ceiling_dice_low": dice["low"],
            "ceiling_dice_high": dice["high"],
            "ceiling_sensitivity": found[rater, "sensitivity"]["mean"],
            "ceiling_specificity": found[rater, "specificity"]["mean"],
            "size_bias": _mean(ceiling.size_bias[own]),
        }
        if masks.distances:
            row["boundary_bias"] = _mean(masks.bias[own])
        rows.append({**row, "outlier": bool(ceiling.outliers.flagged[index])})
    return pd.DataFrame(rows)


def mean_with_others(pairs: pd.DataFrame) -> dict[str, float]:
    """Mean Dice of each rater over all their pairs with others; pairs of one rater with themselves do not count."""
    both = by_rater(pairs[pairs["rater_a"] != pairs["rater_b"]])
    return {str(name): float(value) for name, value in both.groupby("rater", sort=True)["dice"].mean().items()}


def by_rater(pairs: pd.DataFrame) -> pd.DataFrame:
    """Every pair twice, once for each of its raters: ``case``, ``rater``, ``dice``."""
    sides = [pairs[["case", f"rater_{side}", "dice"]].set_axis(["case", "rater", "dice"], axis=1) for side in "ab"]
    return pd.concat(sides, ignore_index=True)


def _by_case(values: Floats, case: NDArray[np.int64]) -> Floats:
    defined = ~np.isnan(values)
    _, index = np.unique(case, return_inverse=True)
    size = int(index.max()) + 1 if len(index) else 0
    sums = np.bincount(index, weights=np.where(defined, values, 0.0), minlength=size)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.bincount(index[defined], minlength=size))


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    found = np.full(len(part), np.nan)
    np.divide(part, whole, out=found, where=whole != 0)
    return found
