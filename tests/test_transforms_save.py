# SPDX-License-Identifier: Apache-2.0
"""Maps in the format and geometry of their image. References: Pillow, nibabel and SimpleITK read what was written."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from monai_multirater.transforms import SaveMaps, SaveMapsd

ANGLE = 0.3
ROTATION = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.JPEG", "d.bmp"])
def test_a_picture_gets_a_16_bit_png(tmp_path: Path, name: str) -> None:
    probability = values(5, 7)
    written = SaveMaps(tmp_path)(probability, source=f"/images/{name}", name="probability")
    assert written == tmp_path / f"{name[0]}_probability.png"
    with Image.open(written) as picture:
        assert picture.size == (7, 5)
        gray = np.asarray(picture)
    assert gray.dtype == np.uint16
    assert np.abs(gray / 65535 - probability[0].numpy()).max() <= 0.5 / 65535 + 1e-7


def test_a_tiff_keeps_float_values(tmp_path: Path) -> None:
    probability = values(5, 7)
    written = SaveMaps(tmp_path)(probability, source="a.tiff", name="p")
    with Image.open(written) as picture:
        np.testing.assert_array_equal(np.asarray(picture), probability[0].numpy())


def test_vote_counts_of_a_picture_are_8_bit_gray(tmp_path: Path) -> None:
    votes = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4)
    with Image.open(SaveMaps(tmp_path)(votes, source="a.png", name="votes")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), votes[0].numpy())
        assert picture.mode == "L"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_an_oblique_affine(tmp_path: Path, suffix: str) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = ROTATION * [0.7, 0.8, 2.5], [-12.5, 30, 7]
    path = tmp_path / f"scan{suffix}"
    nib.save(nib.Nifti1Image(values(4, 5, 6).numpy()[0], affine), path)
    image = LoadImage(image_only=True, ensure_channel_first=True)(path)
    probability = values(4, 5, 6, seed=1)
    written = SaveMaps(tmp_path / "out")(probability, source=path, name="probability", reference=image)
    found = nib.load(written)
    assert written.name == f"scan_probability{suffix}"
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), probability[0].numpy())
    assert found.get_data_dtype() == np.float32


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=["probability", "votes"])
def test_nrrd_and_metaimage_keep_spacing_origin_and_direction(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    source = sitk.GetImageFromArray(values(6, 5, 4).numpy()[0])
    source.SetSpacing((0.7, 0.8, 2.5))
    source.SetOrigin((-12.5, 30.0, 7.0))
    source.SetDirection(ROTATION.ravel())
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(source, str(path))
    image = LoadImage(image_only=True, ensure_channel_first=True)(path)
    assert tuple(image.shape) == (1, 4, 5, 6)
    result = (values(4, 5, 6, seed=1) * 3).to(dtype)
    found = sitk.ReadImage(str(SaveMaps(tmp_path)(result, source=path, name="m", reference=image)))
    for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, getter)(), getattr(source, getter)(), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).transpose(2, 1, 0), result[0].numpy())
    assert found.GetPixelID() == (sitk.sitkFloat32 if dtype == torch.float32 else sitk.sitkUInt8)


@pytest.mark.parametrize(
    ("result", "source", "message"),
    [
        (values(3, 4), "a.dcm", "no rule for images of format '.dcm'"),
        (values(3, 4) + 1, "a.png", r"must lie in \[0, 1\]"),
        (values(3, 4) * torch.nan, "a.png", r"must lie in \[0, 1\]"),
        (values(3, 4, 5), "a.png", "must be 2D"),
    ],
    ids=["unknown-format", "out-of-range", "nan", "volume-as-picture"],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(
    tmp_path: Path, result: torch.Tensor, source: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SaveMaps(tmp_path)(result, source=source, name="p")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = SaveMaps(tmp_path)
    written = save(values(3, 4), source="a.png", name="p")
    before = written.read_bytes()

    def killed(self: Image.Image, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save(values(3, 4, seed=1), source="a.png", name="p")
    assert written.read_bytes() == before


def test_the_dictionary_form_names_maps_and_skips_absent_ones(tmp_path: Path) -> None:
    image = MetaTensor(values(3, 4), meta={"filename_or_obj": "/x/case7.png"})
    sample = {"image": image, "pred": values(3, 4), "votes": torch.ones(1, 3, 4, dtype=torch.uint8)}
    keys, names = ["pred", "votes", "entropy"], ["probability", "votes", "uncertainty"]
    returned = SaveMapsd(keys, tmp_path, names=names, allow_missing_keys=True)(sample)
    assert returned.keys() == sample.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case7_probability.png", "case7_votes.png"]
    with pytest.raises(ValueError, match="3 keys need as many names"):
        SaveMapsd(keys, tmp_path, names=["a"])
