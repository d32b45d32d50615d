# SPDX-License-Identifier: Apache-2.0
"""Tables of a comparison: scores with intervals, single raters beside the models, chosen settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_multirater.studies.evidence import Resampling, Summaries, average, evaluations, summarize
from monai_multirater.studies.formats import Cell, Column, Grid, column_of, replace_file, to_markdown
from monai_multirater.studies.runs import FOREGROUND_RULES, Run

__all__ = ["HUMAN", "SCORES", "differences", "human_rows", "score_rows", "settings_table", "tabulate", "write_tables"]

HUMAN = "single rater (mean, range)"
SCORES = (
    "mr_ece",
    "auc",
    "brier",
    "nll",
    "dice_raters",
    "dice_majority",
    "truth_mae",
    "truth_brier",
    "truth_calibration",
)


def write_tables(table: pd.DataFrame, out: Path, **others: pd.DataFrame) -> list[Path]:
    """Write the table as ``scores.csv`` and, per data set, readable as ``<dataset>.md``; return the paths.

    Other tables, such as ``settings=...`` and ``differences=...``, go to ``<name>.csv`` if they have a row.
    """
    contents = {"scores.csv": table.to_csv(index=False)}
    contents |= {f"{name}.csv": other.to_csv(index=False) for name, other in others.items() if len(other)}
    for dataset, part in table.groupby("dataset", sort=False):
        contents[f"{dataset}.md"] = to_markdown(_scores_grid(part), heading=False)
    return [replace_file(out / name, content) for name, content in contents.items()]


def _scores_grid(part: pd.DataFrame) -> Grid:
    """Rows of method and foreground map; ``mean [low, high]``, times 1000 except for the AUC and Dice."""
    scores = list(dict.fromkeys(part["score"]))
    found = {
        (row["method"], row["rule"], row["score"]): Cell(row["mean"], row["low"], row["high"])
        for row in part.to_dict("records")
    }
    names = dict.fromkeys(zip(part["method"], part["rule"], strict=True))
    rows = tuple((key, tuple(found.get((*key, score)) for score in scores)) for key in names)
    return Grid("Scores", ("method", "foreground"), tuple(map(_plain_column, scores)), rows)


def _plain_column(score: str) -> Column:
    column = column_of(score)
    return column_of(score, title=score if column.factor == 1 else f"{score} x 1000")


def settings_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run and setting tried: what was set, its validation scores, whether it was chosen.

    Runs without options to tune have no row.
    """
    rows = []
    for run in runs:
        if not run.trials_file.is_file():
            continue
        for trial in json.loads(run.trials_file.read_text(encoding="utf-8"))["trials"]:
            settings = ", ".join(f"{key}={value}" for key, value in trial["settings"].items()) or "as configured"
            manifest = f"{run.manifest.parent.name}/{run.manifest.name}"
            where = {"method": run.method, "manifest": manifest, "seed": run.seed, "settings": settings}
            rows.append({**where, "chosen": trial["chosen"], **trial["validation"]})
    return pd.DataFrame(rows)


