# SPDX-License-Identifier: Apache-2.0
"""What a comparison says, in sentences: by pairs and by cases, within cases, over the whole distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from monai_multirater.studies.agreement.report_parts import count, join, label_of, number, p_value, plural, term
from monai_multirater.studies.agreement.report_values import is_missing, is_same_different

__all__ = [
    "Row",
    "comparison_sentences",
    "difference",
    "disagree",
    "effect_word",
    "p_words",
    "preferred",
    "significant",
    "strata_sentence",
    "turns",
    "within_strata",
]

Row = Mapping[str, Any]
_ALPHA = 0.05
_FEW_CASES = 10  # with both kinds of pairs, to say that there is no difference within them
_COUNTED = {"pairs": "By pairs of raters", "cases": "By cases, each counted once"}


def effect_word(d: float) -> str:
    """Cohen's words for the size of d, as it is shown."""
    size = abs(round(d, 2))
    bounds = ((0.2, "less than small"), (0.5, "small"), (0.8, "medium"), (np.inf, "large"))
    return next(word for bound, word in bounds if size < bound) + " by convention"


def difference(row: Row) -> float:
    """Mean of the first set minus that of the second."""
    return float(row["mean_first"]) - float(row["mean_second"])


def significant(row: Row) -> bool | None:
    """Whether the corrected p (else the rank test's) is below 0.05; None without one."""
    p = next((row[name] for name in ("p_holm", "p_mann_whitney") if not is_missing(row.get(name))), None)
    return None if p is None else bool(p < _ALPHA)


def disagree(rows: Sequence[Row]) -> bool:
    """Whether pairs and cases differ in what is beyond chance, or in its direction."""
    tested = [row for row in rows if significant(row) is not None]
    if len(tested) < 2:
        return False
    sure = {significant(row) for row in tested}
    return len(sure) > 1 or (sure == {True} and len({np.sign(difference(row)) for row in tested}) > 1)


def preferred(rows: Sequence[Row]) -> Row:
    """Row of pairs, or that of cases where the two disagree."""
    level = "cases" if disagree(rows) else "pairs"
    return next((row for row in rows if str(row["level"]) == level), rows[0])


def p_words(row: Row) -> Markup:
    """Corrected p, else that of the rank test; with its name, which leads to the definition."""
    name, title = ("holm", "p, Holm") if not is_missing(row.get("p_holm")) else ("mann_whitney", "p, Mann-Whitney")
    p = row.get("p_holm") if name == "holm" else row.get("p_mann_whitney")
    if is_missing(p):
        return Markup("no p")
    return Markup("{}\u00a0{}{}").format(term(name, title), "" if float(p or 0) < 0.001 else "=\u00a0", p_value(p))


def comparison_sentences(rows: Sequence[Row], more: Sequence[Markup] = ()) -> tuple[Markup, ...]:
    """Sentences on one comparison of one measure over the same cases, by pairs and by cases; ``more`` among them."""
    rows = sorted(rows, key=lambda row: str(row["level"]) != "pairs")
    title = label_of(rows[0]["measure"])
    known = [row for row in rows if not is_missing(row["cohens_d"])]
    if not known:
        return (Markup("There are too few values of {} for a comparison.").format(title),)
    found = [_means(row, title) for row in known]
    if disagree(known):
        found.append(_disagreement(preferred(known)))
    return (*found, *_within(preferred(known)), *more, *_dominance(preferred(known), title))


def _means(row: Row, title: str) -> Markup:
    sure = significant(row)
    chance = "" if sure is None else f": chance alone {'hardly explains' if sure else 'can explain'} the difference"
    text = "{}: mean {} {} for “{}” (n\u00a0=\u00a0{}) and {} for “{}” (n\u00a0=\u00a0{}); {}\u00a0=\u00a0{}, {}; {}{}."
    return Markup(text).format(
        term("level", _COUNTED.get(str(row["level"]), str(row["level"]))), term(row["measure"], title),
        number(row["mean_first"]), row["first"], count(row["n_first"]), number(row["mean_second"]), row["second"],
        count(row["n_second"]), term("cohens_d", "d"), number(row["cohens_d"], 2), effect_word(row["cohens_d"]),
        p_words(row), chance,
    )  # fmt: skip


def _disagreement(row: Row) -> Markup:
    says = f"“{row['first']}” is {_direction(difference(row))}" if significant(row) else "no difference beyond chance"
    return Markup(
        "<strong>Pairs and cases do not say the same.</strong> Pairs of one case are not independent, and cases with "
        "many raters weigh more among them, so rather rely on the cases: {}."
    ).format(says)


def _direction(value: float) -> str:
    return "higher" if value > 0 else "lower"


