# SPDX-License-Identifier: Apache-2.0
"""The registry: every method by name, with the numbers of its own function and the properties that methods share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fusion_cases import disagreeing_raters
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_multirater import fusion
from monai_multirater.fusion import FUSIONS, FusionResult, fuse, fusion_method

DETERMINISTIC = [name for name, method in FUSIONS.items() if not method.random]
COUNTING = ["majority", "union", "intersection", "soft", "weighted", "simple"]
MONOTONE = ["majority", "union", "intersection", "soft", "soft_gaussian", "svls", "weighted"]
ITERATIVE = {"staple": {"max_iterations": 200}, "dawid_skene": {"max_iterations": 200}}


def options_of(name: str, raters: int) -> dict[str, Any]:
    return {"weights": [1.0] * raters} if name == "weighted" else dict(ITERATIVE.get(name, {}))


def run(name: str, ratings: Tensor, mask: Tensor | None = None, **options: Any) -> FusionResult:
    raters = ratings.shape[0] if mask is None or mask.ndim == 1 else ratings.shape[1]
    return fuse(ratings, name, mask, **{**options_of(name, raters), **options})


@st.composite
def cases(draw: st.DrawFn, max_raters: int = 6) -> Tensor:
    """Ratings that resemble each other, in 2D and 3D, one rater included."""
    raters = draw(st.integers(1, max_raters))
    spatial = draw(st.sampled_from([(9, 11), (7, 6), (4, 5, 6)]))
    noise = draw(st.sampled_from([0.0, 0.03, 0.12]))
    return disagreeing_raters(raters, spatial, seed=draw(st.integers(0, 10_000)), noise=noise)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "majority": fusion.majority,
    "union": fusion.union,
    "intersection": fusion.intersection,
    "soft": fusion.soft_consensus,
    "soft_gaussian": fusion.soft_gaussian,
    "svls": fusion.svls,
    "staple": lambda ratings: fusion.staple(ratings).probability,
    "simple": lambda ratings: fusion.simple(ratings).consensus,
    "dawid_skene": lambda ratings: fusion.dawid_skene(ratings).probability[1:],
    "weighted": lambda ratings: fusion.weighted_vote(ratings, [3, 1, 1, 0, 2]),
}


@pytest.mark.parametrize("spatial", [(20, 18), (9, 8, 10)], ids=["2D", "3D"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_name_gives_the_numbers_of_its_function(name: str, spatial: tuple[int, ...]) -> None:
    ratings = disagreeing_raters(5, spatial, seed=3)
    found = fuse(ratings, name.replace("_", "-"), **({"weights": [3, 1, 1, 0, 2]} if name == "weighted" else {}))
    assert found.method == name
    assert found.probability.dtype == torch.float32
    assert found.probability.shape == (1, *spatial)
    assert torch.allclose(found.probability, FUNCTIONS[name](ratings).float(), rtol=0, atol=1e-7)
    assert torch.equal(found.consensus, (found.probability > 0.5).to(torch.uint8))


@pytest.mark.parametrize("name", ["majority", "union", "intersection", "simple"])
def test_sensitivity_and_specificity_against_simpleitk(name: str) -> None:
    """For a hard consensus: SimpleITK's overlap measures (false negative error = 1 - sensitivity)."""
    ratings = disagreeing_raters(4, (20, 22), seed=9)
    found = run(name, ratings)
    for r, plane in enumerate(ratings.numpy()):
        measure = sitk.LabelOverlapMeasuresImageFilter()
        measure.Execute(*(sitk.GetImageFromArray(mask) for mask in (plane, found.consensus[0].numpy())))
        assert found.sensitivity[r].item() == pytest.approx(1 - measure.GetFalseNegativeError(1), abs=1e-12)
        inverse = sitk.LabelOverlapMeasuresImageFilter()
        inverse.Execute(*(sitk.GetImageFromArray(1 - mask) for mask in (plane, found.consensus[0].numpy())))
        assert found.specificity[r].item() == pytest.approx(1 - inverse.GetFalseNegativeError(1), abs=1e-12)


