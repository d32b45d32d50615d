# SPDX-License-Identifier: Apache-2.0
"""Readers against MONAI's LoadImage (axes, affine) and against damaged files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.data import ITKReader, NibabelReader, PILReader
from monai.transforms import LoadImage
from PIL import Image

from monai_multirater.data.readers import ReadError, file_stem, read_header, read_image, read_mask


def _volume(shape: tuple[int, ...] = (5, 7, 9)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(np.int16)


def _save_itk(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([0.5, 0.7, 2.0])
    image.SetOrigin([1.0, -2.0, 3.0])
    image.SetDirection([0, 1, 0, -1, 0, 0, 0, 0, 1])
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)], ids=["gray", "rgb"])
def test_png_axes_agree_with_monai_without_reverse_indexing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    ours = read_image(tmp_path / "a.png")
    theirs = LoadImage(reader=PILReader(reverse_indexing=False), image_only=True)(tmp_path / "a.png")
    np.testing.assert_array_equal(ours.array, theirs.numpy())
    assert ours.header.spatial_shape == (6, 9)
    assert ours.channels == (3 if len(shape) == 3 else 1)
    assert ours.affine is None
    assert ours.spacing is None


def test_nifti_agrees_with_monai(tmp_path: Path) -> None:
    affine = np.array([[0, -0.5, 0, 3], [0.7, 0, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(_volume(), affine), tmp_path / "a.nii.gz")
    ours = read_image(tmp_path / "a.nii.gz")
    theirs = LoadImage(reader=NibabelReader(), image_only=True)(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(ours.array, theirs.numpy())
    np.testing.assert_allclose(ours.affine, theirs.affine.numpy())
    assert ours.spacing == pytest.approx((0.7, 0.5, 2.0))


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_itk_formats_agree_with_monai(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    _save_itk(path, _volume())
    ours = read_image(path)
    theirs = LoadImage(reader=ITKReader(), image_only=True)(path)
    np.testing.assert_array_equal(ours.array, theirs.numpy())
    np.testing.assert_allclose(ours.affine, theirs.affine.numpy(), atol=1e-12)
    assert ours.spacing == pytest.approx((0.5, 0.7, 2.0))


def test_one_volume_in_three_formats_has_one_affine(tmp_path: Path) -> None:
    _save_itk(tmp_path / "a.nrrd", _volume())
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nrrd")), str(tmp_path / "a.nii.gz"))
    first, second = read_image(tmp_path / "a.nrrd"), read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.nii.gz", "a.nrrd", "a.npy"])
def test_header_equals_the_header_of_the_whole_image(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(_volume(), np.eye(4)), path)
    elif name.endswith(".nrrd"):
        _save_itk(path, _volume())
    elif name.endswith(".npy"):
        np.save(path, _volume())
    else:
        Image.fromarray(_volume((6, 9)).astype(np.uint8)).save(path)
    header, image = read_header(path), read_image(path)
    assert header.spatial_shape == image.header.spatial_shape == image.array.shape
    assert header.channels == 1


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_masks_of_every_png_mode_are_binary(tmp_path: Path, mode: str) -> None:
    expected = (np.indices((5, 6)).sum(0) % 2).astype(np.uint8)
    image = Image.fromarray(expected * 255).convert(mode) if mode != "P" else Image.fromarray(expected, mode="P")
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png").array
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("values", [(0,), (1,), (0, 1), (0, 255), (255,), (0.0, 1.0)], ids=str)
def test_values_that_are_binary(tmp_path: Path, values: tuple[float, ...]) -> None:
    array = np.resize(np.array(values), (4, 4))
    np.save(tmp_path / "m.npy", array)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy").array, array > 0)


@pytest.mark.parametrize("values", [(0, 2), (0, 1, 255), (0, 0.5), (-1, 0), (0, np.nan), (7,), (0, 1, 2)], ids=str)
def test_values_that_are_not_binary_are_shown(tmp_path: Path, values: tuple[float, ...]) -> None:
    np.save(tmp_path / "m.npy", np.resize(np.array(values), (4, 4)))
    with pytest.raises(ReadError, match=rf"is not binary: .* found {len(values)} values"):
        read_mask(tmp_path / "m.npy")


def test_threshold_makes_a_gray_mask_binary(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[0.0, 0.4], [0.5, 1.0]]))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy", threshold=0.45).array, [[0, 0], [1, 1]])
    np.save(tmp_path / "m.npy", np.array([[0.0, np.nan]]))
    with pytest.raises(ReadError, match="NaN"):
        read_mask(tmp_path / "m.npy", threshold=0.5)


def test_a_colored_picture_is_not_a_mask(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (4, 4, 3)).astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ReadError, match="3 channels that differ"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.npy"])
def test_truncated_files_raise(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    volume = np.random.default_rng(0).integers(0, 256, (20, 30, 8)).astype(np.uint8)
    if ".nii" in name:
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    elif name.endswith((".nrrd", ".mha")):
        _save_itk(path, volume)
    elif name.endswith(".npy"):
        np.save(path, volume)
    else:
        Image.fromarray(volume[..., 0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ReadError, match="damaged or truncated"):
        read_image(path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is missing"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(ReadError, match="damaged"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ReadError, match=r"unknown format '\.txt'"):
        read_image(tmp_path / "a.txt")
    (tmp_path / "d.png").mkdir()
    with pytest.raises(ReadError, match="is not a file"):
        read_image(tmp_path / "d.png")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match="damaged"):
        read_image(tmp_path / "o.npy")


def test_pages_and_exif_rotation_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 6), np.uint8))
    image.save(tmp_path / "a.tif", save_all=True, append_images=[image])
    with pytest.raises(ReadError, match="2 pages"):
        read_image(tmp_path / "a.tif")
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(ReadError, match="EXIF"):
        read_header(tmp_path / "a.jpg")


@pytest.mark.parametrize(("name", "stem"), [("a.nii.gz", "a"), ("a.b.png", "a.b"), ("x/A.PNG", "A"), ("a", "a")])
def test_stem(name: str, stem: str) -> None:
    assert file_stem(name) == stem
