# SPDX-License-Identifier: Apache-2.0
"""From tensors and volumes to the 2D pictures that matplotlib draws, and the colors they are drawn in."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]
LineStyle = Literal["solid", "dashed", "dotted", "dashdot"]

# Okabe and Ito's palette, which color-blind readers can tell apart; its yellow is darkened to show on skin.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#000000")
LINE_STYLES: tuple[LineStyle, ...] = ("solid", "dashed", "dotted", "dashdot")


def line(index: int) -> tuple[str, LineStyle]:
    """Color and line style of the rater or model with this index; 32 differ."""
    return COLORS[index % len(COLORS)], LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)]


def to_array(values: Any) -> Array:
    """Bring a tensor of any device, subclass and precision, or an array, to NumPy."""
    if isinstance(values, torch.Tensor):
        plain = values.detach().as_subclass(torch.Tensor)
        return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).cpu().numpy())
    return np.asarray(values)


def spatial(values: Any, shape: tuple[int, ...], *, function: str, argument: str) -> Array:
    """Return a map ``[1, *spatial]`` or ``[*spatial]`` without its channel axis; raise for other shapes."""
    array = to_array(values)
    if array.shape not in (shape, (1, *shape)):
        raise ValueError(f"{function}: '{argument}' must have shape {shape} or {(1, *shape)}. Got {array.shape}.")
    return array.reshape(shape)


def plane(array: Array, slice_index: int | None) -> Array:
    """Last two axes of a picture as they are, or a slice of a volume with the first axis to the right.

    Arguments are ``[..., H, W]`` with ``slice_index`` None, or ``[..., X, Y, Z]``; a slice becomes ``[..., Y, X]``.
    """
    return array if slice_index is None else np.swapaxes(array[..., slice_index], -1, -2)


def choose_slice(weight: Array | None, shape: tuple[int, ...], slice_index: int | None, *, function: str) -> int | None:
    """Slice of a volume to show: the one asked for, else where ``weight [X, Y, Z]`` is largest, else the middle.

    None for pictures. Raises ``ValueError`` for an index outside the volume, or one for a picture.
    """
    if slice_index is not None:
        if len(shape) != 3 or not -shape[-1] <= slice_index < shape[-1]:
            raise ValueError(
                f"{function}: 'slice_index' must be a slice along the last axis of a volume. "
                f"Got {slice_index} for shape {shape}."
            )
        return slice_index % shape[-1]
    if len(shape) == 2:
        return None
    total = np.zeros(shape[-1]) if weight is None else np.nan_to_num(weight).sum(axis=(0, 1), dtype=np.float64)
    return int(total.argmax()) if total.any() else shape[-1] // 2


def picture(image: Array) -> Array:
    """Turn ``[C, H, W]`` into what ``imshow`` takes, in [0, 1]: gray, or red, green, blue from three channels on.

    8-bit images and color images with values in 0..1 or 0..255 (MONAI loads them as floating point) keep their
    brightness; others are stretched between their 0.5 and 99.5 percentiles. NaN is dark.
    """
    color = image.shape[0] >= 3
    shown = np.moveaxis(image[:3], 0, -1) if color else image[0]
    if shown.dtype == np.uint8:
        return shown / 255
    shown = shown.astype(np.float64)
    finite = shown[np.isfinite(shown)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    if color and finite.size and finite.min() >= 0 and finite.max() <= 255:
        low, high = 0.0, 1.0 if finite.max() <= 1 else 255.0
    stretched = (np.nan_to_num(shown, nan=low) - low) / (high - low if high > low else 1.0)
    return np.asarray(np.clip(stretched, 0.0, 1.0))
