# SPDX-License-Identifier: Apache-2.0
"""Read one rater's mask file fast, with the axis order that MONAI's ``LoadImage`` gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    name = str(path).lower()
    try:
        if name.endswith(RASTER_SUFFIXES):
            return RaterMask(_read_raster(path, reverse_indexing), None, str(path))
        if name.endswith(_NIFTI):
            return _read_nifti(path)
        if name.endswith(".npy"):
            return RaterMask(np.load(path, allow_pickle=False), None, str(path))
        return _read_itk(path)
    except (OSError, RuntimeError, SyntaxError, EOFError) as error:
        raise ValueError(f"cannot be decoded ({type(error).__name__}: {error})") from error


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


def _read_raster(path: str | Path, reverse_indexing: bool) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        array = np.asarray(image)
    if array.ndim == 3:
        colors = array[..., : 1 if array.shape[-1] == 2 else 3]
        if not (colors == colors[..., :1]).all():
            raise ValueError("is a color image, not a mask")
        array = colors[..., 0]
    return array.T if reverse_indexing else array


def _read_nifti(path: str | Path) -> RaterMask:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path)
        array = np.asanyarray(image.dataobj)
    except (ImageFileError, ValueError) as error:
        raise ValueError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    return RaterMask(array, np.asarray(image.affine, dtype=np.float64), str(path))


def _read_itk(path: str | Path) -> RaterMask:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    rank = image.GetDimension()
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(rank, rank)
    affine[:rank, :rank] = direction * np.asarray(image.GetSpacing())
    affine[:rank, 3] = image.GetOrigin()
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return RaterMask(SimpleITK.GetArrayFromImage(image).T, lps_to_ras @ affine, str(path))
