# SPDX-License-Identifier: Apache-2.0
"""Pictures of votes and of predictions beside them. Every function returns a matplotlib figure and shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_multirater.calibration import ReliabilityTable
from monai_multirater.votes import count_votes

__all__ = ["case_figure", "rater_contours", "reliability_diagram"]

RATER_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")


def _plane(volume: Any, slice_index: int | None) -> npt.NDArray[Any]:
    """Return the 2D picture of a channel-first array: itself, or one slice along the last axis of a volume."""
    array = np.asarray(volume.detach().cpu() if isinstance(volume, torch.Tensor) else volume)
    return array[..., slice_index] if slice_index is not None else array


def _most_marked_slice(votes: npt.NDArray[Any]) -> int | None:
    if votes.ndim == 2:
        return None
    return int(votes.reshape(-1, votes.shape[-1]).sum(0).argmax())


def _show_image(axes: Axes, image: npt.NDArray[Any]) -> None:
    picture = image[0] if image.shape[0] == 1 else np.moveaxis(image[:3], 0, -1)
    low, high = float(np.nanmin(picture)), float(np.nanmax(picture))
    axes.imshow((picture - low) / (high - low if high > low else 1.0), cmap="gray", interpolation="nearest")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def rater_contours(axes: Axes, ratings: Any, *, rater_mask: Any = None, names: Sequence[str] | None = None) -> None:
    """Draw the outline of every present rater's mask ``[R, H, W]`` on ``axes``, one color a rater.

    Empty and full masks have no outline and are left out; with ``names`` a legend lists all present raters.
    """
    masks = np.asarray(ratings)
    present = np.ones(len(masks), bool) if rater_mask is None else np.asarray(rater_mask, bool)
    for index, mask in enumerate(masks):
        color = RATER_COLORS[index % len(RATER_COLORS)]
        if not present[index]:
            continue
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=[color], linewidths=1.0)
        if names is not None:
            axes.plot([], [], color=color, label=names[index])
    if names is not None:
        axes.legend(fontsize=6, loc="lower right", framealpha=0.7)


def case_figure(
    image: Any,
    ratings: Any = None,
    *,
    probability: Any = None,
    truth: Any = None,
    rater_mask: Any = None,
    names: Sequence[str] | None = None,
    title: str = "",
    slice_index: int | None = None,
) -> Figure:
    """Show one case: the image with all outlines, the mean vote, and what a model says.

    Args:
        image: ``[C, *spatial]``; one channel is shown gray, the first three as red, green, blue.
        ratings: ``[R, *spatial]`` masks in {0, 1}, or None.
        probability: foreground probability ``[1, *spatial]`` or ``[*spatial]``, optional.
        truth: true vote probability of a phantom, same shape, optional.
        rater_mask: ``[R]`` bool, False for raters who did not mark this case.
        names: rater names for the legend.
        title: heading.
        slice_index: slice along the last axis of a volume; by default the one with the most votes (the middle one
            when there are no ratings).

    Returns:
        A figure with one panel per map that is given. Volumes show one slice.
    """
    volume = np.asarray(image)
    maps: dict[str, npt.NDArray[Any]] = {}
    if ratings is not None:
        mask = None if rater_mask is None else torch.as_tensor(np.asarray(rater_mask, bool))
        votes = count_votes(torch.as_tensor(np.asarray(ratings)), mask).numpy()
        present = len(np.asarray(ratings)) if rater_mask is None else int(np.asarray(rater_mask, bool).sum())
        maps["mean vote"] = votes / present
    for name, values in (("model", probability), ("truth", truth)):
        if values is not None:
            array = np.asarray(values)
            maps[name] = array[0] if array.ndim == volume.ndim else array
    if slice_index is None and volume.ndim == 4:
        slice_index = _most_marked_slice(maps["mean vote"]) if ratings is not None else volume.shape[-1] // 2
    figure = Figure(figsize=(2.6 * (1 + len(maps)), 2.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, 1 + len(maps)))
    _show_image(panels[0], _plane(volume, slice_index))
    if ratings is not None:
        rater_contours(panels[0], _plane(ratings, slice_index), rater_mask=rater_mask, names=names)
    _finish(panels[0], title or "image")
    picture = None
    for axes, (name, values) in zip(panels[1:], maps.items(), strict=True):
        picture = axes.imshow(_plane(values, slice_index), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
        _finish(axes, name)
    if picture is not None:
        figure.colorbar(picture, ax=list(panels), shrink=0.8, label="probability of a vote")
    return figure


def reliability_diagram(tables: ReliabilityTable | Mapping[str, ReliabilityTable], *, title: str = "") -> Figure:
    """Plot the mean vote against the mean confidence of every bin, and how many voxels each bin holds.

    A calibrated model lies on the diagonal: among voxels with confidence 0.7, 70 % of the votes are foreground.

    Args:
        tables: one :class:`~monai_multirater.calibration.ReliabilityTable`, or several by name.
        title: heading.
    """
    named = tables if isinstance(tables, Mapping) else {"": tables}
    figure = Figure(figsize=(4.2, 5.0), layout="constrained")
    curve, counts = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    curve.plot([0, 1], [0, 1], color="gray", linewidth=1, linestyle="--")
    for index, (name, table) in enumerate(named.items()):
        pairs = np.asarray(table.pairs, dtype=np.float64)
        filled = pairs > 0
        confidence = np.asarray(table.sum_confidence)[filled] / pairs[filled]
        frequency = np.asarray(table.sum_votes)[filled] / pairs[filled]
        color = RATER_COLORS[index % len(RATER_COLORS)]
        curve.plot(confidence, frequency, marker="o", markersize=4, color=color, label=name or None)
        counts.plot(confidence, pairs[filled], marker="o", markersize=3, color=color)
    if any(named):
        curve.legend(fontsize=8)
    curve.set(xlim=(0, 1), ylim=(0, 1), ylabel="mean vote", title=title)
    counts.set(yscale="log", xlabel="predicted probability of a vote", ylabel="voxel-rater\npairs")
    return figure
