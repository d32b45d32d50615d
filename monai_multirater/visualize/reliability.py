# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram: what a model says against what raters say."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_multirater.calibration import ReliabilityTable
from monai_multirater.visualize.arrays import line

__all__ = ["reliability_diagram"]


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
