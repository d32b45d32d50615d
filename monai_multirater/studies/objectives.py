# SPDX-License-Identifier: Apache-2.0
"""Compare ways to train on the same splits: train, evaluate, tabulate; resumable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigWorkflow
from tqdm.auto import tqdm

from monai_multirater.data import read_manifest
from monai_multirater.metrics import CaseStatistics
from monai_multirater.resampling import BootstrapResult

__all__ = ["FOREGROUND_RULES", "Run", "compare_objectives", "method_overlays", "run_once", "tabulate", "write_tables"]

FOREGROUND_RULES = ("expected", "majority")
HUMAN = "single rater (mean, range)"


@dataclass(frozen=True)
class Run:
    """One training: a manifest (its splits), an overlay (the method) and a seed.

    Attributes:
        manifest: the data set and its splits.
        overlay: configuration file over ``train.json``; its stem names the method.
        seed: seed of initialization, order and augmentation.
        directory: where models and evaluations go.
        options: further overrides for training, by configuration id.
        common: configuration files between ``train.json`` and the overlay.
    """

    manifest: Path
    overlay: Path
    seed: int
    directory: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    common: tuple[Path, ...] = ()

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.overlay.stem

    def summary(self, rule: str) -> Path:
        """Return the file that exists when this run has been evaluated with a foreground rule."""
        return self.directory / f"eval_{rule}" / "summary.json"


def run_once(bundle: Path, run: Run, *, threads: int | None = None) -> Run:
    """Train and evaluate one run; what is already there is not done again.

    An interrupted training goes on from its last epoch. The test split is read only by the evaluation.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if all(run.summary(rule).is_file() for rule in FOREGROUND_RULES):
        return run
    common = {"bundle_root": str(bundle), "datalist": str(run.manifest), "make_phantoms": False}
    finished = run.directory / "trained"
    if not finished.is_file():
        _workflow(
            [bundle / "configs" / "train.json", *run.common, run.overlay],
            {**common, "output_dir": str(run.directory), "seed": run.seed, **run.options},
        )
        finished.touch()
    for rule in FOREGROUND_RULES:
        _workflow(
            [bundle / "configs" / "evaluate.json"],
            {
                **common,
                "model_dir": str(run.directory / "models"),
                "output_dir": str(run.directory / f"eval_{rule}"),
                "foreground_rule": rule,
                **{key: value for key, value in run.options.items() if key.startswith("network_def")},
            },
        )
    return run


def _workflow(configs: Iterable[Path], overrides: Mapping[str, Any]) -> None:
    files = [str(config) for config in configs]
    workflow = ConfigWorkflow(config_file=files, logging_file=False, workflow_type=None, **overrides)
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except SystemExit as error:
        raise RuntimeError(str(error)) from error


def compare_objectives(
    manifests: Sequence[Path],
    overlays: Sequence[Path],
    *,
    bundle: Path,
    out: Path,
    seeds: Sequence[int] = (0,),
    options: Mapping[str, Any] | None = None,
    common: Sequence[Path] = (),
    jobs: int = 1,
) -> list[Run]:
    """Train and evaluate every combination of manifest, overlay and seed; return the runs that are finished.

    Args:
        manifests: data sets, or several splits of one.
        overlays: one configuration file per method.
        bundle: the bundle's directory.
        out: ``out/<method>/<manifest>-<seed>/`` gets each run; a finished run is not repeated.
        seeds: training seeds per manifest.
        options: overrides for all trainings, for example ``{"max_epochs": 30}``.
        common: configuration files over ``train.json`` for all trainings.
        jobs: processes side by side, one torch thread each when more than one.

    Raises:
        ManifestError: a manifest is missing or wrong; nothing is started.
        ValueError: two runs would share a directory.
        RuntimeError: naming the runs that failed, after all others are done.
    """
    for manifest in manifests:
        read_manifest(manifest)
    runs = [
        Run(
            m.resolve(),
            o.resolve(),
            s,
            out.resolve() / o.stem / f"{m.parent.name}-{m.stem}-{s}",
            dict(options or {}),
            tuple(c.resolve() for c in common),
        )
        for s in seeds
        for m in manifests
        for o in overlays
    ]
    if len({run.directory for run in runs}) < len(runs):
        raise ValueError(
            "compare_objectives: two runs would share a directory; manifests must differ in file or folder name, "
            f"overlays in file name. Got {[str(m) for m in manifests]} and {[str(o) for o in overlays]}."
        )
    failures: dict[str, BaseException] = {}
    finished = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(run_once, bundle.resolve(), run, threads=1 if jobs > 1 else None): run for run in runs}
        for future in tqdm(as_completed(pending), total=len(runs), unit="run", desc="Comparing"):
            run = pending[future]
            if future.exception() is None:
                finished.append(run)
            else:
                failures[str(run.directory)] = future.exception()  # type: ignore[assignment]
    if failures:
        lines = [f"  {name}: {error}" for name, error in failures.items()]
        raise RuntimeError("\n".join([f"compare_objectives: {len(failures)} of {len(runs)} runs failed:", *lines]))
    return finished


def method_overlays(bundle: Path, methods: Sequence[str]) -> list[Path]:
    """Return the overlay file of each method: a path, or a name in the bundle's ``configs/objectives``.

    Raises:
        ValueError: naming the unknown method and the known ones.
    """
    folder = bundle / "configs" / "objectives"
    known = {path.stem: path for path in sorted(folder.glob("*.json"))}
    overlays = []
    for method in methods:
        path = known.get(method, Path(method))
        if not path.is_file():
            raise ValueError(f"There is no method {method!r}; known are {', '.join(known)}, or give a file.")
        overlays.append(path)
    return overlays


def write_tables(table: pd.DataFrame, out: Path) -> list[Path]:
    """Write the table as ``scores.csv`` and, per data set, readable as ``<dataset>.md``; return the paths."""
    out.mkdir(parents=True, exist_ok=True)
    contents = {"scores.csv": table.to_csv(index=False)}
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
