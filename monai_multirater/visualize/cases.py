# SPDX-License-Identifier: Apache-2.0
"""Pictures of one case: outlines of its raters, maps of votes, and what models say beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from monai_multirater.visualize.arrays import Array, choose_slice, line, picture, plane, spatial, to_array
from monai_multirater.votes import count_votes

__all__ = ["case_figure", "maps_figure", "rater_contours"]

_PANEL = 2.5  # inches
_MAP_COLORS = "viridis"


def rater_contours(axes: Axes, ratings: Any, *, rater_mask: Any = None, names: Sequence[str] | None = None) -> None:
    """Draw the outline of every present rater's mask ``[R, H, W]`` on ``axes``, one color a rater.

    An outline runs along the edge of the picture where the mask does. Empty masks have none. Planes of missing
    raters are ignored.

    Args:
        axes: where to draw; row 0 of the masks is at y = 0.
        ratings: ``[R, H, W]`` zeros and ones.
        rater_mask: ``[R]`` bool, True = present; everybody by default.
        names: names for a legend on ``axes``, one per rater; raters present are listed, empty masks included.

    Raises:
        ValueError: ratings without the three axes, or a mask or names that do not hold one entry per rater.
    """
    masks = to_array(ratings)
    if masks.ndim != 3:
        raise ValueError(f"rater_contours: 'ratings' must be [R, H, W]. Got shape {masks.shape}.")
    present = _present(rater_mask, len(masks), "rater_contours")
    _check_names(names, len(masks), "rater_contours")
    height, width = masks.shape[1:]
    limits = (axes.get_xlim(), axes.get_ylim()) if axes.get_images() else None
    for index in np.flatnonzero(present):
        color, style = line(int(index))
        if masks[index].any():
            framed = np.pad(masks[index].astype(np.uint8), 1)
            outline = axes.contour(
                np.arange(-1, width + 1), np.arange(-1, height + 1), framed, levels=[0.5],
                colors=[color], linestyles=style, linewidths=1.1,
            )  # fmt: skip
            outline.set_path_effects([withStroke(linewidth=2.0, foreground="white", alpha=0.6)])
    if limits is not None:
        axes.set(xlim=limits[0], ylim=limits[1])
    if names is not None:
        axes.legend(handles=_handles(names, present), fontsize=7, loc="lower right", framealpha=0.8)


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
    """Show one case: the image with all outlines, the mean vote of the raters present, and what models say.

    Arguments are tensors of any device, or arrays. Pictures are ``[..., H, W]``. Volumes ``[..., X, Y, Z]`` show one
    slice along the last axis, the first axis to the right and the second upwards.

    Args:
        image: ``[C, *spatial]``; one or two channels show the first in gray, otherwise the first three are red,
            green, blue. 8-bit images, and color images in 0..1 or 0..255, keep their brightness; others are stretched.
        ratings: ``[R, *spatial]`` masks in {0, 1}, or None.
        probability: foreground probability ``[1, *spatial]`` or ``[*spatial]``; several as a mapping from a heading.
        truth: true vote probability of a phantom, same shape.
        rater_mask: ``[R]`` bool, False for raters who did not mark this case.
        names: rater names for the legend, one per rater.
        title: heading of the image; "image" by default.
        slice_index: slice of a volume; by default the one with the most votes (the middle one without votes).

    Returns:
        A figure with the image and one panel per map: "mean vote", the probabilities ("model" without a name),
        "truth".

    Raises:
        ValueError: maps or ratings that do not lie on the image's grid, nobody present, a slice outside the volume,
            or names that are not one per rater.
    """
    volume = to_array(image)
    shape = volume.shape[1:]
    if len(shape) not in (2, 3):
        raise ValueError(f"case_figure: 'image' must be [C, H, W] or [C, X, Y, Z]. Got shape {volume.shape}.")
    masks = None if ratings is None else _checked_ratings(ratings, shape)
    present = np.ones(0, bool) if masks is None else _present(rater_mask, len(masks), "case_figure")
    maps: list[tuple[str, Array]] = []
    if masks is not None:
        _check_names(names, len(masks), "case_figure")
        maps.append(("mean vote", count_votes(torch.from_numpy(masks[present])).numpy() / present.sum()))
    models = probability if isinstance(probability, Mapping) else {"model": probability}
    for name, values in (*models.items(), ("truth", truth)):
        if values is not None:
            maps.append((name, spatial(values, shape, function="case_figure", argument=name)))
    votes = None if masks is None else maps[0][1]
    index = choose_slice(votes, shape, slice_index, function="case_figure")
    foot = 0.35 if masks is not None and names is not None else 0.0
    figure, panels = _grid(1 + len(maps), shape, index, columns=1 + len(maps), foot=foot)
    _show(panels[0], plane(volume, index), title or "image", index)
    if masks is not None:
        rater_contours(panels[0], plane(masks, index), rater_mask=present)
        if names is not None:
            handles = _handles(names, present)
            figure.legend(handles=handles, fontsize=8, loc="outside lower center", ncols=min(8, len(handles)))
    drawn = [_draw(axes, plane(m, index), name, index) for axes, (name, m) in zip(panels[1:], maps, strict=True)]
    if drawn:
        _color_bar(figure, drawn[-1], panels, "probability\nof a vote")
    return figure


def maps_figure(
    maps: Mapping[str, Any],
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    levels: int | None = None,
    label: str = "",
    colors: str = _MAP_COLORS,
    columns: int = 4,
    slice_index: int | None = None,
) -> Figure:
    """Show maps of one case side by side, in one color scale.

    Args:
        maps: heading to map, each ``[*spatial]`` or ``[1, *spatial]``, all of one shape in 2D or 3D.
        limits: values at the ends of the color scale.
        levels: for whole numbers 0..levels (votes): one color each, in place of ``limits``.
        label: what the values are, beside the color bar.
        colors: name of a matplotlib color map.
        columns: most maps in a row, at least one.
        slice_index: slice of volumes along the last axis; by default the one with the largest sum over the maps.

    Raises:
        ValueError: no map, maps of different shapes, no column, or a slice outside the volume.
    """
    if not maps or columns < 1:
        raise ValueError(f"maps_figure: give at least one map and one column. Got {len(maps)} and {columns}.")
    flat, shape = _common_shape(maps)
    weight = np.sum([np.abs(np.nan_to_num(a.astype(np.float64))) for a in flat.values()], axis=0)
    index = choose_slice(weight, shape, slice_index, function="maps_figure")
    norm = Normalize(*limits) if levels is None else BoundaryNorm(np.arange(levels + 2) - 0.5, 256)
    figure, panels = _grid(len(flat), shape, index, columns=columns)
    drawn = [
        _draw(axes, plane(a, index), name, index, norm=norm, colors=colors)
        for axes, (name, a) in zip(panels, flat.items(), strict=True)
    ]
    _color_bar(figure, drawn[-1], panels, label, ticks=None if levels is None else list(range(levels + 1)))
    return figure


def _common_shape(maps: Mapping[str, Any]) -> tuple[dict[str, Array], tuple[int, ...]]:
    arrays = {name: to_array(values) for name, values in maps.items()}
    first = next(iter(arrays.values()))
    shape = first.shape[1:] if first.ndim > 2 and first.shape[0] == 1 else first.shape
    if len(shape) not in (2, 3):
        raise ValueError(f"maps_figure: a map must be 2D or 3D. Got shape {first.shape}.")
    flat = {name: spatial(a, shape, function="maps_figure", argument=name) for name, a in arrays.items()}
    return flat, shape


def _checked_ratings(ratings: Any, shape: tuple[int, ...]) -> Array:
    masks = to_array(ratings)
    if masks.shape[1:] != shape:
        raise ValueError(
            f"case_figure: 'ratings' must be [R, *spatial] on the image's grid {shape}. Got shape {masks.shape}."
        )
    return np.asarray(masks != 0)


def _present(rater_mask: Any, raters: int, function: str) -> Array:
    if rater_mask is None:
        return np.ones(raters, bool)
    present = to_array(rater_mask).astype(bool)
    if present.shape != (raters,) or not present.any():
        raise ValueError(
            f"{function}: 'rater_mask' must hold one flag for each of {raters} raters, at least one of them True. "
            f"Got {present.tolist()}."
        )
    return present


def _check_names(names: Sequence[str] | None, raters: int, function: str) -> None:
    if names is not None and len(names) != raters:
        raise ValueError(f"{function}: 'names' must hold one name for each of {raters} raters. Got {list(names)}.")


def _handles(names: Sequence[str], present: Array) -> list[Line2D]:
    return [
        Line2D([], [], color=line(index)[0], linestyle=line(index)[1], label=name)
        for index, name in enumerate(names)
        if present[index]
    ]


def _grid(
    count: int, shape: tuple[int, ...], slice_index: int | None, *, columns: int, foot: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Figure with ``count`` panels of the shape of the picture and ``foot`` inches for a legend below."""
    height, width = shape if slice_index is None else (shape[1], shape[0])
    tall = min(max(height / width, 0.4), 2.5)
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (_PANEL * columns + 0.8, rows * (_PANEL * tall + 0.25) + foot)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _show(axes: Axes, image: Array, title: str, slice_index: int | None) -> None:
    axes.imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest", origin=_origin(slice_index))
    _finish(axes, title)


def _draw(
    axes: Axes,
    values: Array,
    title: str,
    slice_index: int | None,
    *,
    norm: Normalize | None = None,
    colors: str = _MAP_COLORS,
) -> AxesImage:
    drawn = axes.imshow(
        values, norm=norm or Normalize(0, 1), cmap=colors, interpolation="nearest", origin=_origin(slice_index)
    )
    _finish(axes, title)
    return drawn


def _origin(slice_index: int | None) -> Any:
    return "upper" if slice_index is None else "lower"


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, y=1.0)  # a given place is not searched for, which takes long
    axes.set_axis_off()


def _color_bar(
    figure: Figure, drawn: AxesImage, panels: list[Axes], label: str, *, ticks: list[int] | None = None
) -> None:
    bar = figure.colorbar(drawn, ax=panels, shrink=0.85, pad=0.01, ticks=ticks)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
