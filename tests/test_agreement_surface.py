# SPDX-License-Identifier: Apache-2.0
"""Surface distances of all pairs against MONAI, medpy, surface-distance, SciPy and closed forms."""

import itertools
import math
import warnings

import numpy as np
import pytest
import surface_distance
import torch
from medpy.metric import binary
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from scipy.spatial.distance import cdist

from monai_multirater.agreement import (
    pair_surfaces,
    pairwise_average_surface_distance,
    pairwise_hausdorff,
    pairwise_surface_dice,
)
from monai_multirater.agreement import surface_distances as ways
from monai_multirater.agreement.measures import MEASURES

GRIDS = [
    pytest.param((40, 46), None, id="2d"),
    pytest.param((40, 46), (0.7, 1.9), id="2d-mm"),
    pytest.param((40, 46), (0.8, 0.8), id="2d-same-mm"),
    pytest.param((18, 22, 26), None, id="3d"),
    pytest.param((18, 22, 26), (2.5, 0.7, 0.9), id="3d-mm"),
]
WAYS = {"product": 10**9, "transform": 0}
LIDC_CASES = range(0, 897, 150)


def blobs(raters, shape, seed=0):
    """Similar smooth masks, some cut off by the edge of the image."""
    generator = np.random.default_rng(seed)
    common = ndimage.gaussian_filter(generator.standard_normal(shape), 3)
    own = ndimage.gaussian_filter(generator.standard_normal((raters, *shape)), (0, *[2.0] * len(shape)))
    return torch.from_numpy((common / common.std() + 0.7 * own / own.std() > 0.4).astype(np.uint8))


def box(shape, low, high):
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def lidc_nodules(folder):
    data = np.load(folder / "lidc" / "lidc_4rater_3d_native.npz")
    packed, offset = data["packed"], data["offset"]
    for k in LIDC_CASES:
        shape = tuple(int(n) for n in data["shape"][k])
        bits = np.unpackbits(packed[offset[k] : offset[k + 1]])[: 4 * math.prod(shape)]
        yield torch.from_numpy(bits.reshape(4, *shape)), tuple(float(side) for side in data["spacing"][k])


def by_monai(a, b, spacing, tolerance):
    pair = a[None, None].float(), b[None, None].float()
    options = {"include_background": True, "spacing": spacing}
    return [
        compute_hausdorff_distance(*pair, **options).item(),
        compute_hausdorff_distance(*pair, percentile=95, **options).item(),
        compute_average_surface_distance(*pair, symmetric=True, **options).item(),
        compute_surface_dice(*pair, [tolerance], **options).item(),
    ]


def by_surface_distance(a, b, spacing, tolerance):
    masks = a.bool().numpy(), b.bool().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls SciPy by a name of old
        distances = surface_distance.compute_surface_distances(*masks, spacing or (1.0,) * a.ndim)
    return [
        surface_distance.compute_robust_hausdorff(distances, 95),
        surface_distance.compute_robust_hausdorff(distances, 50),
        surface_distance.compute_surface_dice_at_tolerance(distances, tolerance),
    ]


