# SPDX-License-Identifier: Apache-2.0
"""Find the cases and raters of a study in tables that were made elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_multirater.data.readers import SUFFIXES, file_suffix
from monai_multirater.studies.agreement.request import nearest

__all__ = ["CASE_COLUMNS", "Names", "key_columns", "read_table"]

CASE_COLUMNS = (
    "case", "case_id", "img_id", "image", "image_id", "img", "image_name", "img_filename", "isic_id", "patient_case",
)  # fmt: skip
_RATER_COLUMNS = ("rater", "annotator", "reader", "observer", "rater_id", "annotator_id")
_FUNCTION = "agreement_study"


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file as text; empty cells are missing.

    Raises:
        ValueError: for a file that is no table or has a column twice.
        OSError: for a file that cannot be read.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{_FUNCTION}: {path} is not a CSV table: {error}") from None
    return table.astype(object)


class Names:
    """Cases of a study, found by their names or by these without the suffix of a file."""

    def __init__(self, cases: Sequence[str]) -> None:
        self.exact = set(cases)
        stems = Counter(_stem(case) for case in self.exact)
        self.by_stem = {_stem(case): case for case in self.exact if stems[_stem(case)] == 1}

    def find(self, value: Any) -> str | None:
        """Return the case that a value means; None if it means none."""
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
            f"Got the columns {', '.join(columns)}."
        )
    return None, rater
