# SPDX-License-Identifier: Apache-2.0
"""STAPLE against SimpleITK, which runs ITK's filter voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fusion_cases import disagreeing_raters
from torch import Tensor

from monai_multirater.fusion import StapleResult, staple


def itk_staple(ratings: Tensor, confidence_weight: float = 1.0, max_iterations: int | None = None) -> StapleResult:
    """Reference: SimpleITK's filter, as a result of ours."""
    reference = sitk.STAPLEImageFilter()
    reference.SetForegroundValue(1)
    reference.SetConfidenceWeight(confidence_weight)
    if max_iterations is not None:
        reference.SetMaximumIterations(max_iterations)
    image = reference.Execute([sitk.GetImageFromArray(plane.numpy()) for plane in ratings])
    return StapleResult(
        torch.from_numpy(sitk.GetArrayFromImage(image))[None],
        torch.tensor(reference.GetSensitivity(), dtype=torch.float64),
        torch.tensor(reference.GetSpecificity(), dtype=torch.float64),
        torch.tensor(float("nan")),
        reference.GetElapsedIterations(),
        True,
    )


def assert_same(found: StapleResult, expected: StapleResult) -> None:
    assert found.iterations == expected.iterations
    assert torch.allclose(found.probability.double(), expected.probability.double(), rtol=0, atol=1e-6)
    assert torch.allclose(found.sensitivity, expected.sensitivity, rtol=0, atol=1e-9)
    assert torch.allclose(found.specificity, expected.specificity, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spatial", [(40, 37), (12, 14, 11)], ids=["2D", "3D"])
@pytest.mark.parametrize("raters", [1, 2, 3, 4, 7, 9, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_and_iterations_are_those_of_simpleitk(raters: int, spatial: tuple[int, ...], seed: int) -> None:
    ratings = disagreeing_raters(raters, spatial, seed=seed)
    found = staple(ratings)
    assert_same(found, itk_staple(ratings))
    assert found.converged is True
    assert found.probability.dtype == torch.float32
    assert found.probability.shape == (1, *spatial)
    assert found.prior.shape == ()


@pytest.mark.parametrize("raters", [17, 20], ids=lambda r: f"{r} raters, more patterns than a table holds")
def test_many_raters_equal_simpleitk(raters: int) -> None:
    ratings = disagreeing_raters(raters, (24, 20))
    assert_same(staple(ratings), itk_staple(ratings))


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_equals_simpleitk(noise: float) -> None:
    ratings = disagreeing_raters(4, (30, 31), noise=noise, seed=5)
    assert_same(staple(ratings), itk_staple(ratings))


@pytest.mark.parametrize("weight", [0.3, 1.5])
def test_confidence_weight_scales_the_prior_as_in_simpleitk(weight: float) -> None:
    ratings = disagreeing_raters(4, seed=2)
    found = staple(ratings, confidence_weight=weight)
    assert_same(found, itk_staple(ratings, confidence_weight=weight))
    assert found.prior.item() == pytest.approx(weight * ratings.double().mean().item(), abs=1e-12)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_cap_on_iterations_is_that_of_simpleitk(iterations: int) -> None:
    ratings = disagreeing_raters(5, noise=0.2, seed=3)
    found = staple(ratings, max_iterations=iterations)
    assert_same(found, itk_staple(ratings, max_iterations=iterations))
    assert found.converged is False


def test_two_nested_raters_leave_their_difference_undecided() -> None:
    """Closed form: with p = (1, a) and q = (b, 1) every parameter fits equally well, and W stays at 1/2."""
    ratings = torch.zeros(2, 20, 20, dtype=torch.uint8)
    ratings[0, 4:16, 4:16], ratings[1, 7:13, 7:13] = 1, 1
    found = staple(ratings)
    assert_same(found, itk_staple(ratings))
    ring = (ratings[0] == 1) & (ratings[1] == 0)
    assert torch.allclose(found.probability[0][ring], torch.tensor(0.5), atol=1e-3)


def test_an_empty_rater_among_others_equals_simpleitk() -> None:
    ratings = disagreeing_raters(4, seed=4)
    ratings[2] = 0
    found = staple(ratings)
    assert_same(found, itk_staple(ratings))
    assert found.sensitivity[2] == 0
    assert found.specificity[2] == 1


@pytest.mark.parametrize(
    ("value", "name", "undefined", "defined"),
    [(0, "left empty", "sensitivity", "specificity"), (1, "filled", "specificity", "sensitivity")],
)
def test_unanimous_cases_where_itk_gives_nan(value: int, name: str, undefined: str, defined: str) -> None:
    ratings = torch.full((3, 8, 8), value, dtype=torch.uint8)
    assert itk_staple(ratings).probability.isnan().all()
    with pytest.warns(UserWarning, match=f"all raters {name} 1 of 1 cases"):
        found = staple(ratings)
    assert (found.probability == value).all()
    assert getattr(found, undefined).isnan().all()
    assert (getattr(found, defined) == 1).all()
    assert (found.iterations, found.converged) == (0, True)


def test_a_batch_is_its_cases_with_missing_raters_and_an_empty_case() -> None:
    ratings = torch.stack([disagreeing_raters(5, seed=s, noise=0.05) for s in range(4)])
    ratings[2] = 0
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 1], [0, 0, 0, 1, 0]], dtype=torch.bool)
    with pytest.warns(UserWarning, match="1 of 4 cases"):
        found = staple(ratings, mask)
    assert found.probability.shape == (4, 1, 32, 30)
    for case in (0, 1, 3):
        expected = itk_staple(ratings[case][mask[case]])
        assert found.iterations[case] == expected.iterations
        assert torch.allclose(found.probability[case].double(), expected.probability, rtol=0, atol=1e-6)
        assert torch.allclose(found.sensitivity[case][mask[case]], expected.sensitivity, rtol=0, atol=1e-9)
        assert found.sensitivity[case][~mask[case]].isnan().all()
    assert (found.probability[2] == 0).all()
    assert found.converged.tolist() == [True] * 4


