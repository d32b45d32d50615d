# SPDX-License-Identifier: Apache-2.0
"""Whether groups of cases differ in size, and what is left of their difference at equal size, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from monai_multirater.agreement.pair_table import level_name
from monai_multirater.studies.agreement.analysis import SIZE_TERM
from monai_multirater.studies.agreement.report_parts import interval, join, label_of, number, term
from monai_multirater.studies.agreement.report_values import rows_of
from monai_multirater.studies.agreement.result import AgreementStudy

__all__ = ["size_sentences"]

_LEAST_RATIO = 1.25  # of the medians of two groups; below it sizes are called alike


def size_sentences(study: AgreementStudy) -> tuple[Markup, ...]:
    """Sentences about the size of the groups; none without a group, without sizes, or if all are of one size."""
    group = study.summary.get("group_column")
    if not group or group not in study.cases or "size" not in study.cases:
        return ()
    medians = _medians(study.cases, group)
    if len(medians) < 2 or min(medians.values()) <= 0:
        return ()
    ratio = max(medians.values()) / min(medians.values())
    if ratio < _LEAST_RATIO:
        return ()
    unit = "mm² or mm³" if study.unit == "mm" else "voxels"
    sizes = join(Markup("{} for “{}”").format(number(median, 0), level) for level, median in medians.items())
    first = Markup(
        "<strong>The groups differ in size</strong>, up to {} times: the median {} is {} ({}). Overlap rises with "
        "size, whatever raters do."
    ).format(number(ratio, 1), term("size", "size"), sizes, unit)
    return (first, *_at_equal_size(study, group, list(medians)))


def _medians(cases: pd.DataFrame, group: str) -> dict[str, float]:
    known = cases[cases[group].notna()]
    found = known["size"].groupby(known[group].map(level_name), sort=True).median()
    return {str(level): float(median) for level, median in found.items() if np.isfinite(median)}


def _at_equal_size(study: AgreementStudy, group: str, levels: list[str]) -> list[Markup]:
    """For each measure: what the models with and without size say of the group."""
    found = []
    for measure in study.summary.get("tested", ()):
        models = [model for model in study.mixed["model"].unique() if str(model).startswith(f"{measure} by {group}")]
        sized = next((model for model in models if str(model).endswith(f", {SIZE_TERM}")), None)
        plain = next((model for model in models if model != sized), None)
        if sized is None or plain is None:
            continue
        before, after = (_terms(study.mixed, model, group) for model in (plain, sized))
        found += [
            _change(measure, _in_words(name, group, levels), before[name], row)
            for name, row in after.items()
            if name in before
        ]
    return found


def _terms(mixed: pd.DataFrame, model: str, group: str) -> dict[str, dict[str, Any]]:
    """Rows of the terms of the group: its own, or one per further level."""
    rows = rows_of(mixed[mixed["model"] == model])
    return {
        str(row["term"]): row for row in rows if str(row["term"]) == group or str(row["term"]).startswith(f"{group}[")
    }


def _in_words(name: str, group: str, levels: list[str]) -> str:
    """A term of the model as the sets that it compares; the reference of names is the first level."""
    if name == group:
        return f"“{group}” against the others"
    return f"“{name.removeprefix(f'{group}[').removesuffix(']')}” against “{levels[0]}”"


def _change(measure: str, name: str, before: dict[str, Any], after: dict[str, Any]) -> Markup:
    return Markup("{}: {} in the {} without size {} ({}), at equal size {} ({}): {}.").format(
        name, label_of(measure), term("mixed", "mixed model"), _signed(before), interval(before["low"], before["high"]),
        _signed(after), interval(after["low"], after["high"]), _verdict(before, after),
    )  # fmt: skip


def _signed(row: dict[str, Any]) -> str | Markup:
    """The estimate with its sign, a plus too."""
    return f"+{number(row['estimate'])}" if row["estimate"] > 0 else number(row["estimate"])


def _verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What size does to a difference; an interval without 0 counts as one."""
    seen, left = (row["low"] > 0 or row["high"] < 0 for row in (before, after))
    if not left:
        return "size can explain it" if seen else "no sure difference either way"
    if not seen:
        return "it shows only at equal size"
    return "it stays" if before["estimate"] * after["estimate"] > 0 else "the direction reverses"
