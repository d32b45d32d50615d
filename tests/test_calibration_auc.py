# SPDX-License-Identifier: Apache-2.0
"""Exact AUC against scikit-learn; histogram AUC against exact AUC and its own bound."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from monai_multirater.calibration import (
    CaseHistogram,
    HistogramStack,
    multirater_auc,
    multirater_ece,
)
from monai_multirater.calibration.histogram import HISTOGRAM_BINS, fine_bin, fine_bin_ranges
from monai_multirater.calibration.inputs import as_case
from monai_multirater.calibration.ranking import rank_cases
from monai_multirater.calibration.stack import case_entries, sparse_entries


def _case(seed=0, voxels=4000, raters=5, dtype=np.float32, decimals=None):
    """Calibrated, noisy predictions spread over many orders of magnitude on both sides."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-2, 4, voxels)
    votes = rng.binomial(raters, 1 / (1 + np.exp(-logit))).astype(np.uint8)
    p = 1 / (1 + np.exp(-logit - rng.normal(0, 1, voxels)))
    return (p if decimals is None else p.round(decimals)).astype(dtype), votes


def _expanded(cases, raters):
    p = np.concatenate([np.concatenate([p, p]) for p, _ in cases])
    y = np.concatenate([np.repeat([1, 0], len(v)) for _, v in cases])
    weight = np.concatenate([np.concatenate([v, r - v]) for (_, v), r in zip(cases, raters, strict=True)])
    return roc_auc_score(y, p, sample_weight=weight.astype(np.float64))


