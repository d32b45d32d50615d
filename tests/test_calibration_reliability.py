# SPDX-License-Identifier: Apache-2.0
"""MR-ECE and its relatives against a float64 loop over pairs, torchmetrics, MONAI and PyTorch."""

import itertools
import math

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from torchmetrics.functional.classification import binary_calibration_error

from monai_multirater.calibration import (
    ReliabilityTable,
    brier_score,
    imagewise_ece,
    multirater_ece,
    negative_log_likelihood,
    per_rater_ece,
    top_label_ece,
    truth_errors,
)
from monai_multirater.calibration.inputs import dot

SHAPES = {"2d": (1, 23, 31), "3d": (1, 7, 9, 11)}


def _case(shape=(1, 23, 31), raters=5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(shape, generator=generator, dtype=torch.float64) ** 3
    ratings = (torch.rand((raters, *shape[1:]), generator=generator) < 0.8 * p + 0.1).to(torch.uint8)
    return p.to(dtype), ratings


def _pairs(p, ratings):
    """All (voxel, rater) pairs, expanded, float64."""
    flat = p.double().reshape(1, -1).expand(len(ratings), -1).reshape(-1)
    return flat.numpy(), ratings.reshape(-1).double().numpy()


def _loop_ece(p, y, bins):
    """Float64 reference: bins (k / K, (k + 1) / K], the first one with 0."""
    total = 0.0
    for k in range(bins):
        inside = (p > k / bins) & (p <= (k + 1) / bins) | ((p == 0) & (k == 0))
        total += abs(math.fsum(y[inside]) - math.fsum(p[inside]))
    return total / len(p)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("raters", [1, 2, 7])
@pytest.mark.parametrize("bins", [1, 2, 15, 100])
def test_mr_ece_equals_a_float64_loop_over_pairs(shape, raters, bins):
    p, ratings = _case(shape, raters)
    expected = _loop_ece(*_pairs(p, ratings), bins)
    assert multirater_ece(p, ratings.sum(0), raters, bins=bins) == pytest.approx(expected, abs=1e-12)
    assert multirater_ece(p, ratings=ratings, bins=bins) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("raters", [1, 4])
def test_mr_ece_equals_torchmetrics_on_expanded_pairs(raters):
    p, ratings = _case(raters=raters, dtype=torch.float64)  # no probability lies on an edge
    confidence, target = (torch.from_numpy(x) for x in _pairs(p, ratings))
    expected = binary_calibration_error(confidence, target.long(), n_bins=15, norm="l1")
    assert multirater_ece(p, ratings.sum(0), raters) == pytest.approx(expected.item(), abs=1e-12)
    largest = binary_calibration_error(confidence, target.long(), n_bins=15, norm="max")
    table = ReliabilityTable.from_case(p, ratings.sum(0)[None], raters)
    assert table.maximum_calibration_error() == pytest.approx(largest.item(), abs=1e-12)


def test_imagewise_ece_with_one_rater_equals_monai():
    cases = [_case(raters=1, seed=seed) for seed in range(3)]
    metric = CalibrationErrorMetric(num_bins=15, include_background=True)
    metric(torch.stack([p for p, _ in cases]), torch.stack([r for _, r in cases]).float())
    ours = imagewise_ece([p for p, _ in cases], [r for _, r in cases], 1)
    assert ours == pytest.approx(float(metric.aggregate()), abs=1e-6)


def test_values_on_an_edge_belong_to_the_bin_below():
    edges = np.arange(11) / 10
    table = ReliabilityTable.from_case(edges, np.zeros(11, np.uint8), 1, bins=10)
    assert table.pairs.tolist() == [2, *[1] * 9]
    just_above = np.nextafter(edges[:-1], 1)
    assert ReliabilityTable.from_case(just_above, np.zeros(10, np.uint8), 1, bins=10).pairs.tolist() == [1] * 10


@pytest.mark.parametrize("bins", [3, 10, 15, 49, 200])
def test_float32_values_around_edges_fall_where_exact_comparison_puts_them(bins):
    near = (np.arange(bins + 1) / bins).astype(np.float32)
    values = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(1))]).clip(0, 1)
    table = ReliabilityTable.from_case(values, np.zeros(len(values), np.uint8), 1, bins=bins)
    exact = np.searchsorted(np.arange(bins + 1)[1:-1] / bins, values.astype(np.float64), side="left")
    assert table.pairs.tolist() == np.bincount(exact, minlength=bins).tolist()


