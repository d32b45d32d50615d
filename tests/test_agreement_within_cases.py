# SPDX-License-Identifier: Apache-2.0
"""Permutation of labels within cases, beside SciPy and enumeration."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from monai_multirater.agreement import compare, within_case_test


def _table(seed, cases=30, shift=0.0):
    """Values of two labels in cases of very different level; hard cases have more pairs of the first label."""
    rng = np.random.default_rng(seed)
    first, second = ([], []), ([], [])
    for case in range(cases):
        level = rng.normal(scale=3)
        hard = level < 0
        for part, n, offset in ((first, 3 if hard else 1, shift), (second, 1 if hard else 3, 0.0)):
            part[0].extend(level + offset + 0.1 * rng.standard_normal(n))
            part[1].extend([f"c{case}"] * n)
    return first, second


def _enumerated(first, second):
    """Two-sided p-value over all divisions of three cases, by a loop in float64."""
    names = sorted(set(first[1]) & set(second[1]))
    values = {n: [[v for v, c in zip(*part, strict=True) if c == n] for part in (first, second)] for n in names}
    options = []
    for ours, others in values.values():
        everything, k = ours + others, len(ours)
        options.append(
            [
                np.mean([everything[i] for i in chosen])
                - np.mean([everything[i] for i in range(len(everything)) if i not in chosen])
                for chosen in itertools.combinations(range(len(everything)), k)
            ]
        )
    found = np.array([np.mean(each) for each in itertools.product(*options)])
    observed = np.mean([each[0] for each in options])
    return observed, min(1.0, 2 * min((found <= observed + 1e-12).mean(), (found >= observed - 1e-12).mean()))


def test_few_cases_are_enumerated():
    first, second = _table(0, cases=3, shift=0.05)
    found = within_case_test(first[0], second[0], first_cases=first[1], second_cases=second[1])
    observed, p_value = _enumerated(first, second)
    assert found.exact
    assert found.permutations == 4**3
    assert found.statistic == pytest.approx(observed, abs=1e-12)
    assert found.p_value == pytest.approx(p_value, abs=1e-12)


def test_one_value_of_each_label_per_case_is_scipys_paired_permutation():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.3, 1, 10), rng.normal(0, 1, 10)
    names = [f"c{i}" for i in range(10)]
    found = within_case_test(x, y, first_cases=names, second_cases=names)
    peer = stats.permutation_test((x, y), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf)
    assert found.exact
    assert found.statistic == pytest.approx(peer.statistic)
    assert found.p_value == pytest.approx(peer.pvalue)


def test_random_divisions_come_close_to_all():
    first, second = _table(2, cases=6, shift=0.05)
    every = within_case_test(*_values(first, second), resamples=5000, **_cases(first, second))
    some = within_case_test(*_values(first, second), resamples=4000, seed=3, **_cases(first, second))
    again = within_case_test(*_values(first, second), resamples=4000, seed=3, **_cases(first, second))
    assert every.exact
    assert not some.exact
    assert some == again
    assert some.p_value == pytest.approx(every.p_value, abs=4 * math.sqrt(0.25 / 4000))


def test_hard_cases_are_not_mistaken_for_an_effect():
    """Simpson: the first label looks far worse because hard cases have more of it; within cases nothing differs."""
    first, second = _table(4)
    looks = stats.mannwhitneyu(first[0], second[0]).pvalue
    found = within_case_test(*_values(first, second), **_cases(first, second))
    assert looks < 1e-3
    assert found.p_value > 0.05
    assert abs(found.statistic) < 0.1


def test_an_effect_is_found_under_a_large_spread_of_cases():
    first, second = _table(5, shift=0.2)
    found = within_case_test(*_values(first, second), **_cases(first, second))
    assert found.statistic == pytest.approx(0.2, abs=0.1)
    assert found.p_value < 0.001
    assert found.units_first == 30


def test_cases_with_one_label_and_undefined_values_say_nothing():
    first, second = _table(6, cases=4)
    found = within_case_test(*_values(first, second), **_cases(first, second))
    more = within_case_test(
        [*first[0], 100.0, math.nan], second[0], first_cases=[*first[1], "alone", "c0"], second_cases=second[1]
    )
    assert more.p_value == found.p_value
    assert more.statistic == found.statistic
    assert more.left_out == 1
    none = within_case_test([1.0], [2.0], first_cases=["a"], second_cases=["b"])
    assert math.isnan(none.p_value)


def test_comparison_has_it_where_cases_have_both_labels():
    first, second = _table(7, shift=0.2)
    pairs = compare(first[0], second[0], first_cases=first[1], second_cases=second[1], permutations=499)
    expected = within_case_test(*_values(first, second), resamples=499, **_cases(first, second))
    assert (pairs.difference_within, pairs.p_within) == (expected.statistic, expected.p_value)
    assert math.isnan(pairs.p_permutation)
    apart = compare([1.0, 2.0], [3.0, 4.0], first_cases=["a", "b"], second_cases=["c", "d"])
    assert math.isnan(apart.p_within)
    assert not math.isnan(apart.p_permutation)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first_cases": ["a"]}, "first_cases must name the case of each value. Got 1 names of 2 values"),
        ({"alternative": "both"}, "Got 'both'"),
        ({"resamples": 0}, "resamples at least 1"),
    ],
    ids=["cases", "alternative", "resamples"],
)
def test_bad_input_is_refused(change, words):
    given = {"first_cases": ["a", "b"], "second_cases": ["a", "b"], **change}
    with pytest.raises(ValueError, match="within_case_test") as error:
        within_case_test([1.0, 2.0], [3.0, 4.0], **given)
    assert words in str(error.value)


def _values(first, second):
    return first[0], second[0]


def _cases(first, second):
    return {"first_cases": first[1], "second_cases": second[1]}
