# SPDX-License-Identifier: Apache-2.0
"""Tables of a comparison: scores with intervals, single raters beside the models, chosen settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_multirater.metrics import CaseStatistics
from monai_multirater.resampling import BootstrapResult
from monai_multirater.studies.runs import FOREGROUND_RULES, Run

__all__ = ["settings_table", "tabulate", "write_tables"]

HUMAN = "single rater (mean, range)"


def write_tables(table: pd.DataFrame, out: Path, *, settings: pd.DataFrame | None = None) -> list[Path]:
    """Write the table as ``scores.csv`` and, per data set, readable as ``<dataset>.md``; return the paths.

    Settings that were tried go to ``settings.csv``, if there are any.
    """
    out.mkdir(parents=True, exist_ok=True)
    contents = {"scores.csv": table.to_csv(index=False)}
    if settings is not None and len(settings):
        contents["settings.csv"] = settings.to_csv(index=False)
    for dataset, part in table.groupby("dataset"):
        contents[f"{dataset}.md"] = _markdown(part)
    for name, content in contents.items():
        temporary = out / f".{name}.tmp"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(out / name)
    return [out / name for name in contents]


def _markdown(part: pd.DataFrame) -> str:
    """Rows of method and foreground map; ``mean [low, high]``, times 1000 except for the AUC."""
    scores = list(dict.fromkeys(part["score"]))
    heads = [score if score == "auc" else f"{score} x 1000" for score in scores]
    lines = ["| method | foreground | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(scores)]
    found = {(row["method"], row["rule"], row["score"]): row for row in part.to_dict("records")}
    for method, rule in dict.fromkeys(zip(part["method"], part["rule"], strict=True)):
        cells = [_cell(found.get((method, rule, score)), 1.0 if score == "auc" else 1000.0) for score in scores]
        lines.append(f"| {method} | {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[Any, Any] | None, factor: float) -> str:
    if row is None:
        return ""
    places = 4 if factor == 1 else 1
    low, high = (f"{factor * row[key]:.{places}f}" for key in ("low", "high"))
    return f"{factor * row['mean']:.{places}f} [{low}, {high}]"


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
            where = {"method": run.method, "manifest": str(run.manifest), "seed": run.seed, "settings": settings}
            rows.append({**where, "chosen": trial["chosen"], **trial["validation"]})
    return pd.DataFrame(rows)


def tabulate(
    runs: Sequence[Run],
    *,
    scores: Sequence[str] = ("mr_ece", "auc", "brier", "nll", "truth_mae", "truth_brier", "truth_calibration"),
    resamples: int = 1000,
    fraction: float = 0.6,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per data set, method, foreground rule and score: the mean over runs with an interval.

    Intervals are percentiles over resamples of the test cases: every run's cases are resampled and the runs' values
    averaged, so they hold the uncertainty of the cases *and* average over seeds and splits. ``values`` lists the runs.
    Last come the single raters, each scored against the others: their mean, the best and the worst instead of an
    interval, and each rater in ``values``.

    Args:
        runs: finished runs; the folder of a run's manifest names its data set.
        scores: what to tabulate, keys of ``CaseStatistics.compute_summary``; scores that no run has are left out.
        resamples: bootstrap resamples.
        fraction: cases drawn per resample, relative to all.
        seed: seed of the resamples.
    """
    groups: dict[tuple[str, str, str], list[dict[str, BootstrapResult]]] = {}
    for run in runs:
        for rule in FOREGROUND_RULES:
            statistics = CaseStatistics.load(run.summary(rule).with_name("statistics.npz"))
            summary = statistics.compute_summary(resamples=resamples, fraction=fraction, seed=seed)
            groups.setdefault((run.manifest.parent.name, run.method, rule), []).append(dict(summary))
    rows = []
    for (dataset, method, rule), summaries in groups.items():
        for score in scores:
            if score in summaries[0]:
                mean, low, high = _average([summary[score] for summary in summaries])
                row = {"dataset": dataset, "method": method, "rule": rule, "score": score, "mean": mean}
                values = " ".join(f"{summary[score].estimate:.6f}" for summary in summaries)
                rows.append({**row, "low": low, "high": high, "runs": len(summaries), "values": values})
    return pd.DataFrame(rows + _human_rows(runs, scores))


def _human_rows(runs: Sequence[Run], scores: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the single raters, each against the others: mean over raters, from the best to the worst of them."""
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


def _average(results: Sequence[BootstrapResult]) -> tuple[float, float, float]:
    distribution = np.mean([result.distribution for result in results], axis=0)
    low, high = np.nanquantile(distribution, [0.025, 0.975])
    return float(np.mean([result.estimate for result in results])), float(low), float(high)
