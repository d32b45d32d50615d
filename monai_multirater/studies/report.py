# SPDX-License-Identifier: Apache-2.0
"""All tables and pictures of a comparison, made from what its runs left behind, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from monai_multirater.calibration import ReliabilityTable
from monai_multirater.studies.evidence import Resampling, Summaries, evaluations, own_rule, summarize
from monai_multirater.studies.formats import Grid, replace_file, to_frame, to_latex, to_markdown
from monai_multirater.studies.layouts import dataset_grid, difference_grid, protocol, rater_grid, row_names, score_grid
from monai_multirater.studies.raters import rater_table
from monai_multirater.studies.runs import Run
from monai_multirater.studies.tables import SCORES, differences, human_rows, score_rows, settings_table, write_tables
from monai_multirater.studies.truth import closest_sentence, closest_to_truth
from monai_multirater.visualize import reliability_panels

__all__ = ["write_report"]

Names = Mapping[tuple[str, str], str]
DIFFERENCES = 10_000


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    reference: tuple[str, str] | None = None,
    resamples: int = 1000,
    fraction: float = 0.6,
    seed: int = 0,
) -> list[Path]:
    """Write the tables and pictures of a comparison to a folder; return their paths.

    - ``scores.csv``, ``<dataset>.md``: all scores of both foreground rules, see :func:`tabulate`; for data with a known
      truth the latter says which method is closest to it (numbers in ``truth.csv``);
    - ``table_mr_ece``, ``table_auc`` (``.csv``, ``.md``, ``.tex``): the paper's tables, methods by data sets, every
      method with the foreground rule that its configuration names;
    - ``table_scores_<dataset>``: Brier score, log loss, Dice and errors against the truth;
    - ``raters``: Dice with each rater, and of each rater with the others, see :func:`rater_table`;
    - ``differences``: paired differences to ``reference`` from 10000 resamples, see :func:`differences`;
    - ``settings.csv``: settings tried, see :func:`settings_table`;
    - ``reliability_<dataset>.png``: a reliability diagram per method.

    Each file appears under its name only when complete. CSV files hold numbers as computed, the others rounded ones.

    Args:
        runs: finished runs.
        out: the folder.
        reference: method and foreground rule that the others are compared with; by default the method of the first run
            with the rule that its configuration names.
        resamples, fraction, seed: see :func:`tabulate`.

    Raises:
        ValueError: no run has the reference.
    """
    resampling = Resampling(resamples, fraction, seed)
    summaries, names = summarize(evaluations(runs), resampling), row_names(runs)
    table = pd.DataFrame(score_rows(summaries, SCORES) + human_rows(runs, SCORES))
    paths = write_tables(table, out, settings=settings_table(runs))
    notes = (protocol(runs, resampling),)
    paths += _write_truth(summaries, names, out)
    for score in ("mr_ece", "auc"):
        paths += _write(out, f"table_{score}", [score_grid(table, score, names, notes)])
    for dataset in dict.fromkeys(table["dataset"]):
        paths += _write(out, f"table_scores_{dataset}", [dataset_grid(table, dataset, names, notes)])
    raters = rater_table(runs, resamples=resamples, fraction=fraction, seed=seed)
    if len(raters):
        grids = [rater_grid(raters, dataset, names, notes) for dataset in dict.fromkeys(raters["dataset"])]
        paths += _write(out, "raters", grids, raters)
    against = reference or (runs[0].method, own_rule(runs[0]))
    paths += _write_differences(runs, out, against, Resampling(DIFFERENCES, fraction, seed))
    return paths + _write_pictures(runs, names, out)


def _write(out: Path, name: str, grids: Sequence[Grid], numbers: pd.DataFrame | None = None) -> list[Path]:
    """Write tables as CSV (``numbers``, or those of the first), Markdown and LaTeX."""
    frame = to_frame(grids[0]) if numbers is None else numbers
    contents = {
        "csv": frame.to_csv(index=False),
        "md": "\n".join(map(to_markdown, grids)),
        "tex": to_latex(grids, label=name),
    }
    return [replace_file(out / f"{name}.{ending}", content) for ending, content in contents.items()]


def _write_truth(summaries: Summaries, names: Names, out: Path) -> list[Path]:
    """Write ``truth.csv`` and add what it says to ``<dataset>.md``; nothing without a known truth."""
    table = closest_to_truth(summaries, names)
    if not len(table):
        return []
    for dataset, part in table.groupby("dataset", sort=False):
        page = out / f"{dataset}.md"
        sentences = [closest_sentence(row) for row in part.to_dict("records")]
        replace_file(page, "\n\n".join([page.read_text(encoding="utf-8").rstrip("\n"), *sentences]) + "\n")
    return [replace_file(out / "truth.csv", table.to_csv(index=False))]


def _write_differences(
    runs: Sequence[Run], out: Path, reference: tuple[str, str], resampling: Resampling
) -> list[Path]:
    table = differences(
        runs, reference, resamples=resampling.resamples, fraction=resampling.fraction, seed=resampling.seed
    )
    if not len(table):
        return []
    notes = (protocol(runs, resampling),)
    grids = [difference_grid(table, dataset, reference, notes) for dataset in dict.fromkeys(table["dataset"])]
    return _write(out, "differences", grids, table)


def _write_pictures(runs: Sequence[Run], names: Names, out: Path) -> list[Path]:
    tables: dict[str, dict[str, list[ReliabilityTable]]] = {}
    for each in evaluations(runs):
        if (each.method, each.rule) in names:
            panel = tables.setdefault(each.dataset, {}).setdefault(names[each.method, each.rule], [])
            panel.append(each.statistics().reliability_table())
    paths = []
    for dataset, methods in tables.items():
        figure = reliability_panels(methods, title=dataset)
        save = partial(figure.savefig, dpi=150, format="png")
        paths.append(replace_file(out / f"reliability_{dataset}.png", save))
    return paths
