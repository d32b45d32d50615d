# SPDX-License-Identifier: Apache-2.0
"""Sections of a report on what goes with agreement: groups of cases, factors of raters, the mixed model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement.figures import Estimate, cumulative_chart, estimate_chart
from monai_multirater.studies.agreement.report_facts import effect_word
from monai_multirater.studies.agreement.report_parts import (
    Block,
    Chart,
    Charts,
    Column,
    Prose,
    Section,
    Table,
    count,
    interval,
    label_of,
    number,
    p_value,
    term,
)
from monai_multirater.studies.agreement.report_values import is_missing, rows_of, stratum_name, student_interval
from monai_multirater.studies.agreement.result import AgreementStudy

__all__ = ["comparison_sections", "mixed_section"]

Row = Mapping[str, Any]
_MOST_ROWS, _MOST_CURVES = 30, 2
_LEVEL = 0.05
_INTRO = {
    "groups": "How agreement differs between groups. A difference in agreement need not be caused by the group: case "
    "mix, raters and size may differ with it.",
    "factors": "Do two raters agree more when they have something in common? “Same” are pairs of masks with the same "
    "level of a factor, “different” those with different levels, over all cases and within groups of cases side by "
    "side. If the lines of the groups slope in opposite directions, the factor acts differently in them.",
}
_TESTS = (
    ("mann_whitney_u", Column("U", "mann_whitney"), 0),
    ("p_mann_whitney", Column("p", "mann_whitney"), None),
    ("p_permutation", Column("p, permutation", "permutation"), None),
    ("p_holm", Column("p, Holm", "holm"), None),
    ("cohens_d", Column("d", "cohens_d"), 2),
    ("cliffs_delta", Column("δ", "cliffs_delta"), 2),
    ("p_dominance_first", Column("p, first dominates", "dominance"), None),
    ("p_dominance_second", Column("p, second dominates", "dominance"), None),
)


def comparison_sections(study: AgreementStudy) -> tuple[Section, ...]:
    """Sections "groups" and "factors"; only those with a comparison."""
    rows = [{**row, "stratum": stratum_name(row["stratum"])} for row in rows_of(study.tests)]
    found: dict[str, list[Block | str]] = {}
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (str(row["analysis"]), str(row["factor"]), str(row["first"]), str(row["second"]))
        grouped.setdefault(key, []).append(row)
    curves = _curves(study, rows)
    for index, ((_, factor, first, second), own) in enumerate(grouped.items()):
        section = "groups" if own[0]["analysis"] == "group" else "factors"
        blocks = found.setdefault(section, [Prose((_INTRO[section],))])
        blocks.append(_heading(own[0]))
        blocks += _comparison(own, f"{section}-{index}", curves.pop((factor, first, second), ()), study.unit)
    if rest := [chart for charts in curves.values() for chart in charts]:
        found.setdefault("groups", [Prose((_INTRO["groups"],))]).append(Charts(tuple(rest[:_MOST_CURVES])))
    titles = {"groups": "Groups", "factors": "Factors of raters and masks"}
    return tuple(Section(key, titles[key], tuple(found[key])) for key in titles if key in found)


def _comparison(rows: Sequence[Row], key: str, curves: Sequence[Chart], unit: str) -> list[Block]:
    order = {name: place for place, name in enumerate(MEASURES)}
    rows = sorted(rows, key=lambda row: order.get(row["measure"], len(order)))
    main = [row for row in rows if row["measure"] == rows[0]["measure"]]
    levels = [str(row["level"]) for row in main]
    main = [row for row in main if str(row["level"]) == ("pairs" if "pairs" in levels else levels[0])]
    whole = [row for row in main if row["stratum"] == "all cases"]
    sentences = tuple(_sentences(whole[0])) if whole else ()
    charts = (*_estimates(main, key), *curves)
    words: Block = Charts(charts, sentences) if charts else Prose(sentences)
    return [words, _table(rows, key, unit)]


def _heading(row: Row) -> str:
    """What is compared, in words."""
    factor, first, second = (str(row[name]) for name in ("factor", "first", "second"))
    if row["analysis"] == "same-different":
        return f"Same or different {factor}"
    return f"{first} and {second}" if factor == first else f"{factor}: {first} and {second}"


def _sentences(row: Row) -> list[Markup]:
    title = label_of(row["measure"])
    p, of = row.get("p_holm"), "Holm"
    if is_missing(p):
        p, of = row.get("p_mann_whitney"), "Mann-Whitney"
    if is_missing(row["cohens_d"]):
        return [Markup("There are too few values of {} for a comparison.").format(title)]
    sentence = Markup("Mean {} is {} for “{}” (n = {}) and {} for “{}” (n = {}): {} {}, {}.").format(
        term(row["measure"], title), number(row["mean_first"]), row["first"], count(row["n_first"]),
        number(row["mean_second"]), row["second"], count(row["n_second"]), term("cohens_d", "d\u00a0="),
        number(row["cohens_d"], 2), effect_word(row["cohens_d"]),
    )  # fmt: skip
    found = [sentence]
    if p is not None and not is_missing(p):
        text = (
            "chance alone hardly explains the difference" if p < _LEVEL else "chance alone can explain the difference"
        )
        equal = "" if p < 0.001 else "= "
        name = term("holm" if of == "Holm" else "mann_whitney", "p, Holm" if of == "Holm" else "p, Mann-Whitney")
        found.append(Markup("{} {}{}: {}.").format(name, equal, p_value(p), text))
    return [*found, *_dominance(row, title)]


def _dominance(row: Row, title: str) -> list[Markup]:
    first, second = row.get("p_dominance_first"), row.get("p_dominance_second")
    if first is None or second is None or is_missing(first) or is_missing(second):
        return []
    link = term("dominance", "dominates")
    rejected = (first < _LEVEL, second < _LEVEL)
    if rejected == (True, True):
        return [Markup("Neither group {} the other: the distributions cross.").format(link)]
    if rejected == (False, False):
        text = "The data reject neither direction of {}: that one group has the higher values throughout stays open."
        return [Markup(text).format(term("dominance", "dominance"))]
    high, low = (row["second"], row["first"]) if rejected[0] else (row["first"], row["second"])
    text = (
        "“{}” {} “{}” as far as the data can tell: whatever value of {} is taken as a limit, at most as large a "
        "share of “{}” stays at or below it. Its values tend to be higher over the whole range, not only on average."
    )
    return [Markup(text).format(high, link, low, title, high)]


def _estimates(rows: Sequence[Row], key: str) -> tuple[Chart, ...]:
    """Chart of the means of all cases and of groups of cases; none without such groups."""
    rows = sorted(rows, key=lambda row: row["stratum"] != "all cases")
    estimates = []
    for row in rows:
        for side in ("first", "second"):
            mean, n = float(row[f"mean_{side}"]), int(row[f"n_{side}"])
            if math.isfinite(mean) and n:
                low, high = student_interval(mean, float(row[f"std_{side}"]), n)
                estimates.append(Estimate(row["stratum"], str(row[side]), side == "first", n, mean, low, high))
    if len({each.group for each in estimates}) < 2:
        return ()
    names = (str(rows[0]["first"]), str(rows[0]["second"]))
    label = f"mean {label_of(rows[0]['measure'])}"
    title = f"{_heading(rows[0])}, by group of cases"
    return (estimate_chart(estimates, key=f"figure-{key}", title=title, names=names, label=label),)


def _table(rows: Sequence[Row], key: str, unit: str) -> Table:
    strata = len({row["stratum"] for row in rows}) > 1
    levels = len({str(row["level"]) for row in rows}) > 1
    tests = [item for item in _TESTS if not all(is_missing(row.get(item[0])) for row in rows)]
    lead = [Column("Measure", numeric=False)]
    lead += [Column("Cases", numeric=False)] * strata + [Column("Counted", "level", numeric=False)] * levels
    group = (Column("n", "n"), Column("Mean ± SD", "mean"), Column("Median", "quartiles"))
    shown, cells = rows[:_MOST_ROWS], []
    for row in shown:
        title = term(row["measure"], label_of(row["measure"], unit))
        places = 2 if row["measure"] in MEASURES and MEASURES[row["measure"]].unit else 3
        line: list[str | Markup] = [title, *([row["stratum"]] * strata), *([str(row["level"])] * levels)]
        for side in ("first", "second"):
            spread = Markup("{} ± {}").format(number(row[f"mean_{side}"], places), number(row[f"std_{side}"], places))
            line += [count(row[f"n_{side}"]), spread, number(row[f"median_{side}"], places)]
        line += [p_value(row[name]) if digits is None else number(row[name], digits) for name, _, digits in tests]
        cells.append(tuple(line))
    first, second = str(rows[0]["first"]), str(rows[0]["second"])
    level = "" if levels else f" ({rows[0]['level']})"
    note = f"{len(rows) - len(shown)} more rows are in tests.csv." if len(rows) > len(shown) else ""
    groups = (
        ("", len(lead)),
        (f"First: {first}", 3),
        (f"Second: {second}", 3),
        ("Tests and sizes of effect", len(tests)),
    )
    columns = (*lead, *group, *group, *(column for _, column, _ in tests))
    caption = f"Tests. {_heading(rows[0])}{level}"
    return Table(f"table-{key}", caption, columns, tuple(cells), tuple(g for g in groups if g[1]), note)


def _curves(study: AgreementStudy, rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Chart]]:
    """Cumulative distributions by the comparison that they belong to; Dice first, of pairs where there are such."""
    found: dict[tuple[str, str, str], list[Chart]] = {}
    if not len(study.dominance):
        return found
    known = {(_name_of(row), str(row["measure"])): row for row in rows if row["stratum"] == "all cases"}
    order = {name: place for place, name in enumerate(MEASURES)}
    parts = {(str(c), str(m)): part for (c, m), part in study.dominance.groupby(["comparison", "measure"], sort=False)}
    for index, name in enumerate(sorted(parts, key=lambda name: order.get(name[1], len(order)))):
        comparison, measure = name
        row, label = known.get(name), label_of(measure, study.unit)
        names = (str(row["first"]), str(row["second"])) if row else ("first", "second")
        key = (str(row["factor"]), *names) if row else (comparison, *names)
        pairs = (comparison.removesuffix("cases") + "pairs", measure)
        if len(found.get(key, ())) < _MOST_CURVES and (pairs == name or pairs not in parts):
            title = f"{label_of(measure)}, cumulative: {_heading(row) if row else comparison}"
            chart = cumulative_chart(parts[name], key=f"figure-curve-{index}", title=title, names=names, label=label)
            found.setdefault(key, []).append(chart)
    return found


def _name_of(row: Row) -> str:
    """What the table of distributions calls a comparison."""
    return f"{row['factor']}: {row['first']} and {row['second']}, {row['level']}"


def mixed_section(study: AgreementStudy) -> Section | None:
    """Tables of the mixed models; None without one."""
    if not len(study.mixed):
        return None
    columns = (
        Column("Term", numeric=False), Column("Estimate", "mixed"), Column("95 % interval", "interval"),
        Column("p", "mixed"),
    )  # fmt: skip
    tables: list[Block | str] = [
        Prose(
            (
                Markup(
                    "Pairs of one case are alike, and so are pairs with the same rater. The {} allows for that, "
                    "which the rank tests of pairs above do not."
                ).format(term("mixed", "mixed model")),
            )
        )
    ]
    for index, (model, rows) in enumerate(study.mixed.groupby("model", sort=False)):
        cells = tuple(
            (str(row["term"]), number(row["estimate"]), interval(row["low"], row["high"]), p_value(row["p"]))
            for row in rows_of(rows)
        )
        tables.append(Table(f"table-mixed-{index}", f"Mixed model: {model}", columns, cells))
    return Section("mixed", "All factors together", tuple(tables))