@pytest.mark.parametrize("name", ["soft", "soft_gaussian", "svls", "weighted"])
def test_sensitivity_and_specificity_against_sums_over_voxels(name: str) -> None:
    ratings = disagreeing_raters(4, (20, 22), seed=9)
    found = run(name, ratings)
    probability, planes = found.probability[0].double(), ratings.double()
    sensitivity = (probability * planes).sum((1, 2)) / probability.sum()
    specificity = ((1 - probability) * (1 - planes)).sum((1, 2)) / (1 - probability).sum()
    assert torch.allclose(found.sensitivity, sensitivity, rtol=0, atol=1e-12)
    assert torch.allclose(found.specificity, specificity, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", DETERMINISTIC)
@settings(max_examples=15, deadline=None)
@given(ratings=cases(), seed=st.integers(0, 1000))
def test_permuting_raters_permutes_their_results_and_changes_no_consensus(
    name: str, ratings: Tensor, seed: int
) -> None:
    order = torch.randperm(len(ratings), generator=torch.Generator().manual_seed(seed))
    found, permuted = run(name, ratings), run(name, ratings[order])
    assert torch.allclose(permuted.probability, found.probability, rtol=0, atol=2e-5)
    for entry in ("sensitivity", "specificity", "weights"):
        before, after = getattr(found, entry)[order], getattr(permuted, entry)
        assert torch.allclose(after, before, rtol=0, atol=2e-5, equal_nan=True), entry
    assert torch.equal(permuted.dropped, found.dropped[order])


@pytest.mark.parametrize("name", DETERMINISTIC)
@settings(max_examples=15, deadline=None)
@given(ratings=cases(), data=st.data())
def test_a_missing_rater_is_an_absent_rater(name: str, ratings: Tensor, data: st.DataObject) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=len(ratings), max_size=len(ratings)).filter(any))
    mask = torch.tensor(flags)
    damaged = ratings.clone()
    damaged[~mask] = 1
    found, expected = run(name, damaged, mask), run(name, ratings[mask])
    assert torch.allclose(found.probability, expected.probability, rtol=0, atol=1e-6)
    for entry in ("sensitivity", "specificity", "weights", "dropped"):
        value, other = getattr(found, entry), getattr(expected, entry)
        assert torch.allclose(value[mask].double(), other.double(), rtol=0, atol=1e-9, equal_nan=True), entry
    assert found.sensitivity[~mask].isnan().all()
    assert (found.weights[~mask] == 0).all()
    assert found.iterations == expected.iterations


