# SPDX-License-Identifier: Apache-2.0
"""Stochastic dominance against PySDTest on its own resamples, and against a loop."""

import math

import numpy as np
import pandas as pd
import pytest
from pysdtest import test_sd as SdTest

from monai_multirater.agreement import dominance_both_ways, stochastic_dominance
from monai_multirater.agreement.dominance import _Cells, recentered


def _sets(name):
    rng = np.random.default_rng(2)
    return {
        "normal": (rng.normal(size=80), rng.normal(0.3, 1.5, 130)),
        "shares": (1 - rng.beta(1, 5, 200), 1 - rng.beta(1, 4, 90)),
        "values on the grid": (rng.integers(0, 12, 60) / 11, rng.integers(0, 12, 75) / 11),
        "one value": (np.full(5, 0.5), np.full(4, 0.5)),
        "one each": (np.array([0.2]), np.array([0.9])),
    }[name]


SETS = ["normal", "shares", "values on the grid", "one value", "one each"]


def _loop(x, y, points):
    grid = np.linspace(min(*x, *y), max(*x, *y), points)
    gaps = [sum(v < g for v in x) / len(x) - sum(v < g for v in y) / len(y) for g in grid]
    return math.sqrt(len(x) * len(y) / (len(x) + len(y))) * max(gaps)


@pytest.mark.parametrize("points", [12, 100])
@pytest.mark.parametrize("name", SETS)
def test_statistic_is_that_of_a_loop_and_of_pysdtest(name, points):
    x, y = _sets(name)
    fast = stochastic_dominance(x, y, grid=points, resamples=5)
    package = stochastic_dominance(x, y, grid=points, resamples=5, method="pysdtest")
    assert fast.statistic == pytest.approx(_loop(x, y, points), abs=1e-12)
    assert fast.statistic == pytest.approx(package.statistic, abs=1e-12)
    for attribute in ("grid", "first_cdf", "second_cdf"):
        assert np.array_equal(getattr(fast, attribute), getattr(package, attribute))


@pytest.mark.parametrize("name", SETS)
def test_the_same_resamples_give_the_same_p(name):
    """PySDTest draws the indices of the first set, then of the second, from NumPy's global generator."""
    x, y = _sets(name)
    package = stochastic_dominance(x, y, resamples=60, seed=11, method="pysdtest")
    generator = np.random.RandomState(11)
    drawn = [np.array([generator.randint(len(v), size=len(v)) for _ in range(60)]) for v in (x, y)]
    cells = [_Cells.of(v, package.grid) for v in (x, y)]
    counts = [
        np.stack([_Cells.of(values[row], package.grid).counts for row in picks])
        for values, picks in zip((x, y), drawn, strict=True)
    ]
    forward, _ = recentered(*cells, *counts)
    assert np.allclose(forward, package.distribution, rtol=0, atol=1e-12)
    observed = stochastic_dominance(x, y, resamples=1).statistic
    assert (forward >= observed).mean() == package.p_value


@pytest.mark.parametrize("name", ["normal", "shares", "values on the grid"])
def test_p_is_that_of_pysdtest_but_for_chance(name):
    x, y = _sets(name)
    fast = stochastic_dominance(x, y, resamples=3000)
    package = stochastic_dominance(x, y, resamples=400, method="pysdtest")
    error = math.sqrt(max(package.p_value * (1 - package.p_value), 0.01) * (1 / 400 + 1 / 3000))
    assert abs(fast.p_value - package.p_value) < 4 * error


def test_pysdtest_leaves_the_global_generator_as_it_was():
    x, y = _sets("normal")
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first = stochastic_dominance(pd.Series(x), pd.Series(y), resamples=20, seed=3, method="pysdtest")
    assert np.array_equal(np.random.random(3), expected)  # noqa: NPY002
    again = stochastic_dominance(x, y, resamples=20, seed=3, method="pysdtest")
    assert np.array_equal(first.distribution, again.distribution)
    other = stochastic_dominance(x, y, resamples=20, seed=np.random.default_rng(3), method="pysdtest")
    assert not np.array_equal(first.distribution, other.distribution)


def test_which_set_dominates():
    """Larger values dominate: this is kept, and the reverse rejected."""
    rng = np.random.default_rng(0)
    high, low = rng.normal(1, 1, 300), rng.normal(0, 1, 200)
    kept, rejected = dominance_both_ways(high, low)
    assert kept.p_value > 0.9
    assert rejected.p_value == 0
    assert (kept.first_cdf <= kept.second_cdf).mean() > 0.95
    assert rejected.n_first == 200
    assert np.array_equal(rejected.first_cdf, kept.second_cdf)


