# SPDX-License-Identifier: Apache-2.0
"""Maps in the format and on the grid of a mask. References: nibabel, SimpleITK, pynrrd and Pillow read them back."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from monai_multirater.data import read_mask
from monai_multirater.data.writers import map_suffix, write_map, write_nrrd, write_slicer_segmentation

ANGLE = 0.3
ROTATION = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
SHAPE = (5, 6, 7)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _mask(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) > 0.5).astype(np.uint8)


def _probability(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).random(shape).astype(np.float32)


def _affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = ROTATION * [0.7, 0.8, 2.5], [-12.5, 30, 7]
    return affine


def _nifti(path: Path, mask: np.ndarray, kind: type = nib.Nifti1Image) -> Path:
    image = kind(mask, None)
    image.header.set_sform(_affine(), code=4)
    image.header.set_qform(np.diag([2.0, 3, 4, 1]), code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"drawn by hand"
    nib.save(image, path)
    return path


def _itk(path: Path, mask: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask.T))
    n = mask.ndim
    image.SetSpacing((0.7, 0.8, 2.5)[:n])
    image.SetOrigin((-12.5, 30.0, 7.0)[:n])
    image.SetDirection(ROTATION[:n, :n].ravel())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image], ids=["nifti-1", "nifti-2"])
@pytest.mark.parametrize("values", [_mask(), _probability()], ids=["mask", "probability"])
def test_nifti_keeps_the_header_of_the_mask(tmp_path: Path, suffix: str, kind: type, values: np.ndarray) -> None:
    like = _nifti(tmp_path / f"a{suffix}", _mask(), kind)
    found = nib.load(write_map(values, tmp_path / "out" / f"case{suffix}", like=like))
    source = nib.load(like)
    assert type(found) is kind
    for field in source.header:
        if field not in ("datatype", "bitpix"):
            np.testing.assert_array_equal(found.header[field], source.header[field], err_msg=field)
    assert found.get_data_dtype() == values.dtype
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), values)


def test_scaling_and_intent_of_a_nifti_mask_are_not_taken_over(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_mask().astype(np.float64), _affine())
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(1 / 255, 0)
    image.header["cal_max"] = 255
    image.header.set_intent("label")
    nib.save(image, tmp_path / "a.nii.gz")
    found = nib.load(write_map(_probability(), tmp_path / "b.nii.gz", like=tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), _probability())
    assert found.header["cal_max"] == 0
    assert found.header.get_intent()[0] == "none"


def test_trailing_axes_of_a_nifti_mask_stay(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_mask()[..., None], _affine()), tmp_path / "a.nii")
    read = read_mask(tmp_path / "a.nii").array
    found = nib.load(write_map(read, tmp_path / "b.nii", like=tmp_path / "a.nii"))
    assert found.shape == (*SHAPE, 1)
    np.testing.assert_array_equal(np.asanyarray(found.dataobj)[..., 0], _mask())


@pytest.mark.parametrize(
    ("source", "target"), [("a.nrrd", ".nrrd"), ("a.nhdr", ".nrrd"), ("a.mha", ".mha"), ("a.mhd", ".mha")]
)
@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2]], ids=["3d", "2d"])
@pytest.mark.parametrize("make", [_mask, _probability], ids=["mask", "probability"])
def test_nrrd_and_metaimage_keep_the_geometry(
    tmp_path: Path, source: str, target: str, shape: tuple[int, ...], make: object
) -> None:
    values = make(shape)
    like = _itk(tmp_path / source, _mask(shape))
    found = sitk.ReadImage(str(write_map(values, tmp_path / f"b{target}", like=like)))
    reference = sitk.ReadImage(str(like))
    for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, getter)(), getattr(reference, getter)(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, values)
    assert found.GetPixelID() == (sitk.sitkUInt8 if values.dtype == np.uint8 else sitk.sitkFloat32)


@pytest.mark.parametrize("source", ["a.png", "a.bmp"])
def test_a_picture_gets_an_8_bit_mask_and_a_16_bit_probability(tmp_path: Path, source: str) -> None:
    mask, probability = _mask((5, 7)), _probability((5, 7))
    Image.fromarray(mask * 255).save(tmp_path / source)
    with Image.open(write_map(mask, tmp_path / "m.png", like=tmp_path / source)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), mask * 255)
        assert (picture.mode, picture.size) == ("L", (7, 5))
    with Image.open(write_map(probability, tmp_path / "p.png", like=tmp_path / source)) as picture:
        gray = np.asarray(picture)
    assert gray.dtype == np.uint16
    assert np.abs(gray / 65535 - probability).max() <= 0.5 / 65535 + 1e-7


def test_a_tiff_keeps_float_values(tmp_path: Path) -> None:
    Image.fromarray(_mask((5, 7))).save(tmp_path / "a.tiff")
    with Image.open(write_map(_probability((5, 7)), tmp_path / "p.tif", like=tmp_path / "a.tiff")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), _probability((5, 7)))


@pytest.mark.parametrize("make", [_mask, _probability], ids=["mask", "probability"])
def test_numpy_files_stay_numpy_files(tmp_path: Path, make: object) -> None:
    np.save(tmp_path / "a.npy", _mask())
    np.testing.assert_array_equal(np.load(write_map(make(), tmp_path / "b.npy", like=tmp_path / "a.npy")), make())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.npy"])
def test_a_written_mask_is_read_as_it_was(tmp_path: Path, name: str) -> None:
    mask = _mask((5, 7) if name in ("a.png", "a.tif") else SHAPE)
    like = tmp_path / name
    if ".nii" in name:
        _nifti(like, mask)
    elif name in ("a.png", "a.tif"):
        Image.fromarray(mask).save(like)
    elif name == "a.npy":
        np.save(like, mask)
    else:
        _itk(like, mask)
    written = read_mask(write_map(mask, tmp_path / f"b{map_suffix(like)}", like=like))
    source = read_mask(like)
    np.testing.assert_array_equal(written.array, source.array)
    if source.affine is not None:
        np.testing.assert_allclose(written.affine, source.affine, rtol=0, atol=1e-12)


def test_slicer_segmentation_has_the_fields_of_3d_slicer(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:6, 4] = 1
    path = write_slicer_segmentation(mask, tmp_path / "a.seg.nrrd", _affine(), name="nodule")
    image = sitk.ReadImage(str(path))
    assert image.GetMetaData("Segment0_Name") == "nodule"
    assert image.GetMetaData("Segment0_Extent") == "1 2 2 5 4 4"
    assert image.GetMetaData("Segment0_LabelValue") == "1"
    assert image.GetMetaData("Segmentation_MasterRepresentation") == "Binary labelmap"
    assert {"Segment0_ID", "Segment0_Color", "Segment0_Layer", "Segment0_Tags"} <= set(image.GetMetaDataKeys())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, mask)
    lps = LPS @ _affine()
    np.testing.assert_allclose(image.GetOrigin(), lps[:3, 3])
    np.testing.assert_allclose(np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing(), lps[:3, :3])


def test_pynrrd_reads_the_slicer_segmentation_on_its_grid(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    path = write_slicer_segmentation(_mask(), tmp_path / "a.seg.nrrd", _affine())
    values, header = nrrd.read(str(path))
    np.testing.assert_array_equal(values, _mask())
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_allclose(header["space directions"].T, (LPS @ _affine())[:3, :3])
    assert header["Segment0_Name"] == "consensus"


def test_an_empty_segment_has_an_empty_extent(tmp_path: Path) -> None:
    path = write_slicer_segmentation(np.zeros(SHAPE, np.uint8), tmp_path / "a.seg.nrrd", np.eye(4))
    assert sitk.ReadImage(str(path)).GetMetaData("Segment0_Extent") == "0 -1 0 -1 0 -1"


def test_a_probability_as_nrrd(tmp_path: Path) -> None:
    image = sitk.ReadImage(str(write_nrrd(_probability(), tmp_path / "a.nrrd", _affine())))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, _probability())
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5))


def test_the_same_map_gives_the_same_bytes_under_another_name(tmp_path: Path) -> None:
    like = _nifti(tmp_path / "a.nii.gz", _mask())
    first = write_map(_probability(), tmp_path / "b.nii.gz", like=like)
    assert first.read_bytes() == write_map(_probability(), tmp_path / "other.nii.gz", like=like).read_bytes()


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        (_mask((5, 6)), "b.nrrd", r"must be named \*.nii.gz. Got b.nrrd"),
        (_mask((5, 6, 8)), "b.nii.gz", r"has shape \(5, 6, 7\). Got an array of \(5, 6, 8\)"),
    ],
    ids=["suffix", "shape"],
)
def test_what_does_not_fit_the_mask_is_refused(tmp_path: Path, values: np.ndarray, name: str, message: str) -> None:
    like = _nifti(tmp_path / "a.nii.gz", _mask())
    with pytest.raises(ValueError, match=message):
        write_map(values, tmp_path / name, like=like)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
def test_values_that_png_cannot_hold_are_refused(tmp_path: Path, bad: float) -> None:
    Image.fromarray(_mask((5, 7))).save(tmp_path / "a.png")
    values = _probability((5, 7))
    values[0, 0] = bad
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        write_map(values, tmp_path / "b.png", like=tmp_path / "a.png")


def test_a_segmentation_needs_a_volume_and_an_unknown_format_has_no_rule(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a volume"):
        write_slicer_segmentation(_mask((5, 7)), tmp_path / "a.seg.nrrd", np.eye(4))
    with pytest.raises(ValueError, match=r"must be named \*.nrrd"):
        write_nrrd(_mask(), tmp_path / "a.nii", np.eye(4))
    with pytest.raises(ValueError, match=r"no rule for masks of format '\.dcm'"):
        map_suffix("a.dcm")


def test_an_interrupted_write_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(_mask((5, 7))).save(tmp_path / "a.png")
    written = write_map(_mask((5, 7)), tmp_path / "b.png", like=tmp_path / "a.png")
    before = written.read_bytes()

    def killed(self: Image.Image, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        write_map(_mask((5, 7), seed=1), tmp_path / "b.png", like=tmp_path / "a.png")
    assert written.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
