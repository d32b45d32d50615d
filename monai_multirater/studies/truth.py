# SPDX-License-Identifier: Apache-2.0
"""Which method comes closest to the true vote probability, where phantoms tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_multirater.resampling import BootstrapResult
from monai_multirater.studies.evidence import Summaries, average

__all__ = ["TRUTH_SCORES", "closest_sentence", "closest_to_truth"]

TRUTH_SCORES = ("truth_brier", "truth_mae", "truth_calibration")
NAMES = {
    "truth_brier": "Brier against truth",
    "truth_mae": "mean absolute error against truth",
    "truth_calibration": "calibration error against truth",
}
Found = Mapping[tuple[Path, int], Mapping[str, BootstrapResult]]


def closest_to_truth(summaries: Summaries, rows: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Return one row per data set with a known truth and score against it: the best method and how sure that is.

    Columns: ``closest`` with its ``value`` (mean over runs), ``runner_up``, the paired ``difference`` of the runner-up
    to the closest over the runs that both have (the same manifest and seed), its percentile interval ``low`` to
    ``high`` over shared resamples of the cases, ``distinguishable`` (the interval lies above 0) and ``similar``: all
    methods, separated by semicolons, whose interval to the closest does not lie above 0. Intervals are not corrected
    for having picked the best of many.

    Args:
        summaries: scores of all runs, see :func:`~monai_multirater.studies.evidence.summarize`.
        rows: names of the methods and foreground rules that compete.
    """
    found = []
    for dataset in dict.fromkeys(key[0] for key in summaries):
        for score in TRUTH_SCORES:
            entered = {
                rows[key[1:]]: results
                for key, results in summaries.items()
                if key[0] == dataset and key[1:] in rows and all(score in each for each in results.values())
            }
            if entered:
                found.append({"dataset": dataset, "score": score, **_closest(entered, score)})
    return pd.DataFrame(found)


def _closest(entered: Mapping[str, Found], score: str) -> dict[str, Any]:
    values = {name: average([each[score] for each in results.values()])[0] for name, results in entered.items()}
    first, *others = sorted(values, key=lambda name: (values[name], name))
    gaps = {name: _gap(entered[name], entered[first], score) for name in others}
    similar = [name for name, gap in gaps.items() if not gap[1] > 0]
    row: dict[str, Any] = {"closest": first, "value": values[first], "runner_up": others[0] if others else ""}
    row |= dict(zip(("difference", "low", "high"), gaps[others[0]] if others else (math.nan,) * 3, strict=True))
    return {**row, "distinguishable": bool(others) and others[0] not in similar, "similar": "; ".join(similar)}


def _gap(worse: Found, better: Found, score: str) -> tuple[float, float, float]:
    """Mean paired difference over shared runs with its interval; NaN without such runs."""
    shared = [key for key in worse if key in better]
    if not shared:
        return (math.nan,) * 3
    (mean, here), (other, there) = (average([each[key][score] for key in shared]) for each in (worse, better))
    low, high = BootstrapResult.from_distribution(mean - other, np.subtract(here, there)).interval
    return mean - other, low, high


def closest_sentence(row: Mapping[Any, Any]) -> str:
    """Say in Markdown what a row of :func:`closest_to_truth` says; values times 1000."""
    name, value = NAMES[row["score"]], 1000 * row["value"]
    start = f"Closest to the true vote probability: **{row['closest']}** ({name} x 1000: {value:.2f})"
    if not row["runner_up"]:
        return f"{start}; nothing else was compared."
    if math.isnan(row["low"]):
        return f"{start}; the next, {row['runner_up']}, has no run on the same data and seed to compare with."
    gap = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(1000 * row[key] for key in ("difference", "low", "high")))
    others = [each for each in row["similar"].split("; ") if each and each != row["runner_up"]]
    if row["distinguishable"]:
        also = f" Not distinguishable from it, though: {', '.join(others)}." if others else ""
        return f"{start}; the next, {row['runner_up']}, is worse by {gap}.{also}"
    also = f", nor from {', '.join(others)}" if others else ""
    return (
        f"{start}, but not distinguishable from the next, {row['runner_up']}, whose difference {gap} includes 0{also}."
    )