def _within(row: Row) -> list[Markup]:
    """What the cases with both kinds of pairs say."""
    within, p, cases = row.get("difference_within"), row.get("p_within"), int(row.get("cases_both", 0) or 0)
    if within is None or p is None or is_missing(within) or is_missing(p) or not cases:
        return []
    fact = Markup("{} the {} that {} both kinds of pairs, “{}” is {} by {} (p\u00a0{}{})").format(
        term("within", "Within"), plural(cases, "case"), "has" if cases == 1 else "have", row["first"],
        _direction(within), number(abs(within)), "" if p < 0.001 else "=\u00a0", p_value(p),
    )  # fmt: skip
    overall, here = significant(row), p < _ALPHA
    same_way = np.sign(within) == np.sign(difference(row))
    if cases < _FEW_CASES:
        says = "so few cases do not tell much"
    elif here and overall and not same_way:
        says = (
            "<strong>the other way around</strong> than over all cases. So the overall difference tells which cases "
            "have pairs of which kind, or these cases differ from the others"
        )
    elif here and not overall:
        says = "a difference that does not show over all cases, where hard and easy cases are mixed"
    elif overall and not here:
        says = "no difference beyond chance there. The overall difference may come from which cases have which pairs"
    elif here:
        says = "the same way as over all cases, so it is not only a matter of which cases have which pairs"
    else:
        return [Markup("{}.").format(fact)]
    return [Markup("{}: {}.").format(fact, Markup(says))]


def _dominance(row: Row, title: str) -> list[Markup]:
    first, second = row.get("p_dominance_first"), row.get("p_dominance_second")
    if first is None or second is None or is_missing(first) or is_missing(second):
        return []
    link = term("dominance", "dominates")
    rejected = (first < _ALPHA, second < _ALPHA)
    if rejected == (True, True):
        return [Markup("By {}, neither group {} the other: the distributions cross.").format(row["level"], link)]
    if rejected == (False, False):
        text = "By {}, the data reject neither direction of {}: it stays open who has the higher values throughout."
        return [Markup(text).format(row["level"], term("dominance", "dominance"))]
    high, low = (row["second"], row["first"]) if rejected[0] else (row["first"], row["second"])
    sides = ("first", "second") if rejected[0] else ("second", "first")
    text = (
        "By {}, “{}” {} “{}” as far as the data can tell: whatever {} is taken as a limit, no clearly larger share of "
        "“{}” stays below it. That “{}” has the higher values throughout is rejected ({}); that “{}” has them is not "
        "({})."
    )
    shown = [Markup("statistic {}, p\u00a0{}{}").format(*_statistic(row, side)) for side in sides]
    return [Markup(text).format(row["level"], high, link, low, title, high, low, shown[0], high, shown[1])]


def _statistic(row: Row, side: str) -> tuple[str | Markup, str, str | Markup]:
    p = row[f"p_dominance_{side}"]
    return number(row.get(f"dominance_{side}"), 4), "" if p < 0.001 else "=\u00a0", p_value(p)


def strata_sentence(rows: Sequence[Row]) -> list[Markup]:
    """One sentence on a comparison within groups of cases, from the rows of one level; none without groups."""
    inside = [row for row in rows if row["stratum"] != "all cases" and math.isfinite(difference(row))]
    if len(inside) < 2:
        return []
    parts = [
        Markup("<strong>{}</strong> {} against {} ({})").format(
            row["stratum"], number(row["mean_first"]), number(row["mean_second"]), p_words(row)
        )
        for row in inside
    ]
    word = "It <strong>turns around</strong> between groups of cases" if turns(inside) else "By group of cases"
    return [
        Markup("{}, by {}: “{}” against “{}” is {}.{}").format(
            Markup(word), str(inside[0]["level"]), inside[0]["first"], inside[0]["second"], join(parts),
            within_strata(inside),
        )
    ]  # fmt: skip


def within_strata(rows: Sequence[Row]) -> Markup:
    """Differences within cases of each group of cases, and whether only one of them is beyond chance."""
    known = [
        row for row in rows if not is_missing(row.get("p_within")) and int(row.get("cases_both") or 0) >= _FEW_CASES
    ]
    if not known:
        return Markup("")
    parts = [
        Markup("{} ({}, p\u00a0{}{}, {})").format(
            _signed(row["difference_within"]), row["stratum"], "" if row["p_within"] < 0.001 else "=\u00a0",
            p_value(row["p_within"]), plural(int(row["cases_both"]), "case"),
        )
        for row in known
    ]  # fmt: skip
    sure = [row for row in known if row["p_within"] < _ALPHA]
    only = Markup("")
    if len(sure) == 1 < len(known):
        only = Markup(": beyond chance <strong>only in {}</strong>").format(sure[0]["stratum"])
    return Markup(" {} with both kinds of pairs the difference is {}{}.").format(
        term("within", "Within the cases"), join(parts), only
    )


def _signed(value: float) -> str:
    text = str(number(value))
    return text if value < 0 else f"+{text}"


def turns(rows: Sequence[Row]) -> bool:
    """Whether a comparison of same with different has opposite signs beyond chance in groups of cases."""
    sure = [row for row in rows if row["stratum"] != "all cases" and significant(row)]
    return len({np.sign(difference(row)) for row in sure}) > 1 and all(map(is_same_different, sure))
