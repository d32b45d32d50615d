# SPDX-License-Identifier: Apache-2.0
"""Vote counts and codes against Python integers and NumPy, one voxel at a time."""

import numpy as np
import pytest
import torch

from monai_multirater.votes import check_ratings, class_ratings, count_votes, encode_votes

SHAPES = [pytest.param((5, 7), id="2d"), pytest.param((3, 4, 5), id="3d")]


def random_ratings(raters, shape, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (raters, *shape), generator=generator).to(dtype)


def python_codes(ratings):
    """Unsigned codes as Python integers, voxel by voxel."""
    planes = ratings.flatten(1).tolist()
    return [sum(int(bit) << r for r, bit in enumerate(voxel)) for voxel in zip(*planes, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("raters", [1, 2, 7, 8, 9, 15, 16, 31, 32, 63, 64])
def test_codes_have_bit_r_of_rater_r(raters, shape):
    ratings = random_ratings(raters, shape)
    codes = encode_votes(ratings)
    width = 8 * codes.element_size()
    assert codes.shape == shape
    assert [code % (1 << width) for code in codes.flatten().tolist()] == python_codes(ratings)


@pytest.mark.parametrize(
    ("raters", "dtype"),
    [(8, torch.uint8), (15, torch.int16), (31, torch.int32), (32, torch.int64), (64, torch.int64)],
)
def test_codes_use_the_smallest_integer_that_stays_positive(raters, dtype):
    assert encode_votes(random_ratings(raters, (4, 4))).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64])
@pytest.mark.parametrize("shape", SHAPES)
def test_counts_equal_numpy_sum(shape, dtype):
    ratings = random_ratings(6, shape, dtype)
    votes = count_votes(ratings)
    assert votes.dtype == torch.uint8
    np.testing.assert_array_equal(votes.numpy(), ratings.numpy().astype(int).sum(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_absent_rater_is_as_if_never_asked_whatever_its_plane_holds(shape):
    ratings = random_ratings(5, shape)
    mask = torch.tensor([True, False, True, True, False])
    garbage = ratings.clone()
    garbage[~mask] = 255
    assert count_votes(garbage, mask).equal(count_votes(ratings[mask]))
    assert [code & 0b10010 for code in encode_votes(garbage, mask).flatten().tolist()] == [0] * ratings[0].numel()


def test_batched_counts_equal_counts_of_each_case():
    ratings = torch.stack([random_ratings(5, (6, 6), seed=s) for s in range(3)])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 1, 0, 1]]).bool()
    batch = count_votes(ratings, mask, dim=1)
    for item in range(3):
        assert batch[item].equal(count_votes(ratings[item], mask[item]))


def test_non_contiguous_ratings_and_volumes_larger_than_a_block():
    ratings = random_ratings(300_000, (9,)).movedim(0, 1).reshape(9, 300_000)
    strided = ratings.T.contiguous().T
    assert encode_votes(strided).equal(encode_votes(ratings.contiguous()))
    weights = 2 ** np.arange(9)[:, None]
    np.testing.assert_array_equal(encode_votes(strided).numpy(), (ratings.numpy() * weights).sum(0))


def test_class_ratings_select_one_label():
    labels = torch.tensor([[[0, 1, 2]], [[2, 2, 1]]])
    assert class_ratings(labels, 2).tolist() == [[[0, 0, 1]], [[1, 1, 0]]]


@pytest.mark.parametrize(
    ("ratings", "mask", "error", "words"),
    [
        pytest.param(torch.rand(2, 3), None, TypeError, "float32", id="floating-point"),
        pytest.param([1, 0], None, TypeError, "list", id="no-tensor"),
        pytest.param(torch.zeros(0, 4).int(), None, ValueError, "1 to 64 raters", id="no-rater"),
        pytest.param(torch.zeros(65, 4).int(), None, ValueError, "1 to 64 raters", id="too-many"),
        pytest.param(torch.tensor([[0, 2]]), None, ValueError, "0 to 2 for rater 0", id="label"),
        pytest.param(torch.tensor([[0], [-1]]), None, ValueError, "rater 1", id="negative"),
        pytest.param(torch.zeros(2, 4).int(), torch.zeros(2).bool(), ValueError, "at least one", id="nobody"),
        pytest.param(torch.zeros(2, 4).int(), torch.ones(3).bool(), ValueError, "shape", id="mask-shape"),
        pytest.param(torch.zeros(2, 4).int(), torch.ones(2), ValueError, "bool", id="mask-dtype"),
        pytest.param(
            torch.zeros(2, 3, 4).int(), torch.tensor([[1, 0, 0], [0, 0, 0]]).bool(), ValueError, "item", id="item"
        ),
    ],
)
def test_bad_ratings_are_named(ratings, mask, error, words):
    with pytest.raises(error, match=words):
        check_ratings(ratings, mask)


def test_planes_of_absent_raters_are_not_checked():
    ratings = torch.tensor([[0, 1], [255, 255]], dtype=torch.uint8)
    check_ratings(ratings, torch.tensor([True, False]))
    check_ratings(ratings[None], torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="rater 1"):
        check_ratings(ratings)
