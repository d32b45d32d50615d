# SPDX-License-Identifier: Apache-2.0
"""Pictures of single cases of a data set, beside the tables of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from monai_multirater.data import CaseRecord, Manifest, ReadError, read_image
from monai_multirater.data.writers import write_atomically
from monai_multirater.studies.records import file_name

__all__ = ["background", "picture_paths", "save_picture"]

_DOTS_PER_INCH = 110


def picture_paths(folder: Path, cases: Sequence[str]) -> tuple[Path, ...]:
    """Return ``<folder>/<case>.png`` of each case, and remove the pictures of others."""
    paths = tuple(folder / f"{file_name(case)}.png" for case in cases)
    for old in set(folder.glob("*.png")) - set(paths):
        old.unlink()
    return paths


def background(data: Manifest, case: CaseRecord, stack: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the image ``[C, *spatial]`` of a case where it lies on the grid of its masks, and else the mean vote."""
    try:
        image = read_image(data.path(case.image))
    except ReadError:
        return stack.mean(0)[None]
    if image.header.spatial_shape != stack.shape[1:]:
        return stack.mean(0)[None]
    channels = image.array.reshape(*stack.shape[1:], -1)
    return np.moveaxis(channels, -1, 0)


def save_picture(figure: Any, path: Path) -> Path:
    """Write a figure as PNG; it appears under its name complete or not at all.

    ``savefig`` gives the same picture but draws it twice, the first time only for the layout, which drawing finds too.
    """
    figure.set_dpi(_DOTS_PER_INCH)
    return write_atomically(path, FigureCanvasAgg(figure).print_png)
