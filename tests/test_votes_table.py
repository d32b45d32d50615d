# SPDX-License-Identifier: Apache-2.0
"""The vote table against direct counting over voxels."""

from collections import Counter

import pytest
import torch

from monai_multirater.votes import VoteTable, class_ratings, encode_votes, vote_tables_by_class

RATERS = [1, 3, 8, 12, 16, 17, 40, 64]


def random_ratings(raters, shape=(6, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (raters, *shape), generator=generator, dtype=torch.uint8)


def test_patterns_of_two_raters_on_four_voxels():
    table = VoteTable.from_ratings(torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1]]))
    assert table.patterns.tolist() == [0b00, 0b01, 0b11]
    assert table.counts.tolist() == [1, 1, 2]
    assert table.votes.tolist() == [0, 1, 2]
    assert table.level_counts().tolist() == [1, 1, 2]
    assert table.gram().tolist() == [[3, 2], [2, 2]]
    assert table.voxels == 4


@pytest.mark.parametrize("raters", RATERS)
def test_only_patterns_that_occur_with_their_counts(raters):
    ratings = random_ratings(raters)
    table = VoteTable.from_ratings(ratings)
    expected = Counter(map(tuple, ratings.flatten(1).T.tolist()))
    found = {tuple(bits): count for bits, count in zip(table.bits.int().tolist(), table.counts.tolist(), strict=True)}
    assert found == expected


@pytest.mark.parametrize("raters", RATERS)
def test_gram_is_the_matrix_of_intersections(raters):
    ratings = random_ratings(raters)
    flat = ratings.flatten(1).long()
    assert VoteTable.from_ratings(ratings).gram().equal(flat @ flat.T)


@pytest.mark.parametrize("raters", RATERS)
def test_expand_puts_values_back_on_the_volume(raters):
    ratings = random_ratings(raters, (4, 3, 5))
    codes = encode_votes(ratings)
    table = VoteTable.from_codes(codes, raters)
    assert table.expand(codes, table.votes).equal(ratings.long().sum(0))
    assert table.expand(codes, table.votes / raters).dtype == torch.float32


@pytest.mark.parametrize("raters", RATERS)
def test_merged_tables_equal_the_table_of_all_voxels(raters):
    ratings = random_ratings(raters, (50,))
    parts = [VoteTable.from_ratings(part) for part in ratings.split([20, 1, 29], dim=1)]
    assert parts[0] + parts[1] + parts[2] == VoteTable.from_ratings(ratings)
    assert parts[2].merge(parts[0]) == parts[0].merge(parts[2])


def test_permuting_raters_permutes_the_gram_matrix_and_keeps_the_levels():
    ratings, order = random_ratings(7), torch.tensor([3, 1, 6, 0, 2, 5, 4])
    table, permuted = VoteTable.from_ratings(ratings), VoteTable.from_ratings(ratings[order])
    assert permuted.level_counts().equal(table.level_counts())
    assert permuted.gram().equal(table.gram()[order][:, order])


@pytest.mark.parametrize("raters", [5, 20])
def test_an_absent_rater_counts_nowhere(raters):
    ratings = random_ratings(raters)
    mask = torch.ones(raters, dtype=torch.bool)
    mask[[0, 3]] = False
    table, without = VoteTable.from_ratings(ratings, mask), VoteTable.from_ratings(ratings[mask])
    assert table.n_raters == raters - 2
    assert table.level_counts().equal(without.level_counts())
    assert table.gram()[mask][:, mask].equal(without.gram())
    assert not table.gram()[~mask].any()


def test_counts_stay_exact_past_single_precision():
    table = VoteTable(torch.tensor([0, 1]), torch.tensor([2**24, 1]), 1, 1)
    assert (table + table + table).counts.tolist() == [3 * 2**24, 3]


def test_classes_one_by_one():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (3, 5, 5), generator=generator)
    tables = vote_tables_by_class(labels, (1, 3))
    assert list(tables) == [1, 3]
    assert tables[3] == VoteTable.from_ratings(class_ratings(labels, 3))


def test_tables_of_other_raters_do_not_merge():
    full = VoteTable.from_ratings(random_ratings(3))
    part = VoteTable.from_ratings(random_ratings(3), torch.tensor([True, True, False]))
    with pytest.raises(ValueError, match="same raters present"):
        full + part
    with pytest.raises(ValueError, match="at least one rater"):
        VoteTable.from_codes(torch.zeros(3, dtype=torch.uint8), 2, torch.zeros(2, dtype=torch.bool))


@pytest.mark.parametrize("raters", [2, 20])
def test_unknown_codes_and_wrong_values_do_not_expand(raters):
    table = VoteTable.from_ratings(torch.zeros(raters, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="code 1 is not in the table"):
        table.expand(torch.tensor([0, 1]), torch.tensor([5.0]))
    with pytest.raises(ValueError, match="shape"):
        table.expand(torch.tensor([0]), torch.tensor([5.0, 6.0]))
