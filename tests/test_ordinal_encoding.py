# SPDX-License-Identifier: Apache-2.0
"""Labels, and thinning against enumeration of every subset of voters."""

from itertools import combinations
from math import comb

import pytest
import torch

from monai_multirater.ordinal import (
    LevelDistribution,
    cumulative_targets,
    get_family,
    nearest_levels,
    ordinal_consensus,
    thin_levels,
    thinning_matrix,
)
from monai_multirater.ordinal.encoding import count_list, thin_cuts, thin_log


def enumerated_thinning(raters, present):
    """P(v votes among the first ``present`` raters | k of all), every choice of k voters equally likely."""
    table = torch.zeros(present + 1, raters + 1, dtype=torch.float64)
    for k in range(raters + 1):
        for voters in combinations(range(raters), k):
            table[sum(voter < present for voter in voters), k] += 1 / comb(raters, k)
    return table


def random_levels(raters, shape=(4, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, raters + 1, *shape, generator=generator, dtype=torch.float64).softmax(1)


COUNTS = [(1, 1), (2, 1), (5, 1), (5, 3), (5, 5), (7, 4), (8, 7)]


@pytest.mark.parametrize(("raters", "present"), COUNTS)
def test_thinning_matrix_is_the_enumeration(raters, present):
    torch.testing.assert_close(thinning_matrix(raters, present), enumerated_thinning(raters, present))


@pytest.mark.parametrize(("raters", "present"), COUNTS)
def test_thinned_levels_are_the_exact_marginal(raters, present):
    probs = random_levels(raters)
    expected = torch.einsum("vk,bkxy->bvxy", enumerated_thinning(raters, present), probs)
    torch.testing.assert_close(thin_levels(probs, present), expected)
    torch.testing.assert_close(thin_log(probs.log(), present, cuts=False).exp(), expected)


@pytest.mark.parametrize(("raters", "present"), COUNTS)
def test_thinned_cut_points_are_the_cumulative_of_thinned_levels(raters, present):
    probs = random_levels(raters)
    below = thin_cuts(probs.cumsum(1)[:, :-1], present)
    torch.testing.assert_close(below, thin_levels(probs, present).cumsum(1)[:, :-1])
    log_below, log_above = LevelDistribution.from_levels(probs.log(), log=True).thin(present).log_cuts
    torch.testing.assert_close(log_below.exp(), below)
    torch.testing.assert_close(log_above.exp(), 1 - below)


@pytest.mark.parametrize("family", ["beta_binomial", "binary"])
def test_families_for_any_number_of_raters_thin_to_themselves(family):
    outputs = torch.randn(1, get_family(family).channels(6), 5, generator=torch.manual_seed(0)).double()
    thinned = thin_levels(get_family(family).levels(outputs, 6), 4)
    torch.testing.assert_close(thinned, get_family(family).levels(outputs, 4))


def test_consensus_of_a_case_and_of_a_batch():
    ratings = torch.tensor([[[1, 0]], [[1, 1]], [[0, 1]]], dtype=torch.uint8)
    assert ordinal_consensus(ratings).tolist() == [[[2, 2]]]
    assert ordinal_consensus(ratings, torch.tensor([True, False, True])).tolist() == [[[1, 1]]]
    mask = torch.tensor([[True, True, False]])
    assert ordinal_consensus(ratings[None], mask).tolist() == [[[[2, 1]]]]
    assert ordinal_consensus(ratings[None], batched=True).shape == (1, 1, 1, 2)


def test_cumulative_targets_count_to_the_votes():
    targets = cumulative_targets(torch.tensor([0, 1, 3]).view(1, 1, 3), 3)
    assert targets[0].T.tolist() == [[False] * 3, [True, False, False], [True] * 3]


def test_nearest_levels_round_half_up():
    votes = torch.tensor([0, 1, 2]).view(1, 1, 3)
    assert nearest_levels(votes, 2, 5).flatten().tolist() == [0, 3, 5]
    assert nearest_levels(votes.expand(2, 1, 3), torch.tensor([2, 4]), 4).flatten().tolist() == [0, 2, 4, 0, 1, 2]


def test_numbers_of_raters_are_checked():
    assert count_list(None, 2, 3) == [3, 3]
    assert count_list(torch.tensor([[1], [2]]), 2, 3) == [1, 2]
    for bad in (0, 4, [1, 2, 3], torch.tensor([0, 1])):
        with pytest.raises(ValueError, match=r"n_raters must be 2 numbers of raters present in 1\.\.3"):
            count_list(bad, 2, 3)
    with pytest.raises(ValueError, match=r"present must be in 1\.\.3"):
        thin_levels(torch.ones(1, 4, 1), 4)
