# SPDX-License-Identifier: Apache-2.0
"""Flipped, transposed and copied masks: planted ones are found, clean ones are left in peace."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_multirater.agreement import DuplicateFinding, detect_duplicates, detect_flips, orientation
from monai_multirater.data import DEFAULT_RATERS
from monai_multirater.data.phantoms import make_case

SHAPES = [
    pytest.param((32, 32), id="square"),
    pytest.param((32, 26), id="rectangle"),
    pytest.param((20, 20, 20), id="cube"),
    pytest.param((20, 15, 20), id="block"),
]


def notched_box(shape):
    """A lesion off the center with other lengths along every axis: each change of orientation gives another mask."""
    axes = np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")
    ends = (0.52, 0.26, 0.16)[: len(shape)]
    inside = [(axis > 0.04) & (axis < end) for axis, end in zip(axes, ends, strict=True)]
    notch = [axis > 0.6 * end for axis, end in zip(axes, ends, strict=True)]
    return torch.from_numpy((np.all(inside, axis=0) & ~np.all(notch, axis=0)).astype(np.uint8))


def raters_like(mask, raters, noise=0.02, seed=0):
    """Copies of a mask with a few voxels of each rater turned over around it."""
    generator = torch.Generator().manual_seed(seed)
    near = torch.nn.functional.max_pool2d if mask.ndim == 2 else torch.nn.functional.max_pool3d
    ring = near(mask[None, None].float(), 3, 1, 1)[0, 0] > 0
    flips = (torch.rand((raters, *mask.shape), generator=generator) < noise) & ring
    return mask ^ flips.to(torch.uint8)


def phantom(dimensions, index, raters=5, seed=1):
    masks = make_case(dimensions, 64 if dimensions == 2 else 32, DEFAULT_RATERS[:raters], seed=seed, index=index)[2]
    return torch.from_numpy(np.stack(masks))


def dice(a, b):
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum())


def allowed_changes(shape):
    axes = range(len(shape))
    for order in itertools.permutations(axes):
        if all(shape[a] == shape[b] for a, b in enumerate(order)):
            for n in range(len(shape) + 1):
                yield from ((order, flips) for flips in itertools.combinations(axes, n))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_change_is_found_by_name_and_undone(shape):
    """Reference: permute and flip of torch, Dice by voxel."""
    ratings, changes = raters_like(notched_box(shape), 5), list(allowed_changes(shape))
    assert len(changes) == {(32, 32): 8, (32, 26): 4, (20, 20, 20): 48, (20, 15, 20): 16}[shape]
    for order, flips in changes[1:]:
        turned = ratings.clone()
        turned[2] = ratings[2].permute(order).flip(flips)
        (found,) = detect_flips(turned)
        others = (turned[[0, 1, 3, 4]].sum(0) > 2).to(torch.uint8)
        assert found.rater == 2
        assert not found.ambiguous
        assert found.apply(turned[2]).equal(ratings[2])
        assert found.dice_before == pytest.approx(dice(turned[2], others), abs=1e-15)
        assert found.dice_after == pytest.approx(dice(ratings[2], others), abs=1e-15)


def test_names_tell_what_to_do():
    ratings = raters_like(notched_box((32, 32)), 4)
    for order, flips, name in (
        ((0, 1), (0,), "flip axis 0"),
        ((0, 1), (0, 1), "flip axes 0, 1"),
        ((1, 0), (), "transpose axes to (1, 0)"),
        ((1, 0), (1,), "transpose axes to (1, 0), flip axis 1"),
    ):
        turned = ratings.clone()
        turned[0] = ratings[0].flip(flips).permute(order)  # the inverse of the change that is named
        (found,) = detect_flips(turned)
        assert (found.transform, found.alternatives) == (name, ())


@pytest.mark.parametrize("dimensions", [2, 3], ids=["2d", "3d"])
def test_clean_phantoms_are_left_in_peace(dimensions):
    for index in range(40 if dimensions == 2 else 15):
        assert detect_flips(phantom(dimensions, index)) == ()
        assert detect_duplicates(phantom(dimensions, index)) == ()


@pytest.mark.parametrize("dimensions", [2, 3], ids=["2d", "3d"])
def test_flips_planted_in_phantoms_are_found(dimensions):
    """Every flip that lowers the Dice below 0.5 from above 0.75; only the flipped rater is reported.

    A lesion in the middle of one axis may agree even better when only the other axis is flipped back.
    """
    planted = named = 0
    for index in range(40 if dimensions == 2 else 15):
        ratings = phantom(dimensions, index)
        others = (ratings[1:].sum(0) > 2).to(torch.uint8)
        turned = ratings.clone()
        turned[0] = ratings[0].flip((0, 1))
        if dice(turned[0], others) < 0.5 and dice(ratings[0], others) > 0.75:
            planted += 1
            (found,) = detect_flips(turned)
            assert found.rater == 0
            assert found.dice_after >= dice(ratings[0], others)
            named += "flip axes 0, 1" in (found.transform, *found.alternatives)
    assert planted >= 5
    assert named >= 0.75 * planted


def test_a_symmetric_lesion_in_the_center_gives_nothing():
    y, x = torch.meshgrid(torch.arange(41), torch.arange(41), indexing="ij")
    radii = torch.tensor([6, 9, 10, 14])[:, None, None]
    assert detect_flips((((y - 20) ** 2 + (x - 20) ** 2) <= radii**2).to(torch.uint8)) == ()


def test_a_lesion_with_a_symmetry_lists_the_alternatives():
    """A disk on the diagonal: the flip of both axes and the transposition with both flips give the same mask."""
    y, x = torch.meshgrid(torch.arange(41), torch.arange(41), indexing="ij")
    disk = (((y - 10) ** 2 + (x - 10) ** 2) <= 49).to(torch.uint8)
    (found,) = detect_flips(torch.stack([disk, disk, disk, disk.flip((0, 1))]))
    assert (found.transform, found.alternatives) == ("flip axes 0, 1", ("transpose axes to (1, 0), flip axes 0, 1",))


def test_two_raters_are_both_reported_as_ambiguous():
    mask = notched_box((32, 32))
    found = detect_flips(torch.stack([mask, mask.permute(1, 0).flip(0)]))
    assert [f.rater for f in found] == [0, 1]
    assert all(f.ambiguous for f in found)
    assert found[1].apply(mask.permute(1, 0).flip(0)).equal(mask)


def test_two_against_two_is_ambiguous_and_the_majority_is_taken_to_be_right():
    mask = notched_box((32, 32))
    halves = detect_flips(torch.stack([mask, mask, mask.flip(0), mask.flip(0)]))
    assert [f.rater for f in halves] == [0, 1, 2, 3]
    assert all(f.ambiguous for f in halves)
    (found,) = detect_flips(torch.stack([mask, mask.flip(0), mask.flip(0)]))
    assert (found.rater, found.ambiguous) == (0, False)


def test_tiny_empty_and_single_masks_give_nothing():
    dot = torch.zeros(3, 20, 20, dtype=torch.uint8)
    dot[:, 2:5, 2:5] = 1
    dot[2] = dot[2].flip(0)
    assert detect_flips(dot) == ()
    assert len(detect_flips(dot, min_voxels=9)) == 1
    dot[:2] = 0
    assert detect_flips(dot, min_voxels=0) == ()
    assert detect_flips(torch.zeros_like(dot), min_voxels=0) == ()
    assert detect_flips(notched_box((32, 32))[None]) == ()


@given(mask=st.lists(st.booleans(), min_size=6, max_size=6).filter(any), order=st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_absent_raters_have_no_say_and_permuting_raters_permutes_findings(mask, order):
    ratings, here = raters_like(notched_box((32, 32)), 6), torch.tensor(mask)
    ratings[4] = ratings[4].flip(1)
    names = here.nonzero().flatten().tolist()
    found = detect_flips(ratings, here)
    expected = detect_flips(ratings[here])
    assert [(f.rater, f.transform, f.dice_after) for f in found] == [
        (names[f.rater], f.transform, f.dice_after) for f in expected
    ]
    permuted = detect_flips(ratings[order], here[order])
    assert {(order[f.rater], f.transform, f.dice_after, f.ambiguous) for f in permuted} == {
        (f.rater, f.transform, f.dice_after, f.ambiguous) for f in found
    }


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_slice_is_the_same_in_2d_and_3d(axis):
    ratings = raters_like(notched_box((32, 32)), 4)
    ratings[1] = ratings[1].permute(1, 0).flip(0)
    (flat,), (thick,) = detect_flips(ratings), detect_flips(ratings.unsqueeze(axis))
    assert (flat.rater, flat.dice_before, flat.dice_after) == (thick.rater, thick.dice_before, thick.dice_after)
    assert thick.apply(ratings[1].unsqueeze(axis - 1)).squeeze(axis - 1).equal(flat.apply(ratings[1]))


def test_only_raters_below_the_level_are_turned(monkeypatch):
    looked_at, overlaps = [], orientation._overlaps
    monkeypatch.setattr(orientation, "_overlaps", lambda *a: looked_at.append(1) or overlaps(*a))
    ratings = raters_like(notched_box((32, 32)), 5)
    detect_flips(ratings)
    assert looked_at == []
    ratings[3] = ratings[3].flip(0)
    detect_flips(ratings)
    assert len(looked_at) == 1


def test_duplicates_are_grouped_and_nothing_is_changed():
    ratings = raters_like(notched_box((32, 32)), 6, noise=0.1)
    ratings[3], ratings[5], ratings[4] = ratings[0], ratings[0], ratings[1]
    before = ratings.clone()
    size = [int(ratings[r].sum()) for r in (0, 1)]
    assert detect_duplicates(ratings, min_voxels=10) == (
        DuplicateFinding((0, 3, 5), size[0]),
        DuplicateFinding((1, 4), size[1]),
    )
    assert detect_duplicates(ratings, min_voxels=max(size) + 1) == ()
    mask = torch.tensor([False, True, True, True, False, False])
    assert detect_duplicates(ratings, mask, min_voxels=10) == ()
    assert ratings.equal(before)


def test_empty_masks_are_no_duplicates():
    assert detect_duplicates(torch.zeros(3, 8, 8, dtype=torch.uint8), min_voxels=0) == ()


@pytest.mark.parametrize("name", ["max_dice", "min_dice_after", "min_gain"])
def test_bounds_outside_their_range_are_named(name):
    with pytest.raises(ValueError, match=f"detect_flips: {name}"):
        detect_flips(torch.ones(2, 4, 4, dtype=torch.uint8), **{name: 1.5})


def test_bad_ratings_are_named():
    with pytest.raises(TypeError, match="detect_duplicates: ratings"):
        detect_duplicates(torch.rand(2, 4, 4))
    with pytest.raises(ValueError, match="detect_flips: rater_mask"):
        detect_flips(torch.ones(2, 2, 4, 4, dtype=torch.uint8), torch.ones(2, 2, dtype=torch.bool))


def test_copies_known_in_real_data_are_found(shared_data):
    """The two folders of Person2 in BU-BIL ds1 are copies of each other; nobody is flipped."""
    path = shared_data / "bubil" / "bubil_ds1_2A_3_256.npz"
    if not path.is_file():
        pytest.skip("BU-BIL is not on this machine")
    data = np.load(path)
    shape = tuple(data["masks_shape"])
    masks = np.unpackbits(data["masks_packed"], axis=1)[:, : np.prod(shape[1:])].reshape(shape)
    first = [torch.from_numpy(masks[k].copy()) for k in np.flatnonzero(data["dataset"] == 1)[:10]]
    pair = tuple(np.flatnonzero(np.char.startswith(data["rater"], "Person2")).tolist())
    assert [[found.raters for found in detect_duplicates(case)] for case in first] == [[pair]] * 10
    assert [detect_flips(case) for case in first] == [()] * 10
