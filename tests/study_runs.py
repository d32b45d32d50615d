# SPDX-License-Identifier: Apache-2.0
"""Finished runs of a comparison made by hand, with all files that an evaluation leaves, without training."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine

from monai_multirater.handlers import EvaluationReport
from monai_multirater.metrics import MultiRaterSummaryMetric
from monai_multirater.studies import Run

RATERS = ("A", "B_1", "C")
RULES = ("expected", "majority")


def cases(seed: int, count: int, *, truth: bool, raters: Sequence[str] = RATERS) -> list[dict[str, torch.Tensor]]:
    """Labels of cases: disks whose raters draw other radii; the last rater is missing in every third case."""
    rng = np.random.default_rng(seed)
    distance = np.hypot(*np.mgrid[-6:6, -6:6])
    labels = []
    for index in range(count):
        radius = rng.uniform(2, 4) + rng.normal(0, 0.7, len(raters))
        ratings = torch.from_numpy((distance < radius[:, None, None]).astype(np.uint8))
        present = torch.ones(len(raters), dtype=torch.bool)
        if len(raters) > 1:
            present[-1] = index % 3 != 0
        ratings[~present] = 0
        label = {"ratings": ratings, "rater_mask": present, "case": f"{seed}c{index:02d}"}
        label |= {"votes": ratings.sum(0, keepdim=True), "n_raters": present.sum()}
        if truth:
            label["truth"] = torch.from_numpy(1 / (1 + np.exp(2 * (distance - radius.mean()))))[None]
        labels.append(label)
    return labels


def finished_run(
    folder: Path,
    method: str,
    seed: int = 0,
    *,
    dataset: str = "skin",
    noise: float = 0.1,
    count: int = 7,
    truth: bool = False,
    raters: Sequence[str] = RATERS,
    own_rule: str | None = None,
) -> Run:
    """A run whose predictions are the mean vote with noise, more of it under the second foreground rule."""
    overlay = folder / "overlays" / f"{method}.json"
    overlay.parent.mkdir(parents=True, exist_ok=True)
    overlay.write_text(json.dumps({"objective": "soft", **({"foreground_rule": own_rule} if own_rule else {})}))
    run = Run(folder / dataset / "m.json", overlay, seed, folder / "out" / method / f"{dataset}-m-{seed}")
    run.directory.mkdir(parents=True)
    (run.directory / "run.json").write_text(json.dumps(run.request()))
    rng = np.random.default_rng([seed, *method.encode()])
    for shift, rule in enumerate(RULES):
        outputs = []
        for label in cases(len(dataset), count, truth=truth, raters=raters):
            clean = label["truth"].numpy() if truth else (label["votes"] / label["n_raters"]).numpy()
            p = np.clip(clean + rng.normal(0, noise * (1 + shift), clean.shape), 0.001, 0.999)
            outputs.append({"pred": torch.from_numpy(p.astype(np.float32)), "label": label})
        evaluate(outputs, run.summary(rule).parent, raters)
    return run


def evaluate(outputs: list[dict[str, torch.Tensor]], folder: Path, raters: Sequence[str] = RATERS) -> None:
    """Let the report of an evaluator write its files."""
    metric = MultiRaterSummaryMetric(bins=5)
    engine = Engine(lambda _, data: data)
    handler = IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]), save_details=False)
    handler.attach(engine, "mr_ece")
    EvaluationReport(str(folder), metric=metric, raters=raters, resamples=20).attach(engine)
    engine.run([[output] for output in outputs])
