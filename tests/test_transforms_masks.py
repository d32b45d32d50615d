# SPDX-License-Identifier: Apache-2.0
"""Mask files have the axes and the affine that MONAI's LoadImage, the reference here, gives for a file."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from monai.data import ITKReader, PILReader
from monai.transforms import LoadImage
from PIL import Image

from monai_multirater.transforms import read_rater_mask
from monai_multirater.transforms.mask_files import foreground

OBLIQUE = np.array([[0.7, -0.1, 0.0, 5.0], [0.1, 0.8, 0.2, -7.0], [0.0, -0.2, 2.5, 30.0], [0, 0, 0, 1.0]])


def corner_mask(*shape: int) -> np.ndarray:
    """Asymmetric along every axis: a box in one corner and a single voxel elsewhere."""
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(0, max(n // 3, 1)) for n in shape)] = 1
    mask[(-2, *(min(1, n - 1) for n in shape[1:]))] = 1
    return mask


@pytest.mark.parametrize("reverse_indexing", [True, False], ids=["WH", "HW"])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_picture_axes_agree_with_monai(tmp_path: Path, suffix: str, reverse_indexing: bool) -> None:
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(corner_mask(9, 14) * 255).save(path)
    ours = read_rater_mask(path, reverse_indexing=reverse_indexing)
    monai = LoadImage(image_only=True)(path, PILReader(reverse_indexing=reverse_indexing))
    assert ours.affine is None
    assert ours.array.shape == ((14, 9) if reverse_indexing else (9, 14))
    assert np.array_equal(ours.array, monai.numpy())


def test_default_axes_are_those_of_the_default_monai_reader(tmp_path: Path) -> None:
    Image.fromarray(corner_mask(9, 14) * 255).save(tmp_path / "mask.png")
    monai = LoadImage(image_only=True)(tmp_path / "mask.png")
    assert np.array_equal(read_rater_mask(tmp_path / "mask.png").array, monai.numpy())


@pytest.mark.parametrize("shape", [(7, 9, 11), (7, 9), (7, 9, 1)], ids=["3d", "2d", "one-slice"])
def test_nifti_agrees_with_monai(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(corner_mask(*shape), OBLIQUE), path)
    ours, monai = read_rater_mask(path), LoadImage(image_only=True)(path)
    assert np.array_equal(ours.array, monai.numpy())
    np.testing.assert_allclose(ours.affine, monai.affine.numpy(), atol=1e-5)


@pytest.mark.parametrize("reader", [None, ITKReader()], ids=["default-reader", "itk-reader"])
@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_nrrd_and_mha_agree_with_monai(tmp_path: Path, suffix: str, reader: ITKReader | None) -> None:
    path = tmp_path / f"mask.{suffix}"
    image = SimpleITK.GetImageFromArray(corner_mask(7, 9, 11))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-3.0, 4.0, 11.0))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    SimpleITK.WriteImage(image, str(path))
    ours, monai = read_rater_mask(path), LoadImage(image_only=True)(path, reader)
    assert ours.array.shape == (11, 9, 7)
    assert np.array_equal(ours.array, monai.numpy())
    np.testing.assert_allclose(ours.affine, monai.affine.numpy(), atol=1e-5)


def test_npy_keeps_the_stored_order(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", corner_mask(4, 6))
    assert np.array_equal(read_rater_mask(tmp_path / "mask.npy").array, corner_mask(4, 6))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1", "L", "P"])
def test_gray_content_in_every_picture_mode(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(corner_mask(6, 8) * 255)
    if mode == "P":
        gray = Image.fromarray(corner_mask(6, 8), mode="L")
        picture = Image.new("P", gray.size)
        picture.putpalette([0, 0, 0, 200, 30, 30])
        picture.paste(1, mask=gray.point([0] + [255] * 255))
    else:
        picture = gray.convert(mode)
    picture.save(tmp_path / "mask.png")
    array = read_rater_mask(tmp_path / "mask.png", reverse_indexing=False).array
    assert np.array_equal(foreground(array), corner_mask(6, 8).astype(bool))


def test_color_picture_is_refused(tmp_path: Path) -> None:
    colors = np.zeros((5, 5, 3), dtype=np.uint8)
    colors[0, 0, 1] = 255
    Image.fromarray(colors).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="color image"):
        read_rater_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("suffix", ["png", "nii.gz", "nii", "nrrd", "mha", "npy"])
def test_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask.{suffix}"
    path.write_bytes(b"\x89PNG\r\n\x1a\n not really")
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_rater_mask(path)


def test_truncated_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_rater_mask(path)


@pytest.mark.parametrize(
    "values",
    [[0, 0], [1, 1], [0, 1], [0, 255], [255, 255], [False, True], [0.0, 1.0], [0.0, 255.0]],
    ids=str,
)
def test_binary_values_are_accepted(values: list[float]) -> None:
    array = np.array([values, values])
    assert np.array_equal(foreground(array), array > 0)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 2], "0, 2"),
        ([1, 255], "1, 255"),
        ([0, 128, 255], "0, 128, 255"),
        ([-1, 0, 1], "-1, 0, 1"),
        ([0.0, 0.5, 1.0], "0, 0.5, 1"),
        ([0.0, float("nan")], "0, nan"),
        (list(range(9)), "0, 1, 2, 3, 4, ..."),
    ],
    ids=str,
)
def test_other_values_are_refused(values: list[float], shown: str) -> None:
    with pytest.raises(ValueError, match="is not binary") as raised:
        foreground(np.array(values))
    assert str(raised.value).endswith(f"got {shown}")
