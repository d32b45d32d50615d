# SPDX-License-Identifier: Apache-2.0
"""Agreement of a group. References: statsmodels, the package krippendorff, scikit-learn, SciPy, loops, by hand."""

import itertools
import math

import krippendorff
import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import jaccard_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_kappa

from monai_multirater.agreement import (
    agreement_volumes,
    conformity_index,
    fleiss_kappa,
    group_agreement,
    krippendorff_alpha,
    vote_entropy,
)
from monai_multirater.agreement.measures import GROUP_MEASURES
from monai_multirater.votes import VoteTable

SPATIAL = {"2d": (9, 8), "3d": (4, 5, 7)}
MASKS = {
    "two": [1, 1],
    "four": [1, 1, 1, 1],
    "missing": [1, 0, 1, 1, 0],
    "twenty": [1] * 20,
}
FUNCTIONS = {
    "fleiss_kappa": fleiss_kappa,
    "krippendorff_alpha": krippendorff_alpha,
    "conformity": conformity_index,
    "entropy": vote_entropy,
}


def _case(raters: int, spatial: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(spatial, generator=generator)
    return (torch.rand(raters, *spatial, generator=generator) < share).to(torch.uint8)


@pytest.fixture(params=list(itertools.product(SPATIAL, MASKS)), ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    spatial, mask = request.param
    here = torch.tensor(MASKS[mask]).bool()
    ratings = _case(len(here), SPATIAL[spatial])
    ratings[~here] = 9
    return ratings, here


def test_fleiss_kappa_equals_statsmodels(case) -> None:
    ratings, mask = case
    votes = ratings[mask].flatten(1).T.numpy()
    expected = statsmodels_kappa(aggregate_raters(votes, n_cat=2)[0])
    assert fleiss_kappa(ratings, mask) == pytest.approx(expected, rel=1e-12)


def test_krippendorff_alpha_equals_the_package(case) -> None:
    ratings, mask = case
    values = ratings[mask].flatten(1).numpy().astype(float)
    expected = krippendorff.alpha(values, value_domain=[0, 1], level_of_measurement="nominal")
    assert krippendorff_alpha(ratings, mask) == pytest.approx(expected, rel=1e-12)


def test_pooled_alpha_with_other_raters_in_each_case() -> None:
    """Against the package krippendorff, NaN for absent raters; a case with one rater does not enter."""
    masks = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]]).bool()
    cases = [_case(4, (7, 6 + k), k) for k in range(4)]
    tables = [VoteTable.from_ratings(ratings, mask) for ratings, mask in zip(cases, masks, strict=True)]
    columns = []
    for ratings, mask in zip(cases, masks, strict=True):
        values = ratings.flatten(1).numpy().astype(float)
        values[~mask.numpy()] = np.nan
        columns.append(values)
    expected = krippendorff.alpha(np.concatenate(columns, 1), value_domain=[0, 1], level_of_measurement="nominal")
    assert krippendorff_alpha(tables) == pytest.approx(expected, rel=1e-12)
    assert krippendorff_alpha(tables[::-1]) == krippendorff_alpha(tables) == krippendorff_alpha(tables[:3])
    assert krippendorff_alpha(tables[:1]) == krippendorff_alpha(cases[0])
    assert math.isnan(krippendorff_alpha(tables[3:]))


def test_conformity_equals_a_loop_over_pairs(case) -> None:
    """NumPy masks, pair by pair."""
    ratings, mask = case
    pairs = list(itertools.combinations(ratings[mask].bool().numpy(), 2))
    shared, either = sum((a & b).sum() for a, b in pairs), sum((a | b).sum() for a, b in pairs)
    assert conformity_index(ratings, mask) == pytest.approx(shared / either, rel=1e-12)
    if len(pairs) == 1:
        assert conformity_index(ratings, mask) == pytest.approx(jaccard_score(*(m.ravel() for m in pairs[0])))


def test_entropy_equals_scipy(case) -> None:
    """Voxel by voxel, in bits, over the union."""
    ratings, mask = case
    share = ratings[mask].double().mean(0).flatten().numpy()
    share = share[share > 0]
    expected = entropy(np.stack([share, 1 - share]), base=2, axis=0).mean()
    assert vote_entropy(ratings, mask) == pytest.approx(expected, rel=1e-12)


def test_volumes_of_agreement_equal_a_loop(case) -> None:
    ratings, mask = case
    votes = ratings[mask].sum(0)
    found = agreement_volumes(ratings, mask)
    assert found.dtype == torch.int64
    assert found.tolist() == [int((votes >= k).sum()) for k in range(1, int(mask.sum()) + 1)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64], ids=str)
