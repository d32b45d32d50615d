# SPDX-License-Identifier: Apache-2.0
"""What a report consists of: tables, charts and pictures, and how numbers are written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from monai_multirater.agreement.measures import MEASURES

__all__ = [
    "UNDEFINED",
    "Block",
    "Chart",
    "Column",
    "HeatCell",
    "HeatMap",
    "Pictures",
    "Prose",
    "Section",
    "Table",
    "breakable",
    "count",
    "interval",
    "join",
    "label_of",
    "number",
    "p_value",
    "plural",
    "share",
    "term",
    "title_of",
]

UNDEFINED = Markup('<span aria-hidden="true">\u2013</span><span class="unseen">not defined</span>')
"""How a value that is not defined is shown; a reading aloud says so."""


_MINUS = "\u2212"
_SHORT = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "volume_difference": "Volume difference",
    "hausdorff": "Hausdorff",
    "hausdorff95": "HD95",
    "assd": "ASSD",
    "krippendorff_alpha": "Krippendorff's alpha",
    "conformity": "Conformity index",
}


@dataclass(frozen=True)
class Column:
    """Head of a column.

    Attributes:
        title: in words.
        term: the definition that it links to, or "".
        numeric: numbers are set flush right.
    """

    title: str
    term: str = ""
    numeric: bool = True

    @property
    def head(self) -> Markup:
        """Title as a link to its definition."""
        return term(self.term, self.title) if self.term else escape(self.title)


@dataclass(frozen=True)
class Table:
    """One table; the first cell of a row is its head.

    Attributes:
        key: unique, its anchor.
        caption: what it shows.
        columns: heads.
        rows: as many cells as columns.
        groups: (title, columns) of a line above the heads; empty without one.
        note: below it.
    """

    key: str
    caption: str | Markup
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Markup, ...], ...]
    groups: tuple[tuple[str, int], ...] = ()
    note: str | Markup = ""
    kind: str = "table"


@dataclass(frozen=True)
class Chart:
    """One drawing with what it says in words and in numbers.

    Attributes:
        key: unique, its anchor.
        title: heading.
        description: what is drawn, for those who cannot see it.
        svg: inline SVG.
        caption: below it.
        numbers: what was drawn, as a table.
    """

    key: str
    title: str
    description: str
    svg: Markup
    caption: str | Markup
    numbers: Table


@dataclass(frozen=True)
class Charts:
    """Charts side by side, after a few sentences where there are some."""

    charts: tuple[Chart, ...]
    sentences: tuple[str | Markup, ...] = ()
    kind: str = "charts"


@dataclass(frozen=True)
class HeatCell:
    """Value of a pair of raters, its color, the color of the text on it, and a small line below."""

    text: str | Markup
    background: str = ""
    foreground: str = ""
    below: str = ""


@dataclass(frozen=True)
class HeatMap:
    """Colored table of raters by raters; ``scale`` holds (color, text color, value) from low to high."""

    key: str
    caption: str | Markup
    names: tuple[str, ...]
    rows: tuple[tuple[HeatCell, ...], ...]
    scale: tuple[HeatCell, ...]
    note: str | Markup = ""
    kind: str = "heat"

    @property
    def numbered(self) -> bool:
        """Names are too long to stand side by side: columns have numbers, which rows explain."""
        return max(map(len, self.names)) > 6


@dataclass(frozen=True)
class Picture:
    """One embedded picture: ``source`` is a data URI, or "" where the file is missing."""

    key: str
    title: str
    text: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """Pictures below each other."""

    pictures: tuple[Picture, ...]
    kind: str = "pictures"


@dataclass(frozen=True)
class Prose:
    """A paragraph, or a list of several sentences with a heading."""

    sentences: tuple[str | Markup, ...]
    listed: bool = False
    kind: str = "prose"


Block = Table | Charts | HeatMap | Pictures | Prose


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        key: unique, its anchor.
        title: heading.
        blocks: what it shows, in order; a plain string is a heading of its own.
    """

    key: str
    title: str
    blocks: tuple[Block | str, ...]


def term(name: str, title: str) -> Markup:
    """Title as a link to the definition of this name."""
    return Markup('<a class="term" href="#def-{}">{}</a>').format(name, title)


def label_of(measure: str, unit: str = "") -> str:
    """Short title of a measure, with the unit if it is a length and one is given."""
    if measure not in MEASURES:
        return measure
    title = _SHORT.get(measure, MEASURES[measure].title)
    return f"{title} ({unit})" if unit and MEASURES[measure].unit else title


def title_of(measure: str, unit: str) -> str:
    """Title of a measure as its values are shown: without the order of the raters."""
    found = MEASURES[measure]
    if found.symmetric:
        return f"{found.title} ({unit})" if found.unit else found.title
    how = "without sign" if found.higher_is_better is None else "both orders of the raters"
    return f"{label_of(measure)} ({how})"


def number(value: Any, places: int = 3) -> str | Markup:
    """Write a number with a real minus sign and thousands separated; undefined ones as such."""
    value = math.nan if _missing(value) else float(value)
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    text = f"{value:,.{places}f}"
    if float(text.replace(",", "")) == 0:
        text = text.removeprefix("-")
    return text.replace("-", _MINUS)


def count(value: Any) -> str | Markup:
    """Write a whole number."""
    return number(value, 0)


def p_value(value: Any) -> str | Markup:
    """Write a p-value: three places, below that as a bound."""
    if not _missing(value) and value < 0.001:
        return "<\u00a00.001"
    return number(value, 3)


def interval(low: Any, high: Any, places: int = 3) -> str | Markup:
    """Write an interval."""
    if _missing(low) or _missing(high):
        return UNDEFINED
    return f"{number(low, places)} to {number(high, places)}"


def share(part: float, whole: float) -> str:
    """Write a share in percent, never rounded to 0 or 100 if it is neither."""
    if not whole:
        return "\u2013"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "under 1 %"
    if 99 < percent < 100:
        return "over 99 %"
    return f"{percent:.0f} %"


def plural(number_of: int, one: str, many: str = "") -> str:
    """Write "1 case", "2 cases"."""
    return f"{count(number_of)} {one if number_of == 1 else many or one + 's'}"


def breakable(text: str | Markup) -> Markup:
    """Allow a name to be broken after its punctuation; what is markup already stays as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(re.sub(r"([_./-])(?=\w)", r"\1<wbr>", str(escape(text))))


def join(parts: Iterable[str | Markup]) -> Markup:
    """Join as in a sentence: "a, b and c"."""
    found: Sequence[str | Markup] = [escape(part) for part in parts]
    if len(found) < 2:
        return Markup("").join(found)
    return Markup(", ").join(found[:-1]) + Markup(" and ") + found[-1]


def _missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))
