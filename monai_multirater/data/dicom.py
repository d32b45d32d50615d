# SPDX-License-Identifier: Apache-2.0
"""DICOM series as the grid of masks, and DICOM segmentations on that grid (needs the extra ``dicom``)."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_multirater._version import __version__
from monai_multirater.data.readers import ReadError
from monai_multirater.data.writers import write_atomically

__all__ = ["DicomSeries", "Segment", "read_series", "write_dicom_segmentation"]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GRID_TOLERANCE = 0.05  # largest distance of voxel centers that are the same, in voxels
_REQUIRED = ("SeriesInstanceUID", "SOPInstanceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RuntimeError(
            f"DICOM needs the package {name}, which is not installed: pip install 'monai-multirater[dicom]'."
        ) from None


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The single-frame images of one series, in the order of their position along the normal of their planes.

    Attributes:
        directory: where the files are.
        instances: pydicom data sets without pixels.
        shape: columns, rows, slices.
        affine: index (column, row, slice) to RAS millimeters, ``[4, 4]``; the third column of a single slice is its
            thickness (1 if unknown) along the normal.
    """

    directory: Path
    instances: tuple[Any, ...]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def place(self, array: NDArray[Any], affine: NDArray[np.float64] | None) -> NDArray[Any]:
        """Return a map as ``[slices, rows, columns]`` of this series; axes are permuted and flipped, never resampled.

        Args:
            array: ``[X, Y, Z]`` or ``[X, Y]`` with its affine, or a picture ``[rows, columns]`` without.
            affine: index to RAS millimeters; None for formats without geometry.

        Raises:
            ReadError: if the map does not lie on the voxels of this series.
        """
        axes, flipped = self.match(array.shape, affine)
        if affine is None:
            return array[None]
        volume = array.reshape((*array.shape, 1)[:3], order="A").transpose(axes)
        return np.flip(volume, tuple(flipped)).T

    def match(self, shape: tuple[int, ...], affine: NDArray[np.float64] | None) -> tuple[list[int], list[int]]:
        """Return which axes of a map run along columns, rows and slices, and which of these three are reversed.

        Raises:
            ReadError: as :meth:`place`.
        """
        mismatch = ReadError(f"has shape {shape}; its DICOM series has (columns, rows, slices) {self.shape}")
        if affine is None:
            if self.shape[2] == 1 and shape == self.shape[1::-1]:
                return [1, 0, 2], []
            raise mismatch
        steps = np.linalg.lstsq(affine, self.affine)[0][:3, :3]
        axes = [int(axis) for axis in np.abs(steps).argmax(axis=0)]
        flipped = [axis for axis in range(3) if steps[axes[axis], axis] < 0 and self.shape[axis] > 1]
        if sorted(axes) != [0, 1, 2]:
            raise ReadError("is rotated against its DICOM series")
        size = (*shape, 1)[:3]
        if tuple(size[axis] for axis in axes) != self.shape:
            raise mismatch
        self._check_corners(affine, axes, flipped)
        return axes, flipped

    def _check_corners(self, affine: NDArray[np.float64], along: list[int], flipped: list[int]) -> None:
        corners = np.array(list(itertools.product(*[(0, n - 1) for n in self.shape])))
        there = corners.copy()
        for axis in flipped:
            there[:, axis] = self.shape[axis] - 1 - corners[:, axis]
        index = np.empty_like(there)
        index[:, along] = there
        distance = (corners @ self.affine[:3, :3].T + self.affine[:3, 3]) - (index @ affine[:3, :3].T + affine[:3, 3])
        worst = float(np.linalg.norm(distance, axis=1).max())
        smallest = float(np.linalg.norm(self.affine[:3, :3], axis=0).min())
        if not worst <= _GRID_TOLERANCE * smallest:
            raise ReadError(f"lies elsewhere than its DICOM series: voxel centers differ by up to {worst:.3g} mm")