def tabulate(
    runs: Sequence[Run],
    *,
    scores: Sequence[str] = SCORES,
    resamples: int = 1000,
    fraction: float = 0.6,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per data set, method, foreground rule and score: the mean over runs with an interval.

    Intervals are percentiles over resamples of the test cases. A resample draws from all cases of a data set (the
    manifests in one folder) and counts a case as often in every run that tests it, so that splits that share test
    cases are not taken for independent; the runs' values are averaged within a resample. ``values`` lists the runs.
    Last come the single raters, each scored against the others: their mean, the best and the worst instead of an
    interval, and each rater in ``values``.

    Args:
        runs: finished runs; the folder of a run's manifest names its data set.
        scores: what to tabulate, keys of ``CaseStatistics.compute_summary``; scores that no run has are left out.
        resamples: bootstrap resamples.
        fraction: cases drawn per resample, relative to all.
        seed: seed of the resamples.
    """
    summaries = summarize(evaluations(runs), Resampling(resamples, fraction, seed))
    return pd.DataFrame(score_rows(summaries, scores) + human_rows(runs, scores))


def score_rows(summaries: Summaries, scores: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the methods, see :func:`tabulate`."""
    rows = []
    for (dataset, method, rule), found in summaries.items():
        for score in scores:
            if all(score in summary for summary in found.values()):
                results = [summary[score] for summary in found.values()]
                mean, distribution = average(results)
                low, high = np.nanquantile(distribution, [0.025, 0.975])
                row = {"dataset": dataset, "method": method, "rule": rule, "score": score, "mean": mean}
                values = " ".join(f"{result.estimate:.6f}" for result in results)
                rows.append({**row, "low": float(low), "high": float(high), "runs": len(results), "values": values})
    return rows


def differences(
    runs: Sequence[Run],
    reference: tuple[str, str],
    *,
    scores: Sequence[str] = SCORES,
    resamples: int = 10_000,
    fraction: float = 0.6,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the paired difference of every method and foreground rule to a reference, method minus reference.

    One row per data set, method, rule and score: mean difference over the runs that both have (the same manifest and
    seed), percentile interval over shared resamples of the cases as in :func:`tabulate`, two-sided ``p``, and
    ``p_holm``, corrected by Holm's method for all comparisons of that data set and score.

    Args:
        runs, scores, resamples, fraction, seed: see :func:`tabulate`.
        reference: method and foreground rule.

    Raises:
        ValueError: no run has the reference.
    """
    summaries = summarize(evaluations(runs), Resampling(resamples, fraction, seed))
    if not any(key[1:] == reference for key in summaries):
        known = sorted({f"{method}:{rule}" for _, method, rule in summaries})
        raise ValueError(f"differences: the reference must be one of {', '.join(known)}. Got {':'.join(reference)}.")
    rows = []
    for (dataset, method, rule), found in summaries.items():
        base = summaries.get((dataset, *reference), {})
        shared = [key for key in found if key in base]
        for score in scores if shared and (method, rule) != reference else ():
            if all(score in found[key] and score in base[key] for key in shared):
                (mean, here), (other, there) = (average([s[key][score] for key in shared]) for s in (found, base))
                low, high = np.nanquantile(here - there, [0.025, 0.975])
                row = {"dataset": dataset, "method": method, "rule": rule, "score": score, "difference": mean - other}
                rows.append({**row, "low": float(low), "high": float(high), "p": _two_sided(here - there)})
    table = pd.DataFrame(rows)
    if not rows:
        return table
    table["p_holm"] = table.groupby(["dataset", "score"])["p"].transform(_holm)
    return table


def _two_sided(distribution: npt.NDArray[np.float64]) -> float:
    """Twice the smaller share of resamples on one side of 0, the sample itself counted once."""
    defined = distribution[~np.isnan(distribution)]
    tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (defined.size + 1))


def _holm(p: pd.Series[float]) -> pd.Series[float]:
    ordered = p.sort_values()
    corrected = (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1)
    return corrected.reindex(p.index)


def human_rows(runs: Sequence[Run], scores: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the single raters, each against the others: mean over raters, from the lowest to the highest value."""
    rows = []
    for dataset in dict.fromkeys(run.manifest.parent.name for run in runs):
        chosen = {run.manifest: run for run in runs if run.manifest.parent.name == dataset}.values()
        reports = [json.loads(run.summary(FOREGROUND_RULES[0]).read_text(encoding="utf-8")) for run in chosen]
        raters = [who for who in reports[0]["scores"] if who != "model"]
        for score in scores:
            values = [
                np.mean([report["scores"][who][score]["value"] for report in reports])
                for who in raters
                if all(score in report["scores"].get(who, {}) for report in reports)
            ]
            if values:
                row = {"dataset": dataset, "method": HUMAN, "rule": "", "score": score, "mean": float(np.mean(values))}
                row |= {"low": float(min(values)), "high": float(max(values)), "runs": len(reports)}
                rows.append({**row, "values": " ".join(f"{value:.6f}" for value in values)})
    return rows
