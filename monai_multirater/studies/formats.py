# SPDX-License-Identifier: Apache-2.0
"""One table of values with intervals, and its three forms: Markdown, LaTeX and numbers for a CSV file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["Cell", "Column", "Grid", "best", "column_of", "replace_file", "to_frame", "to_latex", "to_markdown"]

TITLES = {
    "mr_ece": "MR-ECE",
    "auc": "AUC",
    "brier": "Brier",
    "nll": "NLL",
    "dice_raters": "Dice, each rater",
    "dice_majority": "Dice, majority",
    "truth_mae": "truth MAE",
    "truth_brier": "truth Brier",
    "truth_calibration": "truth calibration",
}
HIGHER_IS_BETTER = ("auc", "dice_majority", "dice_raters")
LATEX_WIDTH = 482  # points, 17 cm
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Column:
    """What a column shows: its name in CSV files, its title, and how numbers are written."""

    name: str
    title: str
    factor: float = 1.0
    places: int = 4
    signed: bool = False

    def text(self, value: float) -> str:
        """Write a number as the column shows it."""
        text = f"{self.factor * value:.{self.places}f}"
        if not math.isnan(value) and float(text) == 0:
            text = text.removeprefix("-")
        return f"+{text}" if self.signed and not text.startswith("-") else text


@dataclass(frozen=True)
class Cell:
    """A value with its interval, as computed; NaN where undefined."""

    mean: float
    low: float
    high: float
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: rows with one or several names, columns with values, notes below.

    Attributes:
        title: heading or caption.
        heads: titles of the names.
        columns: what the values are.
        rows: names and cells of each row; None where there is no value.
        notes: sentences below the table.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell | None, ...]], ...]
    notes: tuple[str, ...] = ()


def column_of(score: str, *, name: str | None = None, title: str | None = None, signed: bool = False) -> Column:
    """Return the column of a score: times 1000 with one place, except for the AUC and Dice, with four and three."""
    if score in HIGHER_IS_BETTER:
        return Column(name or score, title or TITLES[score], 1.0, 4 if score == "auc" else 3, signed)
    return Column(name or score, title or f"{TITLES.get(score, score)} x 1000", 1000.0, 1, signed)


def to_frame(grid: Grid) -> pd.DataFrame:
    """Return the numbers of a table: the names, then ``<column>``, ``<column>_low`` and ``<column>_high``."""
    rows = []
    for names, cells in grid.rows:
        row: dict[str, Any] = dict(zip(grid.heads, names, strict=True))
        for column, cell in zip(grid.columns, cells, strict=True):
            values = (math.nan,) * 3 if cell is None else (cell.mean, cell.low, cell.high)
            row |= dict(zip((column.name, f"{column.name}_low", f"{column.name}_high"), values, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def to_markdown(grid: Grid, *, heading: bool = True) -> str:
    """Return the table in Markdown, ``mean [low, high]`` in each cell; the title is a heading, notes are paragraphs."""
    heads = [_plain(text) for text in (*grid.heads, *(column.title for column in grid.columns))]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(grid.heads) + "---:|" * len(grid.columns)]
    for names, cells in grid.rows:
        values = [_value(column, cell, latex=False) for column, cell in zip(grid.columns, cells, strict=True)]
        lines.append("| " + " | ".join([*map(_plain, names), *values]) + " |")
    title = [f"## {grid.title}", ""] if heading else []
    notes = [line for note in grid.notes for line in ("", note)]
    return "\n".join([*title, *lines, *notes]) + "\n"


def to_latex(grids: Iterable[Grid], *, label: str) -> str:
    """Return tables in LaTeX, as ``table`` environments; the document needs the package booktabs.

    A table wider than 17 cm goes on in further ones with the remaining columns; its notes stand below the last.

    Args:
        grids: the tables.
        label: reference for the first, ``tab:<label>``; the following ones are numbered from 2.
    """
    parts = [part for grid in grids for part in _parts(grid)]
    names = [label if index == 0 else f"{label}-{index + 1}" for index in range(len(parts))]
    tables = [_latex_table(part, name) for part, name in zip(parts, names, strict=True)]
    return "\n".join([r"% Needs \usepackage{booktabs}.", *tables]) + "\n"


def _parts(grid: Grid) -> list[Grid]:
    """Split a table into ones that fit the width of a page, with about as many columns each."""
    names = [[head, *(row[0][index] for row in grid.rows)] for index, head in enumerate(grid.heads)]
    values = [
        [column.title, *(_value(column, row[1][index], latex=False) for row in grid.rows)]
        for index, column in enumerate(grid.columns)
    ]
    room = LATEX_WIDTH - sum(map(_width, names))
    widest = max((_width(column) for column in values), default=1)
    count = max(1, math.ceil(len(values) / max(1, room // widest)))
    if sum(map(_width, values)) <= room or count == 1:
        return [grid]
    cuts = [round(index * len(values) / count) for index in range(count + 1)]
    return [
        replace(
            grid,
            title=f"{grid.title} ({index + 1} of {count})",
            columns=grid.columns[start:end],
            rows=tuple((name, cells[start:end]) for name, cells in grid.rows),
            notes=grid.notes if end == len(values) else (),
        )
        for index, (start, end) in enumerate(pairwise(cuts))
    ]


def _width(column: Sequence[str]) -> int:
    """Points that a column takes: 4 a character in footnote size, and 8 between columns."""
    return 8 + 4 * max(len(text.replace("**", "")) for text in column)


def _latex_table(grid: Grid, label: str) -> str:
    heads = [_escape(text) for text in (*grid.heads, *(column.title for column in grid.columns))]
    rows = []
    for names, cells in grid.rows:
        values = [_value(column, cell, latex=True) for column, cell in zip(grid.columns, cells, strict=True)]
        rows.append(" & ".join([*map(_escape, names), *values]) + r" \\")
    return "\n".join(
        [
            r"\begin{table}[tbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{_escape(grid.title)}}}",
            rf"\label{{tab:{''.join(c if c.isalnum() else '-' for c in label)}}}",
            rf"\begin{{tabular}}{{{'l' * len(grid.heads)}{'r' * len(grid.columns)}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip {_escape(note.replace('**', '').replace('`', ''))}" for note in grid.notes),
            r"\end{table}",
        ]
    )


def _value(column: Column, cell: Cell | None, *, latex: bool) -> str:
    if cell is None or math.isnan(cell.mean):
        return ""
    mean, low, high = (column.text(value) for value in (cell.mean, cell.low, cell.high))
    if latex:
        mean, low, high = (f"${text}$" if text[0] in "+-" else text for text in (mean, low, high))
    if cell.bold:
        weight = r"\boldmath" if "$" in mean else ""
        mean = rf"\textbf{{{weight}{mean}}}" if latex else f"**{mean}**"
    return mean if math.isnan(cell.low) else f"{mean} [{low}, {high}]"


def _plain(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _escape(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text).replace(" x 1000", r" $\times 1000$")


def replace_file(path: Path, write: str | Callable[[Path], Any]) -> Path:
    """Write a text, or let ``write`` fill a file, under a temporary name, then rename it; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    if isinstance(write, str):
        temporary.write_text(write, encoding="utf-8")
    else:
        write(temporary)
    temporary.replace(path)
    return path


def best(values: Sequence[float], score: str) -> float:
    """Return the best of the values of a score, NaN left out; NaN when none is defined."""
    defined = [value for value in values if not math.isnan(value)]
    return (max if score in HIGHER_IS_BETTER else min)(defined, default=math.nan)
