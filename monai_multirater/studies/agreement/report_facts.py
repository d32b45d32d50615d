# SPDX-License-Identifier: Apache-2.0
"""The first page of a report: counts, mean agreement, and what stands out, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement.report_definitions import PROBLEMS
from monai_multirater.studies.agreement.report_parts import count, interval, join, label_of, number, plural, share, term
from monai_multirater.studies.agreement.report_reading import (
    Row,
    disagree,
    p_words,
    preferred,
    significant,
    turns,
    within_strata,
)
from monai_multirater.studies.agreement.report_values import (
    is_same_different,
    main_measure,
    pair_means,
    problems_of,
    rows_of,
    spread,
    stratum_name,
    values_of,
)
from monai_multirater.studies.agreement.result import AgreementStudy

__all__ = ["Fact", "facts", "findings", "lead"]

_MIN_CASES = 5


@dataclass(frozen=True)
class Fact:
    """One number with what it is, and a small line below."""

    title: str | Markup
    value: str | Markup
    below: str | Markup = ""


def facts(study: AgreementStudy) -> tuple[Fact, ...]:
    """Numbers of the first page."""
    left_out = len(problems_of(study, "one rater"))
    found = [
        Fact("Cases", count(len(study.cases)), f"{count(left_out)} with one rater left out" if left_out else ""),
        Fact("Raters", count(len(study.raters)), _raters_per_case(study)),
        Fact("Pairs of masks", count(len(study.pairs)), "two raters, one case"),
    ]
    name = main_measure(study)
    if name:
        summary = spread(study, name)
        title = "Mean Dice" if name == "dice" else f"Mean: {MEASURES[name].title}"
        below = Markup('<a class="term" href="#def-interval">95 % interval</a> {}').format(
            interval(summary.low, summary.high, 2)
        )
        found.append(Fact(term(name, title), number(summary.mean, 2), below))
    return tuple(found)


def _raters_per_case(study: AgreementStudy) -> str:
    if "raters" not in study.cases or not len(study.cases):
        return ""
    low, high = int(study.cases["raters"].min()), int(study.cases["raters"].max())
    return f"{low} per case" if low == high else f"{low} to {high} per case"


def lead(study: AgreementStudy) -> Markup:
    """Return the main result in two sentences."""
    name = main_measure(study)
    if name != "dice":
        return Markup("No pair of masks with a defined Dice coefficient was found, so there is little to report.")
    summary, values = spread(study, "dice"), values_of(study, "dice")
    low = int((values < 0.5).sum())
    return Markup(
        "Where two raters marked the same case, their masks have a {} of {} on average ({} {}): 1 would be identical "
        "masks, 0 no common voxel. Half of the pairs reach {} or more; {} of them ({}) stay below 0.5."
    ).format(
        term("dice", "Dice coefficient"), number(summary.mean, 2), term("interval", "95 % interval"),
        interval(summary.low, summary.high, 2), number(summary.quartiles[1], 2), count(low), share(low, summary.n),
    )  # fmt: skip


def findings(study: AgreementStudy) -> tuple[Markup, ...]:
    """What stands out, the most telling first."""
    name = main_measure(study)
    found = [
        *_comparisons(study, name), *_pairs(study, name), *_outliers(study), *_disputed(study), *_problems(study)
    ]  # fmt: skip
    return tuple(found)


def _pairs(study: AgreementStudy, name: str) -> list[Markup]:
    table = pair_means(study, name)
    table = table[table["first"] != table["second"]]
    table = table[table["n"] >= min(_MIN_CASES, table["n"].max())] if len(table) else table
    rows = sorted(rows_of(table.dropna(subset=["mean"])), key=lambda row: row["mean"])
    if len(rows) < 2:
        return []
    worst, best = rows[0], rows[-1]
    cells = [
        Markup("<strong>{} and {}</strong> ({} {}, {})").format(
            row["first"],
            row["second"],
            label_of(name),
            number(row["mean"], 2),
            plural(row["n"], "pair"),
        )
        for row in (best, worst)
    ]
    sentence = Markup('Agree best: {}; least: {}. All pairs are in the <a href="#raters">table of raters</a>.')
    return [sentence.format(*cells)]


def _outliers(study: AgreementStudy) -> list[Markup]:
    if "outlier" not in study.raters:
        return []
    flagged = study.raters.loc[study.raters["outlier"].fillna(False).astype(bool), "rater"].astype(str)
    if not len(flagged):
        return []
    names = join(Markup("<strong>{}</strong>").format(name) for name in flagged)
    verb = "agrees" if len(flagged) == 1 else "agree"
    return [
        Markup("{} {} far less with the others than they agree among themselves ({}).").format(
            names, verb, term("problem-outlier-rater", "how this is decided")
        )
    ]


def _comparisons(study: AgreementStudy, name: str) -> list[Markup]:
    """The group, then the largest effect of same against different; other factors only if there is neither."""
    rows: list[Row] = [
        {**row, "stratum": stratum_name(row["stratum"])} for row in rows_of(study.tests) if row["measure"] == name
    ]
    whole = [row for row in rows if row["stratum"] == "all cases" and np.isfinite(row["cohens_d"])]
    group = study.summary.get("group_column")
    own = [row for row in whole if row["analysis"] == "group" and str(row["factor"]) == group]
    shared = [row for row in whole if is_same_different(row)]
    chosen = [_largest(each) for each in (own, shared) if each] or ([_largest(whole)] if whole else [])
    found = [_comparison(each) for each in chosen]
    return found + [_interaction(rows, factor) for factor in dict.fromkeys(str(row["factor"]) for row in shared)
                    if turns(_at_pairs(rows, factor))]  # fmt: skip


def _largest(rows: Sequence[Row]) -> list[Row]:
    """Rows by pairs and by cases of the comparison with the largest d at the level that counts."""
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((str(row["factor"]), str(row["first"]), str(row["second"])), []).append(row)
    return max(parts.values(), key=lambda part: abs(preferred(part)["cohens_d"]))


def _comparison(rows: Sequence[Row]) -> Markup:
    row = preferred(rows)
    target = "groups" if row["analysis"] == "group" else "factors"
    what = Markup('<a href="#{}"><strong>{}</strong></a>').format(
        target, f"Same or different {row['factor']}" if is_same_different(row) else row["factor"]
    )
    parts = [_values(each, named=place == 0) for place, each in enumerate(rows)]
    sentence = Markup("{}: mean {} {}.").format(what, label_of(row["measure"]), Markup("; ").join(parts))
    if disagree(rows):
        says = "a difference beyond chance" if significant(row) else "no difference beyond chance"
        sentence += Markup(" The two do not agree; the cases, which are the safer ones, say {}.").format(says)
    return sentence


def _values(row: Row, *, named: bool) -> Markup:
    names = [Markup(" for “{}”").format(row[side]) if named else "" for side in ("first", "second")]
    return Markup("by {} {}{} and {}{} ({}\u00a0=\u00a0{}, {})").format(
        row["level"], number(row["mean_first"]), names[0], number(row["mean_second"]), names[1],
        term("cohens_d", "d"), number(row["cohens_d"], 2), p_words(row),
    )  # fmt: skip


def _at_pairs(rows: Sequence[Row], factor: str) -> list[Row]:
    return [r for r in rows if is_same_different(r) and str(r["factor"]) == factor and str(r["level"]) == "pairs"]


def _interaction(rows: Sequence[Row], factor: str) -> Markup:
    inside = [row for row in _at_pairs(rows, factor) if row["stratum"] != "all cases"]
    parts = [
        Markup("{} and {} (<strong>{}</strong>)").format(
            number(row["mean_first"]), number(row["mean_second"]), row["stratum"]
        )
        for row in inside
    ]
    return Markup(
        "The effect of <strong>{}</strong> turns around between groups of cases: by pairs, “{}” against “{}” is {}.{} "
        'See <a href="#factors">the figures</a>.'
    ).format(factor, inside[0]["first"], inside[0]["second"], join(parts), within_strata(inside))


def _disputed(study: AgreementStudy) -> list[Markup]:
    if "mean_dice" not in study.cases:
        return []
    cases = study.cases["mean_dice"].astype(float)
    zero = int((cases == 0).sum())
    if not zero:
        return []
    text = (
        "no pair of raters has a voxel in common. They are among"
        if zero > 1
        else "no pair of raters has a voxel in common. It is among"
    )
    return [
        Markup('In {} {} <a href="#disputed">the most disputed</a>.').format(
            Markup("<strong>{}</strong>").format(plural(zero, "case")), text
        )
    ]


def _problems(study: AgreementStudy) -> list[Markup]:
    kinds = study.problems["kind"].value_counts() if len(study.problems) else pd.Series(dtype=int)
    parts = [
        Markup("{} \u00d7 {}").format(count(kinds[kind]), term(f"problem-{kind.replace(' ', '-')}", kind))
        for kind in PROBLEMS
        if kind in kinds and kind != "one rater"
    ]
    found = []
    if parts:
        found.append(Markup('To look at in the data: {}. <a href="#problems">All problems</a>.').format(join(parts)))
    elif not kinds.get("one rater", 0):
        found.append(Markup("No problem was found in the data: no empty, flipped, copied or outlying mask."))
    if kinds.get("one rater", 0):
        found.append(
            Markup("{} with one rater {} counted and left out: there is nobody to agree with.").format(
                plural(int(kinds["one rater"]), "case"), "was" if kinds["one rater"] == 1 else "were"
            )
        )
    return found
