# SPDX-License-Identifier: Apache-2.0
"""Consensus, random raters and foreground maps as transforms. References: loops and the wrapped functions."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_multirater.ordinal import FAMILIES, foreground_probability, level_probabilities
from monai_multirater.transforms import (
    OrdinalConsensus,
    OrdinalConsensusd,
    OrdinalToForeground,
    OrdinalToForegroundd,
    RandSelectRater,
    RandSelectRaterd,
    SelectRater,
    SelectRaterd,
    SoftConsensus,
    SoftConsensusd,
)

SPATIAL = {"2d": (5, 6), "3d": (3, 4, 5)}
MASKS = {
    "one": [True],
    "several": [True, True, True, True],
    "missing": [True, False, True, False, True],
    "one-present": [False, True],
}


def make_ratings(raters: int, spatial: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (raters, *spatial), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bool, torch.int64], ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_votes_are_the_sum_over_raters_present(spatial: tuple[int, ...], mask: list[bool], dtype: torch.dtype) -> None:
    ratings = make_ratings(len(mask), spatial).to(dtype)
    votes, present = OrdinalConsensus()(ratings, torch.tensor(mask))
    expected = sum(ratings[r].int() for r in range(len(mask)) if mask[r])
    assert votes.shape == (1, *spatial)
    assert votes.dtype == torch.uint8
    assert torch.equal(votes[0].int(), expected)
    assert present.dtype == torch.int64
    assert present == sum(mask)
    soft = SoftConsensus()(ratings, torch.tensor(mask))
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft, votes / present)


def test_consensus_keeps_meta_data_and_ratings() -> None:
    ratings = MetaTensor(make_ratings(3, (4, 5)), affine=torch.diag(torch.tensor([2.0, 3, 1, 1])))
    sample = SoftConsensusd()(OrdinalConsensusd()({"ratings": ratings}))
    for key in ("votes", "soft"):
        assert torch.equal(sample[key].affine, ratings.affine)
    assert sample["ratings"] is ratings
    assert sample["n_raters"] == 3


@pytest.mark.parametrize("transform", [OrdinalConsensusd, SoftConsensusd, SelectRaterd, RandSelectRaterd])
def test_samples_without_ratings(transform: type) -> None:
    assert transform(allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        transform()({"image": 1})


def test_nobody_present_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one rater present"):
        OrdinalConsensus()(make_ratings(2, (3, 3)), torch.tensor([False, False]))


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, float("nan")])
def test_ratings_other_than_zero_and_one_are_refused(value: float) -> None:
    ratings = make_ratings(2, (3, 3)).float()
    ratings[1, 0, 0] = value
    for transform in (OrdinalConsensus(), SoftConsensus()):
        with pytest.raises(ValueError, match="ratings must be 0 or 1"):
            transform(ratings)


def test_select_rater() -> None:
    ratings = make_ratings(3, (4, 4))
    assert torch.equal(SelectRater(2)(ratings), ratings[2:])
    with pytest.raises(ValueError, match=r"'index' must be in 0\.\.2"):
        SelectRater(3)(ratings)
    sample = {"case": "b07", "ratings": ratings, "rater_mask": torch.tensor([True, False, True])}
    with pytest.raises(ValueError, match=r"case 'b07': .*rater 1 did not mark this case"):
        SelectRaterd("ratings", 1)(sample)
    chosen = OrdinalConsensusd()(SelectRaterd("ratings", 2)(sample))
    assert torch.equal(chosen["votes"], ratings[2:])
    assert chosen["n_raters"] == 1
    assert chosen["rater_mask"].tolist() == [True]
    assert sample["ratings"] is ratings


def draws(transform: RandSelectRaterd | Compose, mask: list[bool], count: int) -> list[int]:
    sample = {"ratings": make_ratings(len(mask), (2, 2)), "rater_mask": torch.tensor(mask)}
    return [transform(sample)["rater_index"] for _ in range(count)]


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: Compose([t])], ids=["alone", "in-compose"])
def test_random_rater_is_reproducible(wrap) -> None:
    mask = [True, True, False, True, True]
    first = draws(wrap(RandSelectRaterd()).set_random_state(11), mask, 50)
    again = draws(wrap(RandSelectRaterd()).set_random_state(11), mask, 50)
    other = draws(wrap(RandSelectRaterd()).set_random_state(12), mask, 50)
    assert first == again
    assert first != other


def test_random_rater_is_uniform_among_those_present() -> None:
    mask = [True, False, True, True]
    counts = np.bincount(draws(RandSelectRaterd().set_random_state(0), mask, 6000), minlength=4)
    assert counts[1] == 0
    chi_square = ((counts[[0, 2, 3]] - 2000) ** 2 / 2000).sum()
    assert chi_square < 13.8  # 0.999 quantile for two degrees of freedom


def test_random_rater_gives_the_plane_it_records() -> None:
    ratings = make_ratings(4, (3, 5))
    transform = RandSelectRater().set_random_state(1)
    plane = transform(ratings)
    assert torch.equal(plane, ratings[transform.index : transform.index + 1])
    assert torch.equal(transform(ratings, randomize=False), plane)
    with pytest.raises(ValueError, match="nothing was drawn"):
        RandSelectRater()(ratings, randomize=False)
    with pytest.raises(ValueError, match="no rater is present"):
        RandSelectRater()(ratings, torch.zeros(4, dtype=torch.bool))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_foreground_agrees_with_the_batch_functions(family: str, spatial: tuple[int, ...]) -> None:
    outputs = torch.randn(FAMILIES[family].channels(4), *spatial, generator=torch.Generator().manual_seed(0))
    levels = level_probabilities(outputs[None], family=family, raters=4)
    for rule, ties in (("expected", "background"), ("majority", "half"), ("majority", "foreground")):
        result = OrdinalToForeground(family, 4, rule=rule, ties=ties)(outputs)
        assert result.shape == (1, *spatial)
        torch.testing.assert_close(result, foreground_probability(levels, rule, ties=ties)[0])


def test_foreground_dictionary_keys_and_meta_data() -> None:
    outputs = MetaTensor(torch.randn(4, 5, 6), affine=torch.diag(torch.tensor([2.0, 3, 1, 1])))
    convert = OrdinalToForegroundd(
        "pred",
        "softmax",
        3,
        rule="expected",
        output_key="probability",
        levels_key="levels",
        entropy_key="entropy",
        variance_key="variance",
    )
    sample = convert({"pred": outputs})
    assert sample["pred"] is outputs
    shapes = {key: tuple(sample[key].shape) for key in ("probability", "levels", "entropy", "variance")}
    assert shapes == {
        "probability": (1, 5, 6),
        "levels": (4, 5, 6),
        "entropy": (1, 5, 6),
        "variance": (1, 5, 6),
    }
    for key in shapes:
        assert torch.equal(sample[key].affine, outputs.affine)
    k = torch.arange(4.0)
    p = torch.softmax(outputs.as_tensor(), 0)
    mean = torch.einsum("kxy,k->xy", p, k / 3)
    torch.testing.assert_close(sample["probability"][0].as_tensor(), mean)
    torch.testing.assert_close(sample["entropy"][0].as_tensor(), -(p * p.log()).sum(0))
    spread = torch.einsum("kxy,k->xy", p, (k / 3) ** 2) - mean**2
    torch.testing.assert_close(sample["variance"][0].as_tensor(), spread, atol=1e-6, rtol=1e-4)


def test_foreground_in_place_and_half_precision() -> None:
    sample = OrdinalToForegroundd("pred", "softmax", 3)({"pred": torch.randn(4, 5, 6).half()})
    assert sample["pred"].shape == (1, 5, 6)
    assert sample["pred"].dtype == torch.float32
    assert OrdinalToForegroundd("pred", "softmax", 3, allow_missing_keys=True)({}) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "nothing"}, "family must be one of"),
        ({"rule": "mean"}, "'rule' must be"),
        ({"ties": "coin"}, "ties must be one of"),
    ],
    ids=["family", "rule", "ties"],
)
def test_unknown_choices_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrdinalToForeground(**{"family": "softmax", "raters": 3, **options})
