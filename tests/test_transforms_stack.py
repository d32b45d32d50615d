# SPDX-License-Identifier: Apache-2.0
"""Masks of several raters on the image's grid; resampling is compared with SimpleITK and torch."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor, PILReader
from monai.transforms import LoadImage, LoadImaged
from PIL import Image
from test_transforms_masks import OBLIQUE, corner_mask

from monai_multirater.transforms import (
    LoadImageRatersd,
    LoadRaters,
    LoadRatersd,
    PadRaters,
    PadRatersd,
    StackRaters,
    StackRatersd,
)


def save_volume(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> dict:
    """A 9 x 14 image and the masks of raters 0 and 2; rater 1 is missing."""
    Image.fromarray(np.arange(126, dtype=np.uint8).reshape(9, 14)).save(tmp_path / "image.png")
    for name, mask in (("a", corner_mask(9, 14)), ("c", 1 - corner_mask(9, 14))):
        Image.fromarray(mask * 255).save(tmp_path / f"{name}.png")
    return {
        "case": "b01",
        "image": tmp_path / "image.png",
        "ratings": (tmp_path / "a.png", None, tmp_path / "c.png"),
    }


@pytest.fixture
def volumes(tmp_path: Path) -> dict:
    image = np.random.default_rng(0).normal(size=(7, 9, 11)).astype(np.float32)
    return {
        "case": "v01",
        "image": save_volume(tmp_path / "image.nii.gz", image),
        "ratings": (save_volume(tmp_path / "a.nii.gz", corner_mask(7, 9, 11)), None),
    }


@pytest.mark.parametrize("reverse_indexing", [True, False], ids=["WH", "HW"])
def test_pictures_lie_on_the_image(pictures: dict, reverse_indexing: bool) -> None:
    reader = PILReader(reverse_indexing=reverse_indexing)
    image = LoadImaged("image", reader=reader, image_only=True, ensure_channel_first=True)
    sample = LoadRatersd("ratings", "image", reverse_indexing=reverse_indexing)(image(pictures))
    expected = np.stack([corner_mask(9, 14), np.zeros((9, 14)), 1 - corner_mask(9, 14)])
    if reverse_indexing:
        expected = expected.transpose(0, 2, 1)
    ratings = sample["ratings"]
    assert isinstance(ratings, MetaTensor)
    assert ratings.dtype == torch.uint8
    assert ratings.shape[1:] == sample["image"].shape[1:]
    assert np.array_equal(ratings.numpy(), expected)
    assert sample["rater_mask"].tolist() == [True, False, True]
    assert sample["rater_mask"].dtype == torch.bool


def test_default_options_agree_with_plain_load_imaged(pictures: dict) -> None:
    sample = LoadRatersd()(LoadImaged("image", ensure_channel_first=True)(pictures))
    reference = LoadImage(image_only=True, ensure_channel_first=True)(pictures["ratings"][0])
    assert torch.equal(sample["ratings"][:1].as_tensor() * 255, reference.as_tensor().to(torch.uint8))


def test_volumes_get_the_affine_of_the_image(volumes: dict) -> None:
    sample = LoadRatersd()(LoadImaged("image", ensure_channel_first=True)(volumes))
    assert torch.equal(sample["ratings"].affine, sample["image"].affine)
    assert np.array_equal(sample["ratings"][0].numpy(), corner_mask(7, 9, 11))
    assert not sample["ratings"][1].any()
    sample["ratings"].affine[0, 0] = -1
    sample["ratings"].meta["added"] = 1
    assert sample["image"].affine[0, 0] != -1
    assert "added" not in sample["image"].meta


def test_plain_tensor_reference_gives_plain_tensor() -> None:
    ratings, present = StackRaters()([corner_mask(5, 6), None], torch.zeros(3, 5, 6))
    assert not isinstance(ratings, MetaTensor)
    assert ratings.shape == (2, 5, 6)
    assert present.tolist() == [True, False]


def test_stack_takes_loaded_masks(volumes: dict) -> None:
    load = LoadImage(image_only=True, ensure_channel_first=True)
    sample = {**volumes, "image": load(volumes["image"]), "ratings": [load(volumes["ratings"][0]), None]}
    stacked = StackRatersd()(sample)
    assert torch.equal(stacked["ratings"], LoadRatersd()({**volumes, "image": sample["image"]})["ratings"])


def test_one_rater() -> None:
    ratings, present = StackRaters()([corner_mask(5, 6)], torch.zeros(1, 5, 6))
    assert ratings.shape == (1, 5, 6)
    assert present.tolist() == [True]


def test_all_raters_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="case 'b01' has no rater: all 2 masks are missing"):
        StackRaters()([None, None], torch.zeros(1, 5, 6), case="b01")


def test_number_of_names_must_fit() -> None:
    with pytest.raises(ValueError, match="has 1 masks for the 2 raters"):
        StackRaters(raters=("A", "B"))([corner_mask(5, 6)], torch.zeros(1, 5, 6))


def test_errors_name_case_rater_and_path(pictures: dict, tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 14), 7, dtype=np.uint8)).save(tmp_path / "c.png")
    image = torch.zeros(1, 14, 9)
    with pytest.raises(ValueError, match=r"case 'b01', rater 'C': the mask .*c.png. is not binary"):
        LoadRaters(raters=("A", "B", "C"))(pictures["ratings"], image, case="b01")
    (tmp_path / "c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"case 'b01', rater 2: .*no such file"):
        LoadRaters()(pictures["ratings"], image, case="b01")


def test_shape_mismatch_is_an_error_with_a_hint(pictures: dict) -> None:
    with pytest.raises(ValueError, match=r"shape \(14, 9\), the image has \(9, 14\) \(axes swapped"):
        LoadRaters()(pictures["ratings"], torch.zeros(1, 9, 14), case="b01")
    with pytest.raises(ValueError, match=r"the image has \(20, 30\); resample=True resamples"):
        LoadRaters()(pictures["ratings"], torch.zeros(1, 20, 30), case="b01")
    with pytest.raises(ValueError, match="has 2 spatial axes"):
        LoadRaters()(pictures["ratings"], torch.zeros(1, 20, 30, 4), case="b01")


@pytest.mark.parametrize("shift", [0.0005, 0.002], ids=["within-tolerance", "beyond-tolerance"])
def test_affine_tolerance(volumes: dict, tmp_path: Path, shift: float) -> None:
    moved = OBLIQUE.copy()
    moved[1, 3] += shift
    path = save_volume(tmp_path / "moved.nii.gz", corner_mask(7, 9, 11), moved)
    image = LoadImage(image_only=True, ensure_channel_first=True)(volumes["image"])
    if shift < 1e-3:
        assert LoadRaters()([path], image)[0].any()
        return
    with pytest.raises(ValueError, match=r"affines differ by 0\.002 mm"):
        LoadRaters()([path], image, case="v01")
    assert LoadRaters(affine_atol=0.01)([path], image)[0].any()


@pytest.mark.parametrize("size", [(12, 10, 8), (5, 7, 4)], ids=["finer", "coarser"])
def test_resampling_in_space_agrees_with_simpleitk(tmp_path: Path, size: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(1)
    mask = (generator.random((11, 9, 7)) > 0.5).astype(np.uint8)
    source = SimpleITK.GetImageFromArray(mask)
    source.SetSpacing((0.9, 1.1, 1.3))
    source.SetOrigin((1.0, -2.0, 3.0))
    turn = np.deg2rad(20.0)
    source.SetDirection((np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1))
    grid = SimpleITK.Image(size, SimpleITK.sitkUInt8)
    grid.SetSpacing((0.83, 1.27, 1.41))
    grid.SetOrigin((0.613, -1.287, 2.791))
    expected = SimpleITK.Resample(source, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    SimpleITK.WriteImage(source, str(tmp_path / "mask.nrrd"))
    SimpleITK.WriteImage(grid, str(tmp_path / "image.nrrd"))
    image = LoadImage(image_only=True, ensure_channel_first=True)(tmp_path / "image.nrrd")
    with pytest.raises(ValueError, match="resample=True"):
        LoadRaters()([tmp_path / "mask.nrrd"], image)
    ratings, _ = LoadRaters(resample=True)([tmp_path / "mask.nrrd"], image)
    assert np.array_equal(ratings[0].numpy(), SimpleITK.GetArrayFromImage(expected).T)


def test_resampling_a_turned_grid_moves_no_voxel(volumes: dict, tmp_path: Path) -> None:
    turn = np.array([[-1, 0, 0, 6], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # flip axis 0, swap 1 and 2
    save_volume(tmp_path / "turned.nii.gz", corner_mask(7, 9, 11)[::-1].transpose(0, 2, 1), OBLIQUE @ turn)
    image = LoadImage(image_only=True, ensure_channel_first=True)(volumes["image"])
    ratings, _ = LoadRaters(resample=True)([tmp_path / "turned.nii.gz"], image)
    assert np.array_equal(ratings[0].numpy(), corner_mask(7, 9, 11))


@pytest.mark.parametrize("size", [(18, 28), (5, 9), (10, 13)], ids=["doubled", "coarser", "odd"])
def test_resampling_pictures_agrees_with_torch(size: tuple[int, int]) -> None:
    mask = (np.random.default_rng(2).random((9, 14)) > 0.5).astype(np.uint8)
    ratings, _ = StackRaters(resample=True)([mask], torch.zeros(1, *size))
    expected = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest-exact")
    assert torch.equal(ratings[None], expected)


@pytest.mark.parametrize("transform", [StackRatersd, LoadRatersd])
def test_samples_without_ratings(transform: type) -> None:
    sample = {"image": torch.zeros(1, 4, 4)}
    assert set(transform(allow_missing_keys=True)(sample)) == {"image"}
    with pytest.raises(KeyError):
        transform()(sample)
    with pytest.raises(ValueError, match="must name one key"):
        transform(keys=("ratings", "other"))


def test_whole_sample_of_pictures(pictures: dict, tmp_path: Path) -> None:
    truth = np.random.default_rng(0).random((9, 14)).astype(np.float32)
    np.save(tmp_path / "truth.npy", truth)
    sample = LoadImageRatersd(2)({**pictures, "truth": tmp_path / "truth.npy"})
    assert np.array_equal(sample["image"].numpy(), np.arange(126, dtype=np.float32).reshape(1, 9, 14))
    assert np.array_equal(sample["ratings"][0].numpy(), corner_mask(9, 14))
    assert np.array_equal(sample["truth"].numpy(), truth[None])
    assert isinstance(sample["truth"], MetaTensor)


def test_whole_sample_of_volumes(volumes: dict, tmp_path: Path) -> None:
    truth = np.random.default_rng(0).random((7, 9, 11)).astype(np.float32)
    path = save_volume(tmp_path / "truth.nii.gz", truth)
    sample = LoadImageRatersd(3)({**volumes, "truth": path})
    assert sample["image"].shape == (1, 7, 9, 11)
    assert np.array_equal(sample["truth"].numpy(), truth[None])
    assert torch.equal(sample["truth"].affine, sample["image"].affine)


def test_whole_sample_without_ratings_and_truth(pictures: dict) -> None:
    assert set(LoadImageRatersd(2)({"image": pictures["image"]})) == {"image"}


def test_whole_sample_errors_name_the_case(pictures: dict, volumes: dict, tmp_path: Path) -> None:
    np.save(tmp_path / "truth.npy", np.zeros((14, 9), dtype=np.float32))
    with pytest.raises(ValueError, match=r"case 'b01': the truth .* has the shape"):
        LoadImageRatersd(2)({**pictures, "truth": tmp_path / "truth.npy"})
    with pytest.raises(ValueError, match=r"case 'v01': the image .* 'spatial_dims' is 2"):
        LoadImageRatersd(2)(volumes)
    pictures["image"].write_bytes(pictures["image"].read_bytes()[:50])
    with pytest.raises(ValueError, match=r"case 'b01': the image .* cannot be decoded"):
        LoadImageRatersd(2)(pictures)
    with pytest.raises(ValueError, match="'spatial_dims' must be 2 or 3"):
        LoadImageRatersd(4)


@pytest.mark.parametrize("spatial", [(4, 5), (3, 4, 5)], ids=["2d", "3d"])
def test_padding_adds_missing_raters(spatial: tuple[int, ...]) -> None:
    ratings = MetaTensor(torch.ones(2, *spatial, dtype=torch.uint8), meta={"name": "x"})
    padded, mask = PadRaters(4)(ratings, torch.tensor([True, False]))
    assert padded.shape == (4, *spatial)
    assert padded.dtype == torch.uint8
    assert padded.meta["name"] == "x"
    assert mask.tolist() == [True, False, False, False]
    assert padded.as_tensor().flatten(1).sum(1).tolist() == [ratings[0].numel()] * 2 + [0, 0]


def test_padding_without_a_mask_and_without_need() -> None:
    sample = PadRatersd("ratings", 2)({"ratings": torch.ones(2, 3)})
    assert sample["rater_mask"].tolist() == [True, True]
    with pytest.raises(ValueError, match="3 raters do not fit"):
        PadRaters(2)(torch.ones(3, 4))
    with pytest.raises(ValueError, match="'rater_mask' must have the shape"):
        PadRaters(4)(torch.ones(3, 4), torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 1"):
        PadRaters(0)
