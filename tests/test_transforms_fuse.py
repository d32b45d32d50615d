# SPDX-License-Identifier: Apache-2.0
"""Fusion as a transform. References: the function it wraps, and closed forms for the size of voxels."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CastToTyped, Compose, RandFlipd, Resize, SpatialPadd
from PIL import Image
from scipy import ndimage

from monai_multirater.fusion import FUSIONS, fuse
from monai_multirater.transforms import FuseRaters, FuseRatersd, LoadImageRatersd, SoftConsensus, check_target

SPATIAL = {"2d": (9, 8), "3d": (6, 7, 5)}
MASKS = {
    "one": [True],
    "several": [True, True, True, True],
    "missing": [True, False, True, True],
    "one-present": [False, True],
}
OPTIONS = {"soft_gaussian": {"sigma": 1.5}}
METHODS = [name for name, method in FUSIONS.items() if not method.random and name != "weighted"]


def make_ratings(raters: int, spatial: tuple[int, ...]) -> torch.Tensor:
    """Noisy copies of a box, so that every method has something to find."""
    generator = torch.Generator().manual_seed(0)
    box = torch.zeros(raters, *spatial, dtype=torch.uint8)
    box[(slice(None), *[slice(1, size - 2) for size in spatial])] = 1
    return box ^ (torch.rand(box.shape, generator=generator) < 0.15).to(torch.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_the_consensus_is_the_probability_of_the_function(
    spatial: tuple[int, ...], mask: list[bool], method: str
) -> None:
    ratings, options = make_ratings(len(mask), spatial), OPTIONS.get(method, {})
    transform = FuseRatersd("ratings", method.replace("_", "-"), options=options)
    sample = {"ratings": ratings.float(), "rater_mask": torch.tensor(mask), "case": "b07"}
    result = transform(sample)
    assert result["consensus"].shape == (1, *spatial)
    assert result["consensus"].dtype == torch.float32
    assert torch.equal(result["consensus"], fuse(ratings, method, torch.tensor(mask), **options).probability)
    assert result["ratings"] is sample["ratings"]
    assert "consensus" not in sample


def test_without_a_rater_mask_all_are_present() -> None:
    ratings = make_ratings(3, (9, 8))
    assert torch.equal(FuseRaters("soft")(ratings), SoftConsensus()(ratings))


def test_keys_and_meta_data() -> None:
    ratings = MetaTensor(make_ratings(3, (9, 8)), affine=torch.diag(torch.tensor([2.0, 3, 1, 1])))
    sample = FuseRatersd("masks", "staple", consensus_key="truth")({"masks": ratings})
    assert isinstance(sample["truth"], MetaTensor)
    assert torch.equal(sample["truth"].affine, ratings.affine)
    assert FuseRatersd(allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        FuseRatersd()({"image": 1})


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.5)], ids=str)
def test_millimeters_are_read_from_the_affine(spacing: tuple[float, ...]) -> None:
    """Against SciPy: a blur by 1.2 mm is one by 1.2 / spacing voxels along each axis, also where axes are turned."""
    mask = make_ratings(1, (16, 18, 14))
    turned = torch.zeros(4, 4, dtype=torch.float64)
    for axis, (row, size) in enumerate(zip((1, 2, 0), spacing, strict=True)):
        turned[row, axis] = -size if axis == 1 else size
    turned[3, 3] = 1
    ratings = MetaTensor(mask, affine=turned)
    found = FuseRaters("soft_gaussian", options={"sigma": 1.2, "unit": "mm"})(ratings)
    sigmas = [1.2 / size for size in spacing]
    expected = ndimage.gaussian_filter(mask[0].double().numpy(), sigmas, mode="nearest", truncate=4)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6)
    in_voxels = fuse(mask, "soft_gaussian", sigma=1.2, unit="mm", spacing=spacing).probability
    torch.testing.assert_close(found.as_tensor(), in_voxels)


def test_millimeters_follow_a_file_and_its_resizing(tmp_path) -> None:
    mask = make_ratings(1, (12, 10, 8))[0].numpy()
    for name in ("image", "mask"):
        nib.save(nib.Nifti1Image(mask, np.diag([2.0, 1.0, 3.0, 1.0])), tmp_path / f"{name}.nii.gz")
    files = {"case": "c", "image": str(tmp_path / "image.nii.gz"), "ratings": (str(tmp_path / "mask.nii.gz"),)}
    sample = LoadImageRatersd(3, raters=["A"])(files)
    options = {"sigma": 2.0, "unit": "mm"}
    smaller = Resize((6, 10, 4), mode="nearest")(sample["ratings"])
    for ratings, spacing in ((sample["ratings"], (2.0, 1.0, 3.0)), (smaller, (4.0, 1.0, 6.0))):
        found = FuseRaters("soft_gaussian", options=options)(ratings).as_tensor()
        plain = ratings.as_tensor().to(torch.uint8)
        torch.testing.assert_close(found, fuse(plain, "soft_gaussian", spacing=spacing, **options).probability)


@pytest.mark.parametrize("resized", [False, True], ids=["as-read", "resized"])
def test_millimeters_of_a_picture_are_unknown(resized: bool, tmp_path) -> None:
    mask = make_ratings(1, (12, 10))[0].numpy()
    for name in ("image", "mask"):
        Image.fromarray(mask * 255).save(tmp_path / f"{name}.png")
    files = {"case": "b07", "image": str(tmp_path / "image.png"), "ratings": (str(tmp_path / "mask.png"),)}
    sample = LoadImageRatersd(raters=["A"])(files)
    if resized:
        sample["ratings"] = Resize((6, 5), mode="nearest")(sample["ratings"])
    with pytest.raises(ValueError, match=r"FuseRatersd: case 'b07': .*spacing"):
        FuseRatersd("ratings", "soft_gaussian", options={"sigma": 2.0, "unit": "mm"})(sample)
    FuseRatersd("ratings", "soft_gaussian", options={"sigma": 2.0, "unit": "voxels"})(sample)


def test_errors_name_the_case() -> None:
    sample = {"case": "b07", "ratings": make_ratings(2, (4, 4)), "rater_mask": torch.zeros(2, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"FuseRatersd: case 'b07': "):
        FuseRatersd("ratings", "staple")(sample)
    with pytest.raises(ValueError, match=r"case 'b07': FuseRaters: ratings must be 0 or 1"):
        FuseRatersd("ratings", "soft")({"case": "b07", "ratings": torch.full((2, 3, 3), 0.5)})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("median", {}, "method must be one of .*staple.* Got 'median'"),
        ("random", {}, "method 'random' draws anew at every call; use RandSelectRaterd"),
        ("staple", {"sigma": 1.0, "radius": 2}, "staple does not have the option radius, sigma. It has"),
        ("soft", {"sigma": 1.0}, "soft does not have the option sigma. It has no options"),
    ],
    ids=["method", "random", "options", "no-options"],
)
def test_unknown_choices_are_refused_at_once(method: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FuseRaters(method, options=options)
    with pytest.raises(ValueError, match=message):
        FuseRatersd("ratings", method, options=options)


def test_the_same_in_compose() -> None:
    sample = {"ratings": make_ratings(4, (9, 8)), "rater_mask": torch.ones(4, dtype=torch.bool)}
    results = [Compose([FuseRatersd(method="staple")]).set_random_state(seed)(sample)["consensus"] for seed in (0, 1)]
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("objective", "target", "others", "message"),
    [
        ("soft", "staple", {}, "Got target 'staple' with {} for objective 'soft', random_rater False"),
        ("consensus", "votes", {}, "Got target 'votes' with {} for objective 'consensus'"),
        ("soft", "votes", {"target_options": {"sigma": 1}}, "Got target 'votes' with {'sigma': 1}"),
        ("consensus", "staple", {"random_rater": True}, "random_rater True"),
        ("consensus", "median", {}, "method must be one of .*Got 'median'"),
        ("consensus", "random", {}, "use RandSelectRaterd"),
        ("consensus", "svls", {"target_options": {"sigma": -1.0}}, "sigma"),
        ("consensus", "majority", {"target_options": {"ties": "random"}}, "generator"),
        (
            "consensus",
            "soft",
            {"augment": [SpatialPadd(["image", "votes"], (4, 4)), RandFlipd("votes"), RandFlipd("image")]},
            "must move 'consensus' with 'votes'. Only votes: SpatialPadd, RandFlipd",
        ),
    ],
    ids=["objective", "votes", "no-fusion", "one-rater", "method", "random", "value", "coin", "augment"],
)
def test_a_target_that_does_not_fit_is_refused(objective: str, target: str, others: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_target(objective, target, raters=3, **others)


@pytest.mark.parametrize("raters", [1, 2, 5, 20])
@pytest.mark.parametrize("target", METHODS)
def test_a_target_that_fits_is_accepted(target: str, raters: int) -> None:
    augment = [RandFlipd(["image", "votes", "consensus"]), CastToTyped("votes", torch.uint8)]
    check_target("consensus", target, raters=raters, target_options=OPTIONS.get(target), augment=augment)
    check_target("soft", "votes", raters=raters, random_rater=True, augment=[RandFlipd(["image", "votes"])])
