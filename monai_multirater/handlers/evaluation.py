# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves behind: a table per case, a summary with intervals, the raters beside the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from rich.console import Console
from rich.table import Table

from monai_multirater.calibration import ReliabilityTable
from monai_multirater.metrics import CaseStatistics, MultiRaterSummaryMetric, RaterDice, RaterDiceCollector
from monai_multirater.resampling import BootstrapResult, case_weights

__all__ = ["EvaluationReport", "RaterCeiling"]

HIGHER_IS_BETTER = ("auc", "dice_majority", "dice_raters")
Summary = Mapping[str, BootstrapResult]


class RaterCeiling:
    """Score every rater as if the mask were a model's prediction: against the other raters, and against the truth.

    This is the human reference to put beside a model. Rater r's mask ``m`` in {0, 1} is the foreground probability,
    the votes are those of the raters other than r (so nobody is compared with themselves), and where a case holds
    ``truth`` the errors against the true vote probability are computed as for a model. Cases with one rater tell
    nothing and are left out.

    Args:
        raters: names, in the order of the rater axis.
        bins: bins of the calibration error.
    """

    def __init__(self, raters: Sequence[str], *, bins: int = 15) -> None:
        self.metrics = {name: MultiRaterSummaryMetric(bins=bins) for name in raters}

    def reset(self) -> None:
        """Forget all cases."""
        for metric in self.metrics.values():
            metric.reset()

    def update(self, label: Mapping[str, Any]) -> None:
        """Add one case: ``ratings [R, *]``, ``rater_mask [R]`` and optionally ``truth [1, *]`` and ``case``."""
        ratings = torch.as_tensor(label["ratings"])
        present = torch.as_tensor(label["rater_mask"]).bool()
        votes, count = ratings[present].sum(0, dtype=torch.int64), int(present.sum())
        for index, metric in enumerate(self.metrics.values()):
            if count < 2 or not bool(present[index]):
                continue
            mask = ratings[index]
            others = {"votes": (votes - mask)[None], "n_raters": count - 1}
            extra = {key: label[key] for key in ("truth", "case") if key in label}
            metric([mask[None].to(torch.float32)], [{**others, **extra}])

    def statistics(self) -> dict[str, CaseStatistics]:
        """Return the evidence per rater, without raters who share no case with another."""
        found = {name: metric.case_statistics() for name, metric in self.metrics.items()}
        return {name: statistics for name, statistics in found.items() if len(statistics)}