def test_missing_raters_form_no_pair():
    p, ratings = _case(raters=5)
    mask = torch.tensor([True, False, True, True, False])
    padded = torch.where(mask[:, None, None], ratings, torch.ones_like(ratings))
    assert multirater_ece(p, ratings=padded, rater_mask=mask) == multirater_ece(p, ratings=ratings[mask])
    batch = multirater_ece(p[None], ratings=padded[None], rater_mask=mask[None])
    assert batch == multirater_ece(p, ratings[mask].sum(0), 3)


def test_permuting_raters_changes_nothing():
    p, ratings = _case(raters=4)
    assert multirater_ece(p, ratings=ratings) == multirater_ece(p, ratings=ratings[[2, 0, 3, 1]])


def test_cases_of_different_raters_weigh_by_their_pairs():
    (p, a), (q, b) = _case(raters=2, seed=1), _case((1, 5, 6), raters=6, seed=2)
    pairs = [np.concatenate(x) for x in zip(_pairs(p, a), _pairs(q, b), strict=True)]
    expected = _loop_ece(*pairs, 15)
    assert multirater_ece([p, q], [a.sum(0), b.sum(0)], [2, 6]) == pytest.approx(expected, abs=1e-12)
    assert brier_score([p, q], [a.sum(0), b.sum(0)], [2, 6]) == pytest.approx(np.mean((pairs[0] - pairs[1]) ** 2))


def test_tables_merged_equal_the_table_of_everything():
    p, ratings = _case((1, 40, 30), raters=3)
    votes = ratings.sum(0)[None]
    whole = ReliabilityTable.empty().update(p, votes, 3)
    parts = ReliabilityTable.from_case(p[:, :13], votes[:, :13], 3) + ReliabilityTable.from_case(
        p[:, 13:], votes[:, 13:], 3
    )
    assert parts.compute() == pytest.approx(whole.compute(), abs=1e-14)
    assert parts.brier_score() == pytest.approx(whole.brier_score(), abs=1e-14)
    assert parts.negative_log_likelihood() == pytest.approx(whole.negative_log_likelihood(), abs=1e-14)
    batch = ReliabilityTable.empty().update(p.reshape(3, 1, 400), votes.reshape(3, 1, 400), torch.tensor([3, 3, 3]))
    assert (batch.pairs.tolist(), batch.cases) == (whole.pairs.tolist(), 3)


def test_blocks_do_not_show():
    p, ratings = _case((1, 300, 301), raters=3)  # more than one block of 65536
    assert multirater_ece(p, ratings=ratings) == pytest.approx(_loop_ece(*_pairs(p, ratings), 15), abs=1e-12)


def test_brier_and_log_loss_equal_pytorch_in_float64():
    p, ratings = _case(raters=4)
    confidence, target = (torch.from_numpy(x) for x in _pairs(p, ratings))
    votes = ratings.sum(0)
    assert brier_score(p, votes, 4) == pytest.approx(((confidence - target) ** 2).mean().item(), abs=1e-13)
    expected = torch.nn.functional.binary_cross_entropy(confidence, target)
    assert negative_log_likelihood(p, votes, 4) == pytest.approx(expected.item(), abs=1e-12)


def test_log_loss_of_certain_mistakes_is_bounded_as_in_pytorch():
    p, votes = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0, 1, 1, 0])
    expected = torch.nn.functional.binary_cross_entropy(p, votes.float()).item()
    assert negative_log_likelihood(p, votes, 1) == expected == 50.0


