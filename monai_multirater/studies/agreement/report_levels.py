# SPDX-License-Identifier: Apache-2.0
"""One compact part of a report for a factor with many levels: their means, one test of all, two by two in a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from monai_multirater.agreement.pair_table import factor_levels, is_mask_factor, level_means, level_name
from monai_multirater.studies.agreement.report_parts import (
    Block,
    Column,
    Prose,
    Table,
    count,
    label_of,
    number,
    p_value,
    plural,
    term,
)
from monai_multirater.studies.agreement.report_raters import heat_map
from monai_multirater.studies.agreement.report_reading import Row, significant
from monai_multirater.studies.agreement.report_tests import level_table
from monai_multirater.studies.agreement.report_values import is_missing, rows_of
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.studies.agreement.unordered import has_unordered, unordered_values

__all__ = ["levels_blocks"]


def levels_blocks(study: AgreementStudy, rows: Sequence[Row], key: str) -> list[Block | str]:
    """Blocks for all comparisons of the levels of one factor, by pairs and by cases."""
    factor, measure = str(rows[0]["factor"]), str(rows[0]["measure"])
    blocks: list[Block | str] = [Prose(tuple(_sentences(study, rows, factor, measure)))]
    means = _means(study, factor, measure, key)
    return [*blocks, *([means] if means else []), level_table(rows, key, f"{factor}, levels two by two", study.unit)]


def _sentences(study: AgreementStudy, rows: Sequence[Row], factor: str, measure: str) -> list[Markup]:
    found = []
    for level in dict.fromkeys(str(row["level"]) for row in rows):
        own = [row for row in rows if str(row["level"]) == level and row["measure"] == measure]
        tested = [row for row in own if significant(row) is not None]
        sure = sum(bool(significant(row)) for row in tested)
        found.append(
            Markup("By {}: {}after {}, {} of {} of two levels {} beyond chance.").format(
                level, _omnibus(study, factor, measure, level), term("holm", "Holm's correction"), sure or "none",
                plural(len(tested), "comparison"), "is" if sure == 1 else "are",
            )
        )  # fmt: skip
    return found


def _omnibus(study: AgreementStudy, factor: str, measure: str, level: str) -> Markup:
    tests = study.omnibus
    if not len(tests):
        return Markup("")
    own = tests[(tests["factor"] == factor) & (tests["measure"] == measure) & (tests["level"] == level)]
    for row in rows_of(own):
        if not is_missing(row["p"]):
            same = "hardly explains" if row["p"] < 0.05 else "can explain"
            text = "the {} levels have {} H\u00a0=\u00a0{}, p\u00a0{}{}: chance alone {} their differences; "
            return Markup(text).format(
                row["sets"], term("omnibus", "Kruskal-Wallis"), number(row["statistic"], 1),
                "" if row["p"] < 0.001 else "=\u00a0", p_value(row["p"]), same,
            )  # fmt: skip
    return Markup("")


def _means(study: AgreementStudy, factor: str, measure: str, key: str) -> Block | None:
    """Means of each combination of levels of masks, or of each level of cases."""
    if not has_unordered(study.pairs, measure):
        return None
    table = study.pairs.assign(**{measure: unordered_values(study.pairs, measure)})
    title = label_of(measure, study.unit)
    if is_mask_factor(table, factor):
        means = level_means(table, factor, measure=measure).rename(
            columns={"level_1": "first", "level_2": "second", "pairs": "n"}
        )
        names = sorted({*means["first"], *means["second"]})
        caption = Markup("Mean {} by the {} of both masks").format(term(measure, title), factor)
        return heat_map(means, names, key=f"heat-{key}", caption=caption)
    if factor not in table:
        return None
    return _case_levels(table, factor, measure, title, key)


def _case_levels(table: pd.DataFrame, factor: str, measure: str, title: str, key: str) -> Table:
    rows = []
    for level in factor_levels(table[factor], factor=factor, function="report"):
        own = table[(table[factor] == level).fillna(False).to_numpy(bool)]
        values, cases = own[measure].dropna(), own.groupby("case")[measure].mean().dropna()
        rows.append(
            (
                level_name(level), number(cases.mean()), count(cases.size), number(values.mean()), number(values.std()),
                number(values.median()), count(values.size),
            )
        )  # fmt: skip
    columns = (
        Column(factor, numeric=False), Column("Mean of cases", "level"), Column("Cases", "n"),
        Column("Mean of pairs", "mean"), Column("SD", "sd"), Column("Median", "quartiles"), Column("Pairs", "n"),
    )  # fmt: skip
    return Table(f"table-{key}-means", f"{title} by {factor}", columns, tuple(rows))