@pytest.mark.parametrize("name", DETERMINISTIC)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), raters=st.sampled_from([1, 4, 8, 9, 17]), noise=st.sampled_from([0.0, 0.05]))
def test_a_batch_is_its_cases(name: str, seed: int, raters: int, noise: float) -> None:
    ratings = torch.stack([disagreeing_raters(raters, (8, 9), seed=seed + i, noise=noise) for i in range(3)])
    found = fuse(ratings, name, batched=True, **options_of(name, raters))
    assert found.probability.shape == (3, 1, 8, 9)
    for case in range(3):
        single = run(name, ratings[case])
        assert torch.allclose(found.probability[case], single.probability, rtol=0, atol=1e-6)
        assert torch.allclose(found.sensitivity[case], single.sensitivity, rtol=0, atol=1e-9, equal_nan=True)
        assert int(found.iterations[case]) == single.iterations  # type: ignore[index]
        assert bool(found.converged[case]) == single.converged  # type: ignore[index]


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("raters", [3, 9, 17])
def test_chunked_is_whole(name: str, raters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = disagreeing_raters(raters, (11, 12, 13), seed=2)
    whole = run(name, ratings)
    for module in ("votes.counting", "votes.table", "votes.batches", "fusion.registry"):
        monkeypatch.setattr(f"monai_multirater.{module}.block_size", lambda _: 100)
    chunked = run(name, ratings)
    assert torch.equal(chunked.probability, whole.probability)
    assert torch.allclose(chunked.sensitivity, whole.sensitivity, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if name != "svls"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_2d_is_3d_with_one_slice(name: str, seed: int) -> None:
    """All but SVLS, whose 3D kernel gives weight to the repeated slice above and below."""
    ratings = disagreeing_raters(4, (9, 10), seed=seed, noise=0.05)
    flat, solid = run(name, ratings), run(name, ratings[..., None])
    assert torch.allclose(solid.probability[..., 0], flat.probability, rtol=0, atol=1e-6)
    assert torch.allclose(solid.sensitivity, flat.sensitivity, rtol=0, atol=1e-6, equal_nan=True)


def test_svls_of_one_slice_weights_the_repeated_slices_too() -> None:
    """Closed form with sigma 1: of the neighbors' weight, the voxel's own value above and below takes 2e/(sum)."""
    point = torch.zeros(1, 7, 7, 1, dtype=torch.uint8)
    point[0, 3, 3, 0] = 1
    side, total = np.exp(-0.5), (1 + 2 * np.exp(-0.5)) ** 3 - 1
    assert fusion.svls(point)[0, 3, 3, 0].item() == pytest.approx(0.5 + 0.5 * 2 * side / total, abs=1e-6)


@pytest.mark.parametrize("name", COUNTING)
@settings(max_examples=20, deadline=None)
@given(ratings=cases())
def test_unanimous_voxels_keep_their_label(name: str, ratings: Tensor) -> None:
    consensus = run(name, ratings).consensus[0]
    votes = ratings.sum(0)
    assert (consensus[votes == 0] == 0).all()
    assert (consensus[votes == len(ratings)] == 1).all()


@pytest.mark.parametrize("name", ["staple", "dawid_skene"])
@pytest.mark.parametrize("raters", [3, 4, 7])
def test_unanimous_voxels_keep_their_label_where_raters_are_estimated(name: str, raters: int) -> None:
    for seed in range(20):
        ratings = disagreeing_raters(raters, (20, 22), seed=seed)
        consensus, votes = run(name, ratings).consensus[0], ratings.sum(0)
        assert (consensus[votes == 0] == 0).all()
        assert (consensus[votes == raters] == 1).all()


@pytest.mark.parametrize("name", ["staple", "dawid_skene"])
@settings(max_examples=30, deadline=None)
@given(ratings=cases())
@pytest.mark.filterwarnings("ignore:staple")
def test_unanimity_is_most_probable_among_raters_better_than_chance(name: str, ratings: Tensor) -> None:
    """With p > 1 - q for every rater, each vote for foreground raises the odds; contradicting raters can break it."""
    found = run(name, ratings)
    assume(bool((found.sensitivity + found.specificity > 1).all()))
    probability, votes = found.probability[0], ratings.sum(0)
    if (votes == len(ratings)).any():
        assert (probability <= probability[votes == len(ratings)][0]).all()
    if (votes == 0).any():
        assert (probability >= probability[votes == 0][0]).all()


@pytest.mark.parametrize("name", MONOTONE)
@settings(max_examples=20, deadline=None)
@given(ratings=cases(), data=st.data())
def test_another_vote_for_foreground_never_lowers_a_probability(
    name: str, ratings: Tensor, data: st.DataObject
) -> None:
    votes = ratings.clone()
    absent = (votes == 0).nonzero()
    if len(absent):
        where = absent[data.draw(st.integers(0, len(absent) - 1))]
        votes[tuple(where)] = 1
    assert (run(name, votes).probability >= run(name, ratings).probability - 1e-6).all()


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if name not in ("staple", "dawid_skene")])
@settings(max_examples=10, deadline=None)
@given(ratings=cases())
def test_an_empty_margin_changes_nothing(name: str, ratings: Tensor) -> None:
    """All but the two methods with a prior; smoothing reaches out, so the rim of the image is empty before."""
    ratings = torch.nn.functional.pad(ratings, [9] * (2 * (ratings.ndim - 1)))
    wide = torch.nn.functional.pad(ratings, [3] * (2 * (ratings.ndim - 1)))
    inner = (slice(None), *(slice(3, -3),) * (ratings.ndim - 1))
    assert torch.allclose(run(name, wide).probability[inner], run(name, ratings).probability, rtol=0, atol=1e-6)
    assert run(name, wide).probability.sum().item() == pytest.approx(
        run(name, ratings).probability.sum().item(), abs=1e-3
    )


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.filterwarnings("ignore:staple")
def test_empty_masks_give_an_empty_consensus(name: str) -> None:
    found = run(name, torch.zeros(3, 6, 7, dtype=torch.uint8))
    assert not found.probability.any()
    assert found.sensitivity.isnan().all()
    assert (found.specificity == 1).all()


