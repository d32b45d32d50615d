# SPDX-License-Identifier: Apache-2.0
"""Table of many factors of cases, so that only those that go with a difference need a part of their own."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from monai_multirater.studies.agreement.report_parts import (
    UNDEFINED,
    Block,
    Column,
    Prose,
    Table,
    count,
    label_of,
    number,
    p_value,
    term,
)
from monai_multirater.studies.agreement.report_reading import Row, significant
from monai_multirater.studies.agreement.report_values import is_missing

__all__ = ["overview_blocks", "without_difference"]

_FEW = 3
Part = Sequence[Row]


def without_difference(parts: Sequence[Part], group: str | None) -> list[str]:
    """Factors of cases that the table says enough of: no comparison beyond chance, one of many, not the group."""
    by_factor = _by_factor(parts)
    if len(by_factor) <= _FEW:
        return []
    return [factor for factor, rows in by_factor.items() if factor != group and not any(map(significant, rows))]


def overview_blocks(parts: Sequence[Part], left_out: Sequence[str]) -> list[Block | str]:
    """Words and a table with one row per factor; nothing for few factors."""
    by_factor = _by_factor(parts)
    if len(by_factor) <= _FEW:
        return []
    measure = str(parts[0][0]["measure"])
    rows = [_row(factor, [row for row in rows if row["measure"] == measure]) for factor, rows in by_factor.items()]
    columns = (
        Column("Factor", numeric=False), Column("Means of cases", "level"), Column("p, cases", "holm"),
        Column("p, pairs", "holm"), Column("Levels", "levels"), Column("Cases", "n"),
    )  # fmt: skip
    words = Markup(
        "Means are the lowest and the highest of the levels, p is the smallest of the comparisons of two levels ({}). "
        "Factors without a difference beyond chance, by pairs or by cases, are in this table only; their numbers are "
        "in <code>tests.csv</code>."
    ).format(term("holm", "Holm"))
    title = f"{label_of(measure)} by factors of cases"
    return [Prose((words,)), Table("table-overview", title, columns, tuple(rows))] if left_out else []


def _by_factor(parts: Sequence[Part]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for part in parts:
        found.setdefault(str(part[0]["factor"]), []).extend(part)
    return found


def _row(factor: str, rows: Sequence[Row]) -> tuple[str | Markup, ...]:
    means: dict[str, float] = {}
    cases: dict[str, int] = {}
    for row in rows:
        if str(row["level"]) == "cases":
            for side in ("first", "second"):
                means[str(row[side])] = float(row[f"mean_{side}"])
                cases[str(row[side])] = int(row[f"n_{side}"])
    levels = {str(row[side]) for row in rows for side in ("first", "second")}
    known = [value for value in means.values() if not is_missing(value)]
    span = Markup("{} to {}").format(number(min(known)), number(max(known))) if known else UNDEFINED
    return factor, span, _least(rows, "cases"), _least(rows, "pairs"), count(len(levels)), count(sum(cases.values()))


def _least(rows: Sequence[Row], level: str) -> str | Markup:
    found = [row["p_holm"] for row in rows if str(row["level"]) == level and not is_missing(row.get("p_holm"))]
    return p_value(min(found)) if found else UNDEFINED
