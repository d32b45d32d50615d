# SPDX-License-Identifier: Apache-2.0
"""Sections of a report on distributions and on raters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup

from monai_multirater.agreement.measures import GROUP_MEASURES, MEASURES
from monai_multirater.studies.agreement.figures import ceiling_chart, histogram_chart
from monai_multirater.studies.agreement.report_parts import (
    UNDEFINED,
    Block,
    Charts,
    Column,
    HeatCell,
    HeatMap,
    Prose,
    Section,
    Table,
    count,
    interval,
    number,
    term,
    title_of,
)
from monai_multirater.studies.agreement.report_values import (
    main_measure,
    measures_present,
    pair_means,
    rows_of,
    spread,
    values_of,
)
from monai_multirater.studies.agreement.result import AgreementStudy

__all__ = ["distribution_section", "heat_map", "rater_section"]

_COLORS = "viridis"
_MOST_RATERS = 40


def distribution_section(study: AgreementStudy) -> Section:
    """Table and histograms of every measure present."""
    names = measures_present(study)
    if not names:
        return Section("distributions", "How much the raters agree", (Prose(("No measure has a defined value.",)),))
    charts = tuple(
        histogram_chart(
            values_of(study, name), MEASURES[name], unit=study.unit, of="cases" if name in GROUP_MEASURES else "pairs"
        )
        for name in names
    )
    intro = "Every measure looks at the masks in another way. Its name leads to its definition."
    return Section(
        "distributions", "How much the raters agree", (Prose((intro,)), _measure_table(study, names), Charts(charts))
    )


def _measure_table(study: AgreementStudy, names: tuple[str, ...]) -> Table:
    columns = (
        Column("Measure", numeric=False), Column("Mean", "mean"), Column("95 % interval", "interval"),
        Column("Median", "quartiles"), Column("Lower quartile", "quartiles"), Column("Upper quartile", "quartiles"),
        Column("SD", "sd"), Column("n", "n"), Column("Undefined", "undefined"), Column("Best", "best"),
    )  # fmt: skip
    rows = []
    for name in names:
        measure, found = MEASURES[name], spread(study, name)
        places = 2 if measure.unit else 3
        title = term(name, title_of(name, study.unit))
        head = Markup('{} <span class="of">of {}</span>').format(title, "cases" if name in GROUP_MEASURES else "pairs")
        rows.append(
            (
                head, number(found.mean, places), interval(found.low, found.high, places),
                *(number(found.quartiles[place], places) for place in (1, 0, 2)), number(found.std, places),
                count(found.n), count(found.undefined), number(measure.best, 0),
            )
        )  # fmt: skip
    return Table(
        "table-measures", "Measures of agreement over all pairs of masks, or over all cases", columns, tuple(rows)
    )


def rater_section(study: AgreementStudy) -> Section:
    """Heat map of pairs of raters, table of raters, human ceiling."""
    blocks: list[Block | str] = []
    heat = _heat_map(study)
    if heat is not None:
        blocks += ["Pairs of raters", heat]
    if len(study.raters):
        blocks += ["Single raters", _rater_table(study)]
    if "ceiling_dice" in study.raters and study.raters["ceiling_dice"].notna().any():
        blocks.append(Charts((ceiling_chart(study.raters),)))
        blocks.append(_ceiling_words(study))
    elif len(study.raters):
        blocks.append(Prose((_no_ceiling(),)))
    return Section("raters", "Raters", tuple(blocks))


def _no_ceiling() -> Markup:
    return Markup("The {} is not known here: it needs the masks themselves and three raters in a case.").format(
        term("ceiling", "human ceiling")
    )


def _ceiling_words(study: AgreementStudy) -> Prose:
    values = study.raters["ceiling_dice"].astype(float)
    text = Markup(
        "On average a rater reaches a Dice of {} with the majority of the others. This is the {}: a model that is "
        "measured against these people can hardly be asked for more."
    )
    return Prose((text.format(number(values.mean(), 2), term("ceiling", "human ceiling")),))


def _heat_map(study: AgreementStudy) -> HeatMap | None:
    name = main_measure(study)
    table = pair_means(study, name) if name else pd.DataFrame()
    if not len(table):
        return None
    given = [str(rater) for rater in study.raters["rater"]] if len(study.raters) else []
    met = sorted({*table["first"], *table["second"]} - set(given))
    names = (*given, *met)
    title = MEASURES[name].title
    if len(names) > _MOST_RATERS:
        names = tuple(sorted(names, key=lambda n: -table.loc[(table[["first", "second"]] == n).any(axis=1), "n"].sum()))
        names = names[:_MOST_RATERS]
    caption = Markup("Mean {} of each pair of raters").format(term(name, title))
    own = " On the diagonal: several masks of one rater." if (table["first"] == table["second"]).any() else ""
    return heat_map(table, names, key="heat-raters", caption=caption, note=own)


def heat_map(table: pd.DataFrame, names: Sequence[str], *, key: str, caption: str | Markup, note: str = "") -> HeatMap:
    """Heat map of means by two names each: columns ``first``, ``second`` (sorted), ``mean``, ``n``."""
    found = {(row["first"], row["second"]): row for row in rows_of(table)}
    defined = table["mean"].dropna()
    low, high = (float(defined.min()), float(defined.max())) if len(defined) else (0.0, 1.0)
    low, high = float(np.floor(low * 10) / 10), float(np.ceil(high * 10) / 10)
    rows = tuple(tuple(_heat_cell(found, a, b, low, high) for b in names) for a in names)
    scale = tuple(_color(value, low, high) for value in np.linspace(low, high, 6))
    words = "Below each mean: how many pairs of masks it is made from."
    if any(not cell.text and cell.below != "self" for row in rows for cell in row):
        words += " An empty cell: no pair of masks."
    return HeatMap(key, caption, tuple(names), rows, scale, words + note)


def _heat_cell(found: dict[tuple[str, str], dict[str, Any]], a: str, b: str, low: float, high: float) -> HeatCell:
    row = found.get((min(a, b), max(a, b)))
    if row is None:
        return HeatCell("", below="self" if a == b else "")
    if np.isnan(row["mean"]):
        return HeatCell(UNDEFINED, below="0")
    color = _color(row["mean"], low, high)
    return HeatCell(color.text, color.background, color.foreground, str(count(row["n"])))


def _color(value: float, low: float, high: float) -> HeatCell:
    """Value with its color, and black or white for text, whichever has the higher contrast."""
    red, green, blue = (
        round(255 * part) for part in matplotlib.colormaps[_COLORS]((value - low) / (high - low or 1.0))[:3]
    )
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    text = "#000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#fff"
    return HeatCell(number(value, 2), f"#{red:02x}{green:02x}{blue:02x}", text)


_RATER_COLUMNS = (
    ("cases", Column("Cases", "rater_cases"), 0),
    ("empty_masks", Column("Empty masks", "empty_masks"), 0),
    ("mean_dice", Column("Mean Dice", "mean_dice"), 3),
    ("ceiling_dice", Column("Dice", "ceiling"), 3),
    ("ceiling_dice_low", Column("95 % interval", "interval"), 3),
    ("ceiling_sensitivity", Column("Sensitivity", "ceiling"), 3),
    ("ceiling_specificity", Column("Specificity", "ceiling"), 3),
    ("size_bias", Column("Size bias", "size_bias"), 3),
    ("boundary_bias", Column("Boundary bias", "boundary_bias"), 2),
    ("outlier", Column("Outlier", "problem-outlier-rater", numeric=False), 0),
)


def _rater_table(study: AgreementStudy) -> Table:
    shown = [(name, column, places) for name, column, places in _RATER_COLUMNS if name in study.raters]
    ceiling = sum(name.startswith("ceiling") for name, _, _ in shown)
    before = sum(name in ("cases", "empty_masks", "mean_dice") for name, _, _ in shown)
    after = len(shown) - ceiling - before
    groups = (("", 1 + before), ("Against the majority of the others", ceiling), ("", after)) if ceiling else ()
    columns = tuple(
        Column(f"{column.title} ({study.unit})", column.term) if name == "boundary_bias" else column
        for name, column, _ in shown
    )
    rows = []
    for row in rows_of(study.raters):
        cells: list[str | Markup] = [str(row["rater"])]
        for name, _, places in shown:
            if name == "outlier":
                cells.append(_yes(row[name]))
            elif name == "ceiling_dice_low":
                cells.append(interval(row[name], row.get("ceiling_dice_high"), places))
            else:
                cells.append(number(row[name], places))
        rows.append(tuple(cells))
    heads = (Column("Rater", numeric=False), *columns)
    return Table(
        "table-raters", "What is known of each rater", heads, tuple(rows), tuple(group for group in groups if group[1])
    )


def _yes(value: Any) -> str | Markup:
    if value is None or pd.isna(value):
        return UNDEFINED
    return Markup("<strong>yes</strong>") if value else "no"
