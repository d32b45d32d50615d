# SPDX-License-Identifier: Apache-2.0
"""What the evaluations of finished runs left behind, and its scores in shared resamples of the cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from monai.bundle import ConfigParser

from monai_multirater.metrics import DICE_PARTNERS, CaseStatistics, RaterDice
from monai_multirater.resampling import BootstrapResult, case_weights
from monai_multirater.studies.runs import FOREGROUND_RULES, Run

__all__ = [
    "Draws",
    "Evaluation",
    "Resampling",
    "Summaries",
    "average",
    "draw_cases",
    "evaluations",
    "own_rule",
    "summarize",
]

Array: TypeAlias = npt.NDArray[np.float64]
Summaries: TypeAlias = dict[tuple[str, str, str], dict[tuple[Path, int], dict[str, BootstrapResult]]]


@dataclass(frozen=True)
class Resampling:
    """How cases are resampled: how often, how many of them relative to all, and the seed."""

    resamples: int = 1000
    fraction: float = 0.6
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Draws:
    """Resamples of the cases of a data set: ``weights [resamples, cases]`` and the names of the cases."""

    names: tuple[str, ...]
    weights: Array

    def of(self, names: Sequence[str]) -> Array:
        """Return the weights of the named cases."""
        column = {name: index for index, name in enumerate(self.names)}
        return self.weights[:, [column[name] for name in names]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of one run, by what it left in its folder.

    Attributes:
        run: the run.
        method: name of its row in tables.
        rule: foreground rule.
        folder: where the evaluation wrote.
    """

    run: Run
    method: str
    rule: str
    folder: Path

    @property
    def dataset(self) -> str:
        """Name of the data set, the folder of the manifest."""
        return self.run.manifest.parent.name

    @property
    def key(self) -> tuple[str, str, str]:
        """Data set, method and foreground rule: the row of tables."""
        return self.dataset, self.method, self.rule

    def names(self) -> tuple[str, ...]:
        """Names of the cases, read without the rest."""
        with np.load(self.folder / "statistics.npz", allow_pickle=False) as file:
            return tuple(str(name) for name in file["names"])

    def statistics(self) -> CaseStatistics:
        """Read the sums of every case."""
        return CaseStatistics.load(self.folder / "statistics.npz")

    def dice(self) -> RaterDice | None:
        """Read the Dice by rater and case; None where the evaluation did not write it."""
        path = self.folder / "dice.csv"
        if not path.is_file():
            return None
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        columns: dict[str, list[Any]] = {name: list(table[name]) for name in ("rater", "case")}
        columns |= {name: [float(text or "nan") for text in table[name]] for name in DICE_PARTNERS}
        return RaterDice.from_columns(columns)

    def summary(self) -> dict[str, Any]:
        """Read ``summary.json``."""
        return dict(json.loads((self.folder / "summary.json").read_text(encoding="utf-8")))


def evaluations(runs: Sequence[Run]) -> list[Evaluation]:
    """Return the evaluations of runs, run by run; calibrated ones are methods of their own."""
    return [Evaluation(run, each.label, each.rule, each.folder) for run in runs for each in run.evaluations()]


def draw_cases(evaluated: Sequence[Evaluation], resampling: Resampling) -> dict[Path, Draws]:
    """Resample the cases of every data set; by the folder of its manifests.

    A resample draws from all cases that any run tests, so that splits which share test cases are not taken for
    independent.
    """
    draws = {}
    for number, folder in enumerate(dict.fromkeys(each.run.manifest.parent for each in evaluated)):
        names = {name for each in evaluated if each.run.manifest.parent == folder for name in each.names()}
        generator = np.random.default_rng([resampling.seed, number])
        weights = case_weights(len(names), resamples=resampling.resamples, fraction=resampling.fraction, seed=generator)
        draws[folder] = Draws(tuple(sorted(names)), weights)
    return draws


def summarize(evaluated: Sequence[Evaluation], resampling: Resampling) -> Summaries:
    """Scores by (data set, method, rule) and (manifest, seed), all from the same resamples of a data set's cases."""
    summaries: Summaries = {}
    draws = draw_cases(evaluated, resampling)
    for each in evaluated:
        statistics = each.statistics()
        weights = draws[each.run.manifest.parent].of(statistics.names)
        summaries.setdefault(each.key, {})[each.run.manifest, each.run.seed] = statistics.compute_summary(
            weights=weights
        )
    return summaries


def own_rule(run: Run) -> str:
    """Foreground rule that the configuration of a run names, by its ``run.json`` or else its overlay."""
    path = run.directory / "run.json"
    if path.is_file():
        configurations = json.loads(path.read_text(encoding="utf-8"))["configuration"]
    else:
        configurations = [ConfigParser.load_config_file(str(run.overlay))] if run.overlay.is_file() else []
    rules = [configuration.get("foreground_rule") for configuration in configurations]
    return next((rule for rule in reversed(rules) if rule in FOREGROUND_RULES), FOREGROUND_RULES[0])


def average(results: Sequence[BootstrapResult]) -> tuple[float, Array]:
    """Mean over runs of the estimates, and of the values of every resample."""
    distribution = np.mean([result.distribution for result in results], axis=0)
    return float(np.mean([result.estimate for result in results])), distribution