class EvaluationReport:
    """Write what an evaluation found; list it with the handlers of an evaluator.

    Files in ``output_dir``, each written under a temporary name and renamed: ``cases.csv`` (one row a case),
    ``summary.json`` and ``summary.csv`` (every score with its bootstrap interval over cases, the raters as reference),
    ``statistics.npz`` (the per-case evidence, for later comparisons), ``dice.csv`` (one row per rater and case that the
    rater marked: Dice with the model's foreground, with the majority of the other raters, and its mean with each of
    them, see :func:`~monai_multirater.metrics.rater_dice`; means with intervals are under ``dice`` in the summary),
    ``reliability.png``.

    Args:
        output_dir: where to write.
        metric: the metric attached to the same evaluator.
        raters: rater names; with them each rater is scored like a model, see :class:`RaterCeiling`, and compared with
            it in ``dice.csv``.
        figure: function of a :class:`~monai_multirater.calibration.ReliabilityTable` that returns a matplotlib figure.
        resamples: bootstrap resamples of the cases.
        fraction: cases drawn per resample, relative to all.
        seed: seed of the resamples.
        title: heading of the printed table.
        disable: write and print nothing, for ranks other than 0 (which still take part in gathering).
    """

    def __init__(
        self,
        output_dir: str,
        *,
        metric: MultiRaterSummaryMetric,
        raters: Sequence[str] = (),
        figure: Callable[..., Any] | None = None,
        resamples: int = 1000,
        fraction: float = 0.6,
        seed: int = 0,
        title: str = "Evaluation",
        disable: bool = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.metric = metric
        self.ceiling = RaterCeiling(raters)
        self.dice = RaterDiceCollector(raters)
        self.figure = figure
        self.options: dict[str, Any] = {"resamples": resamples, "fraction": fraction, "seed": seed}
        self.title = title
        self.disable = disable

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _reset(self, _: Engine) -> None:
        self.ceiling.reset()
        self.dice.reset()

    def _update(self, engine: Engine) -> None:
        for output in engine.state.output:
            if "ratings" in output["label"]:
                self.ceiling.update(output["label"])
                if self.dice.raters:
                    self.dice.update(output["pred"], output["label"])

    def _finish(self, _: Engine) -> None:
        statistics, table = self.metric.case_statistics(), self.metric.reliability_table()
        human, dice = self.ceiling.statistics(), self.dice.evidence()
        if self.disable:
            return
        weights = case_weights(len(statistics), **self.options)
        overlaps = dice.compute_summary(weights, statistics.names) if dice.cases else {}
        summaries: dict[str, Summary] = {"model": statistics.compute_summary(weights=weights)}
        for name, found in human.items():
            among = {"dice_raters": overlaps[name]["others"]} if "others" in overlaps.get(name, {}) else {}
            summaries[f"rater {name}"] = {**found.compute_summary(**self.options), **among}
        self._write(statistics, summaries, table, dice, overlaps)
        _print_summary(self.title, len(statistics), summaries)

    def _write(
        self,
        statistics: CaseStatistics,
        summaries: Mapping[str, Summary],
        table: ReliabilityTable,
        dice: RaterDice,
        overlaps: Mapping[str, Summary],
    ) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        rows = [
            {"who": who, "score": name, **_as_row(result)}
            for who, summary in summaries.items()
            for name, result in summary.items()
        ]
        content: dict[str, Any] = {"cases": len(statistics), "bootstrap": self.options, "scores": _nested(summaries)}
        if self.figure is not None:
            picture = self.figure(table, title=self.title)
            self._replace("reliability.png", lambda path: picture.savefig(path, dpi=150, format="png"))
        statistics.save(self.output_dir / "statistics.npz")
        if dice.cases:
            content["dice"] = _nested(overlaps)
            self._replace("dice.csv", lambda path: pd.DataFrame(dice.columns()).to_csv(path, index=False))
        self._replace("cases.csv", lambda path: pd.DataFrame(statistics.case_table()).to_csv(path, index=False))
        self._replace("summary.csv", lambda path: pd.DataFrame(rows).to_csv(path, index=False))
        self._replace("summary.json", lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))

    def _replace(self, name: str, write: Callable[[Path], Any]) -> None:
        temporary = self.output_dir / f".{name}.tmp"
        write(temporary)
        temporary.replace(self.output_dir / name)


def _nested(summaries: Mapping[str, Summary]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {who: {name: _as_row(result) for name, result in summary.items()} for who, summary in summaries.items()}


def _as_row(result: BootstrapResult) -> dict[str, float | None]:
    values = {"value": result.estimate, "low": result.interval[0], "high": result.interval[1]}
    values["standard_error"] = result.standard_error
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _print_summary(title: str, cases: int, summaries: Mapping[str, Summary]) -> None:
    names = list(summaries["model"])
    table = Table(title=f"{title} ({cases} cases, 95 % bootstrap interval over cases)")
    table.add_column("score")
    table.add_column("model", justify="right")
    humans = [summary for who, summary in summaries.items() if who != "model"]
    if humans:
        table.add_column("best single rater", justify="right")
        table.add_column("worst", justify="right")
    for name in names:
        result = summaries["model"][name]
        cells = [name, f"{result.estimate:.5f} [{result.interval[0]:.5f}, {result.interval[1]:.5f}]"]
        values = sorted(s[name].estimate for s in humans if name in s)
        if humans and name in HIGHER_IS_BETTER:
            values.reverse()
        if humans:
            cells += [f"{values[0]:.5f}", f"{values[-1]:.5f}"] if values else ["", ""]
        table.add_row(*cells)
    Console().print(table)
