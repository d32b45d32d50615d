# SPDX-License-Identifier: Apache-2.0
"""Markdown and LaTeX are read back by hand-written readers and must give the numbers of the CSV form, rounded."""

import math
import re
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


def read_latex(text: str) -> list[list[str]]:
    """Cells of the rows of one tabular; environments, braces and dollars must balance, and columns be declared."""
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
    declared = re.search(r"\\begin\{tabular\}\{([lr]+)\}\n(.*)\\end\{tabular\}", text, re.DOTALL)
    assert declared is not None
    body = re.sub(r"\\(toprule|midrule|bottomrule)\n", "", declared[2])
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in body.split("\\\\\n")][:-1]
    assert all(len(row) == len(declared[1]) for row in rows)
    return [[re.sub(r"\\textbf\{(?:\\boldmath)?([^}]*)\}", r"\1", cell).replace("$", "") for cell in r] for r in rows]


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
    forms = read_markdown(to_markdown(grid))[1:], read_latex(to_latex([grid], label="x"))[1:]
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
    for part in text.split(r"\end{table}")[:2]:
        read_latex(part + r"\end{table}")


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
