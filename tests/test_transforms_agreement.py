# SPDX-License-Identifier: Apache-2.0
"""Agreement on the sample. References: scikit-learn, statsmodels, medpy, torch's and Pillow's resizing, by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from medpy.metric.binary import hd
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, RandFlipd
from PIL import Image
from sklearn.metrics import cohen_kappa_score, f1_score, jaccard_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from monai_multirater import agreement
from monai_multirater.transforms import AGREEMENT_SCORES, AgreementScore, AgreementScored

SPATIAL = {"2d": (9, 8), "3d": (6, 7, 5)}
MASKS = {"several": [True] * 4, "missing": [True, False, True, True], "one": [True], "one-present": [False, True]}
PAIRS = {"dice": f1_score, "iou": jaccard_score, "kappa": cohen_kappa_score}
OPTIONS = {"surface_dice": {"tolerance": 1.0}}


def make_ratings(raters: int, spatial: tuple[int, ...]) -> torch.Tensor:
    """Noisy copies of a box."""
    generator = torch.Generator().manual_seed(0)
    box = torch.zeros(raters, *spatial, dtype=torch.uint8)
    box[(slice(None), *[slice(1, size - 2) for size in spatial])] = 1
    return box ^ (torch.rand(box.shape, generator=generator) < 0.15).to(torch.uint8)


@pytest.mark.parametrize("measure", PAIRS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_mean_over_pairs_equals_scikit_learn(spatial: tuple[int, ...], mask: list[bool], measure: str) -> None:
    ratings = make_ratings(len(mask), spatial)
    sample = {"ratings": ratings.float(), "rater_mask": torch.tensor(mask), "case": "b07"}
    result = AgreementScored("ratings", measure)(sample)
    here = ratings[torch.tensor(mask)].flatten(1).numpy()
    pairs = [PAIRS[measure](a, b) for a, b in itertools.combinations(here, 2)]
    assert result["agreement"].item() == pytest.approx(np.mean(pairs) if pairs else math.nan, rel=1e-6, nan_ok=True)
    assert (result["agreement"].dtype, result["agreement"].ndim) == (torch.float32, 0)
    assert result["ratings"] is sample["ratings"]
    assert "agreement" not in sample


def test_fleiss_kappa_equals_statsmodels() -> None:
    ratings = make_ratings(5, (9, 8))
    expected = fleiss_kappa(aggregate_raters(ratings.flatten(1).T.numpy(), n_cat=2)[0])
    assert AgreementScore("fleiss_kappa")(ratings).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("measure", AGREEMENT_SCORES)
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_equal_masks_agree_perfectly(spatial: tuple[int, ...], measure: str) -> None:
    """Closed form: the best value of the table of measures; and a rater alone has none."""
    score = AgreementScore(measure, options=OPTIONS.get(measure))
    assert score(make_ratings(1, spatial).repeat_interleave(3, 0)).item() == agreement.measures.MEASURES[measure].best
    assert score(make_ratings(1, spatial)).isnan()


def test_distances_equal_medpy_and_follow_the_affine() -> None:
    ratings = make_ratings(3, (14, 12))
    planes = ratings.numpy()
    spacing = (2.0, 0.5)
    for unit, size in (("voxels", None), ("mm", spacing)):
        expected = np.mean([hd(a, b, size) for a, b in itertools.combinations(planes, 2)])
        affine = torch.diag(torch.tensor([*spacing, 1.0, 1.0], dtype=torch.float64))
        found = AgreementScore("hausdorff", unit=unit)(MetaTensor(ratings, affine=affine))
        assert found.item() == pytest.approx(expected, rel=1e-6)


def test_millimeters_follow_the_new_size() -> None:
    """Two boxes one of which is 4 voxels of 2 mm longer: 8 mm, also on a grid with half the voxels along that axis."""
    ratings = torch.zeros(2, 24, 10, dtype=torch.uint8)
    ratings[0, 4:12, 2:8] = 1
    ratings[1, 4:16, 2:8] = 1
    image = MetaTensor(ratings, affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64)))
    assert AgreementScore("hausdorff", unit="mm")(image) == 8
    assert AgreementScore("hausdorff", unit="mm", size=(12, 10))(image) == 8
    assert AgreementScore("hausdorff", size=(12, 10))(image) == 2


def test_millimeters_of_plain_ratings_are_unknown() -> None:
    with pytest.raises(ValueError, match="case 'b07': AgreementScore: unit 'mm' needs the size of voxels"):
        AgreementScored(measure="assd", unit="mm")({"ratings": make_ratings(2, (5, 5)), "case": "b07"})


@pytest.mark.parametrize("size", [(256, 256), (5, 7), (9, 8), (64, 3)], ids=str)
def test_resampling_equals_torch_and_pillow(size: tuple[int, int]) -> None:
    """Mean pairwise Dice by scikit-learn of masks resized by torch's ``nearest-exact`` and by Pillow's NEAREST."""
    ratings = make_ratings(3, (37, 21))
    by_torch = torch.nn.functional.interpolate(ratings[None].float(), size, mode="nearest-exact")[0].numpy()
    by_pillow = [
        np.asarray(Image.fromarray(mask.numpy()).resize(size[::-1], Image.Resampling.NEAREST)) for mask in ratings
    ]
    found = AgreementScore(size=size)(ratings).item()
    for masks in (by_torch, by_pillow):
        pairs = itertools.combinations([np.asarray(mask).ravel() for mask in masks], 2)
        assert found == pytest.approx(np.mean([f1_score(a, b) for a, b in pairs]), rel=1e-6)


def test_resampling_a_volume_equals_torch() -> None:
    ratings, size = make_ratings(2, (6, 7, 5)), (4, 9, 10)
    resized = torch.nn.functional.interpolate(ratings[None].float(), size, mode="nearest-exact")[0]
    assert torch.equal(AgreementScore("iou", size=size)(ratings), AgreementScore("iou")(resized))


def test_keys_and_collation() -> None:
    samples = [{"masks": make_ratings(r, (4, 4))} for r in (2, 5)]
    found = [AgreementScored("masks", agreement_key="iaa")(sample) for sample in samples]
    batch = list_data_collate([{"iaa": sample["iaa"]} for sample in found])["iaa"]
    assert batch.tolist() == [AgreementScore()(sample["masks"]).item() for sample in samples]
    assert batch.dtype == torch.float32
    assert AgreementScored(allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        AgreementScored()({"image": 1})


def test_moving_all_masks_alike_changes_nothing() -> None:
    sample = {"ratings": make_ratings(4, (9, 8))}
    flipped = Compose([RandFlipd("ratings", prob=1.0, spatial_axis=0), AgreementScored()])(sample)["agreement"]
    assert flipped == AgreementScore()(sample["ratings"])


def test_errors_name_the_case() -> None:
    sample = {"case": "b07", "ratings": make_ratings(2, (4, 4)), "rater_mask": torch.zeros(2, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"AgreementScored: case 'b07': .*at least one rater"):
        AgreementScored()(sample)
    with pytest.raises(ValueError, match=r"case 'b07': AgreementScore: ratings must be 0 or 1"):
        AgreementScored()({"case": "b07", "ratings": torch.full((2, 3, 3), 0.5)})
    with pytest.raises(ValueError, match=r"size must have 3 axes. Got \(4, 4\)"):
        AgreementScore(size=(4, 4))(make_ratings(2, (3, 3, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measure": "overlap"}, "measure must be one of dice, iou, .*Got 'overlap'"),
        ({"unit": "cm"}, "unit must be 'voxels' or 'mm'. Got 'cm'"),
        ({"size": (256, 0)}, r"size must hold positive whole numbers. Got \(256, 0\)"),
        ({"options": {"tolerance": 1}}, "dice does not have the option tolerance. It has no options"),
        ({"measure": "surface_dice"}, "surface_dice needs the option tolerance"),
        ({"measure": "hausdorff95", "options": {"percentile": 90}}, "hausdorff95 does not have the option percentile"),
    ],
    ids=["measure", "unit", "size", "option", "missing", "fixed"],
)
def test_unknown_choices_are_refused_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgreementScore(**arguments)
    with pytest.raises(ValueError, match=message):
        AgreementScored("ratings", **arguments)
