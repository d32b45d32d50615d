# SPDX-License-Identifier: Apache-2.0
"""Markdown and LaTeX are read back by hand-written readers and must give the numbers of the CSV form, rounded."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_multirater.studies.formats import (
    Cell,
    Column,
    Grid,
    best,
    column_of,
    replace_file,
    to_frame,
    to_latex,
    to_markdown,
)


def read_markdown(text: str) -> list[list[str]]:
    """Cells of the rows below the rule, bold taken off."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in rows}) == 1, "rows of different length"
    assert set("".join(rows[1])) <= set("-:")
    return [rows[0], *([cell.replace("**", "") for cell in row] for row in rows[2:])]


def read_latex(text: str) -> list[list[list[str]]]:
    """Rows of every table, of one that goes on in several all columns; what is opened must be closed."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\[\\{}$]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    tables: dict[str, list[list[str]]] = {}
    for part in text.split(r"\end{table}")[:-1]:
        title = re.search(r"\\caption\{(.*?)(?: \(\d of \d\))?\}\n", part)
        tabular = re.search(r"\\begin\{tabular\}\{(l+)(r+)\}\n(.*)\\end\{tabular\}", part, re.DOTALL)
        assert title is not None
        assert tabular is not None
        body = re.sub(r"\\(toprule|midrule|bottomrule)\n", "", tabular[3])
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in body.split("\\\\\n")][:-1]
        assert all(len(row) == len(tabular[1] + tabular[2]) for row in rows)
        plain = [
            [re.sub(r"\\textbf\{(?:\\boldmath)?([^}]*)\}", r"\1", c).replace("$", "") for c in row] for row in rows
        ]
        if title[1] in tables:
            for row, more in zip(tables[title[1]], plain, strict=True):
                assert row[: len(tabular[1])] == more[: len(tabular[1])]
                row += more[len(tabular[1]) :]
        else:
            tables[title[1]] = plain
    return list(tables.values())


def numbers(cell: str) -> list[float]:
    """Mean, low and high of a cell."""
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", cell)]


@pytest.fixture
def grid() -> Grid:
    """Names that need escaping; a missing cell, an undefined interval, a negative and a bold value."""
    columns = (column_of("mr_ece"), column_of("auc", name="a_b", title="50 % & more"), column_of("nll", signed=True))
    rows = (
        (("rps_bce", "expected"), (Cell(0.0123, 0.01, 0.02, bold=True), None, Cell(-0.5, -0.75, 0.25, bold=True))),
        (("a|b{c}~^\\", "#1 $x$ <2>"), (Cell(0.2, math.nan, math.nan), Cell(0.91234, 0.9, 1.0), Cell(-1e-9, 0, 0))),
    )
    return Grid("Title of 100 % & x_1", ("method", "rule"), columns, rows, ("A note, B = 10 %.", "**Bold**: best."))


def test_frame_holds_numbers_as_they_are(grid: Grid) -> None:
    frame = to_frame(grid)
    assert list(frame.columns)[:6] == ["method", "rule", "mr_ece", "mr_ece_low", "mr_ece_high", "a_b"]
    assert frame.loc[0, "nll_low"] == -0.75
    assert frame.loc[1, "a_b"] == 0.91234
    assert np.isnan(frame.loc[0, "a_b"])


def test_markdown_by_hand(grid: Grid) -> None:
    text = to_markdown(grid)
    assert text.splitlines()[:6] == [
        "## Title of 100 % & x_1",
        "",
        "| method | rule | MR-ECE x 1000 | 50 % & more | NLL x 1000 |",
        "|---|---|---:|---:|---:|",
        "| rps_bce | expected | **12.3** [10.0, 20.0] |  | **-500.0** [-750.0, +250.0] |",
        r"| a\|b{c}~^\ | #1 $x$ <2> | 200.0 | 0.9123 [0.9000, 1.0000] | +0.0 [+0.0, +0.0] |",
    ]
    assert text.endswith("\nA note, B = 10 %.\n\n**Bold**: best.\n")
    assert to_markdown(grid, heading=False).startswith("| method")


def test_latex_by_hand(grid: Grid) -> None:
    text = to_latex([grid], label="table_x")
    assert r"\caption{Title of 100 \% \& x\_1}" in text
    assert r"\label{tab:table-x}" in text
    assert r"method & rule & MR-ECE $\times 1000$ & 50 \% \& more & NLL $\times 1000$ \\" in text
    first = r"rps\_bce & expected & \textbf{12.3} [10.0, 20.0] &  & \textbf{\boldmath$-500.0$} [$-750.0$, $+250.0$] \\"
    assert first in text
    names = (
        r"a\textbar{}b\{c\}\textasciitilde{}\textasciicircum{}\textbackslash{} & \#1 \$x\$ \textless{}2\textgreater{} &"
    )
    assert names in text
    assert r"\par\smallskip A note, B = 10 \%." in text
    assert r"\par\smallskip Bold: best." in text


def test_both_forms_read_back_give_the_numbers(grid: Grid) -> None:
    frame = to_frame(grid)
    forms = read_markdown(to_markdown(grid))[1:], read_latex(to_latex([grid], label="x"))[0][1:]
    for index, row in frame.iterrows():
        for form in forms:
            for place, column in enumerate(grid.columns):
                values = [row[column.name + end] * column.factor for end in ("", "_low", "_high")]
                expected = [value for value in values if not np.isnan(value)]
                found = numbers(form[index][2 + place])
                assert found == pytest.approx(expected, abs=0.5 * 10**-column.places + 1e-12)


def test_several_latex_tables_have_labels_of_their_own(grid: Grid) -> None:
    text = to_latex([grid, grid], label="raters")
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:raters", "tab:raters-2"]
    both = read_latex(to_latex([grid, replace(grid, title="other")], label="x"))
    assert both == read_latex(to_latex([grid], label="x")) * 2


@pytest.mark.parametrize(("columns", "parts"), [(1, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_wide_latex_tables_go_on_in_further_ones(columns: int, parts: int) -> None:
    """Names of 20 characters, cells of 17: 482 points hold 5 of 88 and 76 points, (482 - 88) / 76 = 5.2."""
    grid = Grid(
        "Wide",
        ("method",),
        tuple(Column(f"c{index}", f"c{index}", 1000.0, 1) for index in range(columns)),
        ((("n" * 20,), (Cell(0.0123, 0.0111, 0.0222),) * columns),),
        ("A note.",),
    )
    text = to_latex([grid], label="wide")
    assert text.count(r"\begin{table}") == parts
    assert text.count("A note.") == 1
    (table,) = read_latex(text)
    assert table[0] == ["method", *(f"c{index}" for index in range(columns))]
    assert table[1][1:] == ["12.3 [11.1, 22.2]"] * columns


@pytest.mark.parametrize(
    ("score", "text"), [("auc", "0.9877"), ("dice_raters", "0.988"), ("brier", "987.7"), ("truth_mae", "987.7")]
)
def test_scores_have_their_units(score: str, text: str) -> None:
    assert column_of(score).text(0.98766) == text


def test_best_knows_the_direction() -> None:
    assert best([0.2, math.nan, 0.1], "mr_ece") == 0.1
    assert best([0.2, math.nan, 0.1], "auc") == 0.2
    assert math.isnan(best([math.nan], "dice_raters"))


def test_rounded_zero_has_no_minus() -> None:
    assert Column("x", "x", 1.0, 2).text(-0.001) == "0.00"
    assert Column("x", "x", 1.0, 2, signed=True).text(-0.001) == "+0.00"


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.md"
    replace_file(path, "first")

    def killed(to: Path) -> None:
        to.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, killed)
    assert path.read_text() == "first"
