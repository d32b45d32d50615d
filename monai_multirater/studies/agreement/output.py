# SPDX-License-Identifier: Apache-2.0
"""Write the tables of an agreement study, as CSV and as JSON, and its report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from monai_multirater.data.writers import write_atomically
from monai_multirater.studies.agreement.report import write_agreement_report
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.studies.records import plain

__all__ = ["finish_study"]

_TABLES = ("pairs", "cases", "raters", "tests", "omnibus", "dominance", "mixed", "problems")


def finish_study(study: AgreementStudy, out: Path, more: Mapping[str, pd.DataFrame], *, report: bool) -> AgreementStudy:
    """Write all files of a study; ``summary["files"]`` of the result names them, relative to ``out``.

    Args:
        study: what was found.
        out: the folder.
        more: further tables, by name; they are part of the summary.
        report: write ``report.html``; without it an older one is removed, for it would show something else.
    """
    tables = {name: getattr(study, name) for name in _TABLES} | dict(more)
    names = [f"{name}.csv" for name in tables] + ["agreement.json"] + (["report.html"] if report else [])
    pictures = [gallery.picture.relative_to(out).as_posix() for gallery in study.galleries]
    rows = {name: plain(table.to_dict("records")) for name, table in more.items()}
    summary = {**study.summary, **rows, "files": names + pictures}
    study = replace(study, summary=summary)
    columns = {name: _columns(table) for name, table in tables.items()}
    for name in tables:
        _write_columns(out / f"{name}.csv", columns[name])
    galleries = [{"case": g.case, "picture": g.picture.relative_to(out).as_posix(), "text": g.text}
                 for g in study.galleries]  # fmt: skip
    content = {"name": study.name, "unit": study.unit, "summary": summary, "galleries": galleries}
    text = json.dumps({**plain(content), "tables": columns}, ensure_ascii=False) + "\n"
    write_atomically(out / "agreement.json", lambda path: Path(path).write_text(text, encoding="utf-8"))
    if report:
        write_agreement_report(study, out / "report.html")
    else:
        (out / "report.html").unlink(missing_ok=True)
    return study


def _write_columns(path: Path, columns: Mapping[str, list[Any]]) -> Path:
    """Write a table as CSV in full precision; it appears under its name complete or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return write_atomically(path, lambda name: Path(name).write_text(text.getvalue(), encoding="utf-8"))


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Values by column; missing ones are None."""
    found: dict[str, list[Any]] = {}
    for name, column in table.items():
        values, missing = column.tolist(), column.isna().to_numpy()
        if missing.any():
            values = [None if gone else value for value, gone in zip(values, missing.tolist(), strict=True)]
        found[str(name)] = values
    return found
