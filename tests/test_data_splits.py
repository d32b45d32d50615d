# SPDX-License-Identifier: Apache-2.0
"""Splits: groups stay together, strata and sizes in proportion, seeded."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_multirater.data.splits import split_cases, terciles

FRACTIONS = {"training": 0.7, "validation": 0.1, "test": 0.2}


@given(count=st.integers(3, 120), strata=st.integers(1, 6), seed=st.integers(0, 5))
def test_sizes_and_strata_are_proportional(count: int, strata: int, seed: int) -> None:
    labels = [index % strata for index in range(count)]
    parts = split_cases(count, fractions=FRACTIONS, seed=seed, strata=labels)
    assert sorted(i for part in parts.values() for i in part) == list(range(count))
    totals = Counter(labels)
    for name, indices in parts.items():
        assert len(indices) >= 1
        assert abs(len(indices) - FRACTIONS[name] * count) <= 1.5
        counts = Counter(labels[i] for i in indices)
        for label, total in totals.items():
            assert abs(counts[label] - FRACTIONS[name] * total) <= 2.5


@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=40), seed=st.integers(0, 5))
def test_groups_never_part(sizes: list[int], seed: int) -> None:
    groups = [g for g, size in enumerate(sizes) for _ in range(size)]
    parts = split_cases(len(groups), fractions=FRACTIONS, seed=seed, groups=groups)
    homes = [{groups[i] for i in indices} for indices in parts.values()]
    assert sum(len(home) for home in homes) == len(sizes)
    assert all(homes)


def test_same_seed_same_split_other_seed_other_split() -> None:
    first = split_cases(50, fractions=FRACTIONS, seed=1)
    assert first == split_cases(50, fractions=FRACTIONS, seed=1)
    assert first != split_cases(50, fractions=FRACTIONS, seed=2)


def test_every_case_can_land_in_every_split() -> None:
    homes = {
        name
        for seed in range(60)
        for name, part in split_cases(10, fractions=FRACTIONS, seed=seed, strata=[0] * 5 + [1] * 5).items()
        if 3 in part
    }
    assert homes == set(FRACTIONS)


def test_a_split_of_zero_is_left_out() -> None:
    parts = split_cases(10, fractions={"training": 0.8, "validation": 0.2, "test": 0.0}, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"training": 8, "validation": 2}


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="2 groups cannot fill 3 splits"):
        split_cases(9, fractions=FRACTIONS, seed=0, groups=[0, 1, 0, 1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize(
    "options",
    [
        {"fractions": {"a": 0.5, "b": 0.6}},
        {"fractions": {"a": 1.2, "b": -0.2}},
        {"fractions": FRACTIONS, "groups": [1]},
        {"fractions": FRACTIONS, "strata": [1]},
    ],
    ids=["sum", "negative", "groups", "strata"],
)
def test_wrong_arguments(options: dict) -> None:
    with pytest.raises(ValueError, match="split_cases"):
        split_cases(5, seed=0, **options)


def test_terciles_by_rank_within_classes() -> None:
    assert terciles([5.0, 1.0, 3.0]) == [2, 0, 1]
    assert terciles([1, 2, 3, 10, 20, 30], ["a", "a", "a", "b", "b", "b"]) == [0, 1, 2, 0, 1, 2]
    assert terciles([7.0, 7.0]) == [0, 1]
    assert terciles([]) == []
