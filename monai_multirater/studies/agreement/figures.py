# SPDX-License-Identifier: Apache-2.0
"""Charts of an agreement study, each with its words and its numbers. All are drawn for the width of a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from monai_multirater.agreement.measures import Measure
from monai_multirater.studies.agreement.figure_svg import PAPER, drawing, inline_svg
from monai_multirater.studies.agreement.report_parts import (
    Chart,
    Column,
    Table,
    count,
    interval,
    label_of,
    number,
    plural,
    share,
    term,
    title_of,
)
from monai_multirater.visualize.arrays import COLORS, LINE_STYLES

__all__ = [
    "FIRST",
    "SECOND",
    "Estimate",
    "ceiling_chart",
    "cumulative_chart",
    "estimate_chart",
    "histogram_chart",
    "short",
]

Array = npt.NDArray[np.float64]
WIDTH, HEIGHT = 3.4, 2.25  # inches
FIRST, SECOND = COLORS[0], COLORS[5]
_BINS = 20
_SLIGHT = 5e-4  # of a share: what a curve does not show


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; ``group`` is where it stands on the axis, ``first`` which of two it is."""

    group: str
    label: str
    first: bool
    n: int
    mean: float
    low: float
    high: float


def short(name: str, length: int = 16) -> str:
    """Name that fits a chart: its middle cut out, for names often differ at the end."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail].rstrip()}…{name[-tail:].lstrip()}"


def new_figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Figure of the width of a phone with one pair of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.045)  # type: ignore[union-attr, call-arg]
    return figure, figure.subplots()


def histogram_chart(values: Array, measure: Measure, *, unit: str, of: str) -> Chart:
    """Histogram of the defined values of a measure, with mean and median.

    Args:
        values: NaN are left out; at least one is defined.
        measure: what was measured.
        unit: of lengths.
        of: what was counted, for instance "pairs".
    """
    found = values[~np.isnan(values)]
    edges, beyond = _edges(found, measure)
    counts, _ = np.histogram(found, edges)
    mean, median = float(found.mean()), float(np.median(found))
    label = label_of(measure.name, unit)
    key = f"figure-{measure.name}"
    with drawing():
        figure = Figure(figsize=(WIDTH, 2.05))
        axes = figure.add_axes((0.17, 0.19, 0.765, 0.7))  # the same for all, and much faster than a layout engine
        axes.stairs(counts, edges, fill=True, color=FIRST)
        axes.axvline(mean, color=SECOND, linewidth=1.4, label=f"mean {number(mean, 2)}")
        axes.axvline(median, color=SECOND, linewidth=1.4, linestyle="dashed", label=f"median {number(median, 2)}")
        axes.set(xlabel=label, ylabel=f"number of {of}", xlim=(edges[0], edges[-1]))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=False, axis="x")
        figure.legend(loc="upper left", ncols=2, borderpad=0, borderaxespad=0.1, handlelength=1.6)
        words = _histogram_words(found, of)
        svg = inline_svg(figure, key=key, title=f"Distribution: {label}", description=words)
    rows = tuple(
        (f"{number(low, 2)} to {number(high, 2)}", count(n), share(int(n), found.size))
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    columns = (Column(label, measure.name, numeric=False), Column(of.capitalize()), Column("Share"))
    note = f"{plural(beyond, 'value')} above {number(edges[-1], 1)} not drawn." if beyond else ""
    numbers = Table(f"{key}-numbers", f"Numbers: {of} by {label}", columns, rows, note=note)
    best = "The closer to 0, the better" if measure.best == 0 else "1 is perfect agreement"
    caption = Markup("{}: {}. {}").format(
        term(measure.name, title_of(measure.name, unit)), best.lower() if best[0] == "T" else best, note
    )
    return Chart(key, label_of(measure.name), words, svg, caption, numbers)


def _histogram_words(found: Array, of: str) -> str:
    return (
        f"Histogram of {plural(found.size, of[:-1], of)}. Mean {number(found.mean())}, median "
        f"{number(np.median(found))}, from {number(found.min())} to {number(found.max())}."
    )


def _edges(found: Array, measure: Measure) -> tuple[Array, int]:
    """Edges of the bins, and how many values lie beyond the last one (far outliers of a distance)."""
    if measure.unit or not -1 <= found.min() <= found.max() <= 1:
        low, high = (0.0 if found.min() >= 0 else float(found.min())), float(found.max())
        if measure.unit:
            high = min(high, 1.5 * float(np.quantile(found, 0.98)) or high)
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
        return edges, int((found > edges[-1]).sum())
    low = np.floor(min(float(found.min()), 0.95) * 20) / 20
    return np.linspace(0.0 if 0 <= low < 0.8 else low, 1.0, _BINS + 1), 0


def cumulative_chart(points: pd.DataFrame, *, key: str, title: str, names: tuple[str, str], label: str) -> Chart:
    """Cumulative distributions of two groups: the lower curve has the higher values.

    Args:
        points: columns ``value``, ``first``, ``second``.
        key: anchor.
        title: heading.
        names: of the two groups.
        label: of the axis of values.
    """
    table = points.sort_values("value")
    with drawing():
        figure, axes = new_figure()
        for name, column, color, style in zip(names, ("first", "second"), (FIRST, SECOND), LINE_STYLES, strict=False):
            axes.step(
                table["value"], table[column], where="post", color=color, linestyle=style, linewidth=1.6,
                label=short(name, 24),
            )  # fmt: skip
        axes.set(xlabel=label, ylabel="share strictly below", ylim=(-0.02, 1.02))
        figure.legend(loc="outside upper left", ncols=2, borderpad=0, columnspacing=1.2)
        words = _cumulative_words(table, names)
        svg = inline_svg(figure, key=key, title=title, description=words)
    shown = table.iloc[np.unique(np.linspace(0, len(table) - 1, min(len(table), 11)).round().astype(int))]
    rows = tuple(
        (number(row["value"], 2), number(row["first"], 3), number(row["second"], 3)) for row in shown.to_dict("records")
    )
    columns = (Column(label), Column(names[0]), Column(names[1]))
    numbers = Table(f"{key}-numbers", f"Numbers: {title}", columns, rows)
    return Chart(key, title, words, svg, words, numbers)


def _cumulative_words(table: pd.DataFrame, names: tuple[str, str]) -> str:
    gap = (table["first"] - table["second"]).to_numpy(float)
    if np.all(np.abs(gap) <= 1e-9):
        return "The two curves coincide."
    for sign, (upper, lower) in ((1, names), (-1, names[::-1])):
        over = float(-(sign * gap).min())
        if over < _SLIGHT:
            never = "never runs above" if over <= 1e-9 else "hardly ever, and invisibly, runs above"
            return f"The curve of “{lower}” {never} that of “{upper}”: its values are higher throughout."
    widest = int(np.abs(gap).argmax())
    leads = 0 if gap[widest] > 0 else 1
    other = float(-gap.min() if leads == 0 else gap.max())
    return (
        f"The curves are farthest apart at {number(table['value'].iloc[widest], 2)}, where “{names[leads]}” has "
        f"{number(100 * abs(gap[widest]), 1)} percentage points more values below. They cross: elsewhere "
        f"“{names[1 - leads]}” has at most {number(100 * other, 1)} points more."
    )


def estimate_chart(estimates: Sequence[Estimate], *, key: str, title: str, names: tuple[str, str], label: str) -> Chart:
    """Two means with intervals for each group of cases side by side, joined by a line: an interaction shows as slopes.

    Args:
        estimates: at most two per group.
        key: anchor.
        title: heading.
        names: of the first and the second of two.
        label: of the axis of values, and of the column of means.
    """
    groups = list(dict.fromkeys(each.group for each in estimates))
    with drawing():
        figure, axes = new_figure(HEIGHT + 0.25)
        _draw_estimates(axes, estimates, groups)
        size = 16 if len(groups) <= 3 else 9
        axes.set_xticks(range(len(groups)), [_tick(group, size) for group in groups])
        axes.set(ylabel=label, xlim=(-0.5, len(groups) - 0.5))
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.1)
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=color, markerfacecolor=face, label=short(name, 22))
            for marker, color, face, name in (("o", FIRST, FIRST, names[0]), ("D", SECOND, PAPER, names[1]))
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, borderpad=0, handletextpad=0.2)
        words = _estimate_words(estimates, groups, names)
        svg = inline_svg(figure, key=key, title=title, description=words)
    rows = tuple(
        (each.group, each.label, count(each.n), number(each.mean), interval(each.low, each.high)) for each in estimates
    )
    columns = (
        Column("Cases", numeric=False), Column("Group", numeric=False), Column("n", "n"), Column(label, "mean"),
        Column("95 % interval", "interval"),
    )  # fmt: skip
    return Chart(key, title, words, svg, words, Table(f"{key}-numbers", f"Numbers: {title}", columns, rows))


def _draw_estimates(axes: Axes, estimates: Sequence[Estimate], groups: Sequence[str]) -> None:
    for position, group in enumerate(groups):
        own = [each for each in estimates if each.group == group]
        x = [position + (-0.17 if each.first else 0.17) for each in own]
        axes.plot(x, [each.mean for each in own], color=COLORS[7], linewidth=1.1, zorder=2)
    for first, color, marker in ((True, FIRST, "o"), (False, SECOND, "D")):
        own = [each for each in estimates if each.first == first]
        x = [groups.index(each.group) + (-0.17 if first else 0.17) for each in own]
        mean = np.array([each.mean for each in own])
        low, high = np.array([each.low for each in own]), np.array([each.high for each in own])
        error = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)
        axes.errorbar(
            x, mean, yerr=error, fmt=marker, markersize=5.5 if first else 5, color=color, elinewidth=1.4, zorder=3,
            markeredgecolor=color, markerfacecolor=color if first else PAPER,
        )  # fmt: skip


def _tick(group: str, size: int) -> str:
    words, lines = group.split(), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 1 > size:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(short(each, size) for each in lines[:3])


def _estimate_words(estimates: Sequence[Estimate], groups: Sequence[str], names: tuple[str, str]) -> str:
    parts = []
    for group in groups:
        own = {each.first: each.mean for each in estimates if each.group == group}
        if len(own) == 2:
            parts.append(f"{number(own[True])} and {number(own[False])} ({group})")
    signs = {np.sign(own[True] - own[False]) for own in _pairs(estimates, groups[1:])} - {0.0}
    turn = " The lines of the groups slope in opposite directions." if len(signs) > 1 else ""
    return f"Means of “{names[0]}” and “{names[1]}”: {', '.join(parts)}. With 95 % intervals.{turn}"


def _pairs(estimates: Sequence[Estimate], groups: Sequence[str]) -> list[dict[bool, float]]:
    found = [{each.first: each.mean for each in estimates if each.group == group} for group in groups]
    return [own for own in found if len(own) == 2]


def ceiling_chart(raters: pd.DataFrame) -> Chart:
    """Dice of each rater with the majority of the others, with its interval, the best at the top."""
    table = raters.dropna(subset=["ceiling_dice"]).sort_values(["ceiling_dice", "rater"], kind="stable")
    places = np.arange(len(table))
    mean, low, high = (
        table[name].to_numpy(float) for name in ("ceiling_dice", "ceiling_dice_low", "ceiling_dice_high")
    )
    title, key = "Each rater against the majority of the others", "figure-ceiling"
    with drawing():
        figure, axes = new_figure(0.6 + 0.19 * max(len(table), 3))
        error = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)
        axes.errorbar(mean, places, xerr=error, fmt="o", color=FIRST, markersize=4.5, elinewidth=1.4)
        axes.set_yticks(places, [short(str(name)) for name in table["rater"]])
        axes.set(xlabel="Dice with the majority of the others", ylim=(-0.6, len(table) - 0.4))
        best, worst = table.iloc[-1], table.iloc[0]
        words = (
            f"{plural(len(table), 'rater')}, from {number(worst['ceiling_dice'])} ({worst['rater']}) to "
            f"{number(best['ceiling_dice'])} ({best['rater']}), with 95 % intervals."
        )
        svg = inline_svg(figure, key=key, title=title, description=words)
    rows = tuple(
        (str(name), number(m), interval(a, b))
        for name, m, a, b in zip(table["rater"][::-1], mean[::-1], low[::-1], high[::-1], strict=True)
    )
    columns = (Column("Rater", numeric=False), Column("Dice", "ceiling"), Column("95 % interval", "interval"))
    return Chart(key, title, words, svg, words, Table(f"{key}-numbers", f"Numbers: {title}", columns, rows))
