# SPDX-License-Identifier: Apache-2.0
"""Surfaces of raters and of the others' majority. References: SciPy's k-d tree on outlines, ``rater_performance``."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial import cKDTree

from monai_multirater.agreement import pair_surfaces, rater_performance
from monai_multirater.agreement import surface_distances as ways
from monai_multirater.agreement.surface_majority import case_surfaces


def _masks(shape, raters, seed):
    rng = np.random.default_rng(seed)
    common = gaussian_filter(rng.standard_normal(shape), 3)
    masks = [common + gaussian_filter(rng.standard_normal(shape), 2) * 0.7 > 0.05 for _ in range(raters)]
    return torch.from_numpy(np.stack(masks).astype(np.uint8))


def _directed(a, b, spacing):
    """Distances from the outline of a to that of b, and whether the points of a lie in b."""
    edges = [np.argwhere(m & ~binary_erosion(m)) for m in (a, b)]
    distances = cKDTree(edges[1] * np.asarray(spacing)).query(edges[0] * np.asarray(spacing))[0]
    return distances, b[tuple(edges[0].T)]


def _expected(masks, present, spacing):
    """HD95, ASSD, bias and distance of each rater to the strict majority of the others; NaN where one is empty."""
    rows = np.full((len(masks), 4), np.nan)
    for r in np.flatnonzero(present):
        others = masks[[k for k in np.flatnonzero(present) if k != r]]
        majority = 2 * others.sum(0) > len(others)
        if masks[r].any() != majority.any() or not len(others):
            continue
        if not majority.any():
            rows[r] = 0
            continue
        there, inside = _directed(masks[r], majority, spacing)
        back, _ = _directed(majority, masks[r], spacing)
        bias = np.where(inside, -there, there).mean()
        both = np.concatenate([there, back]).mean()
        rows[r] = max(np.percentile(there, 95), np.percentile(back, 95)), both, bias, there.mean()
    return rows


def _found(others):
    measures = (others.hausdorff_percentile(), others.average_symmetric(), others.boundary_bias())
    return torch.stack([*measures, others.boundary_distance()], dim=1).numpy()


@pytest.mark.parametrize("cost", [0, 3, 60, 1e9], ids=["transforms", "both", "usual", "products"])
@pytest.mark.parametrize("spacing", [None, (0.7, 1.3, 2.5)], ids=["voxels", "mm"])
@pytest.mark.parametrize("shape", [(40, 33), (18, 15, 12)], ids=["2D", "3D"])
@pytest.mark.parametrize("raters", [2, 3, 4, 7])
def test_distances_to_the_majority_equal_those_of_nearest_neighbors(monkeypatch, raters, shape, spacing, cost):
    monkeypatch.setattr(ways, "_TRANSFORM_COST", cost)
    masks = _masks(shape, raters, seed=raters)
    sizes = None if spacing is None else spacing[: len(shape)]
    pairs, others = case_surfaces(masks, spacing=sizes)
    expected = _expected(masks.bool().numpy(), np.ones(raters, bool), sizes or (1.0,) * len(shape))
    np.testing.assert_allclose(_found(others), expected, rtol=1e-6, atol=1e-7)
    alone = pair_surfaces(masks, spacing=sizes)
    for name in ("hausdorff", "hausdorff_percentile", "average_symmetric"):
        torch.testing.assert_close(getattr(pairs, name)(), getattr(alone, name)(), rtol=1e-6, atol=1e-7)
    assert torch.equal(pairs.surface_dice(1.0), alone.surface_dice(1.0))


@pytest.mark.parametrize("present", [(1, 1, 1, 1, 1), (1, 0, 1, 1, 1), (0, 1, 0, 1, 0), (0, 0, 1, 0, 0)], ids=str)
@pytest.mark.parametrize("change", ["none", "copies", "one-empty", "two-empty", "all-empty", "one-marks"])
def test_empty_equal_and_missing_masks(change, present):
    masks = _masks((24, 20), 5, seed=1)
    if change == "copies":
        masks[3], masks[4] = masks[1], masks[2]
    empty = {"one-empty": [1], "two-empty": [1, 3], "all-empty": [0, 1, 2, 3, 4], "one-marks": [0, 1, 2, 4]}
    masks[empty.get(change, [])] = 0
    here = torch.tensor(present, dtype=torch.bool)
    _, others = case_surfaces(masks, here, spacing=(0.5, 2.0))
    expected = _expected(masks.bool().numpy(), here.numpy(), (0.5, 2.0))
    np.testing.assert_allclose(_found(others), expected, rtol=1e-6, atol=1e-9)
    seen = rater_performance(masks, here, spacing=(0.5, 2.0))
    torch.testing.assert_close(others.boundary_bias(), seen.boundary_bias, rtol=1e-6, atol=1e-9, equal_nan=True)
    dice = others.surface_dice(0.6)[here]
    assert dice.isnan().all() if here.sum() < 2 else ((dice >= 0) & (dice <= 1)).all()


@pytest.mark.parametrize("definition", ["pooled", "area"])
def test_other_definitions_are_those_of_the_two_masks_alone(definition):
    masks = _masks((20, 18, 9), 4, seed=2)
    _, others = case_surfaces(masks, spacing=(1.0, 1.0, 2.0))
    votes = masks.sum(0)
    for r, mask in enumerate(masks):
        two = torch.stack([mask, (2 * (votes - mask) > 3).to(torch.uint8)])
        alone = pair_surfaces(two, spacing=(1.0, 1.0, 2.0)).hausdorff_percentile(95, definition=definition)[0, 1]
        assert float(others.hausdorff_percentile(95, definition=definition)[r]) == pytest.approx(float(alone), rel=1e-6)
