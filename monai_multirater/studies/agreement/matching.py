# SPDX-License-Identifier: Apache-2.0
"""Find the cases and raters of a study in tables that were made elsewhere."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_multirater.data.readers import SUFFIXES, file_suffix
from monai_multirater.studies.agreement.request import nearest

__all__ = ["CASE_COLUMNS", "Names", "examples", "key_columns", "read_table"]

CASE_COLUMNS = (
    "case", "case_id", "img_id", "image", "image_id", "img", "image_name", "img_filename", "isic_id", "patient_case",
)  # fmt: skip
_RATER_COLUMNS = ("rater", "annotator", "reader", "observer", "rater_id", "annotator_id")
_FUNCTION = "agreement_study"


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file as text; the index is the line of the file.

    Spaces around cells are removed, empty cells are missing, empty rows and columns without a name left out.

    Raises:
        ValueError: for a file that is no table of cells separated by commas, or has a column twice.
        OSError: for a file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise ValueError(f"{_FUNCTION}: {path} must be a CSV table in UTF-8. Got {found}.") from None
    except csv.Error as error:
        raise ValueError(f"{_FUNCTION}: {path} is not a CSV table: {error}.") from None
    (_, header), *lines = [(line, row) for line, row in cells if any(row)] or [(0, [])]
    _check_header(header, path)
    rows = {line: _fit(row, len(header), line, path) for line, row in lines}
    table = pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype=object)
    return table[[name for name in header if name]]


def _check_header(header: Sequence[str], path: Path) -> None:
    if not header:
        raise ValueError(f"{_FUNCTION}: {path} is not a CSV table: it is empty.")
    names = [name for name in header if name]
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise ValueError(f"{_FUNCTION}: cells of {path} must be separated by commas. Got {word} in the first line.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{_FUNCTION}: {path} must have every column once. Got twice: {', '.join(twice)}.")


def _fit(row: list[str], width: int, line: int, path: Path) -> list[Any]:
    """Cells of a row; empty and absent ones are missing."""
    if any(row[width:]):
        raise ValueError(
            f"{_FUNCTION}: {path}: a row must have as many cells as the first, {width}. Got {len(row)} in row {line}."
        )
    return [cell or math.nan for cell in [*row, *[""] * (width - len(row))][:width]]


def examples(names: Sequence[str], most: int = 5) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


class Names:
    """Cases of a study, found by their names or by these without the suffix of a file."""

    def __init__(self, cases: Sequence[str]) -> None:
        self.exact = set(cases)
        stems = Counter(_stem(case) for case in self.exact)
        self.by_stem = {_stem(case): case for case in self.exact if stems[_stem(case)] == 1}

    def find(self, value: Any) -> str | None:
        """Return the case that a value means; None if it means none, or is missing."""
        if pd.isna(value):
            return None
        text = str(value)
        return text if text in self.exact else self.by_stem.get(_stem(text))


def _stem(name: str) -> str:
    suffix = file_suffix(name)
    return name[: -len(suffix)] if suffix in SUFFIXES else name


def key_columns(
    table: pd.DataFrame, names: Names, raters: Sequence[str], *, path: Path, key: str | None = None
) -> tuple[str | None, str | None]:
    """Return the columns that name the case and the rater of a row; None for one that there is not.

    Raises:
        ValueError: if a row is about nothing, or several columns could name the case.
    """
    columns = [str(column) for column in table.columns]
    if key is not None and key not in columns:
        raise ValueError(f"{_FUNCTION}: {path} has no column {key!r}; {nearest(key, columns)}.")
    by_name = next((column for column in _RATER_COLUMNS if column in columns and column != key), None)
    rater = by_name if by_name and set(table[by_name].dropna()) & set(raters) else None
    if key is not None or "case" in columns:
        return key or "case", rater
    hits = {
        column: sum(names.find(value) is not None for value in table[column].dropna().unique()) for column in columns
    }
    best = max(hits.values(), default=0)
    close = [column for column, count in hits.items() if best and 2 * count > best]
    usual = [column for column in close if column in CASE_COLUMNS]
    if len(close) == 1 or usual:
        return (usual or close)[0], rater
    if close:
        raise ValueError(
            f"{_FUNCTION}: {path}: several columns name cases ({', '.join(close)}). Say which with factor_key "
            "(--factor-key)."
        )
    if rater is None:
        raise ValueError(
            f"{_FUNCTION}: {path} must have a column 'case' or 'rater' whose values are those of the study. "
            f"Got the columns {', '.join(columns)}; the raters are {examples(raters)}, "
            f"cases {examples(sorted(names.exact))}."
        )
    return None, rater