def test_perfect_calibration_scores_zero_and_constant_error_scores_itself():
    p, votes = np.full(8, 0.25), np.array([1, 1, 1, 1, 1, 1, 1, 1])
    assert multirater_ece(p, votes, 4) == 0.0
    assert multirater_ece(p + 0.125, votes, 4) == 0.125


def test_the_mean_of_rater_errors_is_not_the_multi_rater_error():
    p, ratings = np.full((1, 2), 0.5), np.array([[[1, 1]], [[0, 0]]])
    assert multirater_ece(p, ratings=ratings) == 0.0
    assert per_rater_ece(p, ratings) == 0.5


def test_per_rater_ece_is_the_mean_of_torchmetrics_per_rater():
    p, ratings = _case(raters=3, dtype=torch.float64)
    expected = [binary_calibration_error(p.flatten(), r.flatten().long(), n_bins=10, norm="l1") for r in ratings]
    assert per_rater_ece(p, ratings, bins=10) == pytest.approx(float(np.mean(expected)), abs=1e-12)


@pytest.mark.parametrize("multiclass", [False, True], ids=["binary", "three_classes"])
def test_top_label_ece_equals_a_loop(multiclass):
    rng = np.random.default_rng(0)
    if multiclass:
        p, labels = rng.dirichlet([1, 1, 1], 200).T, rng.integers(0, 3, (2, 200))
        confidence, predicted = p.max(0), p.argmax(0)
    else:
        p, labels = rng.random(200), rng.integers(0, 2, (2, 200))
        confidence, predicted = np.maximum(p, 1 - p), (p >= 0.5).astype(int)
    expected = np.mean([_loop_ece(confidence, (r == predicted).astype(float), 50) for r in labels])
    assert top_label_ece(p, labels, multiclass=multiclass) == pytest.approx(expected, abs=1e-12)
    one = top_label_ece(p, labels, rater_mask=np.array([False, True]), multiclass=multiclass)
    assert one == top_label_ece(p, labels[1:], multiclass=multiclass)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_equal_mass_bins_equal_sorting_all_pairs(bins):
    p, ratings = _case((1, 20, 30), raters=3)  # no ties, bins divide nothing evenly in general
    confidence, y = _pairs(p, ratings)
    order = np.argsort(confidence, kind="stable")
    cuts = [-(-g * 600 // bins) * 3 for g in range(bins + 1)]  # whole voxels: three pairs tie
    gaps = [abs((y - confidence)[order[a:b]].sum()) for a, b in itertools.pairwise(cuts)]
    assert multirater_ece(p, ratings=ratings, bins=bins, binning="mass") == pytest.approx(sum(gaps) / len(y), abs=1e-12)


def test_equal_probabilities_share_an_equal_mass_bin():
    assert multirater_ece(np.full(10, 0.3), np.arange(10) % 2, 1, bins=5, binning="mass") == pytest.approx(0.2)


def test_truth_errors_equal_a_loop_and_vanish_for_the_truth_itself():
    p, _ = _case()
    q = p**2
    result = truth_errors(p, q)
    gap = (p.double() - q.double()).flatten()
    assert result.mean_absolute_error == pytest.approx(gap.abs().mean().item(), abs=1e-12)
    assert result.brier_score == pytest.approx((gap**2).mean().item(), abs=1e-12)
    flat, truth = p.double().flatten().numpy(), q.double().flatten().numpy()
    assert result.calibration_error == pytest.approx(_loop_ece(flat, truth, 15), abs=1e-12)
    assert truth_errors(p, p).mean_absolute_error == truth_errors(p, p).calibration_error == 0


def test_without_a_voxel_everything_is_nan():
    nothing, votes = np.zeros(0), np.zeros(0, np.uint8)
    table = ReliabilityTable.empty(4)
    scores = [table.compute(), table.maximum_calibration_error(), brier_score(nothing, votes, 2)]
    scores += [multirater_ece(nothing, votes, 2, binning="mass"), truth_errors(nothing, nothing).brier_score]
    assert all(math.isnan(score) for score in scores)
    assert np.isnan(table.mean_confidence).all()
    assert np.isnan(table.observed_frequency).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_every_float_type_is_read_exactly(dtype):
    p, ratings = _case(dtype=dtype)
    assert multirater_ece(p, ratings=ratings) == pytest.approx(_loop_ece(*_pairs(p, ratings), 15), abs=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_tensors_give_the_same_number():
    p, ratings = _case()
    assert multirater_ece(p.cuda(), ratings=ratings.cuda()) == multirater_ece(p, ratings=ratings)


WRONG = {
    "logits": ({"probability": np.array([2.0])}, ValueError, "in \\[0, 1\\]"),
    "nan": ({"probability": np.array([np.nan])}, ValueError, "without NaN"),
    "whole_numbers": ({"probability": np.array([1])}, TypeError, "floating point"),
    "votes_above_raters": ({"votes": np.array([4])}, ValueError, "0..3"),
    "negative_votes": ({"votes": np.array([-1])}, ValueError, "0..3"),
    "fractional_votes": ({"votes": np.array([0.5])}, ValueError, "whole numbers"),
    "other_shape": ({"votes": np.array([1, 1])}, ValueError, "same shape"),
    "no_rater": ({"n_raters": 0}, ValueError, "n_raters"),
    "raters_unknown": ({"n_raters": None}, ValueError, "needs 'n_raters'"),
    "no_bin": ({"bins": 0}, ValueError, "at least 1"),
    "unknown_binning": ({"binning": "depth"}, ValueError, "'width' or 'mass'"),
    "votes_and_ratings": ({"ratings": np.array([[1]])}, ValueError, "either 'votes'"),
}


@pytest.mark.parametrize(("change", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_named(change, error, message):
    good = {"probability": np.array([0.5]), "votes": np.array([1]), "n_raters": 3}
    with pytest.raises(error, match=f"multirater_ece.*{message}"):
        multirater_ece(**(good | change))


def test_wrong_ratings_are_named():
    with pytest.raises(ValueError, match="no rater is present"):
        multirater_ece(np.array([0.5]), ratings=np.array([[1]]), rater_mask=np.array([False]))
    with pytest.raises(ValueError, match="0 and 1 only"):
        multirater_ece(np.array([0.5]), ratings=np.array([[255]]))


def test_counts_stay_exact_past_2_to_the_24_where_float32_peers_stop():
    """2^25 pairs in one bin: torchmetrics and MONAI count them in float32, which cannot go beyond 2^24."""
    voxels = 1 << 25
    p = torch.full((voxels,), 0.25)
    y = torch.zeros(voxels, dtype=torch.uint8)
    y[::5] = 1  # frequency 0.2: the calibration error is 0.05
    exact = abs(int(y.sum()) - 0.25 * voxels) / voxels
    assert multirater_ece(p, y, 1) == pytest.approx(exact, abs=1e-12)
    wrong = binary_calibration_error(p, y.long(), n_bins=15, norm="l1", validate_args=False).item()
    assert abs(wrong - exact) > 1e-3
    metric = CalibrationErrorMetric(num_bins=15)
    metric(p.reshape(1, 1, -1), y.reshape(1, 1, -1))
    assert abs(float(metric.aggregate()) - exact) > 1e-3


@pytest.mark.parametrize("length", [0, 1, 1 << 13, (1 << 13) + 1, 50_000])
def test_sums_of_products_in_pieces(length):
    """Reference: exactly rounded sum of the products."""
    a, b = np.random.default_rng(0).standard_normal((2, length))
    assert dot(a, b) == pytest.approx(math.fsum(a * b), rel=1e-12, abs=1e-12)
