# SPDX-License-Identifier: Apache-2.0
"""MONAI's stock spatial transforms move image, ratings, votes and truth together.

Every key holds the same asymmetric content, so after any transform with nearest-neighbor interpolation the
keys must still be equal voxel by voxel.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai import transforms as mt
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from test_transforms_masks import OBLIQUE, corner_mask

from monai_multirater.transforms import OrdinalConsensusd, RandSelectRaterd, StackRatersd

KEYS = ("image", "ratings", "truth")
RATERS = 3


def sample(dims: int) -> dict:
    """Image, truth and two of three raters with the same content, affine included."""
    shape = (18, 25, 21)[:dims]
    content = corner_mask(*shape)
    image = MetaTensor(torch.from_numpy(content)[None].float(), affine=torch.from_numpy(OBLIQUE))
    stacked = StackRatersd()({"case": "a", "image": image, "ratings": [content, None, content]})
    return {**stacked, "truth": image.clone()}


TRANSFORMS: dict[str, Callable[[int], mt.Transform]] = {
    "flip": lambda dims: mt.RandFlipd(KEYS, prob=1.0, spatial_axis=1),
    "axis-flip": lambda dims: mt.RandAxisFlipd(KEYS, prob=1.0),
    "rotate90": lambda dims: mt.RandRotate90d(KEYS, prob=1.0, max_k=3),
    "rotate": lambda dims: mt.RandRotated(KEYS, range_x=0.8, prob=1.0, mode="nearest", padding_mode="zeros"),
    "zoom": lambda dims: mt.RandZoomd(KEYS, prob=1.0, min_zoom=0.7, max_zoom=1.4, mode="nearest"),
    "affine": lambda dims: mt.RandAffined(
        KEYS,
        prob=1.0,
        rotate_range=0.6,
        scale_range=0.2,
        translate_range=3,
        mode="nearest",
        padding_mode="reflection",
    ),
    "resize": lambda dims: mt.Resized(KEYS, spatial_size=(11, 32, 17)[:dims], mode="nearest"),
    "orientation": lambda dims: mt.Orientationd(KEYS, axcodes="LPS"[:dims], labels=None),
    "pad": lambda dims: mt.SpatialPadd(KEYS, spatial_size=(30,) * dims),
    "crop": lambda dims: mt.RandSpatialCropd(KEYS, roi_size=(9,) * dims, random_size=False),
    "foreground-crop": lambda dims: mt.CropForegroundd(KEYS, source_key="image", margin=2),
    "elastic": lambda dims: {
        2: mt.Rand2DElasticd(KEYS, spacing=(8, 8), magnitude_range=(1, 3), prob=1.0, mode="nearest"),
        3: mt.Rand3DElasticd(KEYS, sigma_range=(2, 3), magnitude_range=(20, 60), prob=1.0, mode="nearest"),
    }[dims],
}


def assert_together(result: dict) -> None:
    image = result["image"].as_tensor()
    for key in KEYS:
        content = result[key].as_tensor()
        assert content.shape[1:] == image.shape[1:], key
        present = content[result["rater_mask"]] if key == "ratings" else content
        assert torch.equal(present.float(), image.float().expand_as(present)), key
        torch.testing.assert_close(result[key].affine, result["image"].affine)
    assert not result["ratings"][1].any()


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_keys_move_together(name: str, dims: int) -> None:
    transform = TRANSFORMS[name](dims)
    if isinstance(transform, mt.Randomizable):
        transform.set_random_state(3)
    before = sample(dims)
    after = transform(before)
    assert_together(after)
    moved = after["image"].shape != before["image"].shape or not torch.equal(
        after["image"].as_tensor(), before["image"].as_tensor()
    )
    assert moved


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
def test_votes_before_and_after_augmentation_agree(dims: int) -> None:
    augment = mt.Compose([TRANSFORMS[name](dims) for name in ("flip", "rotate90", "affine")])
    first = augment.set_random_state(5)(sample(dims))
    late = OrdinalConsensusd()(first)["votes"]
    early = OrdinalConsensusd()(sample(dims))
    keys = (*KEYS, "votes")
    for transform in augment.transforms:
        transform.keys = keys
        transform.mode = getattr(transform, "mode", None) and [transform.mode[0]] * 4
        transform.padding_mode = getattr(transform, "padding_mode", None) and [transform.padding_mode[0]] * 4
    moved = augment.set_random_state(5)(early)["votes"]
    assert moved.max() == 2
    assert torch.equal(late.as_tensor(), moved.as_tensor().to(torch.uint8))


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
def test_crops_around_foreground_keep_the_keys_together(dims: int) -> None:
    counted = OrdinalConsensusd()(sample(dims))
    crop = mt.RandCropByPosNegLabeld((*KEYS, "votes"), label_key="votes", spatial_size=(8,) * dims, num_samples=3)
    for patch in crop.set_random_state(0)(counted):
        assert_together(patch)
        assert torch.equal(patch["votes"].as_tensor().float(), 2 * patch["image"].as_tensor())


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
def test_invert_brings_predictions_back(dims: int) -> None:
    pre = mt.Compose([TRANSFORMS["resize"](dims), TRANSFORMS["flip"](dims)]).set_random_state(0)
    counted = OrdinalConsensusd()(pre(sample(dims)))
    batch = next(iter(DataLoader(Dataset([counted]), batch_size=1)))
    batch["pred"] = batch["votes"].clone()
    invert = mt.Invertd("pred", pre, orig_keys="image", nearest_interp=True)
    restored = invert(decollate_batch(batch)[0])
    assert restored["pred"].shape == sample(dims)["image"].shape
    torch.testing.assert_close(restored["pred"].affine, sample(dims)["image"].affine)


def test_random_rater_in_a_loader_draws_every_rater_present() -> None:
    transform = mt.Compose([RandSelectRaterd(), OrdinalConsensusd()]).set_random_state(0)
    loader = DataLoader(Dataset([sample(2) for _ in range(12)], transform), batch_size=4)
    batches = list(loader)
    assert {int(index) for batch in batches for index in batch["rater_index"]} == {0, 2}
    for batch in batches:
        assert batch["n_raters"].tolist() == [1] * 4
        assert torch.equal(batch["votes"].as_tensor(), batch["image"].as_tensor().to(torch.uint8))


def test_bilinear_ratings_are_refused() -> None:
    interpolated = mt.Resized("ratings", spatial_size=(11, 13), mode="bilinear")(sample(2))
    with pytest.raises(ValueError, match="mode='nearest'"):
        OrdinalConsensusd()(interpolated)


def test_affine_of_stacked_ratings_is_used_by_spacing() -> None:
    moved = mt.Spacingd(KEYS, pixdim=(1.5, 1.5, 1.5), mode="nearest")(sample(3))
    assert_together(moved)
    assert np.allclose(moved["ratings"].pixdim, 1.5)
