# SPDX-License-Identifier: Apache-2.0
"""Soft and majority consensus against sums over the raters present."""

import pytest
import torch

from monai_multirater.fusion import majority, soft_consensus

SHAPES = [pytest.param((6, 5), id="2d"), pytest.param((3, 4, 5), id="3d")]


def random_ratings(raters, shape, seed=0):
    return torch.randint(0, 2, (raters, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("raters", [1, 2, 5])
def test_soft_consensus_is_the_mean_vote(raters, shape):
    ratings = random_ratings(raters, shape)
    assert torch.equal(soft_consensus(ratings), ratings.float().mean(0, keepdim=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("raters", "ties"), [(1, "background"), (3, "foreground"), (4, "background"), (4, "foreground")]
)
def test_majority_is_more_than_half(raters, ties, shape):
    ratings = random_ratings(raters, shape)
    mean = ratings.double().mean(0, keepdim=True)
    expected = mean >= 0.5 if ties == "foreground" else mean > 0.5
    labels = majority(ratings, ties=ties)
    assert labels.dtype == torch.uint8
    assert labels.equal(expected.to(torch.uint8))


def test_absent_raters_have_no_say():
    ratings = random_ratings(5, (6, 6))
    mask = torch.tensor([True, False, True, False, True])
    assert soft_consensus(ratings, mask).equal(soft_consensus(ratings[mask]))
    assert majority(ratings, mask).equal(majority(ratings[mask]))


def test_random_ties_are_fair_reproducible_and_touch_only_ties():
    ratings = torch.zeros(2, 20_000, dtype=torch.uint8)
    ratings[0, :10_000] = 1
    labels = majority(ratings, ties="random", generator=torch.Generator().manual_seed(3))
    assert labels.equal(majority(ratings, ties="random", generator=torch.Generator().manual_seed(3)))
    assert not labels[0, 10_000:].any()
    assert abs(labels[0, :10_000].float().mean() - 0.5) < 0.02  # four standard errors


def test_permuting_raters_changes_nothing():
    ratings = random_ratings(6, (8, 8))
    assert majority(ratings.flip(0)).equal(majority(ratings))


def test_bad_arguments_are_named():
    ratings = random_ratings(2, (3, 3))
    with pytest.raises(ValueError, match="ties"):
        majority(ratings, ties="nobody")
    with pytest.raises(ValueError, match="generator"):
        majority(ratings, ties="random")
    with pytest.raises(ValueError, match="at least one rater"):
        soft_consensus(ratings, torch.zeros(2, dtype=torch.bool))
