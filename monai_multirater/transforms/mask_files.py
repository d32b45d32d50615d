# SPDX-License-Identifier: Apache-2.0
"""Read one rater's mask file fast, with the axis order that MONAI's ``LoadImage`` gives."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from PIL import Image

__all__ = ["RASTER_SUFFIXES", "RaterMask", "foreground", "read_rater_mask"]

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class RaterMask:
    """One rater's mask before it is checked against the image.

    Attributes:
        array: ``[*spatial]`` in MONAI's axis order.
        affine: voxel index to RAS coordinates (mm), ``[4, 4]``, or None when the file has no geometry.
        source: path, or empty.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64] | None = None
    source: str = ""


def read_rater_mask(path: str | Path, *, reverse_indexing: bool = True) -> RaterMask:
    """Read a mask: PNG, JPEG, BMP, TIFF by Pillow, NIfTI by nibabel, NPY by NumPy, all else by SimpleITK.

    The axes are those of ``monai.transforms.LoadImage`` for the same file, and the affine is in RAS.

    Args:
        path: file.
        reverse_indexing: for the Pillow formats only, the argument of the same name of MONAI's ``PILReader``:
            True (the default there and here) gives ``[W, H]``, False ``[H, W]``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be decoded, or is a color image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        mask = _decode(path, reverse_indexing)
    except (OSError, RuntimeError, SyntaxError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise ValueError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    return RaterMask(_one_channel(mask), None, str(path)) if isinstance(mask, np.ndarray) else mask


def foreground(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a binary mask (0 and 1, or 0 and 255, any dtype) is foreground.

    Raises:
        ValueError: if other values occur, NaN included.
    """
    result: NDArray[np.bool_] = array != 0
    top = array.max() if array.size else 0
    full = np.count_nonzero(array == top) if top != 0 else 0
    if top in (0, 1, 255) and np.count_nonzero(result) == full:
        return result
    values = np.unique(array)
    shown = ", ".join(f"{value:g}" for value in values[:5].astype(np.float64))
    more = ", ..." if values.size > 5 else ""
    raise ValueError(f"is not binary: its values must be 0 and 1, or 0 and 255, got {shown}{more}")


def _decode(path: str | Path, reverse_indexing: bool) -> RaterMask | NDArray[Any]:
    name = str(path).lower()
    if name.endswith(RASTER_SUFFIXES):
        with Image.open(path) as image:
            array = np.asarray(image)
        return array.swapaxes(0, 1) if reverse_indexing else array
    if name.endswith(_NIFTI):
        volume = nibabel.load(path)
        affine = np.asarray(volume.affine, dtype=np.float64)
        return RaterMask(np.asanyarray(volume.dataobj), affine, str(path))
    if name.endswith(".npy"):
        return RaterMask(np.load(path, allow_pickle=False), None, str(path))
    return _read_itk(path)


def _one_channel(picture: NDArray[Any]) -> NDArray[Any]:
    if picture.ndim == 2:
        return picture
    colors = picture[..., : 1 if picture.shape[-1] == 2 else 3]
    if not (colors == colors[..., :1]).all():
        raise ValueError("is a color image, not a mask")
    return np.asarray(colors[..., 0])


def _read_itk(path: str | Path) -> RaterMask:
    image = SimpleITK.ReadImage(str(path))
    rank = image.GetDimension()
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(rank, rank)
    affine[:rank, :rank] = direction * np.asarray(image.GetSpacing())
    affine[:rank, 3] = image.GetOrigin()
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return RaterMask(SimpleITK.GetArrayFromImage(image).T, lps_to_ras @ affine, str(path))
