# SPDX-License-Identifier: Apache-2.0
"""Plain writers for whole-data-set jobs: a map in the format and on the grid of a mask that was read.

Arrays have the axes of :mod:`monai_multirater.data.readers`. Every file is written under a temporary name and renamed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from monai_multirater.data.readers import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    NUMPY_SUFFIXES,
    PILLOW_SUFFIXES,
    file_suffix,
    read_header,
)

__all__ = ["TEMPORARY", "map_suffix", "write_atomically", "write_map", "write_nrrd", "write_slicer_segmentation"]

TEMPORARY = ".tmp~"
"""Part of the name of every file that is still being written."""
_LEVEL = 1  # zlib: maps hold few values; higher levels take several times as long for files hardly smaller
_COLOR = (0.5, 0.68, 0.5)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def map_suffix(source: str | Path) -> str:
    """Return the suffix that a map gets which follows a mask.

    ============================  =============================================================
    mask                          map
    ============================  =============================================================
    ``.nii``, ``.nii.gz``         the same
    ``.nrrd``, ``.nhdr``          ``.nrrd``
    ``.mha``, ``.mhd``            ``.mha``
    ``.npy``                      the same
    ``.tif``, ``.tiff``           ``.tif``
    ``.png``, ``.jpg``, ``.bmp``  ``.png`` (JPEG would change the values)
    ============================  =============================================================

    Raises:
        ValueError: for a format without rule.
    """
    suffix = file_suffix(source)
    if suffix in PILLOW_SUFFIXES:
        return ".tif" if suffix in (".tif", ".tiff") else ".png"
    if suffix in (*NIFTI_SUFFIXES, *ITK_SUFFIXES, *NUMPY_SUFFIXES):
        return {".nhdr": ".nrrd", ".mhd": ".mha"}.get(suffix, suffix)
    raise ValueError(f"map_suffix: no rule for masks of format {suffix!r} ({source}).")


def write_map(array: NDArray[Any], target: str | Path, *, like: str | Path) -> Path:
    """Write a map with the geometry of a mask file.

    NIfTI keeps the header of the mask (affines of both forms, their codes, units), NRRD and MetaImage its spacing,
    origin and direction. Masks are stored as 0 and 1 in volumes, as 0 and 255 in pictures. Probabilities are float32;
    in PNG 16-bit gray, ``value = gray / 65535``. NIfTI, NRRD and MetaImage are compressed with zlib level 1.

    Args:
        array: ``[*spatial]``: uint8 {0, 1}, or floating point in [0, 1].
        target: the file; its suffix is :func:`map_suffix` of ``like``.
        like: the mask file.

    Returns:
        ``target``.

    Raises:
        ValueError: if the shape is not that of ``like``, the suffix does not fit, or values for PNG are outside [0, 1].
        ReadError: if ``like`` cannot be read.
    """
    target = Path(target)
    suffix = map_suffix(like)
    if file_suffix(target) != suffix:
        raise ValueError(f"write_map: a map like {like} must be named *{suffix}. Got {target.name}.")
    values = _stored(array)
    if suffix in NIFTI_SUFFIXES:
        return write_atomically(target, _nifti_image(values, like).to_filename)
    header = read_header(like)
    if values.shape != header.spatial_shape:
        raise ValueError(f"write_map: {like} has shape {header.spatial_shape}. Got an array of {values.shape}.")
    if suffix in NUMPY_SUFFIXES:
        return write_atomically(target, lambda path: np.save(path, values))
    if suffix in PILLOW_SUFFIXES:
        return write_atomically(target, _picture(values, suffix, target).save)
    assert header.affine is not None
    image = _itk_image(values, header.affine)
    return write_atomically(target, lambda path: _write_itk(image, path))


def write_nrrd(array: NDArray[Any], target: str | Path, affine: NDArray[np.float64]) -> Path:
    """Write a map ``[*spatial]`` as NRRD with an affine to RAS millimeters; types are those of :func:`write_map`.

    Raises:
        ValueError: if ``target`` has another suffix.
    """
    target = Path(target)
    if file_suffix(target) != ".nrrd":
        raise ValueError(f"write_nrrd: the file must be named *.nrrd. Got {target.name}.")
    image = _itk_image(_stored(array), affine)
    return write_atomically(target, lambda path: _write_itk(image, path))


def write_slicer_segmentation(
    mask: NDArray[np.uint8], target: str | Path, affine: NDArray[np.float64], *, name: str = "consensus"
) -> Path:
    """Write a volume as ``.seg.nrrd``, the segmentation of 3D Slicer with one segment of label value 1.

    Args:
        mask: ``[X, Y, Z]`` uint8 {0, 1}.
        target: the file, named ``*.seg.nrrd``.
        affine: index to RAS millimeters, ``[4, 4]``.
        name: of the segment.

    Returns:
        ``target``. The extent of an empty segment is ``0 -1 0 -1 0 -1``, as 3D Slicer writes it.

    Raises:
        ValueError: if ``mask`` has not three axes, or ``target`` another suffix.
    """
    target = Path(target)
    if mask.ndim != 3 or not target.name.endswith(".seg.nrrd"):
        raise ValueError(
            f"write_slicer_segmentation: needs a volume [X, Y, Z] and a name *.seg.nrrd. Got shape {mask.shape} and "
            f"{target.name}."
        )
    image = _itk_image(mask.astype(np.uint8, copy=False), affine)
    for key, value in _segment_fields(mask, name).items():
        image.SetMetaData(key, value)
    return write_atomically(target, lambda path: _write_itk(image, path))


def write_atomically(target: Path, write: Callable[[str], Any]) -> Path:
    """Call ``write`` with a temporary name in the folder of ``target`` (made when missing), then rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = file_suffix(target)
    stem = target.name[: len(target.name) - len(suffix)]
    temporary = target.with_name(f".{stem}.{os.getpid()}{TEMPORARY}{suffix}")
    try:
        write(str(temporary))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32 if np.issubdtype(array.dtype, np.floating) else np.uint8, copy=False)


