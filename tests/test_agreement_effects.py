# SPDX-License-Identifier: Apache-2.0
"""Rank test, effect sizes, Holm and permutation against loops, SciPy and statsmodels."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from monai_multirater.agreement import cliffs_delta, cohens_d, holm, mann_whitney, permutation_test
from monai_multirater.agreement.permutation import random_draws

NAN = math.nan
STATISTICS = {
    "mean": lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
    "median": lambda x, y, axis: np.median(x, axis=axis) - np.median(y, axis=axis),
}


def _sets(seed, n=23, m=31, ties=True):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0.3, 1, n), rng.normal(0, 2, m)
    return (x.round(), y.round()) if ties else (x, y)


def _superior(x, y):
    return sum((a > b) + 0.5 * (a == b) for a, b in itertools.product(x, y))


@pytest.mark.parametrize("ties", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_mann_whitney_is_a_count_of_pairs_with_the_p_of_scipy(ties, alternative):
    x, y = _sets(1, ties=ties)
    found = mann_whitney(np.append(x, NAN), np.concatenate([[NAN, NAN], y]), alternative=alternative)
    assert found.statistic == _superior(x, y)
    assert found.probability_of_superiority == _superior(x, y) / (len(x) * len(y))
    assert found.p_value == stats.mannwhitneyu(x, y, alternative=alternative).pvalue
    assert (found.n_first, found.n_second, found.left_out_first, found.left_out_second) == (23, 31, 1, 2)


@pytest.mark.parametrize(("first", "second"), [([], [1.0]), ([NAN], [1.0]), ([1.0], [NAN])])
def test_nothing_to_compare_is_nan(first, second):
    found = mann_whitney(first, second)
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)
    assert math.isnan(found.probability_of_superiority)
    assert math.isnan(cohens_d(first, second))
    assert math.isnan(cliffs_delta(first, second))
    assert math.isnan(permutation_test(first, second).p_value)


@pytest.mark.parametrize("seed", range(3))
def test_cohens_d_is_the_t_statistic_without_the_numbers(seed):
    x, y = _sets(seed, ties=False)
    t = stats.ttest_ind(x, y).statistic
    assert cohens_d([*x, NAN], y) == pytest.approx(t * math.sqrt(1 / len(x) + 1 / len(y)), rel=1e-12)
    assert cohens_d(y, x) == pytest.approx(-cohens_d(x, y), rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0], [2.0]), ([0.1] * 3, [0.1] * 7), ([0.1] * 3, [0.7] * 3)],
    ids=["one", "same", "two"],
)
def test_without_spread_there_is_no_d(first, second):
    assert math.isnan(cohens_d(first, second))


@pytest.mark.parametrize("seed", range(3))
def test_cliffs_delta_counts_pairs(seed):
    x, y = _sets(seed)
    loop = sum(int(a > b) - int(a < b) for a, b in itertools.product(x, y)) / (len(x) * len(y))
    assert cliffs_delta(x, [*y, NAN]) == loop
    assert cliffs_delta(x, y) == pytest.approx(2 * mann_whitney(x, y).probability_of_superiority - 1, abs=1e-15)


def test_cliffs_delta_of_separate_sets():
    assert cliffs_delta([2, 3], [0, 1, 1]) == 1
    assert cliffs_delta([0], [5, 6]) == -1
    assert cliffs_delta([1], [1]) == 0


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9], [0.02], [1e-9, 1.0, 0.0]])
def test_holm_is_that_of_statsmodels(p):
    assert np.allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-14, atol=0)


def test_holm_leaves_nan_out_of_the_family():
    found = holm([0.01, NAN, 0.04])
    assert found[[0, 2]].tolist() == [0.02, 0.04]
    assert math.isnan(found[1])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([NAN])).all()


@pytest.mark.parametrize("ties", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_all_permutations_give_the_p_of_scipy(statistic, alternative, ties):
    x, y = _sets(4, 4, 6, ties)
    expected = stats.permutation_test((x, y), STATISTICS[statistic], vectorized=True, alternative=alternative)
    found = permutation_test(x, [*y, NAN], statistic=statistic, alternative=alternative)
    assert found.exact
    assert found.permutations == math.comb(10, 4)
    assert found.left_out == 1
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-14)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-14)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_permutation_of_ranks_is_the_exact_mann_whitney_test(alternative):
    x, y = _sets(5, 5, 6, ties=False)
    expected = stats.mannwhitneyu(x, y, alternative=alternative, method="exact").pvalue
    found = permutation_test(x, y, statistic="rank", alternative=alternative)
    assert found.p_value == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("statistic", ["mean", "median", "rank"])
def test_random_permutations_come_near_all_of_them(statistic):
    x, y = _sets(6, 7, 7, ties=False)
    exact = permutation_test(x, y, statistic=statistic)
    random = permutation_test(x, y, statistic=statistic, resamples=2000, seed=3)
    assert exact.exact
    assert not random.exact
    assert random.permutations == 2000
    error = 2 * math.sqrt(exact.p_value / 2 / 2000)
    assert abs(random.p_value - exact.p_value) < 4 * error
    assert random == permutation_test(x, y, statistic=statistic, resamples=2000, seed=3)
    assert random != permutation_test(x, y, statistic=statistic, resamples=2000, seed=4)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize("resamples", [9999, 600], ids=["all", "random"])
def test_the_larger_set_may_come_first(resamples, alternative):
    """Its p is that of the exchanged sets with the other alternative."""
    x, y = _sets(9, 9, 4, ties=False)
    other = {"less": "greater", "greater": "less"}.get(alternative, alternative)
    one = permutation_test(x, y, resamples=resamples, alternative=alternative)
    two = permutation_test(y, x, resamples=resamples, alternative=other)
    exact = permutation_test(x, y, alternative=alternative).p_value
    error = 1e-14 if one.exact else 5 * 2 * math.sqrt(0.2 * 0.8 / resamples)
    assert (one.p_value, two.p_value) == pytest.approx((exact, exact), abs=error)
    assert one.statistic == pytest.approx(-two.statistic, rel=1e-12)
    assert (one.units_first, one.units_second) == (9, 4)


@pytest.mark.parametrize(("n", "k"), [(5, 2), (4, 4), (3, 1)])
def test_draws_are_all_equally_likely(n, k):
    """Each ordered choice, counted over many urns, within five standard deviations of its expectation."""
    urns = 60_000
    picked = np.stack(list(random_draws(n, k, (urns,), np.random.default_rng(0))))
    assert all(len(set(column)) == k for column in picked[:, :200].T)
    choices, counts = np.unique(picked, axis=1, return_counts=True)
    expected = urns / math.perm(n, k)
    assert choices.shape[1] == math.perm(n, k)
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


def _cases(seed):
    """Values of 3 + 5 cases with one to three values each, and the cases."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, 8)
    cases = np.repeat(np.arange(8), sizes)
    return rng.normal(size=sizes.sum()).round(1), cases


