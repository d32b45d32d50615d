# SPDX-License-Identifier: Apache-2.0
"""How the tables of a comparison are laid out: which rows, which columns, what is best, what the notes say."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from monai_multirater.studies.evidence import Resampling, evaluations, own_rule
from monai_multirater.studies.formats import TITLES, Cell, Column, Grid, best, column_of
from monai_multirater.studies.raters import CEILINGS, MEAN
from monai_multirater.studies.runs import FOREGROUND_RULES, Run
from monai_multirater.studies.tables import HUMAN

__all__ = ["dataset_grid", "difference_grid", "protocol", "rater_grid", "row_names", "score_grid"]

Names = Mapping[tuple[str, str], str]
SCORE_COLUMNS = ("brier", "nll", "dice_raters", "dice_majority", "truth_brier", "truth_mae", "truth_calibration")


def row_names(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """Names of the rows of the paper's tables by method and foreground rule.

    A method stands there with the rule that its configuration names. Where that is not the first of the rules, the
    mean vote, it stands there with both, and the names tell the rules.
    """
    names = {}
    for each in evaluations(runs):
        own, plain = own_rule(each.run), FOREGROUND_RULES[0]
        if own != plain:
            names[each.method, each.rule] = f"{each.method} ({each.rule})"
        elif each.rule == own:
            names[each.method, each.rule] = each.method
    return names


def protocol(runs: Sequence[Run], resampling: Resampling) -> str:
    """Say what means and intervals are, in one or two sentences."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.manifest.parent.name, run.method), []).append(run)
    several = _range({len(group) for group in groups.values()})
    splits = _range({len({run.manifest for run in group}) for group in groups.values()})
    seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
    return (
        f"Mean over the runs of every method on a data set (runs: {several}; manifests: {splits}; training "
        f"seeds: {seeds}) with the 95 % percentile interval from B = {resampling.resamples} resamples of "
        f"{100 * resampling.fraction:g} % of the test cases."
    )


def _range(numbers: set[int]) -> str:
    return f"{min(numbers)} to {max(numbers)}" if len(numbers) > 1 else str(*numbers)


def score_grid(table: pd.DataFrame, score: str, names: Names, notes: Sequence[str]) -> Grid:
    """One score: methods by data sets, the best of every data set in bold, single raters last."""
    datasets = list(dict.fromkeys(table["dataset"]))
    form = column_of(score)
    columns = [Column(dataset, dataset, form.factor, form.places) for dataset in datasets]
    unit = "" if form.factor == 1 else " x 1000"
    return _score_grid(
        table,
        f"{TITLES[score]}{unit} of every method",
        names,
        {column: (column.name, score) for column in columns},
        notes,
    )


def dataset_grid(table: pd.DataFrame, dataset: str, names: Names, notes: Sequence[str]) -> Grid:
    """Methods by Brier score, log loss, Dice and, where known, errors against the truth on one data set."""
    known = set(table.loc[table["dataset"] == dataset, "score"])
    columns = {column_of(score): (dataset, score) for score in SCORE_COLUMNS if score in known}
    return _score_grid(table, f"Scores on {dataset}", names, columns, notes)


def _score_grid(
    table: pd.DataFrame, title: str, names: Names, columns: Mapping[Column, tuple[str, str]], notes: Sequence[str]
) -> Grid:
    found = {
        (row["dataset"], row["score"], row["method"], row["rule"]): Cell(row["mean"], row["low"], row["high"])
        for row in table.to_dict("records")
    }
    lines = [((name,), [found.get((*place, *key)) for place in columns.values()]) for key, name in names.items()]
    marked = _mark_best([line for line in lines if any(line[1])], columns, [score for _, score in columns.values()])
    human = tuple(found.get((*place, HUMAN, "")) for place in columns.values())
    also = ["Bold: best of the methods."]
    if any(human):
        marked.append(((HUMAN,), human))
        also.append(
            "Last row: each rater's mask scored as if a model had predicted it, with the other raters as votes; the "
            "mean over raters and, instead of an interval, the lowest and the highest."
        )
    if any(score.startswith("dice") for _, score in columns.values()):
        also.append(
            "Dice is that of the foreground p > 0.5, mean over cases: the mean over the raters present, or against "
            "their strict majority."
        )
    return Grid(title, ("method",), tuple(columns), tuple(marked), (*notes, *also))


def _mark_best(
    lines: Sequence[tuple[tuple[str, ...], Sequence[Cell | None]]], columns: Collection[Column], scores: Sequence[str]
) -> list[tuple[tuple[str, ...], tuple[Cell | None, ...]]]:
    """Make the best value of every column bold, and those that look the same after rounding."""
    if not lines:
        return []
    values = [[cell.mean for cell in column if cell] for column in zip(*(cells for _, cells in lines), strict=True)]
    tops = [best(column, score) for column, score in zip(values, scores, strict=True)]
    shown = [column.text(top) for column, top in zip(columns, tops, strict=True)]
    return [
        (
            name,
            tuple(
                cell and replace(cell, bold=column.text(cell.mean) == top)
                for cell, column, top in zip(cells, columns, shown, strict=True)
            ),
        )
        for name, cells in lines
    ]


def rater_grid(raters: pd.DataFrame, dataset: str, names: Names, notes: Sequence[str]) -> Grid:
    """Dice with each rater on one data set: methods, then the raters themselves."""
    part = raters[raters["dataset"] == dataset]
    who = [*(rater for rater in dict.fromkeys(part["rater"]) if rater != MEAN), MEAN]
    found = {
        (row["method"], row["rule"], row["rater"]): Cell(row["mean"], row["low"], row["high"])
        for row in part.to_dict("records")
    }
    columns = tuple(column_of("dice_raters", name=rater, title=rater) for rater in who)
    lines = [((name,), [found.get((*key, rater)) for rater in who]) for key, name in names.items()]
    marked = _mark_best([line for line in lines if any(line[1])], columns, ["dice_raters"] * len(who))
    humans = [((name,), tuple(found.get((name, "", rater)) for rater in who)) for name in CEILINGS.values()]
    also = (
        "Dice of the foreground p > 0.5 with each rater's mask, mean over the cases that the rater marked and where "
        "not both are empty. Bold: best of the methods. The majority of the others is where more than half of the "
        "other raters present say foreground; a tie is background. Last rows: each rater's own mask."
    )
    rows = (*marked, *(human for human in humans if any(human[1])))
    return Grid(f"Dice with each rater on {dataset}", ("method",), columns, rows, (*notes, also))


def difference_grid(
    table: pd.DataFrame, dataset: str, reference: tuple[str, str], notes: Sequence[str], *, level: float = 0.05
) -> Grid:
    """Paired differences to a reference on one data set; bold where the corrected p is below ``level``."""
    part = table[table["dataset"] == dataset]
    scores = list(dict.fromkeys(part["score"]))
    found = {
        (row["method"], row["rule"], row["score"]): Cell(
            row["difference"], row["low"], row["high"], bold=not math.isnan(row["p_holm"]) and row["p_holm"] < level
        )
        for row in part.to_dict("records")
    }
    names = dict.fromkeys(zip(part["method"], part["rule"], strict=True))
    rows = tuple((key, tuple(found.get((*key, score)) for score in scores)) for key in names)
    columns = tuple(column_of(score, signed=True) for score in scores)
    also = f"Bold: two-sided p, corrected by Holm's method for all rows of the column, below {level:g}."
    title = f"Differences to {':'.join(reference)} on {dataset}, paired by run and case"
    return Grid(title, ("method", "foreground"), columns, rows, (*notes, also))
