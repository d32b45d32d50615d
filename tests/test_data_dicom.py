# SPDX-License-Identifier: Apache-2.0
"""DICOM series and segmentations. References: SimpleITK reads series and SEG, highdicom reads the SEG."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import LPS, SPACING, itk_affine, make_series, read_with_itk

from monai_multirater.data import ReadError, read_mask
from monai_multirater.data.dicom import DicomSeries, Segment, read_series, write_dicom_segmentation

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
SHAPE = (7, 6, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_series(tmp_path_factory.mktemp("dicom") / "ct")


@pytest.fixture(scope="module")
def series(folder: Path) -> DicomSeries:
    return read_series(folder)


def _mask(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = (np.random.default_rng(0).random(shape) > 0.6).astype(np.uint8)
    mask[..., 1] = 0  # a plane without foreground
    return mask


def test_geometry_is_that_of_simpleitk(folder: Path, series: DicomSeries) -> None:
    image = read_with_itk(folder)
    assert series.shape == image.GetSize() == SHAPE
    np.testing.assert_allclose(series.affine, itk_affine(image), atol=1e-12)
    slices = sitk.GetArrayFromImage(image)[:, 0, 0] + 1024
    assert [int(instance.InstanceNumber) - 1 for instance in series.instances] == slices.tolist()


def _resampled(volume: object, folder: Path) -> np.ndarray:
    """Values of a highdicom volume at the voxels of the series, ``[X, Y, Z]``, found through both affines."""
    image = read_with_itk(folder)
    found = np.zeros(image.GetSize(), volume.array.dtype)
    to_volume = np.linalg.inv(volume.affine) @ LPS @ itk_affine(image)
    for index in np.ndindex(found.shape):
        position = to_volume @ [*index, 1]
        there = np.rint(position[:3]).astype(int)
        np.testing.assert_allclose(position[:3], there, atol=1e-6)
        if (there >= 0).all() and (there < volume.array.shape[:3]).all():
            found[index] = volume.array[(*there, *([0] * (volume.array.ndim - 3)))]
    return found


@pytest.mark.parametrize("fractional", [False, True], ids=["binary", "fractional"])
def test_highdicom_reads_every_voxel_where_it_was(
    tmp_path: Path, folder: Path, series: DicomSeries, fractional: bool
) -> None:
    values = _mask() if not fractional else _mask() * np.float32(0.3)
    path = write_dicom_segmentation(series.place(values, series.affine), tmp_path / "a.dcm", series)
    seg = highdicom.seg.segread(path)
    assert seg.segmentation_type.value == ("FRACTIONAL" if fractional else "BINARY")
    assert seg.number_of_frames == 4  # the plane without foreground is not stored
    found = _resampled(seg.get_volume(rescale_fractional=True), folder)
    np.testing.assert_allclose(found, values, atol=0.5 / 255 if fractional else 0)


def test_the_segmentation_belongs_to_its_series(tmp_path: Path, series: DicomSeries) -> None:
    segment = Segment("Nodule", ("49755003", "SCT", "Morphologically Abnormal Structure"), method="staple")
    path = write_dicom_segmentation(series.place(_mask(), series.affine), tmp_path / "a.dcm", series, segment=segment)
    seg, source = highdicom.seg.segread(path), series.instances[0]
    for field in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert getattr(seg, field) == getattr(source, field)
    referred = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred == {instance.SOPInstanceUID for instance in series.instances}
    description = seg.get_segment_description(1)
    assert description.segment_label == "Nodule"
    assert description.segmented_property_category.value == "49755003"
    assert description.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "monai-multirater staple"
    assert seg.SeriesDescription == "Nodule: consensus (staple)"


def test_identifiers_follow_the_content(tmp_path: Path, series: DicomSeries) -> None:
    planes = series.place(_mask(), series.affine)
    other = planes.copy()
    other[0, 0, 0] ^= 1
    written = [
        pydicom.dcmread(write_dicom_segmentation(array, tmp_path / f"{k}.dcm", series))
        for k, array in enumerate((planes, planes, other))
    ]
    assert written[0].SOPInstanceUID == written[1].SOPInstanceUID != written[2].SOPInstanceUID
    assert written[0].PixelData == written[1].PixelData


def test_an_empty_segmentation_keeps_all_planes(tmp_path: Path, series: DicomSeries) -> None:
    path = write_dicom_segmentation(np.zeros(SHAPE[::-1], np.uint8), tmp_path / "a.dcm", series)
    seg = highdicom.seg.segread(path)
    assert seg.number_of_frames == 5
    assert not seg.get_volume().array.any()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL"])
def test_a_mask_with_other_axes_is_placed_voxel_by_voxel(
    tmp_path: Path, folder: Path, series: DicomSeries, axes: str
) -> None:
    image = read_with_itk(folder)
    mask = sitk.GetImageFromArray(np.ascontiguousarray(_mask().T))
    mask.CopyInformation(image)
    if axes == "SAR":  # not a turn that DICOMOrient gives for this oblique grid: permute by hand
        mask = sitk.PermuteAxes(sitk.Flip(mask, [True, False, True]), [2, 1, 0])
    else:
        mask = sitk.DICOMOrient(mask, axes)
    path = tmp_path / "m.nii.gz"
    sitk.WriteImage(mask, str(path))
    read = read_mask(path)
    np.testing.assert_array_equal(series.place(read.array, read.affine), _mask().T)


def test_a_picture_is_placed_on_a_series_of_one_slice(tmp_path: Path) -> None:
    single = read_series(make_series(tmp_path / "one", shape=(7, 6, 1)))
    picture = _mask((6, 7))
    np.testing.assert_array_equal(single.place(picture, None), picture[None])
    with pytest.raises(ReadError, match=r"has shape \(7, 6\); its DICOM series has"):
        single.place(picture.T, None)
    np.testing.assert_allclose(np.linalg.norm(single.affine[:3, :3], axis=0), SPACING)


def _shifted(series: DicomSeries) -> tuple[np.ndarray, np.ndarray]:
    affine = series.affine.copy()
    affine[0, 3] += 0.3
    return _mask(), affine


def _rotated(series: DicomSeries) -> tuple[np.ndarray, np.ndarray]:
    c = np.sqrt(0.5)
    turn = np.eye(4)
    turn[:2, :2] = [[c, -c], [c, c]]
    return _mask(), turn @ series.affine


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda series: (_mask(), None), "has shape"),
        (lambda series: (_mask((7, 6, 4)), series.affine), r"has shape \(7, 6, 4\); its DICOM series has"),
        (_shifted, "voxel centers differ by up to 0.3 mm"),
        (_rotated, "lies elsewhere|is rotated"),
        (lambda series: (_mask(), np.diag([1.0, 0, 1, 1])), "lies elsewhere|is rotated"),
    ],
    ids=["no-geometry", "fewer-slices", "shifted", "rotated", "singular"],
)
def test_a_mask_on_another_grid_is_refused(series: DicomSeries, make: object, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        series.place(*make(series))


def test_an_array_of_another_shape_is_refused(tmp_path: Path, series: DicomSeries) -> None:
    with pytest.raises(ValueError, match=r"has \(slices, rows, columns\) \(5, 6, 7\). Got an array of \(7, 6, 5\)"):
        write_dicom_segmentation(_mask(), tmp_path / "a.dcm", series)
    assert not list(tmp_path.iterdir())


def _drop(path: Path, name: str) -> None:
    image = pydicom.dcmread(path)
    delattr(image, name)
    image.save_as(path)


def _change(path: Path, name: str, value: object) -> None:
    image = pydicom.dcmread(path)
    setattr(image, name, value)
    image.save_as(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder with a DICOM series"),
        (lambda f: [path.unlink() for path in f.iterdir()], "holds no DICOM image"),
        (lambda f: [path.write_text("no") for path in f.iterdir()], "holds no DICOM image"),
        (lambda f: (f / "000.dcm").unlink(), "slices are not equally spaced"),
        (lambda f: shutil.copy(f / "000.dcm", f / "copy.dcm"), "slices are not equally spaced"),
        (lambda f: _change(f / "000.dcm", "SeriesInstanceUID", "1.2.3"), "holds 2 DICOM series; expected one"),
        (lambda f: _change(f / "000.dcm", "Rows", 5), "Rows differs between its DICOM images"),
        (lambda f: _change(f / "000.dcm", "NumberOfFrames", 3), "holds 000.dcm with several frames"),
        (lambda f: _drop(f / "000.dcm", "PixelSpacing"), "holds 000.dcm without PixelSpacing"),
    ],
    ids=["missing", "empty", "no-dicom", "gap", "doubled", "two-series", "rows", "frames", "spacing"],
)
def test_a_series_that_is_no_stack_is_refused(tmp_path: Path, folder: Path, damage: object, message: str) -> None:
    copy = tmp_path / "ct"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(ReadError, match=message):
        read_series(copy)


def test_other_files_in_the_folder_are_left_out(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "ct"
    shutil.copytree(folder, copy)
    (copy / "README.txt").write_text("A CT.")
    (copy / "sub").mkdir()
    assert read_series(copy).shape == SHAPE


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RuntimeError, match=r"needs the package pydicom.*pip install 'monai-multirater\[dicom\]'"):
        read_series(folder)