@pytest.mark.parametrize("raters", [1, 2, 7, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [None, 2], ids=["distinct", "ties"])
def test_exact_auc_equals_scikit_learn(raters, dtype, decimals):
    case = _case(raters=raters, dtype=dtype, decimals=decimals)
    assert multirater_auc(*case, raters) == pytest.approx(_expanded([case], [raters]), abs=1e-12)


def test_cases_with_different_raters_rank_together():
    cases, raters = [_case(1, 500, 2), _case(2, 900, 7), _case(3, 40, 1)], [2, 7, 1]
    value = multirater_auc([p for p, _ in cases], [v for _, v in cases], raters)
    assert value == pytest.approx(_expanded(cases, raters), abs=1e-12)


def test_auc_of_small_cases_by_hand():
    p = np.array([0.1, 0.4, 0.4, 0.9])
    assert multirater_auc(p, np.array([0, 0, 1, 1]), 1) == (2 + 1.5) / 4
    assert multirater_auc(p, np.array([0, 0, 0, 1]), 1) == 1.0
    assert multirater_auc(p, np.array([1, 1, 0, 0]), 1) == 0.125
    assert multirater_auc(np.full(4, 0.5), np.array([0, 1, 1, 0]), 1) == 0.5
    assert multirater_auc(np.array([0.5]), np.array([1]), 2) == 0.5
    assert multirater_auc(np.array([-0.0, 0.0], np.float32), np.array([0, 1]), 1) == 0.5


@pytest.mark.parametrize("votes", [[0, 0], [3, 3]], ids=["all_background", "all_foreground"])
def test_auc_without_both_classes_is_nan(votes):
    p = np.array([0.2, 0.7], np.float32)
    assert math.isnan(multirater_auc(p, np.array(votes), 3))
    histogram = CaseHistogram.from_case(p, np.array(votes), 3)
    assert math.isnan(histogram.auc())
    assert math.isnan(histogram.auc_error_bound())
    assert math.isnan(CaseHistogram.empty().multirater_ece())


def test_a_monotone_change_of_the_probability_keeps_the_auc():
    p, votes = _case()
    assert multirater_auc(p.astype(np.float64) ** 3, votes, 5) == pytest.approx(multirater_auc(p, votes, 5), abs=1e-14)


def test_fine_bins_are_monotone_mirrored_and_resolve_both_tails():
    values = np.arange(0, 0x3F800001, 4001, dtype=np.uint32).view(np.float32)  # all magnitudes of float32 in [0, 1]
    index = fine_bin(values)
    assert (np.diff(index) >= 0).all()
    assert fine_bin(np.array([0, 1e-45, 0.5, 1], np.float32)).tolist() == [
        0,
        1,
        HISTOGRAM_BINS // 2,
        HISTOGRAM_BINS - 1,
    ]
    assert fine_bin(np.array([-0.0], np.float32)).tolist() == [0]
    half = 1 - np.arange(1, 1 << 14, dtype=np.float32) * np.float32(2.0**-14)
    assert (fine_bin(half[half != 0.5]) + fine_bin(1 - half[half != 0.5]) == HISTOGRAM_BINS - 1).all()
    for low in (1e-3, 1e-6, 1e-12, 1e-30):
        near = np.array([low, low * 1.05], np.float32)
        assert np.diff(fine_bin(near))[0] > 0
    assert (np.diff(fine_bin(np.array([1 - 3e-7, 1 - 2e-7, 1 - 1e-7, 1], np.float32))) > 0).all()


def test_the_ranges_of_the_fine_bins_hold_every_float32_number_once():
    low, high = fine_bin_ranges()
    index = np.flatnonzero(~np.isnan(low))
    for edge in (low, high):
        numbers = edge[index].astype(np.float32)
        assert np.array_equal(numbers, edge[index])
        assert np.array_equal(fine_bin(numbers), index)
    following = np.nextafter(high[index[:-1]].astype(np.float32), np.float32(2))
    assert np.array_equal(following, low[index[1:]])
    assert (low[0], high[0], high[-1]) == (0, 0, 1)


def test_float64_is_rounded_to_float32_first():
    p, votes = _case(dtype=np.float64)
    wide, narrow = (CaseHistogram.from_case(x, votes, 5) for x in (p, p.astype(np.float32)))
    assert np.array_equal(wide.positives, narrow.positives)


def _lesion(seed, softness, size=256, raters=7):
    """A disk with a soft boundary, noisy calibrated predictions."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    logit = (size * rng.uniform(0.12, 0.3) - np.hypot(x, y)) / (size * softness)
    votes = rng.binomial(raters, 1 / (1 + np.exp(-logit))).astype(np.uint8)
    return (1 / (1 + np.exp(-logit - rng.normal(0, 1, logit.shape)))).astype(np.float32), votes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("softness", "auc"), [(0.015, 0.99), (0.03, 0.97), (0.045, 0.94)])
def test_histogram_auc_of_lesions_keeps_a_bound_below_one_millionth(seed, softness, auc):
    p, votes = _lesion(seed, softness)
    histogram = CaseHistogram.from_case(p, votes, 7)
    exact = multirater_auc(p, votes, 7)
    assert exact == pytest.approx(auc, abs=0.01)
    assert abs(histogram.auc() - exact) <= histogram.auc_error_bound() < 1e-6


@pytest.mark.parametrize("softness", [0.06, 0.1, 0.3], ids=["auc_0.89", "auc_0.77", "auc_0.58"])
def test_histogram_auc_keeps_its_bound_where_the_classes_overlap_widely(softness):
    """The bound is less than twice what Cauchy-Schwarz leaves to any choice of as many bins (of smooth densities)."""
    p, votes = _lesion(0, softness)
    histogram = CaseHistogram.from_case(p, votes, 7)
    plus, minus = (h.reshape(-1, 256).sum(axis=1).astype(float) for h in (histogram.positives, histogram.negatives))
    overlap = np.sqrt(plus * minus).sum() / math.sqrt(plus.sum() * minus.sum())
    least = overlap**2 / (2 * HISTOGRAM_BINS)
    assert abs(histogram.auc() - multirater_auc(p, votes, 7)) <= histogram.auc_error_bound()
    assert least < histogram.auc_error_bound() < 2 * least


def test_the_bound_counts_no_true_ties():
    p = np.repeat(np.array([0, 1 - 2**-24, 1], np.float32), 10)
    votes = np.tile(np.array([0, 1], np.uint8), 15)
    histogram = CaseHistogram.from_case(p, votes, 1)
    assert histogram.auc_error_bound() == 0
    assert histogram.auc() == multirater_auc(p, votes, 1) == 0.5


def test_merged_histograms_equal_the_histogram_of_everything():
    (p, a), (q, b) = _case(1), _case(2)
    merged = CaseHistogram.from_case(p, a, 5) + CaseHistogram.from_case(q, b, 5)
    whole = CaseHistogram.from_case(np.concatenate([p, q]), np.concatenate([a, b]), 5)
    assert np.array_equal(merged.positives, whole.positives)
    assert np.array_equal(merged.negatives, whole.negatives)
    assert merged.multirater_ece(10) == pytest.approx(whole.multirater_ece(10), abs=1e-14)


@pytest.mark.parametrize("bins", [2, 15, 50])
def test_equal_mass_error_from_histograms_is_close_to_the_exact_one(bins):
    p, votes = _case(voxels=1 << 17)
    exact = multirater_ece(p, votes, 5, bins=bins, binning="mass")
    assert CaseHistogram.from_case(p, votes, 5).multirater_ece(bins) == pytest.approx(exact, abs=2e-5)


def _stack(count=4):
    cases = [_case(seed, 300 + 100 * seed, 1 + seed) for seed in range(count)]
    histograms = [CaseHistogram.from_case(p, v, 1 + i) for i, (p, v) in enumerate(cases)]
    return cases, histograms, HistogramStack.from_histograms(histograms)


def test_concordance_equals_a_loop_over_case_pairs():
    _, histograms, stack = _stack()
    expected = np.zeros((4, 4))
    for i, a in enumerate(histograms):
        for j, b in enumerate(histograms):
            plus, minus = (h.reshape(-1, 16).sum(axis=1) for h in (a.positives, b.negatives))  # 16 bins together
            expected[i, j] = plus @ (np.cumsum(minus) - 0.5 * minus)
    assert np.array_equal(stack.concordance(), expected)


def test_auc_of_a_stack_equals_a_loop_over_case_pairs():
    _, histograms, stack = _stack()
    expected = sum(
        float(a.positives @ (np.cumsum(b.negatives) - 0.5 * b.negatives)) for a in histograms for b in histograms
    )
    plus, minus = stack.totals()
    assert stack.auc() == pytest.approx(expected / (plus.sum() * minus.sum()), abs=1e-15)


@pytest.mark.parametrize("voxels", [1, 5000, 1 << 17, (1 << 17) + 1])
def test_entries_of_a_case_are_those_of_its_histogram(voxels):
    p, votes = _case(voxels=voxels)
    entries = case_entries(as_case(p, votes, 5, function="test"))
    assert np.array_equal(entries, sparse_entries(CaseHistogram.from_case(p, votes, 5)))
    assert entries.dtype == np.int32


def test_counts_beyond_32_bits_are_kept():
    _, histograms, _ = _stack(2)
    huge = CaseHistogram(histograms[0].positives << 40, histograms[0].negatives, histograms[0].sum_confidence)
    parts = [sparse_entries(histogram) for histogram in (huge, histograms[1])]
    assert [part.dtype for part in parts] == [np.int64, np.int32]
    stack = HistogramStack.from_entries(parts)
    assert stack.totals()[0].tolist() == [int(huge.positives.sum()), int(histograms[1].positives.sum())]
    assert stack.concordance()[0, 1] == HistogramStack.from_histograms(histograms).concordance()[0, 1] * 2.0**40


def test_concordance_of_a_case_that_uses_every_bin():
    p = np.linspace(0.3, 0.7, 100_000, dtype=np.float32)
    histogram = CaseHistogram.from_case(p, np.arange(100_000) % 3, 2)
    plus, minus = (h.reshape(-1, 16).sum(axis=1) for h in (histogram.positives, histogram.negatives))
    below = np.cumsum(minus) - 0.5 * minus
    stack = HistogramStack.from_histograms([CaseHistogram.empty(), histogram])
    assert stack.concordance().tolist() == [[0, 0], [0, float(plus @ below)]]
    assert stack.totals()[0].tolist() == [0, int(histogram.positives.sum())]


def test_a_stack_with_exact_cases_is_closer_and_keeps_its_bound():
    cases, _, stack = _stack()
    exact = np.array([rank_cases([as_case(p, v, 1 + i, function="test")]).concordant for i, (p, v) in enumerate(cases)])
    truth = multirater_auc([p for p, _ in cases], [v for _, v in cases], [1, 2, 3, 4])
    bound = stack.auc_error_bound(exact=True)
    assert abs(stack.auc(exact) - truth) <= bound + 1e-15
    assert bound < stack.auc_error_bound()
    single = stack.select([2])
    assert single.auc(exact[2:3]) == pytest.approx(multirater_auc(*cases[2], 3), abs=1e-14)
    assert single.auc_error_bound(exact=True) == pytest.approx(0, abs=1e-12)


def test_selecting_cases_keeps_order_and_empty_stacks_are_nan():
    _, histograms, stack = _stack()
    chosen = stack.select([3, 1])
    assert chosen.totals()[0].tolist() == [
        int(histograms[3].positives.sum()),
        int(histograms[1].positives.sum()),
    ]
    assert math.isnan(HistogramStack.from_histograms([]).auc())
