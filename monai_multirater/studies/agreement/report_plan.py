# SPDX-License-Identifier: Apache-2.0
"""Section of a report on the size of another study: how exact its mean Dice would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from monai_multirater.studies.agreement.report_parts import (
    UNDEFINED,
    Column,
    Prose,
    Section,
    Table,
    count,
    number,
    term,
)
from monai_multirater.studies.agreement.report_values import is_missing
from monai_multirater.studies.agreement.result import AgreementStudy

__all__ = ["plan_section"]

_NEEDED = {"raters", "cases", "width", "pilot_cases"}


def plan_section(study: AgreementStudy) -> Section | None:
    """Table of ``summary["plan"]``: width of the interval by raters and cases; None without such rows."""
    plan = [row for row in study.summary.get("plan") or () if isinstance(row, Mapping) and set(row) >= _NEEDED]
    raters = list(dict.fromkeys(row["raters"] for row in plan if not is_missing(row["width"])))
    if not raters:
        return None
    widths = {(row["raters"], row["cases"]): row["width"] for row in plan}
    columns = (
        Column("Cases", numeric=False),
        *(Column(f"{count(each)} raters a case", "plan") for each in raters),
    )
    rows = tuple(
        (count(cases), *(_width(widths, each, cases) for each in raters)) for cases in _distinct(plan, "cases")
    )
    remarks = list(dict.fromkeys(str(row["remark"]) for row in plan if row.get("remark")))
    note = f"{'; '.join(remarks)[:1].upper()}{'; '.join(remarks)[1:]}." if remarks else ""
    intro = Markup(
        "If another study like this one had so many cases and raters, the {} of its mean Dice would be this wide."
    )
    return Section(
        "plan",
        "Size of another study",
        (
            Prose((intro.format(term("plan", "95 % interval")),)),
            Table("table-plan", "Expected width of the 95 % interval of the mean Dice", columns, rows, note=note),
        ),
    )


def _distinct(plan: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return sorted({row[name] for row in plan})


def _width(widths: Mapping[tuple[Any, Any], Any], raters: Any, cases: Any) -> str | Markup:
    width = widths.get((raters, cases))
    return UNDEFINED if is_missing(width) else number(width)