def _nifti_image(values: NDArray[Any], like: str | Path) -> Any:
    source = nib.load(like)
    if values.shape != source.shape[:3]:
        raise ValueError(f"write_map: {like} has shape {source.shape[:3]}. Got an array of {values.shape}.")
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(None, None)
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"] = 0
    return source.__class__(values.reshape(source.shape, order="A"), None, header)


def _picture(values: NDArray[Any], suffix: str, target: Path) -> Image.Image:
    if values.dtype == np.uint8:
        return Image.fromarray(values * np.uint8(255))
    if suffix == ".tif":
        return Image.fromarray(values)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"write_map: values for PNG must lie in [0, 1]. Got [{values.min()}, {values.max()}] for {target}."
        )
    return Image.fromarray(np.rint(values * 65535).astype(np.uint16))


def _itk_image(values: NDArray[Any], affine: NDArray[np.float64]) -> sitk.Image:
    n = values.ndim
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:n, :n], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(o) for o in lps[:n, 3]])
    image.SetDirection([float(d) for d in (lps[:n, :n] / spacing).ravel()])
    return image


def _write_itk(image: sitk.Image, path: str) -> None:
    sitk.WriteImage(image, path, useCompression=True, compressionLevel=_LEVEL)


def _segment_fields(mask: NDArray[np.uint8], name: str) -> dict[str, str]:
    extent = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(mask.any(axis=others))
        extent += [int(where[0]), int(where[-1])] if where.size else [0, -1]
    return {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segment0_ID": "Segment_1",
        "Segment0_Name": name,
        "Segment0_NameAutoGenerated": "0",
        "Segment0_Color": " ".join(str(part) for part in _COLOR),
        "Segment0_ColorAutoGenerated": "1",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment0_Extent": " ".join(str(bound) for bound in extent),
        "Segment0_Tags": "|",
    }
