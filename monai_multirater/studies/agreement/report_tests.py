# SPDX-License-Identifier: Apache-2.0
"""Tables of comparisons: means with sizes of effect, and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement.figures import short
from monai_multirater.studies.agreement.report_parts import (
    UNDEFINED,
    Column,
    Table,
    count,
    label_of,
    number,
    p_value,
    term,
)
from monai_multirater.studies.agreement.report_reading import Row, difference
from monai_multirater.studies.agreement.report_values import is_missing

__all__ = ["level_table", "means_table", "tests_table"]

Cell = str | Markup
Shown = tuple[Column, Callable[[Row], Cell]]
_MOST_ROWS = 60
_TESTS: tuple[tuple[str, Shown], ...] = (
    ("p_mann_whitney", (Column("p, ranks", "mann_whitney"), lambda row: p_value(row["p_mann_whitney"]))),
    ("p_holm", (Column("p, Holm", "holm"), lambda row: p_value(row["p_holm"]))),
    ("p_permutation", (Column("p, permutation", "permutation"), lambda row: p_value(row["p_permutation"]))),
    ("difference_within", (Column("Within cases", "within"), lambda row: _within(row))),
    ("p_within", (Column("p, within", "within"), lambda row: p_value(row["p_within"]))),
    ("p_dominance_first", (Column("First dominates", "dominance"), lambda row: _dominance(row, "first"))),
    ("p_dominance_second", (Column("Second dominates", "dominance"), lambda row: _dominance(row, "second"))),
)


def means_table(rows: Sequence[Row], key: str, heading: str, unit: str) -> Table:
    """Numbers of values, means, medians and sizes of effect, one row per comparison."""
    lead, names = _lead(rows, unit), [short(str(rows[0][side]), 18) for side in ("first", "second")]
    both = [*zip(("first", "second"), names, strict=True)]
    shown: list[Shown] = [
        *lead,
        *[(Column(name, "mean"), _cell(f"mean_{side}")) for side, name in both],
        (Column("Difference", "difference"), lambda row: number(difference(row), _places(row))),
        (Column("d", "cohens_d"), lambda row: number(row["cohens_d"])),
        (Column("δ", "cliffs_delta"), lambda row: number(row["cliffs_delta"])),
        *[(Column(name, "n"), _cell(f"n_{side}", 0)) for side, name in both],
        *[(Column(name, "sd"), _cell(f"std_{side}")) for side, name in both],
        *[(Column(name, "quartiles"), _cell(f"median_{side}")) for side, name in both],
    ]
    groups = (("", len(lead)), ("Mean", 2), ("First less second", 3), ("n", 2), ("SD", 2), ("Median", 2))
    return _table(f"table-{key}", f"Means: {heading}", rows, shown, groups)


def _cell(name: str, places: int | None = None) -> Callable[[Row], Cell]:
    return lambda row: number(row[name], _places(row) if places is None else places)


def tests_table(rows: Sequence[Row], key: str, heading: str, unit: str) -> Table | None:
    """P-values and statistics, one row per comparison; None without any."""
    shown = [cell for name, cell in _TESTS if not all(is_missing(row.get(name)) for row in rows)]
    if not shown:
        return None
    return _table(f"table-{key}-tests", f"Tests: {heading}", rows, [*_lead(rows, unit), *shown], ())


def _table(
    key: str, caption: str, rows: Sequence[Row], shown: Sequence[Shown], groups: tuple[tuple[str, int], ...]
) -> Table:
    cells = tuple(tuple(cell(row) for _, cell in shown) for row in rows[:_MOST_ROWS])
    note = f"{len(rows) - _MOST_ROWS} more rows are in tests.csv." if len(rows) > _MOST_ROWS else ""
    return Table(key, caption, tuple(column for column, _ in shown), cells, groups, note)


def _lead(rows: Sequence[Row], unit: str) -> list[Shown]:
    """Columns that tell the rows apart."""
    found: list[Shown] = []
    if len({(row["first"], row["second"]) for row in rows}) > 1:
        found.append((Column("Levels", numeric=False), lambda row: f"{row['first']} and {row['second']}"))
    if len({row["measure"] for row in rows}) > 1:
        name: Callable[[Row], Cell] = lambda row: term(row["measure"], label_of(row["measure"], unit))  # noqa: E731
        found.append((Column("Measure", numeric=False), name))
    if len({row["stratum"] for row in rows}) > 1:
        found.append((Column("Cases", numeric=False), lambda row: str(row["stratum"])))
    return [*found, (Column("Counted", "level", numeric=False), lambda row: str(row["level"]))]


def _places(row: Row) -> int:
    return 2 if row["measure"] in MEASURES and MEASURES[row["measure"]].unit else 3


def _within(row: Row) -> Cell:
    if is_missing(row.get("difference_within")):
        return UNDEFINED
    return Markup("{} <small>of {}</small>").format(
        number(row["difference_within"], _places(row)), count(row["cases_both"])
    )


def _dominance(row: Row, side: str) -> Cell:
    if is_missing(row[f"p_dominance_{side}"]):
        return UNDEFINED
    p = row[f"p_dominance_{side}"]
    shown = p_value(p) if p < 0.001 else Markup("=\u00a0{}").format(p_value(p))
    return Markup("{} <small>p\u00a0{}</small>").format(number(row.get(f"dominance_{side}"), 4), shown)


def level_table(rows: Sequence[Row], key: str, heading: str, unit: str) -> Table:
    """All levels of a factor two by two, one row each and level of analysis."""
    within = [name for name in ("difference_within", "p_within") if not all(is_missing(row.get(name)) for row in rows)]
    tests = dict(_TESTS)
    shown: list[Shown] = [
        *_lead(rows, unit),
        (Column("Difference", "difference"), lambda row: number(difference(row), _places(row))),
        tests["p_holm"],
        (Column("Means", "mean"), _means),
        (Column("d", "cohens_d"), lambda row: number(row["cohens_d"], 2)),
        tests["p_mann_whitney"],
        (Column("n", "n"), lambda row: Markup("{} and {}").format(count(row["n_first"]), count(row["n_second"]))),
        *(tests[name] for name in within),
    ]
    return _table(f"table-{key}", heading, rows, shown, ())


def _means(row: Row) -> Markup:
    return Markup("{} and {}").format(number(row["mean_first"], _places(row)), number(row["mean_second"], _places(row)))
