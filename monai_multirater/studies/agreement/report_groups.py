# SPDX-License-Identifier: Apache-2.0
"""Sections of a report on what goes with agreement: groups of cases, factors of raters, the mixed model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement.figures import Estimate, cumulative_chart, estimate_chart
from monai_multirater.studies.agreement.report_levels import levels_blocks
from monai_multirater.studies.agreement.report_overview import overview_blocks, without_difference
from monai_multirater.studies.agreement.report_parts import (
    Block,
    Chart,
    Charts,
    Column,
    Prose,
    Section,
    Table,
    interval,
    label_of,
    number,
    p_value,
    term,
)
from monai_multirater.studies.agreement.report_reading import Row, comparison_sentences, strata_sentence
from monai_multirater.studies.agreement.report_size import size_sentences
from monai_multirater.studies.agreement.report_tests import means_table, tests_table
from monai_multirater.studies.agreement.report_values import rows_of, stratum_name, student_interval
from monai_multirater.studies.agreement.result import AgreementStudy

__all__ = ["comparison_sections", "mixed_section"]

_MOST_CURVES, _MOST_PAIRS = 2, 3
_INTRO = {
    "groups": "How agreement differs between groups. A difference in agreement need not be caused by the group: case "
    "mix, raters and size may differ with it.",
    "factors": "Do two raters agree more when they have something in common? “Same” are pairs of masks with the same "
    "level of a factor, “different” those with different levels, over all cases and within groups of cases side by "
    "side. If the lines of the groups slope in opposite directions, the factor acts differently in them.",
}


def comparison_sections(study: AgreementStudy) -> tuple[Section, ...]:
    """Sections "groups" and "factors"; only those with a comparison.

    Two levels, same against different, and up to three levels of the group are shown one by one, with their
    distributions; any other factor gets one part for all its levels.
    """
    order = {name: place for place, name in enumerate(MEASURES)}
    rows: list[Row] = [{**row, "stratum": stratum_name(row["stratum"])} for row in rows_of(study.tests)]
    rows.sort(key=lambda row: order.get(row["measure"], len(order)))  # in the order of the table otherwise
    found: dict[str, list[Block | str]] = {}
    curves = _curves(study, rows)
    group = study.summary.get("group_column")
    parts = _parts(rows, group)
    of_cases = [part for part in parts if part[0]["analysis"] == "group"]
    in_overview = without_difference(of_cases, group)
    for index, own in enumerate(parts):
        section = "groups" if own[0]["analysis"] == "group" else "factors"
        about_size = size_sentences(study) if section == "groups" else ()
        blocks = found.setdefault(section, [Prose((_INTRO[section], *about_size))])
        if index == 0 and section == "groups":
            blocks += overview_blocks(of_cases, in_overview)
        if section == "groups" and own[0]["factor"] in in_overview:
            curves.pop((str(own[0]["factor"]), str(own[0]["first"]), str(own[0]["second"])), ())
            continue
        several = len({(row["first"], row["second"]) for row in own}) > 1
        if several:
            within = "" if section == "groups" else ": agreement within its levels"
            blocks += [f"{own[0]['factor']}{within}", *levels_blocks(study, own, f"{section}-{index}")]
            continue
        key = (str(own[0]["factor"]), str(own[0]["first"]), str(own[0]["second"]))
        blocks.append(_heading(own[0]))
        blocks += _comparison(own, f"{section}-{index}", curves.pop(key, ()), study.unit)
    if rest := [chart for charts in curves.values() for chart in charts]:
        found.setdefault("groups", [Prose((_INTRO["groups"],))]).append(Charts(tuple(rest[:_MOST_CURVES])))
    titles = {"groups": "Groups of cases", "factors": "Factors of raters and masks"}
    return tuple(Section(key, titles[key], tuple(found[key])) for key in titles if key in found)


def _parts(rows: Sequence[Row], group: str | None) -> list[list[Row]]:
    """Rows that are shown together, in the order of the table."""
    by_factor: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_factor.setdefault((str(row["analysis"]), str(row["factor"])), []).append(row)
    found: list[list[Row]] = []
    for (_, factor), own in by_factor.items():
        pairs: dict[tuple[str, str], list[Row]] = {}
        for row in own:
            pairs.setdefault((str(row["first"]), str(row["second"])), []).append(row)
        apart = len(pairs) <= (_MOST_PAIRS if factor == group else 1)
        found += list(pairs.values()) if apart else [own]
    return found


def _comparison(rows: Sequence[Row], key: str, curves: Sequence[Chart], unit: str) -> list[Block]:
    """One comparison: sentences and figures of its first measure, tables of all."""
    main = [row for row in rows if row["measure"] == rows[0]["measure"]]
    whole = [row for row in main if row["stratum"] == "all cases"]
    levels = [str(row["level"]) for row in main]
    drawn = [row for row in main if str(row["level"]) == ("pairs" if "pairs" in levels else levels[0])]
    sentences = comparison_sentences(whole, strata_sentence(drawn)) if whole else tuple(strata_sentence(drawn))
    charts = (*_estimates(drawn, key), *curves)
    words: Block = Charts(charts, sentences) if charts else Prose(sentences)
    tests = tests_table(rows, key, _heading(rows[0]), unit)
    return [words, means_table(rows, key, _heading(rows[0]), unit), *([tests] if tests else [])]


def _heading(row: Row) -> str:
    """What is compared, in words."""
    factor, first, second = (str(row[name]) for name in ("factor", "first", "second"))
    if row["analysis"] == "same-different":
        return f"Same or different {factor}"
    if row["analysis"] == "levels":
        return f"{factor}: pairs within {first} and within {second}"
    return f"{first} and {second}" if factor == first else f"{factor}: {first} and {second}"


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


def _estimate(row: Row) -> str | Markup:
    """Variances are small numbers: three significant digits; everything else with three places."""
    value = float(row["estimate"])
    if "variance" not in str(row["term"]) or not 0 < abs(value) < 0.1:
        return number(value)
    return number(value, min(2 - math.floor(math.log10(abs(value))), 12))


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
            (str(row["term"]), _estimate(row), interval(row["low"], row["high"]), p_value(row["p"]))
            for row in rows_of(rows)
        )
        tables.append(Table(f"table-mixed-{index}", f"Mixed model: {model}", columns, cells))
    return Section("mixed", "All factors together", tuple(tables))