@pytest.mark.parametrize("region", ["union", "slices", "mask"])
@pytest.mark.parametrize("spatial", [(32, 30), (14, 12, 13)], ids=["2D", "3D"])
def test_a_region_is_the_case_cut_out(region: str, spatial: tuple[int, ...]) -> None:
    inner = disagreeing_raters(4, spatial, noise=0.0, radius=0.4, seed=6)
    marked = inner.any(0).nonzero()
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(marked.amin(0), marked.amax(0), strict=True))
    mask = torch.zeros(spatial, dtype=torch.bool)
    mask[box] = True
    chosen = {"union": "union", "slices": box, "mask": mask}[region]
    found, expected = staple(inner, region=chosen), itk_staple(inner[(slice(None), *box)])
    assert found.iterations == expected.iterations
    assert torch.allclose(found.probability[(0, *box)].double(), expected.probability[0], rtol=0, atol=1e-6)
    assert (found.probability[0][~mask] == 0).all()
    assert not torch.allclose(found.probability, staple(inner).probability, rtol=0, atol=1e-6)


def test_regions_of_a_batch_are_those_of_its_cases() -> None:
    ratings = torch.stack([disagreeing_raters(3, seed=s, noise=0.0) for s in range(3)])
    found = staple(ratings, batched=True, region="union")
    for case in range(3):
        single = staple(ratings[case], region="union")
        assert torch.equal(found.probability[case], single.probability)
        assert found.iterations[case] == single.iterations


@pytest.mark.parametrize("margin", [1, 7])
def test_an_empty_margin_changes_the_prior_and_the_specificities_only_by_its_size(margin: int) -> None:
    """The margin enters as voxels that nobody marks: where they lie does not matter, and a region removes them."""
    ratings = disagreeing_raters(4, seed=7)
    wide = torch.nn.functional.pad(ratings, [margin] * 4)
    inner = (slice(margin, -margin),) * 2
    cut = staple(wide, region=inner)
    assert torch.equal(cut.probability[0][inner], staple(ratings).probability[0])
    beside = torch.cat([ratings.flatten(1), torch.zeros(4, wide[0].numel() - ratings[0].numel(), dtype=torch.uint8)], 1)
    moved, padded = staple(beside), staple(wide)
    assert padded.prior.item() == pytest.approx(wide.double().mean().item(), abs=1e-15)
    assert torch.allclose(moved.probability[0, : ratings[0].numel()], padded.probability[0][inner].flatten(), atol=1e-7)
    assert torch.allclose(moved.specificity, padded.specificity, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence_weight": 9.0}, "makes the prior"),
        ({"confidence_weight": 0.0}, "confidence_weight positive"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"region": "box"}, "A region must be"),
        ({"region": (slice(0, 4),)}, "2 slices"),
        ({"region": (slice(0, 4), slice(9, 9))}, "hold a voxel"),
        ({"region": torch.zeros(32, 30, dtype=torch.bool)}, "0 voxels inside"),
        ({"region": torch.ones(3, 3, dtype=torch.bool)}, r"of shape \(32, 30\)"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        staple(disagreeing_raters(3), **options)  # type: ignore[arg-type]


def test_ratings_are_not_changed_and_nothing_else_is_kept() -> None:
    ratings = disagreeing_raters(4)
    before = ratings.clone()
    found = staple(ratings)
    assert torch.equal(ratings, before)
    assert found.probability.untyped_storage().nbytes() == 4 * ratings[0].numel()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    ratings = disagreeing_raters(5, (20, 21, 22))
    found, expected = staple(ratings.cuda()), staple(ratings)
    assert found.probability.device.type == "cuda"
    assert torch.allclose(found.probability.cpu(), expected.probability, rtol=0, atol=1e-7)
    assert np.array_equal(found.sensitivity.numpy(), expected.sensitivity.numpy())