def assert_equals_the_packages(ratings, spacing, tolerance):
    found = pair_surfaces(ratings, spacing=spacing)
    ours = [found.hausdorff(), found.hausdorff_percentile(), found.average_symmetric(), found.surface_dice(tolerance)]
    areas = [found.hausdorff_percentile(q, definition="area") for q in (95, 50)]
    areas.append(found.surface_dice(tolerance, definition="area"))
    pooled = found.hausdorff_percentile(95, definition="pooled")
    for table in (*ours, *areas, pooled):
        assert table.dtype == torch.float64
        assert torch.equal(table, table.T)
    for i, j in itertools.combinations(range(len(ratings)), 2):
        a, b = ratings[i], ratings[j]
        assert [t[i, j].item() for t in ours] == pytest.approx(by_monai(a, b, spacing, tolerance), abs=1e-5)
        expected = by_surface_distance(a, b, spacing, tolerance)
        assert [t[i, j].item() for t in areas] == pytest.approx(expected, abs=1e-5)
        assert pooled[i, j].item() == pytest.approx(binary.hd95(a.numpy(), b.numpy(), spacing), abs=1e-5)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Both ways to the distances, whatever the size of the case."""
    monkeypatch.setattr(ways, "_TRANSFORM_COST", WAYS[request.param])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_blobs_equal_monai_medpy_and_surface_distance(shape, spacing, seed):
    assert_equals_the_packages(blobs(3, shape, seed), spacing, tolerance=1.3)


def test_lidc_nodules_equal_monai_medpy_and_surface_distance(shared_data):
    for ratings, spacing in lidc_nodules(shared_data):
        marked = ratings[ratings.flatten(1).any(1)]
        if min(ratings.shape[1:]) > 1:
            assert_equals_the_packages(marked, spacing, tolerance=1.01)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_without_edt_scipy_gives_the_same(shape, spacing, monkeypatch):
    ratings = blobs(4, shape, seed=3)
    monkeypatch.setattr(ways, "_TRANSFORM_COST", 0)
    expected = pair_surfaces(ratings, spacing=spacing)
    monkeypatch.setattr(ways, "_edt", None)
    found = pair_surfaces(ratings, spacing=spacing)
    for key, squared in expected.squared.items():
        if spacing is None or len(set(spacing)) == 1:
            assert np.array_equal(found.squared[key], squared)
        else:
            assert found.squared[key] == pytest.approx(squared, rel=1e-6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("length", [900, 3000, 5000])
def test_far_points_are_exact(length):
    """Distances that squares in float32 cannot hold, against SciPy's cdist in float64."""
    ratings = torch.zeros(2, length, length // 9, dtype=torch.uint8)
    where = [np.asarray([[1, 2], [7, 3], [8, 3]]), np.asarray([[length - 2, length // 9 - 1], [length - 9, 0]])]
    for plane, points in zip(ratings, where, strict=True):
        plane[tuple(points.T)] = 1
    table = cdist(*where)
    expected = max(table.min(0).max(), table.min(1).max())
    found = pairwise_hausdorff(ratings)[0, 1].item()
    assert found == pytest.approx(expected, rel=1e-14 if length < 4000 else 1e-7)


@pytest.mark.usefixtures("way")
def test_boxes_have_their_closed_form():
    shape = (30, 40, 20)
    ratings = torch.stack([box(shape, (5, 5, 5), (20, 30, 15)), box(shape, (5, 5, 5), (23, 30, 15))])
    found = pair_surfaces(ratings, spacing=(2.0, 1.0, 1.0))
    assert found.hausdorff()[0, 1].item() == pytest.approx(6.0, abs=1e-12)
    assert found.unit == "mm"
    assert pairwise_hausdorff(ratings)[0, 1].item() == pytest.approx(3.0, abs=1e-12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("spacing", [None, (0.7, 1.9, 0.3)])
def test_coinciding_points_are_at_distance_0_exactly(spacing):
    one = blobs(1, (18, 22, 26), seed=5)[0]
    other = one.clone()
    other[:2] = 0
    found = pair_surfaces(torch.stack([one, other]), spacing=spacing)
    edges = [np.logical_xor(m.numpy(), ndimage.binary_erosion(m.numpy())) for m in (one, other)]
    both = np.count_nonzero(edges[0] & edges[1])
    assert [np.count_nonzero(found.squared[key] == 0) for key in ((0, 1), (1, 0))] == [both, both]


def test_equal_masks_are_measured_once():
    a, b = blobs(2, (30, 32), seed=6)
    found = pair_surfaces(torch.stack([a, b, a, b, a]), spacing=(0.3, 0.7))
    assert len(found.masks) == 2
    table = found.hausdorff()
    assert table[0, 2] == table[1, 3] == 0
    assert torch.equal(table[[0, 2]][:, [1, 3]], table[0, 1].expand(2, 2))
    assert found.surface_dice(0)[0, 4] == 1


def _tables(found):
    return {
        "hausdorff": [found.hausdorff()],
        "hausdorff95": [found.hausdorff_percentile(definition=d) for d in ("larger", "pooled", "area")],
        "assd": [found.average_symmetric()],
        "surface_dice": [found.surface_dice(1.0, definition=d) for d in ("voxels", "area")],
    }


@pytest.mark.parametrize("shape", [(20, 22), (12, 14, 10)], ids=["2d", "3d"])
def test_empty_masks_and_absent_raters_follow_the_table_of_measures(shape):
    mask, other = blobs(2, shape)
    nothing = torch.zeros_like(mask)
    ratings = torch.stack([mask, nothing, other, nothing, mask])
    present = torch.tensor([True, True, False, True, True])
    found = pair_surfaces(ratings, present)
    assert found.present.tolist() == present.tolist()
    assert found.empty.tolist() == [False, True, False, True, False]
    assert found.undefined == 4
    for name, tables in _tables(found).items():
        rules = MEASURES[name]
        for table in tables:
            assert table[1, 3].item() == table[1, 1].item() == rules.both_empty
            assert table[0, 1].item() == pytest.approx(rules.one_empty, nan_ok=True)
            assert table[0, 0].item() == table[0, 4].item() == rules.best
            assert table[2].isnan().all()
            assert table[:, 2].isnan().all()
            defined = ~table[present][:, present].isnan()
            assert (~defined).sum() == (2 * found.undefined if math.isnan(rules.one_empty) else 0)


@pytest.mark.parametrize("shape", [(20, 22), (12, 14, 10)], ids=["2d", "3d"])
def test_all_masks_empty_or_one_rater(shape):
    for raters in (1, 3):
        found = pair_surfaces(torch.zeros(raters, *shape, dtype=torch.uint8))
        assert found.undefined == 0
        for name, tables in _tables(found).items():
            for table in tables:
                assert torch.equal(table, torch.full((raters, raters), MEASURES[name].both_empty, dtype=torch.float64))
    assert pairwise_hausdorff(blobs(1, shape)).tolist() == [[0.0]]
    assert pairwise_surface_dice(blobs(1, shape), tolerance=0).tolist() == [[1.0]]


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_absent_raters_change_nothing_and_raters_permute(shape, spacing):
    ratings = blobs(5, shape, seed=8)
    present = torch.tensor([True, False, True, True, False])
    garbage = ratings.clone().to(torch.int16)
    garbage[~present] = 7
    found = _tables(pair_surfaces(garbage, present, spacing=spacing))
    alone = _tables(pair_surfaces(ratings[present], spacing=spacing))
    order = torch.tensor([3, 0, 2, 4, 1])
    turned = _tables(pair_surfaces(garbage[order], present[order], spacing=spacing))
    for name, tables in found.items():
        for k, table in enumerate(tables):
            assert torch.allclose(table[present][:, present], alone[name][k], rtol=0, atol=1e-12)
            same = table[order][:, order].nan_to_num(-1.0), turned[name][k].nan_to_num(-1.0)
            assert torch.allclose(*same, rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_gives_the_same_in_2d_and_3d(axis):
    ratings = blobs(3, (30, 34), seed=9)
    spacing = [0.7, 1.9]
    flat = _tables(pair_surfaces(ratings, spacing=spacing))
    spacing.insert(axis, 5.0)
    deep = _tables(pair_surfaces(ratings.unsqueeze(axis + 1), spacing=spacing))
    assert all(torch.equal(x, y) for name in flat for x, y in zip(flat[name], deep[name], strict=True))


def test_monai_puts_every_voxel_of_a_one_slice_volume_on_the_surface():
    """As the docstring tells: for MONAI the inner voxels of the larger box are near the smaller one."""
    small, large = box((30, 30), (10, 10), (20, 20)), box((30, 30), (5, 5), (25, 25))
    ratings = torch.stack([small, large])
    flat = by_monai(small, large, None, 1.0)
    deep = by_monai(small[None], large[None], None, 1.0)
    assert pair_surfaces(ratings[:, None]).average_symmetric()[0, 1].item() == pytest.approx(flat[2], abs=1e-5)
    assert deep[2] < flat[2] - 1


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64])
def test_dtypes_and_layouts_give_the_same(dtype):
    ratings = blobs(3, (18, 22, 26), seed=10)
    expected = pairwise_hausdorff(ratings)
    assert torch.equal(pairwise_hausdorff(ratings.to(dtype)), expected)
    strided = ratings.to(dtype).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(pairwise_hausdorff(strided), expected)


def test_percentiles_and_average_over_all_distances():
    ratings = blobs(2, (40, 46), seed=11)
    found = pair_surfaces(ratings)
    a, b = (np.sqrt(found.squared[key].astype(np.float64)) for key in ((0, 1), (1, 0)))
    for q in (0, 12.5, 50, 99.9, 100):
        larger, pooled = max(np.percentile(a, q), np.percentile(b, q)), np.percentile(np.concatenate([a, b]), q)
        assert found.hausdorff_percentile(q)[0, 1].item() == pytest.approx(larger, abs=1e-12)
        assert found.hausdorff_percentile(q, definition="pooled")[0, 1].item() == pytest.approx(pooled, abs=1e-12)
    mean = np.concatenate([a, b]).mean()
    assert pairwise_average_surface_distance(ratings)[0, 1].item() == pytest.approx(mean, abs=1e-12)
    assert torch.equal(pairwise_hausdorff(ratings), found.hausdorff_percentile(100))


@pytest.mark.parametrize("spacing", [0.1, 0.3, 0.7], ids=str)
def test_a_distance_that_equals_the_tolerance_counts(spacing):
    ratings = torch.stack([box((12, 30), (2, 2), (8, 20)), box((12, 30), (2, 2), (8, 23))])
    found = pair_surfaces(ratings, spacing=(spacing, spacing))
    assert found.surface_dice(3 * spacing)[0, 1].item() == 1
    assert found.surface_dice(2.999 * spacing)[0, 1].item() < 1


def test_shortcuts_read_the_same_tables():
    ratings, spacing = blobs(3, (40, 46), seed=12), (0.7, 1.9)
    found = pair_surfaces(ratings, spacing=spacing)
    for definition in ("larger", "pooled", "area"):
        table = pairwise_hausdorff(ratings, spacing=spacing, percentile=90, definition=definition)
        assert torch.equal(table, found.hausdorff_percentile(90, definition=definition))
    for definition in ("voxels", "area"):
        table = pairwise_surface_dice(ratings, tolerance=1.5, spacing=spacing, definition=definition)
        assert torch.equal(table, found.surface_dice(1.5, definition=definition))
    assert torch.equal(pairwise_average_surface_distance(ratings, spacing=spacing), found.average_symmetric())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: pair_surfaces(m + 1), "ratings must hold only 0 and 1. Got 1 to 2 for rater 0"),
        (lambda m: pair_surfaces(m.to(torch.int16) - 1), "Got -1 to 0 for rater 0"),
        (lambda m: pair_surfaces(m[:, 0]), r"in 2D or 3D. Got shape \(2, 22\)"),
        (lambda m: pair_surfaces(m, spacing=(1.0,)), "spacing must be 2 positive lengths"),
        (lambda m: pair_surfaces(m, torch.zeros(2, dtype=torch.bool)), "at least one rater present"),
        (lambda m: pairwise_hausdorff(m, percentile=101), "percentile must be in"),
        (lambda m: pairwise_hausdorff(m, percentile=95, definition="monai"), "definition must be one of larger"),
        (lambda m: pairwise_surface_dice(m, tolerance=-1), "tolerance must be a length of 0 or more. Got -1"),
        (lambda m: pairwise_surface_dice(m, tolerance=math.nan), "Got nan"),
        (lambda m: pairwise_surface_dice(m, tolerance=1, definition="pooled"), "definition must be one of voxels"),
    ],
)
def test_errors_say_what_was_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(blobs(2, (20, 22)))


def test_soft_ratings_are_refused():
    with pytest.raises(TypeError, match="pair_surfaces"):
        pair_surfaces(blobs(2, (20, 22)).float())