@pytest.mark.parametrize("name", [*COUNTING, "staple"])
@pytest.mark.filterwarnings("ignore:staple")
def test_filled_masks_give_a_filled_consensus(name: str) -> None:
    """Weights that do not sum to 1 in binary must not leave a trace of background either."""
    options = {"weights": [0.1, 0.2, 0.7]} if name == "weighted" else {}
    found = fuse(torch.ones(3, 6, 7, dtype=torch.uint8), name, **options)
    assert (found.probability == 1).all()
    assert (found.sensitivity == 1).all()
    assert found.specificity.isnan().all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_all_integer_types_give_the_same(name: str, dtype: torch.dtype) -> None:
    ratings = disagreeing_raters(4)
    assert torch.equal(run(name, ratings.to(dtype)).probability, run(name, ratings).probability)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_strided_ratings_give_the_same(name: str) -> None:
    ratings = disagreeing_raters(4, (9, 10, 11))
    strided = ratings.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(run(name, strided).probability, run(name, ratings).probability)


def test_random_draws_every_rater_present_equally_often_and_repeats_with_its_generator() -> None:
    ratings = torch.eye(4, dtype=torch.uint8).reshape(4, 2, 2)
    mask = torch.tensor([True, False, True, True])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([fuse(ratings, "random", mask, generator=generator).weights for _ in range(600)])
    counts = drawn.sum(0).tolist()
    assert counts[1] == 0
    assert all(abs(count - 200) < 5 * (600 * 2 / 9) ** 0.5 for count in (counts[0], *counts[2:]))
    again = [fuse(ratings, "random", mask, generator=torch.Generator().manual_seed(7)).probability for _ in range(2)]
    assert torch.equal(*again)


def test_random_ties_are_fair_coins_on_ties_only() -> None:
    ratings = torch.zeros(2, 60, 60, dtype=torch.uint8)
    ratings[0, 10:50], ratings[1, 30:] = 1, 1
    found = fuse(ratings, "majority", ties="random", generator=torch.Generator().manual_seed(1))
    votes, labels = ratings.sum(0), found.consensus[0]
    assert (labels[votes == 2] == 1).all()
    assert (labels[votes == 0] == 0).all()
    tied = labels[votes == 1].float()
    assert abs(tied.mean().item() - 0.5) < 4 * 0.5 / len(tied) ** 0.5


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("stapel", {}, "method must be one of random, majority, .*weighted. Got 'stapel'"),
        ("staple", {"sigma": 1}, "staple does not have the option sigma. It has confidence_weight, region"),
        ("union", {"ties": "x"}, "union does not have the option ties. It has no options"),
        ("random", {}, "random draws at random and needs a generator. Got None"),
        ("majority", {"ties": "half"}, "ties must be 'background', 'foreground' or 'random'. Got 'half'"),
        ("majority", {"ties": "random"}, "ties='random' needs a generator"),
        ("weighted", {}, "weighted needs weights"),
        ("weighted", {"weights": [1, -1, 1]}, "weights must be 3 finite numbers >= 0"),
        ("weighted", {"weights": [1, 1]}, "weights must be 3 finite numbers"),
        ("weighted", {"weights": [0, 0, 0]}, "some weight"),
    ],
)
def test_bad_calls_are_named(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fuse(disagreeing_raters(3), method, **options)


@pytest.mark.parametrize(
    ("ratings", "mask", "error", "message"),
    [
        (torch.zeros(3, 4, 4), None, TypeError, "bool or integer masks. Got dtype torch.float32"),
        (torch.zeros(0, 4, 4, dtype=torch.uint8), None, ValueError, "1 to 64 raters"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), None, ValueError, "must have voxels"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.bool), ValueError, "at least one rater"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.ones(2, dtype=torch.bool), ValueError, "rater_mask must be"),
    ],
)
@pytest.mark.parametrize("name", ["soft", "staple", "simple", "svls"])
def test_bad_ratings_are_named(
    name: str, ratings: Tensor, mask: Tensor | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fuse(ratings, name, mask)


def test_methods_describe_themselves() -> None:
    assert fusion_method("soft-gaussian") is FUSIONS["soft_gaussian"]
    for name, method in FUSIONS.items():
        assert method.name == name
        assert method.summary


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("raters", [4, 9, 17])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_cuda_equals_cpu(name: str, raters: int) -> None:
    ratings = disagreeing_raters(raters, (12, 13, 14))
    found, expected = run(name, ratings.cuda()), run(name, ratings)
    assert found.probability.device.type == "cuda"
    assert torch.allclose(found.probability.cpu(), expected.probability, rtol=0, atol=1e-6)
    assert torch.allclose(found.sensitivity, expected.sensitivity, rtol=0, atol=1e-9, equal_nan=True)
