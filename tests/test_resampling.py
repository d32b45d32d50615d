# SPDX-License-Identifier: Apache-2.0
"""Bootstrap over cases against an explicit loop, scipy and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from monai_multirater.calibration import CaseHistogram, HistogramStack
from monai_multirater.resampling import (
    BootstrapResult,
    bootstrap_auc,
    bootstrap_cases,
    case_weights,
    paired_difference,
)

SUMS = np.add(np.random.default_rng(0).random((30, 2)), [[0.0, 1.0]])


def _ratio(sums):
    return sums[:, 0] / sums[:, 1]


def test_weights_draw_the_fraction_with_replacement():
    weights = case_weights(20, resamples=500, fraction=0.6, seed=3)
    assert weights.shape == (500, 20)
    assert (weights.sum(axis=1) == 12).all()
    assert weights.max() > 1
    assert weights.mean(axis=0) == pytest.approx(np.full(20, 0.6), abs=0.15)
    assert (case_weights(1, resamples=3, fraction=0.01, seed=0) == 1).all()


def test_equal_seeds_give_equal_weights_and_a_generator_moves_on():
    assert np.array_equal(case_weights(9, seed=5), case_weights(9, seed=5))
    assert not np.array_equal(case_weights(9, seed=5), case_weights(9, seed=6))
    generator = np.random.default_rng(5)
    assert not np.array_equal(case_weights(9, seed=generator), case_weights(9, seed=generator))


def test_bootstrap_equals_a_loop_over_resamples():
    weights = case_weights(30, resamples=50, seed=1)
    result = bootstrap_cases(SUMS, _ratio, resamples=50, seed=1)
    loop = []
    for row in weights:
        drawn = np.repeat(SUMS, row.astype(int), axis=0)
        loop.append(drawn[:, 0].sum() / drawn[:, 1].sum())
    assert result.distribution == pytest.approx(np.array(loop), abs=1e-13)
    assert result.estimate == pytest.approx(SUMS[:, 0].sum() / SUMS[:, 1].sum(), abs=1e-14)
    assert result.mean == pytest.approx(np.mean(loop))
    assert result.standard_error == pytest.approx(np.std(loop, ddof=1))
    assert result.interval == pytest.approx(tuple(np.percentile(loop, [2.5, 97.5])))


def test_full_fraction_agrees_with_scipy():
    ours = bootstrap_cases(SUMS[:, :1], lambda s: s[:, 0] / 30, resamples=4000, fraction=1.0, seed=0)
    peer = scipy.stats.bootstrap(
        (SUMS[:, 0],), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    )
    assert ours.standard_error == pytest.approx(peer.standard_error, rel=0.06)
    assert ours.interval == pytest.approx(tuple(peer.confidence_interval), abs=0.02)


def test_auc_bootstrap_equals_scikit_learn_on_repeated_cases():
    rng = np.random.default_rng(0)
    levels = np.linspace(0.05, 0.95, 12)  # far apart: the histogram is exact
    cases = [(rng.choice(levels, 60).astype(np.float32), rng.binomial(1, 0.4, 60).astype(np.uint8)) for _ in range(6)]
    stack = HistogramStack.from_histograms([CaseHistogram.from_case(p, v, 1) for p, v in cases])
    weights = case_weights(6, resamples=20, seed=2)
    result = bootstrap_auc(stack.concordance(), *stack.totals(), weights=weights)
    for row, value in zip(weights, result.distribution, strict=True):
        drawn = [cases[i] for i in np.repeat(np.arange(6), row.astype(int))]
        expected = roc_auc_score(np.concatenate([v for _, v in drawn]), np.concatenate([p for p, _ in drawn]))
        assert value == pytest.approx(expected, abs=1e-12)
    assert result.estimate == pytest.approx(stack.auc(), abs=1e-14)


def test_undefined_resamples_are_nan_and_left_out():
    concordance = np.array([[1.0, 0.0], [0.0, 0.0]])
    result = bootstrap_auc(concordance, [1, 0], [1, 0], resamples=200, fraction=0.5, seed=0)
    assert np.isnan(result.distribution).any()
    assert result.mean == 1.0
    nothing = BootstrapResult.from_distribution(0.5, np.full(3, np.nan))
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.interval[0])


def test_shared_resamples_cancel_what_methods_have_in_common():
    weights = case_weights(30, seed=0)
    better = SUMS - [[0.05, 0.0]]
    first, second = (bootstrap_cases(x, lambda s: s[:, 0], weights=weights) for x in (better, SUMS))
    paired = paired_difference(first, second)
    assert paired.difference.estimate == pytest.approx(-1.5)
    assert paired.difference.standard_error < 1e-9 < first.standard_error
    assert paired.p_value == pytest.approx(2 / 1001)
    same = paired_difference(first, first)
    assert same.p_value == 1.0


WRONG = {
    "no_case": (lambda: case_weights(0), "at least 1"),
    "no_fraction": (lambda: case_weights(3, fraction=0.0), "positive"),
    "flat_statistics": (lambda: bootstrap_cases([1.0, 2.0], _ratio), r"\[cases, columns\]"),
    "other_cases": (lambda: bootstrap_cases(SUMS, _ratio, weights=np.ones((5, 3))), r"\[resamples, 30\]"),
    "unequal_auc": (lambda: bootstrap_auc(np.ones((2, 2)), [1, 1, 1], [1, 1]), r"\[cases, cases\]"),
    "other_resamples": (
        lambda: paired_difference(
            bootstrap_cases(SUMS, _ratio, resamples=3), bootstrap_cases(SUMS, _ratio, resamples=4)
        ),
        "same resamples",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