def test_ratings_and_table_give_the_same(case, dtype: torch.dtype) -> None:
    ratings, mask = case
    ratings = ratings.where(mask.view(-1, *[1] * (ratings.ndim - 1)), 0).to(dtype)
    from_ratings, from_table = group_agreement(ratings, mask), group_agreement(VoteTable.from_ratings(ratings, mask))
    for name, function in FUNCTIONS.items():
        assert getattr(from_ratings, name) == getattr(from_table, name) == function(ratings, mask)
    assert torch.equal(from_ratings.volumes, from_table.volumes)
    assert set(GROUP_MEASURES) == set(FUNCTIONS)


def test_by_hand() -> None:
    """Four voxels, three raters, votes 3, 2, 1, 0: six of twelve votes; four of twelve pairs of votes differ."""
    ratings = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.uint8)
    found = group_agreement(ratings)
    assert found.fleiss_kappa == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))
    assert found.krippendorff_alpha == pytest.approx(1 - 11 * 2 / 36)
    assert found.conformity == pytest.approx(4 / 8)
    assert found.entropy == pytest.approx(2 * (math.log2(3) - 2 / 3) / 3)
    assert found.volumes.tolist() == [3, 2, 1]


@pytest.mark.parametrize("value", [0, 1], ids=["empty", "full"])
def test_where_all_votes_are_the_same(value: int) -> None:
    """Kappa and alpha have no chance agreement to compare with: NaN as in the table of measures."""
    found = group_agreement(torch.full((3, 4, 4), value, dtype=torch.uint8))
    for name, measure in GROUP_MEASURES.items():
        assert getattr(found, name) == pytest.approx(measure.both_empty, nan_ok=True), name
    assert found.volumes.tolist() == [16 * value] * 3


@pytest.mark.parametrize("mask", [None, [True, False]], ids=["one", "one-present"])
def test_a_rater_alone_has_no_agreement(mask) -> None:
    ratings = _case(1 if mask is None else 2, (5, 5))
    found = group_agreement(ratings, None if mask is None else torch.tensor(mask))
    assert all(math.isnan(getattr(found, name)) for name in FUNCTIONS)
    assert found.volumes.tolist() == [int(ratings[0].sum())]


def test_some_empty_masks_follow_the_formula() -> None:
    """One of three masks is empty: a loop and statsmodels."""
    ratings = _case(3, (8, 8))
    ratings[1] = 0
    found = group_agreement(ratings)
    expected = statsmodels_kappa(aggregate_raters(ratings.flatten(1).T.numpy(), n_cat=2)[0])
    assert found.fleiss_kappa == pytest.approx(expected, rel=1e-12)
    shared = int((ratings[0] & ratings[2]).sum())
    union = int((ratings[0] | ratings[2]).sum())
    assert found.conformity == pytest.approx(shared / (union + int(ratings.sum())))


def test_large_counts_are_exact() -> None:
    """Beyond 2^24 voxels, where float32 stops counting: two tables added, against whole numbers."""
    table = VoteTable(torch.tensor([0, 1, 3]), torch.tensor([2**40, 1, 2**24 + 1]), 2, 0b11)
    assert agreement_volumes(table).tolist() == [2**24 + 2, 2**24 + 1]
    assert conformity_index(table) == (2**24 + 1) / (2**24 + 2)


@pytest.mark.parametrize("function", [*FUNCTIONS.values(), agreement_volumes, group_agreement])
def test_errors(function) -> None:
    name = function.__name__
    with pytest.raises(ValueError, match=f"{name}: ratings must hold only 0 and 1. Got 0 to 2 for rater 1"):
        function(torch.tensor([[0, 1], [2, 0]], dtype=torch.uint8))
    with pytest.raises(ValueError, match=f"{name}: rater_mask must be None beside a table"):
        function(VoteTable.from_ratings(_case(2, (3, 3))), torch.ones(2, dtype=torch.bool))
    with pytest.raises(TypeError, match=f"{name}: ratings must be bool or integer masks"):
        function(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=f"{name}: votes must have voxels"):
        function(torch.zeros(2, 0, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at least one rater present"):
        function(_case(2, (3, 3)), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=rf"{name}: ratings must be \[R, \*spatial\]"):
        function(torch.ones(2, dtype=torch.uint8))


def test_alpha_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"krippendorff_alpha: votes must be .* Got \[\]"):
        krippendorff_alpha([])