@pytest.mark.parametrize("seed", range(3))
def test_whole_cases_exchange_their_label(seed):
    values, cases = _cases(seed)
    first = cases < 3

    def difference(chosen):
        mask = np.isin(cases, chosen)
        return values[mask].mean() - values[~mask].mean()

    everything = np.array([difference(chosen) for chosen in itertools.combinations(range(8), 3)])
    less, greater = (everything <= everything[0] + 1e-12).mean(), (everything >= everything[0] - 1e-12).mean()
    names = np.array([f"case {c}" for c in cases])
    found = permutation_test(values[first], values[~first], first_groups=names[first], second_groups=names[~first])
    assert (found.units_first, found.units_second, found.exact) == (3, 5, True)
    assert found.statistic == pytest.approx(everything[0], abs=1e-14)
    assert found.p_value == pytest.approx(min(1, 2 * min(less, greater)), abs=1e-14)


def test_cases_with_one_value_are_values():
    x, y = _sets(7, 40, 60)
    named = permutation_test(x, y, resamples=500, first_groups=list(range(40)), second_groups=list(range(40, 100)))
    assert named == permutation_test(x, y, resamples=500)


def test_pairs_of_a_case_are_no_independent_evidence():
    """Ten copies of each value: the test of values is sure, the test of cases is as before."""
    x, y = _sets(8, 6, 6, ties=False)
    names = np.arange(12)
    once = permutation_test(x, y)
    copies = permutation_test(
        np.repeat(x, 10),
        np.repeat(y, 10),
        first_groups=np.repeat(names[:6], 10),
        second_groups=np.repeat(names[6:], 10),
    )
    assert copies.p_value == once.p_value
    assert permutation_test(np.repeat(x, 10), np.repeat(y, 10), resamples=500).p_value < once.p_value


def test_a_case_whose_values_are_undefined_is_not_exchanged():
    found = permutation_test([1, NAN, 2], [3, 4, 5], first_groups=["a", "b", "c"], second_groups=["d", "d", "e"])
    assert (found.units_first, found.units_second, found.left_out) == (2, 2, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mann_whitney([1], [2], alternative="more"), "mann_whitney: alternative must be .* Got 'more'"),
        (lambda: mann_whitney([[1]], [2]), r"mann_whitney: first must be one-dimensional. Got shape \(1, 1\)"),
        (lambda: cohens_d([1], [math.inf]), "cohens_d: second must be finite.* Got 1 infinite of 1"),
        (lambda: cliffs_delta([-math.inf], [1]), "cliffs_delta: first must be finite"),
        (lambda: holm([0.5, 1.5]), "holm: p_values must be between 0 and 1. Got 0.5 to 1.5"),
        (lambda: permutation_test([1], [2], statistic="mode"), "permutation_test: statistic must be .* Got 'mode'"),
        (lambda: permutation_test([1], [2], resamples=0), "permutation_test: resamples must be at least 1. Got 0"),
        (lambda: permutation_test([1], [2], first_groups=["a"]), "groups must be given for both sets"),
        (lambda: permutation_test([1, 2], [2], first_groups=["a"], second_groups=["b"]), "Got 1 names of 2 values"),
        (lambda: permutation_test([1], [2], first_groups=["a"], second_groups=["a"]), "Got case 'a' in both"),
    ],
)
def test_errors_say_what_was_received(call, says):
    with pytest.raises(ValueError, match=says):
        call()
