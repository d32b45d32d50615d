# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram: what a model says against what raters say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_multirater.calibration import ReliabilityTable
from monai_multirater.visualize.arrays import line

__all__ = ["reliability_diagram", "reliability_panels"]

CURVE, RUN = "#0072b2", "#56b4e9"


def reliability_diagram(tables: ReliabilityTable | Mapping[str, ReliabilityTable], *, title: str = "") -> Figure:
    """Plot the mean vote against the mean confidence of every bin and, below, how many pairs each bin holds.

    A calibrated model lies on the diagonal: among voxels with confidence 0.7, 70 % of the votes are foreground.
    Below the diagonal it promises too much, above it too little. The legend gives the MR-ECE, the distance from the
    diagonal averaged over (voxel, rater) pairs, so that bins with few pairs hardly count. Empty bins have no point.

    Args:
        tables: one :class:`~monai_multirater.calibration.ReliabilityTable`, or several by name.
        title: heading.

    Returns:
        A figure with two axes: curves above, pairs per bin (logarithmic) below.
    """
    named = tables if isinstance(tables, Mapping) else {"": tables}
    figure = Figure(figsize=(4.6, 5.8), layout="constrained", facecolor="white")
    curve, counts = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    curve.plot([0, 1], [0, 1], color="gray", linewidth=1, linestyle="--", zorder=1)
    for index, (name, table) in enumerate(named.items()):
        _draw(curve, counts, name, table, index)
    if named:
        curve.legend(fontsize=8, loc="upper left", framealpha=0.9)
    curve.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=title)
    curve.set_ylabel("observed share of votes")
    counts.set(yscale="log", xlabel="predicted probability of a vote", ylabel="voxel-rater\npairs")
    for axes in (curve, counts):
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    return figure


def _draw(curve: Axes, counts: Axes, name: str, table: ReliabilityTable, index: int) -> None:
    color, style = line(index)
    error = table.compute()
    score = "no pairs" if math.isnan(error) else f"MR-ECE {error:.4f}"
    filled = table.pairs > 0
    curve.plot(
        table.mean_confidence[filled],
        table.observed_frequency[filled],
        marker="o",
        markersize=4,
        color=color,
        linestyle=style,
        label=f"{name} ({score})" if name else score,
        zorder=2,
        clip_on=False,
    )
    counts.stairs(np.where(filled, table.pairs, np.nan), table.edges, color=color, linestyle=style, linewidth=1.2)


def reliability_panels(
    methods: Mapping[str, Sequence[ReliabilityTable]], *, title: str = "", columns: int | None = None
) -> Figure:
    """Plot one reliability diagram per method side by side, to compare many.

    A thick line joins the bins of all runs of a method together, thin ones those of the single runs. The area of a
    point grows with the logarithm of the pairs in its bin, so that bins which hardly count look that way. The title of
    a panel gives the mean of the runs' MR-ECE (not the MR-ECE of the runs together, in which errors of opposite sign
    cancel). Runs whose tables have no pair are left out of the mean; a panel without a pair says so.

    Args:
        methods: tables of the runs of each method, with as many bins in all runs of a method.
        title: heading.
        columns: panels in a row; by default as many as make the picture about square, at most 4.

    Returns:
        A figure with one pair of axes per method, in the order given.

    Raises:
        ValueError: no method, or one without a run.
    """
    empty = [name for name, tables in methods.items() if not tables]
    if not methods or empty:
        raise ValueError(f"reliability_panels: 'methods' must hold a table or more for each method. Got none: {empty}.")
    across = columns or min(4, math.ceil(math.sqrt(len(methods))))
    down = math.ceil(len(methods) / across)
    width = 2.15 if across > 2 else 3.0
    size = (0.6 + width * across, 0.75 + (width + 0.3) * down)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    note = "large points: many pairs of voxel and rater" + (
        "; thin lines: single runs" if any(len(tables) > 1 for tables in methods.values()) else ""
    )
    note = fill(note, int(13 * size[0]))
    figure.suptitle(f"{title}\n{note}" if title else note, fontsize=9)
    figure.supxlabel("predicted probability of a vote", fontsize=9)
    figure.supylabel("observed share of votes", fontsize=9)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    largest = max(int(table.pairs.max(initial=0)) for tables in methods.values() for table in tables)
    for axes, (name, tables) in zip(panels, methods.items(), strict=False):
        _draw_panel(axes, name, tables, largest)
    for axes in panels[len(methods) :]:
        axes.remove()
    for axes in panels[max(len(methods) - across, 0) : len(methods)]:
        axes.tick_params(labelbottom=True)
    return figure


def _draw_panel(axes: Axes, name: str, tables: Sequence[ReliabilityTable], largest: int) -> None:
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--", zorder=1)
    for table in tables if len(tables) > 1 else ():
        filled = table.pairs > 0
        axes.plot(table.mean_confidence[filled], table.observed_frequency[filled], color=RUN, linewidth=0.7, zorder=2)
    pooled = reduce(ReliabilityTable.merge, tables)
    filled = pooled.pairs > 0
    x, y = pooled.mean_confidence[filled], pooled.observed_frequency[filled]
    axes.plot(x, y, color=CURVE, linewidth=1.5, zorder=3)
    share = np.log1p(pooled.pairs[filled]) / math.log1p(max(largest * len(tables), 1))
    axes.scatter(x, y, s=2 + 26 * share**2, color=CURVE, linewidth=0, zorder=4, clip_on=False)
    errors = [error for error in (table.compute() for table in tables) if not math.isnan(error)]
    score = f"MR-ECE {np.mean(errors):.4f}" if errors else "no pairs"
    axes.set_title(f"{fill(name, 26)}\n{score}", fontsize=8.5)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5)
