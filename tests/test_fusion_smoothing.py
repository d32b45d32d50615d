# SPDX-License-Identifier: Apache-2.0
"""Smoothed consensus against SciPy's filters in float64 and closed forms of the kernels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from fusion_cases import disagreeing_raters
from scipy.ndimage import convolve, gaussian_filter

from monai_multirater.fusion import soft_consensus, soft_gaussian, svls

SHAPES = [pytest.param((23, 26), id="2D"), pytest.param((9, 12, 11), id="3D")]


def svls_kernel(size: int, sigma: float, axes: int) -> np.ndarray:
    """Reference: the paper's kernel, weight by weight, divided by 2 for the renormalization over classes."""
    reach = size // 2
    kernel = np.zeros((size,) * axes)
    for offset in product(range(-reach, reach + 1), repeat=axes):
        kernel[tuple(o + reach for o in offset)] = np.exp(-sum(o * o for o in offset) / (2 * sigma**2))
    kernel[(reach,) * axes] = 0
    neighbors = kernel.sum()
    kernel[(reach,) * axes] = neighbors
    return kernel / neighbors / 2


@pytest.mark.parametrize("spatial", SHAPES)
@pytest.mark.parametrize("sigma", [0.6, 2.0, 5.0])
@pytest.mark.parametrize("radius", [0.3, 0.9], ids=["inside", "over the border"])
def test_gaussian_equals_scipy(spatial: tuple[int, ...], sigma: float, radius: float) -> None:
    ratings = disagreeing_raters(4, spatial, radius=radius, noise=0.0)
    expected = gaussian_filter(ratings.double().mean(0).numpy(), sigma, mode="nearest", truncate=4.0)
    assert np.allclose(soft_gaussian(ratings, sigma=sigma)[0].numpy(), expected, rtol=0, atol=2e-6)


def test_gaussian_with_a_sigma_per_axis_and_noise_equals_scipy() -> None:
    ratings = disagreeing_raters(3, (12, 14, 9), noise=0.2)
    expected = gaussian_filter(ratings.double().mean(0).numpy(), (0, 1.5, 3), mode="nearest")
    assert np.allclose(soft_gaussian(ratings, sigma=(0, 1.5, 3))[0].numpy(), expected, rtol=0, atol=2e-6)


def test_millimeters_are_voxels_times_spacing() -> None:
    ratings = disagreeing_raters(3, (10, 12, 14), noise=0.05)
    spacing = (2.5, 1.0, 0.5)
    expected = soft_gaussian(ratings, sigma=[2 / s for s in spacing])
    assert torch.equal(soft_gaussian(ratings, sigma=2.0, unit="mm", spacing=spacing), expected)


def test_gaussian_of_sigma_zero_is_the_soft_consensus() -> None:
    ratings = disagreeing_raters(5)
    assert torch.equal(soft_gaussian(ratings, sigma=0), soft_consensus(ratings))


@pytest.mark.parametrize("spatial", SHAPES)
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_svls_equals_its_kernel(spatial: tuple[int, ...], size: int, sigma: float, noise: float) -> None:
    ratings = disagreeing_raters(4, spatial, noise=noise, radius=0.7)
    kernel = svls_kernel(size, sigma, len(spatial))
    expected = convolve(ratings.double().mean(0).numpy(), kernel, mode="nearest")
    found = svls(ratings, kernel_size=size, sigma=sigma)
    assert found.dtype == torch.float32
    assert np.allclose(found[0].numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "axes"), [(3, 2), (5, 2), (3, 3)])
def test_svls_of_a_point_is_its_kernel(size: int, axes: int) -> None:
    """Closed form: the center keeps one half, the neighbors share the other half."""
    point = torch.zeros(1, *(11,) * axes, dtype=torch.uint8)
    point[(0, *(5,) * axes)] = 1
    found = svls(point, kernel_size=size)[0].double().numpy()
    inside = tuple(slice(5 - size // 2, 6 + size // 2) for _ in range(axes))
    assert found[(5,) * axes] == pytest.approx(0.5, abs=1e-7)
    assert found.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.allclose(found[inside], svls_kernel(size, 1.0, axes), rtol=0, atol=1e-7)


@pytest.mark.parametrize("spatial", SHAPES)
@pytest.mark.parametrize("smooth", [svls, soft_gaussian], ids=["SVLS", "Gaussian"])
def test_smoothing_is_linear_and_complementary(smooth, spatial: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    """The mean of the smoothed raters is the smoothed mean; background and foreground sum to 1 (the two classes)."""
    ratings = disagreeing_raters(5, spatial, noise=0.1)
    single = torch.stack([smooth(plane[None]).double() for plane in ratings]).mean(0)
    whole = smooth(ratings).double()
    assert torch.allclose(whole, single, rtol=0, atol=1e-6)
    assert torch.allclose(smooth(1 - ratings).double(), 1 - whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("smooth", [svls, soft_gaussian], ids=["SVLS", "Gaussian"])
@pytest.mark.parametrize("value", [0, 1])
def test_constants_stay(smooth, value: int) -> None:  # type: ignore[no-untyped-def]
    ratings = torch.full((3, 9, 8), value, dtype=torch.uint8)
    assert torch.allclose(smooth(ratings), torch.full((1, 9, 8), float(value)), atol=1e-6)


@pytest.mark.parametrize("smooth", [svls, soft_gaussian], ids=["SVLS", "Gaussian"])
def test_a_batch_is_its_cases_with_missing_raters(smooth) -> None:  # type: ignore[no-untyped-def]
    ratings = torch.stack([disagreeing_raters(4, seed=s, noise=0.0, radius=0.2 + 0.2 * s) for s in range(3)])
    ratings[1] = 0
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)
    found = smooth(ratings, mask)
    for case in range(3):
        assert torch.allclose(found[case], smooth(ratings[case][mask[case]]), rtol=0, atol=1e-6)
    assert not found[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1.0}, "sigma must be one number >= 0 or one for each of 2 axes. Got -1.0"),
        ({"sigma": (1.0, 2.0, 3.0)}, "for each of 2 axes"),
        ({"unit": "cm"}, "unit must be 'voxels' or 'mm'. Got 'cm'"),
        ({"unit": "mm"}, "needs the voxel size of 2 axes as spacing. Got None"),
        ({"unit": "mm", "spacing": (1.0, 0.0)}, "needs the voxel size"),
    ],
)
def test_bad_gaussians_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_gaussian(disagreeing_raters(2), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"kernel_size": 4}, {"kernel_size": 1}, {"sigma": 0.0}])
def test_bad_kernels_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd and at least 3, sigma positive"):
        svls(disagreeing_raters(2), **options)  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("smooth", [svls, soft_gaussian], ids=["SVLS", "Gaussian"])
def test_cuda_equals_cpu(smooth) -> None:  # type: ignore[no-untyped-def]
    ratings = disagreeing_raters(4, (12, 13, 14))
    assert torch.allclose(smooth(ratings.cuda()).cpu(), smooth(ratings), rtol=0, atol=1e-6)