def test_crossing_distributions_dominate_neither_way():
    rng = np.random.default_rng(1)
    narrow, wide = rng.normal(0, 1, 400), rng.normal(0, 3, 400)
    assert all(result.p_value < 0.01 for result in dominance_both_ways(narrow, wide))


@pytest.mark.parametrize("name", SETS)
def test_both_ways_are_the_two_tests(name):
    x, y = _sets(name)
    forward, backward = dominance_both_ways(x, y, resamples=300, seed=4)
    alone = stochastic_dominance(x, y, resamples=300, seed=4)
    assert forward.p_value == alone.p_value
    assert np.array_equal(forward.distribution, alone.distribution)
    reverse = stochastic_dominance(y, x, resamples=300, seed=5)
    assert backward.statistic == reverse.statistic
    assert (backward.n_first, backward.left_out_first) == (reverse.n_first, reverse.left_out_first)
    assert abs(backward.p_value - reverse.p_value) < 0.15


def test_the_null_hypothesis_is_kept_at_the_level_of_the_test():
    """Equal distributions are the least favorable case: p is about uniform."""
    rng = np.random.default_rng(3)
    p = [stochastic_dominance(rng.random(150), rng.random(100), resamples=200, seed=i).p_value for i in range(300)]
    assert abs(np.mean(np.array(p) < 0.1) - 0.1) < 4 * math.sqrt(0.09 / 300)


def test_chunks_and_seeds():
    x, y = _sets("shares")
    many = stochastic_dominance(x, y, resamples=5000)
    assert many.distribution.shape == (5000,)
    assert np.isfinite(many.distribution).all()
    assert np.array_equal(many.distribution, stochastic_dominance(x, y, resamples=5000).distribution)
    assert not np.array_equal(many.distribution, stochastic_dominance(x, y, resamples=5000, seed=1).distribution)


def test_undefined_values_are_left_out_and_counted():
    x, y = _sets("shares")
    found = stochastic_dominance([math.nan, *x], [*y, math.nan, math.nan], seed=2)
    assert (found.n_first, found.n_second, found.left_out_first, found.left_out_second) == (200, 90, 1, 2)
    assert found.p_value == stochastic_dominance(x, y, seed=2).p_value


@pytest.mark.parametrize("method", ["fast", "pysdtest"])
def test_an_empty_set_has_no_test(method):
    found = stochastic_dominance([], [0.5, math.nan], method=method)
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)
    assert (found.n_first, found.n_second) == (0, 1)
    assert all(math.isnan(result.p_value) for result in dominance_both_ways([], []))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "slow"}, "stochastic_dominance: method must be 'fast' or 'pysdtest'. Got 'slow'"),
        ({"grid": 1}, "grid must be at least 2 points and resamples at least 1. Got 1 and 1000"),
        ({"resamples": 0}, "Got 100 and 0"),
    ],
)
def test_errors_say_what_was_received(options, says):
    with pytest.raises(ValueError, match=says):
        stochastic_dominance([1.0, 2.0], [2.0], **options)
    with pytest.raises(ValueError, match="second must be finite"):
        stochastic_dominance([1.0], [math.inf])


def test_numbers_of_the_skin_lesion_study(shared_data):
    """Malignant lesions do not have the higher Dice (2.8100, p = 0); benign ones may (0.16065, p about 0.9)."""
    pairs = pd.read_csv(shared_data / "imapp" / "IMAplusplus_multiannotator_subset_IAA_metrics.csv")
    consensus = pairs[["annotator1", "annotator2"]].isin(["ST", "MV"]).any(axis=1)
    pairs = pairs[~consensus]
    images = pd.read_csv(shared_data / "imapp" / "IMAplusplus_img_metadata.csv").set_index("isic_id")
    malignant = pairs.img_id.str[:12].map(images.benign_malignant) == "malignant"
    first, second = pairs.dice_score[malignant], pairs.dice_score[~malignant]
    assert (len(first), len(second)) == (786, 2317)
    rejected, kept = dominance_both_ways(first, second)
    assert rejected.statistic == pytest.approx(2.8100, abs=5e-5)
    assert rejected.p_value == 0
    assert kept.statistic == pytest.approx(0.16065, abs=5e-6)
    assert 0.86 < kept.p_value < 0.94
    grid_test = SdTest(first.to_numpy(), second.to_numpy(), 100, 1, "bootstrap", quiet=True)
    assert rejected.statistic == pytest.approx(grid_test.T_N().item(), abs=1e-12)