def read_series(directory: str | Path) -> DicomSeries:
    """Read the headers of a DICOM series of single-frame images; other files in the folder are left out.

    Raises:
        ReadError: if the folder is missing, holds no image or several series, or its planes are not parallel,
            equally sized and equally spaced.
        RuntimeError: if pydicom is not installed.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ReadError("is not a folder with a DICOM series")
    images = [image for path in sorted(directory.iterdir()) if (image := _header(path)) is not None]
    if not images:
        raise ReadError("holds no DICOM image")
    series = {str(image.SeriesInstanceUID) for image in images}
    if len(series) > 1:
        raise ReadError(f"holds {len(series)} DICOM series; expected one")
    for name in ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        values = np.array([np.atleast_1d(getattr(image, name)).astype(float) for image in images])
        if np.abs(values - values[0]).max() > 1e-4:
            raise ReadError(f"is not one stack: {name} differs between its DICOM images")
    first = images[0]
    along_row, along_column = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(along_row, along_column)
    images.sort(key=lambda image: float(np.dot(normal, [float(p) for p in image.ImagePositionPatient])))
    positions = np.array([[float(p) for p in image.ImagePositionPatient] for image in images])
    lps = np.eye(4)
    rows_apart, columns_apart = (float(s) for s in first.PixelSpacing)
    lps[:3, 0], lps[:3, 1] = along_row * columns_apart, along_column * rows_apart
    lps[:3, 2], lps[:3, 3] = _slice_step(positions, normal, first), positions[0]
    return DicomSeries(directory, tuple(images), (int(first.Columns), int(first.Rows), len(images)), _LPS @ lps)


def _header(path: Path) -> Any:
    pydicom = _optional("pydicom")
    if not path.is_file():
        return None
    try:
        image = pydicom.dcmread(path, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError:
        return None
    except (OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ReadError(f"holds {path.name}, which cannot be read: {error}") from error
    if "Rows" not in image:
        return None
    if int(image.get("NumberOfFrames", 1) or 1) > 1:
        raise ReadError(f"holds {path.name} with several frames; expected a series of single-frame images")
    missing = [name for name in _REQUIRED if image.get(name) is None]
    if missing:
        raise ReadError(f"holds {path.name} without {', '.join(missing)}")
    return image


def _slice_step(positions: NDArray[np.float64], normal: NDArray[np.float64], first: Any) -> NDArray[np.float64]:
    if len(positions) == 1:
        return np.asarray(normal * float(first.get("SliceThickness") or 1.0))
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    length = float(np.linalg.norm(step))
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    worst = float(np.linalg.norm(positions - expected, axis=1).max())
    if length == 0 or worst > _GRID_TOLERANCE * length:
        raise ReadError(f"is not one stack: its DICOM slices are not equally spaced (off by up to {worst:.3g} mm)")
    return np.asarray(step)


@dataclass(frozen=True)
class Segment:
    """What a segment shows, in words and codes (value, scheme, meaning).

    Attributes:
        label: name of what is shown.
        category: coded category of what is shown.
        type: coded type of what is shown.
        method: how the raters were fused; stands in the description of the algorithm.
    """

    label: str = "Segment"
    category: tuple[str, str, str] = ("85756007", "SCT", "Tissue")
    type: tuple[str, str, str] = ("85756007", "SCT", "Tissue")
    method: str = "fusion"


def write_dicom_segmentation(
    array: NDArray[Any],
    target: str | Path,
    series: DicomSeries,
    *,
    segment: Segment | None = None,
    kind: str = "consensus",
) -> Path:
    """Write a DICOM SEG that refers to the images of a series.

    The identifiers follow from the series, the segment and the values: the same result gets the same identifiers,
    another result others.

    Args:
        array: ``[slices, rows, columns]`` as :meth:`DicomSeries.place` gives it. uint8 {0, 1} is written as BINARY,
            floating point in [0, 1] as FRACTIONAL, a probability in steps of 1/255.
        target: the file, ``*.dcm``.
        series: the images that were segmented.
        segment: what the segment shows.
        kind: what the array is; stands in the description of the series.

    Returns:
        ``target``. Planes without foreground are not stored, unless all are.

    Raises:
        ValueError: if the shape is not that of the series.
        RuntimeError: if highdicom is not installed.
    """
    highdicom, pydicom = _optional("highdicom"), _optional("pydicom")
    segment = segment or Segment()
    if array.shape != series.shape[::-1]:
        raise ValueError(
            f"write_dicom_segmentation: the series in {series.directory} has (slices, rows, columns) "
            f"{series.shape[::-1]}. Got an array of {array.shape}."
        )
    fractional = np.issubdtype(array.dtype, np.floating)
    values = np.ascontiguousarray(array, dtype=np.float32 if fractional else np.uint8)
    source = series.instances[0]
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    seeds = [str(source.SeriesInstanceUID), segment.label, segment.method, kind, digest]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = highdicom.seg.Segmentation(
            source_images=list(series.instances),
            pixel_array=values,
            segmentation_type="FRACTIONAL" if fractional else "BINARY",
            segment_descriptions=[_describe(highdicom, segment)],
            series_instance_uid=pydicom.uid.generate_uid(entropy_srcs=["series", *seeds]),
            series_number=int(source.get("SeriesNumber") or 0) + 1000,
            sop_instance_uid=pydicom.uid.generate_uid(entropy_srcs=["instance", *seeds]),
            instance_number=1,
            manufacturer="monai-multirater",
            manufacturer_model_name="fuse",
            software_versions=__version__,
            device_serial_number="0",
            omit_empty_frames=bool(values.any()),
            series_description=f"{segment.label}: {kind} ({segment.method})"[:64],
        )
    return write_atomically(Path(target), result.save_as)


def _describe(highdicom: Any, segment: Segment) -> Any:
    coded = highdicom.sr.CodedConcept
    return highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=segment.label,
        segmented_property_category=coded(*segment.category),
        segmented_property_type=coded(*segment.type),
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=f"monai-multirater {segment.method}",
            family=coded("123109", "DCM", "Manual Processing"),
            version=__version__,
        ),
    )
