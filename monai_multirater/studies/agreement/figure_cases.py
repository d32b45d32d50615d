# SPDX-License-Identifier: Apache-2.0
"""Charts over the cases of an agreement study: agreement against size, volume that k raters share."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from monai_multirater.studies.agreement.figure_svg import drawing, inline_svg
from monai_multirater.studies.agreement.figures import FIRST, SECOND, new_figure
from monai_multirater.studies.agreement.report_parts import Chart, Column, Table, count, number, plural
from monai_multirater.visualize.arrays import COLORS, LINE_STYLES

__all__ = ["size_chart", "volume_chart", "volume_columns"]

Array = npt.NDArray[np.float64]
_POINTS = 3000
_SERIES = (COLORS[0], COLORS[5], COLORS[2], COLORS[7])
_MARKERS = ("o", "D", "s", "^")


def size_chart(size: Array, agreement: Array, *, unit: str) -> Chart:
    """Mean pairwise Dice of each case against the mean volume of its masks, with medians of tenths of the cases.

    Args:
        size: mean volume of the masks; cases of size 0 are left out.
        agreement: mean pairwise Dice; NaN are left out.
        unit: of size, in words.
    """
    kept = (size > 0) & ~np.isnan(agreement)
    x, y = size[kept], agreement[kept]
    bins = _tenths(x, y)
    middle = np.array([np.median(a) for a, _ in bins])
    quartiles = np.array([np.quantile(b, [0.25, 0.5, 0.75]) for _, b in bins]).reshape(-1, 3)
    title, key = "Agreement against size", "figure-size"
    with drawing():
        figure, axes = new_figure(2.5)
        chosen = np.arange(x.size)
        if x.size > _POINTS:
            chosen = np.sort(np.random.default_rng(0).choice(x.size, _POINTS, replace=False))
        axes.set(xscale="log", xlabel=f"mean size of the masks ({unit})", ylabel="mean pairwise Dice")
        axes.set(xlim=(x.min() * 0.9, x.max() * 1.1), ylim=(min(-0.02, y.min()), 1.02))
        axes.xaxis.set_major_locator(FixedLocator(_decades(*axes.get_xlim())))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        _draw_points(axes, x[chosen], y[chosen])
        error = np.stack([quartiles[:, 1] - quartiles[:, 0], quartiles[:, 2] - quartiles[:, 1]])
        axes.errorbar(middle, quartiles[:, 1], yerr=error, color=SECOND, marker="D", markersize=4.5, linewidth=1.5)
        words = _size_words(quartiles[:, 1], x.size, chosen.size)
        svg = inline_svg(figure, key=key, title=title, description=words)
    rows = tuple(
        (f"{number(a.min(), 0)} to {number(a.max(), 0)}", count(a.size), *(number(value) for value in row))
        for (a, _), row in zip(bins, quartiles, strict=True)
    )
    columns = (
        Column(f"Size ({unit})", "size", numeric=False), Column("Cases"), Column("Lower quartile", "quartiles"),
        Column("Median", "quartiles"), Column("Upper quartile", "quartiles"),
    )  # fmt: skip
    numbers = Table(f"{key}-numbers", "Numbers: mean pairwise Dice by size", columns, rows)
    return Chart(key, title, words, svg, words, numbers)


def _tenths(x: Array, y: Array) -> list[tuple[Array, Array]]:
    """Points in order of x in up to ten parts of equally many."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, min(10, max(2, x.size // 5)) + 1)))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(edges.size - 2, 0))
    bins = [(x[place == i], y[place == i]) for i in range(max(edges.size - 1, 1))]
    return [(a, b) for a, b in bins if a.size]


def _draw_points(axes: Axes, x: Array, y: Array) -> None:
    """All points as one path of dots, a tenth of the size of single markers in SVG."""
    points = np.stack([x, y], 1).repeat(2, 0)
    codes = np.tile([Outline.MOVETO, Outline.LINETO], x.size)
    outline = Outline(points, codes)
    axes.add_patch(PathPatch(outline, fill=False, edgecolor=FIRST, linewidth=2.4, capstyle="round", alpha=0.45))


def _decades(low: float, high: float) -> list[float]:
    """Between 2 and 5 round numbers for a logarithmic axis, where there are as many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= 5:
            return found
    return found[:: math.ceil(len(found) / 5)]


def _size_words(medians: Array, cases: int, drawn: int) -> str:
    trend = f"Median Dice {number(medians[0], 2)} in the smallest cases and {number(medians[-1], 2)} in the largest."
    points = f"A point is a case ({plural(cases, 'case')}"
    points += f", {count(drawn)} of them drawn, picked at random)" if drawn < cases else ")"
    return f"{trend} {points}; diamonds are medians of equally many cases, with quartiles."


def volume_columns(cases: pd.DataFrame) -> list[int]:
    """Numbers k for which ``volume_at_least_k`` is a column of the cases, ascending."""
    ends = [str(name).removeprefix("volume_at_least_") for name in cases if str(name).startswith("volume_at_least_")]
    return sorted(int(end) for end in ends if end.isdigit())


def volume_chart(cases: pd.DataFrame) -> Chart:
    """Share of what any rater marks that at least k raters mark: the mean over cases with equally many raters."""
    steps = volume_columns(cases)
    sizes = cases["raters"].value_counts()
    shown = [int(n) for n in sizes.sort_index().loc[lambda s: s.index > 1].nlargest(4).index]
    title, key = "Volume that at least k raters mark", "figure-volume"
    rows: list[tuple[str, ...]] = []
    sentences = []
    with drawing():
        figure, axes = new_figure(2.3)
        for index, n in enumerate(sorted(shown)):
            part = cases[(cases["raters"] == n) & (cases[f"volume_at_least_{steps[0]}"] > 0)]
            k = [step for step in steps if step <= n]
            shares = [float((part[f"volume_at_least_{s}"] / part[f"volume_at_least_{steps[0]}"]).mean()) for s in k]
            axes.plot(
                k, shares, color=_SERIES[index], linestyle=LINE_STYLES[index], marker=_MARKERS[index], markersize=4,
                label=plural(n, "rater"),
            )  # fmt: skip
            rows += [
                (plural(n, "rater"), str(s), str(number(v)), str(count(len(part))))
                for s, v in zip(k, shares, strict=True)
            ]
            sentences.append(f"with {plural(n, 'rater')}, all of them share {number(100 * shares[-1], 0)} %")
        axes.set(xlabel="k, number of raters", ylabel="share of the union", ylim=(0, 1.04), xticks=_ticks(max(shown)))
        figure.legend(loc="outside upper left", ncols=2, borderpad=0, columnspacing=1.2)
        words = "Of the volume that any rater marks: " + "; ".join(sentences) + "."
        svg = inline_svg(figure, key=key, title=title, description=words)
    columns = (Column("Cases", numeric=False), Column("k"), Column("Share", "volume"), Column("Number of cases"))
    return Chart(key, title, words, svg, words, Table(f"{key}-numbers", f"Numbers: {title}", columns, tuple(rows)))


def _ticks(largest: int) -> list[int]:
    step = 1 if largest <= 8 else 2 if largest <= 16 else 5
    return [1, *range(step if step > 1 else 2, largest + 1, step)]
