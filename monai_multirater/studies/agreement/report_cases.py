# SPDX-License-Identifier: Apache-2.0
"""Sections of a report on cases: size, shared volume, the most disputed ones, problems of the data."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image, features

from monai_multirater.studies.agreement.figure_cases import size_chart, volume_chart, volume_columns
from monai_multirater.studies.agreement.report_definitions import PROBLEMS
from monai_multirater.studies.agreement.report_parts import (
    Block,
    Charts,
    Column,
    Picture,
    Pictures,
    Prose,
    Section,
    Table,
    count,
    number,
    plural,
    term,
)
from monai_multirater.studies.agreement.report_values import is_missing, problems_of, rows_of
from monai_multirater.studies.agreement.result import AgreementStudy, Gallery

__all__ = ["disputed_section", "problem_section", "size_section"]

_MOST_CASES, _MOST_PROBLEMS = 20, 50
_LARGE = 150_000  # bytes: larger PNG files are embedded as WebP
_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".svg": "svg+xml"}


def size_section(study: AgreementStudy) -> Section | None:
    """Agreement against size and the agreement volume curve; None if the study knows neither."""
    cases, charts = study.cases, []
    if {"size", "mean_dice"} <= set(cases):
        size, dice = (cases[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in ("size", "mean_dice"))
        if ((size > 0) & ~np.isnan(dice)).sum() >= 2:
            charts.append(size_chart(size, dice, unit=_volume_unit(study)))
    if volume_columns(cases) and "raters" in cases and (cases["raters"] > 1).any():
        charts.append(volume_chart(cases))
    if not charts:
        return None
    intro = Markup(
        "Small structures have much boundary for their {}, so that the same shift of an outline costs more {}."
    ).format(term("size", "size"), term("dice", "Dice"))
    return Section("size", "Size and shared volume", (Prose((intro,)), Charts(tuple(charts))))


def _volume_unit(study: AgreementStudy) -> str:
    return "voxels" if study.unit == "voxels" else "mm² or mm³"


def disputed_section(study: AgreementStudy) -> Section | None:
    """Table and pictures of the most disputed cases; None without a mean Dice of cases."""
    if "mean_dice" not in study.cases or not study.cases["mean_dice"].notna().any():
        return None
    order = study.cases.dropna(subset=["mean_dice"]).sort_values(["mean_dice", "case"], kind="stable")
    shown = order.head(_MOST_CASES)
    pictures = tuple(_picture(index, each) for index, each in enumerate(study.galleries))
    blocks: list[Block | str] = [
        Prose(
            (
                Markup(
                    "The {} of {}, the worst first. All cases are in <code>cases.csv</code>, all pairs in "
                    "<code>pairs.csv</code>, in the folder of this report."
                ).format(term("disputed", plural(len(shown), "most disputed case")), count(len(order))),
            )
        ),
        _case_table(study, shown, {picture.title: picture.key for picture in pictures}),
    ]
    if pictures:
        blocks += ["Pictures", Pictures(pictures)]
    return Section("disputed", "Most disputed cases", tuple(blocks))


_CASE_COLUMNS = (
    ("raters", Column("Raters", "case_raters"), 0),
    ("mean_dice", Column("Mean Dice", "dice"), 3),
    ("min_dice", Column("Lowest", "disputed"), 3),
    ("mean_hausdorff95", Column("Mean HD95", "hausdorff95"), 1),
    ("mean_assd", Column("Mean ASSD", "assd"), 2),
    ("fleiss_kappa", Column("Fleiss' kappa", "fleiss_kappa"), 3),
    ("size", Column("Size", "size"), 0),
)


def _case_table(study: AgreementStudy, shown: pd.DataFrame, pictures: dict[str, str]) -> Table:
    used = [(name, column, places) for name, column, places in _CASE_COLUMNS if name in shown]
    units = {"mean_hausdorff95": study.unit, "mean_assd": study.unit, "size": _volume_unit(study)}
    columns = tuple(
        Column(f"{column.title} ({units[name]})", column.term) if name in units else column for name, column, _ in used
    )
    rows = []
    for row in rows_of(shown):
        name = str(row["case"])
        head = Markup('<a href="#{}">{}</a>').format(pictures[name], name) if name in pictures else name
        rows.append((head, *(number(row[column], places) for column, _, places in used)))
    return Table(
        "table-disputed", "Cases with the lowest mean Dice", (Column("Case", numeric=False), *columns), tuple(rows)
    )


def _picture(index: int, gallery: Gallery) -> Picture:
    source, width, height = _data_uri(gallery.picture)
    return Picture(f"picture-{index}", gallery.case, gallery.text, source, width, height)


def _data_uri(path: Path) -> tuple[str, int, int]:
    """Picture as a data URI with its size in pixels (0 if unknown); ("", 0, 0) where the file is missing."""
    if not path.is_file() or path.suffix.lower() not in _TYPES:
        return "", 0, 0
    data, kind, size = path.read_bytes(), _TYPES[path.suffix.lower()], (0, 0)
    if kind != "svg+xml":
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            if kind == "png" and len(data) > _LARGE and features.check("webp"):
                smaller = io.BytesIO()
                image.convert("RGBA" if "A" in image.getbands() else "RGB").save(smaller, "webp", quality=88, method=4)
                data, kind = smaller.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", *size


def problem_section(study: AgreementStudy) -> Section:
    """What is wrong with the data, by kind and one by one."""
    alone = len(problems_of(study, "one rater"))
    blocks: list[Block | str] = []
    if alone:
        verb = "was" if alone == 1 else "were"
        text = f"{plural(alone, 'case')} with one rater {verb} counted and left out of everything."
        blocks.append(Prose((text,)))
    if not len(study.problems):
        return Section("problems", "Problems found in the data", (Prose(("None was found.",)),))
    kinds = study.problems["kind"].value_counts()
    known = [*(kind for kind in PROBLEMS if kind in kinds), *(kind for kind in kinds.index if kind not in PROBLEMS)]
    rows = tuple((_kind(kind), count(kinds[kind]), PROBLEMS.get(kind, "")) for kind in known)
    columns = (Column("Kind", numeric=False), Column("Number", "problems"), Column("What it means", numeric=False))
    blocks.append(Table("table-problem-kinds", "Problems by kind", columns, rows))
    listed = study.problems[study.problems["kind"] != "one rater"]
    if len(listed):
        blocks.append(_problem_table(listed))
    return Section("problems", "Problems found in the data", tuple(blocks))


def _kind(kind: str) -> str | Markup:
    return term(f"problem-{kind.replace(' ', '-')}", kind) if kind in PROBLEMS else kind


def _problem_table(listed: pd.DataFrame) -> Table:
    order = {kind: place for place, kind in enumerate(PROBLEMS)}
    table = listed.assign(place=listed["kind"].map(order).fillna(len(order))).sort_values(
        ["place", "case", "rater"], kind="stable"
    )
    rows = tuple(
        (_kind(row["kind"]), _text(row["case"]), _text(row["rater"]), _text(row["detail"]))
        for row in rows_of(table.head(_MOST_PROBLEMS))
    )
    titles = ("Kind", "Case", "Rater", "Detail")
    note = (
        "" if len(table) <= _MOST_PROBLEMS else f"The first {_MOST_PROBLEMS} of {len(table)}; all are in problems.csv."
    )
    columns = tuple(Column(title, numeric=False) for title in titles)
    return Table("table-problems", "Problems one by one", columns, rows, note=note)


def _text(value: object) -> str:
    return "" if is_missing(value) else str(value)
