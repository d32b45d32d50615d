# SPDX-License-Identifier: Apache-2.0
"""From a matplotlib figure to an SVG element inside a page: themed by the page, small, the same every time."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from monai_multirater.visualize.arrays import COLORS

__all__ = ["GRID", "INK", "PAPER", "drawing", "inline_svg"]

INK, GRID, PAPER = "#010101", "#020202", "#030303"
"""Stand for the colors of text, of grid lines and of the background, which the page chooses."""
_THEME = {INK: "currentColor", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    color: f"var(--c{index})" for index, color in enumerate(COLORS)
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "path.simplify": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "monai-multirater",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.color": INK,
    "ytick.labelsize": 7.5,
}
_LINK = re.compile(r"url\(#([^)]+)\)")
_FRACTION = re.compile(r"(\.\d\d)\d+")
_POINT = ("d", "x", "y", "width", "height")
_FONT = re.compile(r"font-family: [^;]*;? ?")


@contextmanager
def drawing() -> Iterator[None]:
    """Settings under which figures of the report are made and turned into SVG, whatever the user's are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # fonts are those of the page
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]
        yield


def inline_svg(figure: Figure, *, key: str, title: str, description: str) -> Markup:
    """Turn a figure into an ``svg`` element with an accessible name.

    Colors become those of the page (custom properties ``--c0`` ..., ``--grid``, ``--paper`` and the color of the
    text), fonts likewise, all ids begin with ``key``, and nothing tells when or where the figure was made. Call it
    within :func:`drawing`.
    """
    file = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(file, metadata={"Date": None})  # savefig would draw everything twice
    root = ET.fromstring(file.getvalue())
    _plain(root)
    _drop(root)
    _rename(root, key)
    width, height = root.attrib["viewBox"].split()[2:]
    body = "".join(ET.tostring(child, encoding="unicode") for child in root)
    head = Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" fill="currentColor" role="img" aria-labelledby="{k}-name {k}-text">'
        '<title id="{k}-name">{title}</title><desc id="{k}-text">{text}</desc>'
    ).format(w=width, h=height, k=key, title=title, text=description)
    return head + Markup(re.sub(r"\s*\n\s*", " ", body) + "</svg>")


def _plain(root: ET.Element) -> None:
    """Names without name space, colors and fonts of the page, two decimals."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.text = (element.text or "").strip() or None
        element.tail = None
        for name, value in element.attrib.items():
            if name in _POINT:
                element.attrib[name] = _FRACTION.sub(r"\1", value).replace("\n", " ").strip()
            elif name == "transform":
                element.attrib[name] = _FRACTION.sub(r"\1", value)
        if "style" in element.attrib:
            style = _FONT.sub("", element.attrib["style"])
            for color, replacement in _THEME.items():
                style = style.replace(color, replacement)
            element.attrib["style"] = style.strip("; ")
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]


def _drop(root: ET.Element) -> None:
    """Take out the metadata, the style sheet that would hold for the whole page, and invisible shapes."""
    for parent in list(root.iter()):
        for child in list(parent):
            style = child.attrib.get("style", "")
            invisible = child.tag == "path" and style == "fill: none"
            if child.tag in ("metadata", "style") or invisible:
                parent.remove(child)
    for _ in range(3):
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag in ("g", "defs") and not len(child):
                    parent.remove(child)


def _rename(root: ET.Element, key: str) -> None:
    """Give all ids that something refers to names of this figure, and remove the others."""
    used = {value.removeprefix("#") for element in root.iter() for value in [element.attrib.get("href", "")] if value}
    for element in root.iter():
        for value in element.attrib.values():
            used.update(_LINK.findall(value))
    names = {old: f"{key}-{index}" for index, old in enumerate(sorted(used))}
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in names:
            element.attrib["id"] = names[name]
        for attribute, value in element.attrib.items():
            if attribute == "href":
                element.attrib[attribute] = f"#{names[value.removeprefix('#')]}"
            else:
                element.attrib[attribute] = _LINK.sub(lambda match: f"url(#{names[match[1]]})", value)
