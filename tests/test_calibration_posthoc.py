# SPDX-License-Identifier: Apache-2.0
"""Post-hoc calibrators. References: SciPy and scikit-learn on all (voxel, rater) pairs, closed forms, NumPy."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from monai_multirater.calibration import (
    CALIBRATORS,
    CaseHistogram,
    HistogramStack,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    brier_score,
    calibration_scores,
    calibrator_from_dict,
    fit_calibrator,
    multirater_ece,
    negative_log_likelihood,
)

BOUND = 25 * math.log(2)
SHAPES = {"2d": (90, 80), "3d": (20, 18, 20)}
EXAMPLES = {
    "temperature": TemperatureCalibrator(1.7),
    "platt": PlattCalibrator(0.6, -0.4),
    "isotonic": IsotonicCalibrator((0.0, 0.25, 0.5, 0.75), (0.1, 0.1, 0.4, 0.9)),
}


def make_cases(shape, counts, *, center=-4.0, spread=3.0, seed=0):
    """Probabilities whose logits are too large and shifted; `counts` raters present in each case."""
    rng = np.random.default_rng(seed)
    cases = []
    for raters in counts:
        z = rng.normal(center, spread, shape)
        votes = rng.binomial(raters, expit(0.6 * z + 0.3)).astype(np.uint8)
        cases.append((torch.from_numpy(expit(z).astype(np.float32)), torch.from_numpy(votes), raters))
    return cases


def evidence(cases):
    return HistogramStack.from_histograms([CaseHistogram.from_case(*case) for case in cases])


def pairs(cases):
    """Probability, vote and multiplicity of all (voxel, rater) pairs, float64."""
    p = np.concatenate([p.double().numpy().ravel() for p, _, _ in cases])
    votes = np.concatenate([v.numpy().ravel() for _, v, _ in cases])
    against = np.concatenate([n - v.numpy().ravel().astype(float) for _, v, n in cases])
    y, weight = np.repeat([1.0, 0.0], len(p)), np.concatenate([votes, against])
    return np.tile(p, 2)[weight > 0], y[weight > 0], weight[weight > 0]


def fit_on_pairs(method, cases):
    """The same fit by SciPy or scikit-learn on all pairs one by one, as a function of float64 probabilities."""
    p, y, weight = pairs(cases)
    z = np.clip(logit(p), -BOUND, BOUND)
    if method == "temperature":

        def loss(inverse):
            return np.average(np.logaddexp(0, inverse * z) - y * inverse * z, weights=weight)

        inverse = minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-12}).x
        return lambda x: expit(inverse * np.clip(logit(x), -BOUND, BOUND))
    if method == "platt":
        model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000, solver="newton-cholesky")
        model.fit(z[:, None], y, weight)
        return lambda x: model.predict_proba(np.clip(logit(x), -BOUND, BOUND)[:, None])[:, 1]
    least = 1 / (weight.sum() + 2)
    return IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(p, y, weight).predict


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("counts", [(4, 4), (5, 1, 3)], ids=["all-raters", "missing-raters"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("center", "spread"), [(-4, 3), (-12, 5), (0.5, 1)], ids=["lesion", "far-tail", "middle"])
def test_the_fit_equals_that_on_all_pairs(method, counts, shape, center, spread):
    cases = make_cases(shape, counts, center=center, spread=spread)
    found = fit_calibrator(method, evidence(cases))
    p = np.concatenate([p.double().numpy().ravel() for p, _, _ in cases])
    np.testing.assert_allclose(found(torch.from_numpy(p)).numpy(), fit_on_pairs(method, cases)(p), atol=2e-6)


@pytest.mark.parametrize("counts", [(4, 4), (5, 1, 3)], ids=["all-raters", "missing-raters"])
def test_the_isotonic_fit_is_exact_where_no_bin_holds_two_probabilities(counts):
    cases = [((p * 2000).round() / 2000, v, n) for p, v, n in make_cases((90, 80), counts)]
    found = fit_calibrator("isotonic", evidence(cases))
    reference = fit_on_pairs("isotonic", cases)
    p = np.unique(pairs(cases)[0])
    np.testing.assert_allclose(found(torch.from_numpy(p)).numpy(), reference(p), atol=1e-12)
    between = np.linspace(0, 1, 40_001)  # lines where there is no evidence, flat outside; their ends move by a bin
    np.testing.assert_allclose(found(torch.from_numpy(between)).numpy(), reference(between), atol=1e-3)


def test_the_isotonic_fit_stays_close_where_bins_tie_probabilities():
    cases = make_cases((300, 300), (4,))
    p = cases[0][0].double().numpy().ravel()
    gap = np.abs(
        fit_calibrator("isotonic", evidence(cases))(torch.from_numpy(p)).numpy() - fit_on_pairs("isotonic", cases)(p)
    )
    assert gap.mean() < 1e-4  # the ends of steps move by a bin


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize("counts", [(4, 4), (5, 1, 3), (1,)], ids=["all-raters", "missing-raters", "one-rater"])
def test_scores_of_the_evidence_are_those_of_the_calibrated_maps(method, counts):
    cases = make_cases((90, 80), counts)
    table = evidence(cases)
    calibrator = fit_calibrator(method, table)
    for change in (None, calibrator):
        found = calibration_scores(table, change)
        maps = [p if change is None else change(p) for p, _, _ in cases]
        labels = [[v for _, v, _ in cases], [n for _, _, n in cases]]
        assert found.brier == pytest.approx(brier_score(maps, *labels), abs=1e-6)
        assert found.nll == pytest.approx(negative_log_likelihood(maps, *labels), abs=1e-6)
        assert found.mr_ece == pytest.approx(multirater_ece(maps, *labels), abs=1e-4)


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize("seed", range(3))
def test_no_fit_makes_the_loss_of_its_own_evidence_worse(method, seed):
    table = evidence(make_cases((60, 60), (3, 2), center=-2, seed=seed))
    before, after = calibration_scores(table), calibration_scores(table, fit_calibrator(method, table))
    assert after.nll < before.nll
    if method != "temperature":
        assert after.brier < before.brier
        assert after.mr_ece < before.mr_ece


@pytest.mark.parametrize("counts", [(4, 4), (5, 1, 3)], ids=["all-raters", "missing-raters"])
def test_isotonic_is_calibrated_on_its_own_evidence(counts):
    cases = make_cases((90, 80), counts)
    table = evidence(cases)
    total = sum(v.numel() * n for _, v, n in cases)
    calibrator = fit_calibrator("isotonic", table)
    assert calibration_scores(table, calibrator, bins=1000).mr_ece <= 1 / total
    maps = [calibrator(p) for p, _, _ in cases]  # float32
    assert multirater_ece(maps, [v for _, v, _ in cases], [n for _, _, n in cases], bins=1000) < 1e-6
    assert min(calibrator.values) >= 1 / (total + 2)
    assert max(calibrator.values) <= 1 - 1 / (total + 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), split=st.integers(1, 3), method=st.sampled_from(list(CALIBRATORS)))
def test_merged_evidence_gives_the_fit_of_the_whole(seed, split, method):
    cases = make_cases((12, 11), (3, 1, 4, 2), seed=seed)
    whole = CaseHistogram.empty()
    for case in cases:
        whole = whole.update(*case)
    parts = [CaseHistogram.empty(), CaseHistogram.empty()]
    for index, case in enumerate(cases):
        parts[index >= split] = parts[index >= split].update(*case)
    expected = fit_calibrator(method, whole)
    assert fit_calibrator(method, parts[1] + parts[0]) == expected
    assert fit_calibrator(method, evidence(cases)) == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), slope=st.floats(0.3, 3), shift=st.floats(-2, 2))
def test_fits_do_not_depend_on_the_scale_they_correct(seed, slope, shift):
    """Platt undoes any increasing line of the logit, temperature any factor; isotonic any increasing change."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1.5, 3000).clip(-4.5, 4.5)  # within the bounds of the logit after the change, too
    votes = rng.binomial(3, expit(z)).astype(np.uint8)

    def calibrated(method, logits):
        p = expit(logits).astype(np.float32)
        assume(len(np.unique(CaseHistogram.from_case(p, votes, 3).sum_confidence)) > 2900)  # hardly a tie
        return fit_calibrator(method, CaseHistogram.from_case(p, votes, 3))(torch.from_numpy(expit(logits))).numpy()

    for method, change in (("platt", slope * z + shift), ("temperature", slope * z)):
        np.testing.assert_allclose(calibrated(method, change), calibrated(method, z), atol=1e-5)
    isotonic = np.abs(calibrated("isotonic", slope * z + shift) - calibrated("isotonic", z))
    assert isotonic.mean() < 1e-3


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=60),
    method=st.sampled_from(list(CALIBRATORS)),
    wide=st.booleans(),
)
def test_calibrators_are_monotone_and_stay_in_the_unit_interval(numbers, method, wide):
    p = torch.tensor(sorted(numbers), dtype=torch.float64 if wide else torch.float32)
    q = EXAMPLES[method](p)
    assert q.min() >= 0
    assert q.max() <= 1
    assert (q.diff() >= -(1e-15 if wide else 2e-7)).all()


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_the_order_of_the_voxels_stays(method):
    cases = make_cases((60, 60), (3,), center=-2)
    p, v, n = cases[0]
    q = fit_calibrator(method, evidence(cases))(p.double())
    y = (v > 1).numpy().ravel()
    assert roc_auc_score(y, q.numpy().ravel()) == pytest.approx(roc_auc_score(y, p.double().numpy().ravel()), abs=1e-12)
    assert n == 3


def test_the_complement_is_calibrated_to_the_complement():
    p, v, n = make_cases((60, 60), (4,), center=0)[0]
    p = (p * 2**16).round() / 2**16  # so that 1 - p is exact
    whole, mirrored = evidence([(p, v, n)]), evidence([(1 - p, n - v, n)])
    assert fit_calibrator("temperature", mirrored).temperature == pytest.approx(
        fit_calibrator("temperature", whole).temperature, rel=1e-6
    )
    one, other = fit_calibrator("platt", whole), fit_calibrator("platt", mirrored)
    assert (other.slope, other.intercept) == pytest.approx((one.slope, -one.intercept), rel=1e-6)
    for method in CALIBRATORS:
        q = fit_calibrator(method, whole)(p.double()) + fit_calibrator(method, mirrored)(1 - p.double())
        torch.testing.assert_close(q, torch.ones_like(q), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_closed_forms(dtype):
    p = torch.tensor([[0.2, 0.5], [0.9, 0.99]], dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    odds = p / (1 - p)
    for calibrator, expected in (
        (TemperatureCalibrator(2.0), odds.sqrt() / (1 + odds.sqrt())),
        (PlattCalibrator(1.0, math.log(3.0)), 3 * odds / (1 + 3 * odds)),
        (TemperatureCalibrator(1.0), p),
        (IsotonicCalibrator((0.0, 1.0), (0.0, 1.0)), p),
        (IsotonicCalibrator((0.3, 0.7), (0.1, 0.5)), torch.tensor([[0.1, 0.3], [0.5, 0.5]], dtype=dtype)),
        (IsotonicCalibrator((0.3,), (0.1,)), torch.full_like(p, 0.1)),
    ):
        found = calibrator(p)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_zero_and_one_count_as_the_ends_of_the_logit(dtype):
    p = torch.tensor([0.0, 1.0, float("nan")], dtype=dtype)
    q = TemperatureCalibrator(2.0)(p)
    expected = torch.tensor([expit(-BOUND / 2), expit(BOUND / 2)], dtype=dtype)
    torch.testing.assert_close(q[:2], expected, rtol=1e-5, atol=0)
    for calibrator in EXAMPLES.values():
        assert calibrator(p)[2].isnan()
    torch.testing.assert_close(EXAMPLES["isotonic"](p)[:2], torch.tensor([0.1, 0.9], dtype=dtype))


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize("shape", [(), (0,), (1, 6, 5), (2, 1, 4, 5, 3)], ids=["scalar", "empty", "2d", "batch-3d"])
def test_any_shape_and_layout(method, shape):
    p = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    q = EXAMPLES[method](p)
    assert q.shape == p.shape
    if p.ndim > 1:
        torch.testing.assert_close(EXAMPLES[method](p.transpose(-1, -2)), q.transpose(-1, -2))


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(method, dtype):
    p = torch.rand(50, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = EXAMPLES[method](p.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = EXAMPLES[method](p)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("method", CALIBRATORS)
def test_a_device_changes_nothing(method):
    p = torch.cat([torch.rand(1000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 1.0, 1e-40])])
    with torch.autocast("cuda", dtype=torch.float16):
        found = EXAMPLES[method](p.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), EXAMPLES[method](p), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", CALIBRATORS)
def test_json_holds_a_calibrator_exactly(method):
    fitted = fit_calibrator(method, evidence(make_cases((60, 60), (3,))))
    assert calibrator_from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def two_levels(plus, minus, low=0.25, high=0.8):
    """100 voxels of one rater at `low` and `high`; share of foreground votes at each."""
    p = np.repeat([low, high], 100)
    votes = np.concatenate([np.arange(100) < 100 * plus, np.arange(100) < 100 * minus])
    return CaseHistogram.from_case(p, votes, 1)


def test_platt_meets_two_observed_rates():
    found = fit_calibrator("platt", two_levels(0.1, 0.7))
    q = found(torch.tensor([0.25, 0.8], dtype=torch.float64))
    torch.testing.assert_close(q, torch.tensor([0.1, 0.7], dtype=torch.float64), rtol=0, atol=1e-5)


def test_hard_masks_can_be_calibrated():
    """All probabilities 0 or 1: Platt and isotonic give the observed rates, temperature the balanced one."""
    table = two_levels(0.1, 0.7, 0.0, 1.0)
    p = torch.tensor([0.0, 1.0])
    for method in ("platt", "isotonic"):
        torch.testing.assert_close(fit_calibrator(method, table)(p), torch.tensor([0.1, 0.7]), rtol=0, atol=1e-5)
    torch.testing.assert_close(fit_calibrator("temperature", table)(p), torch.tensor([0.2, 0.8]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (CaseHistogram.empty(), "has no pair"),
        (two_levels(0, 0), "says background in every pair"),
        (two_levels(1, 1), "says foreground in every pair"),
    ],
    ids=["nothing", "no-positive", "no-negative"],
)
def test_evidence_without_both_classes_is_refused(method, table, reason):
    with pytest.raises(ValueError, match=reason):
        fit_calibrator(method, table)


@pytest.mark.parametrize(
    ("method", "table", "reason"),
    [
        ("temperature", two_levels(0, 1), r"separates the votes \(nearly\) without error"),
        ("platt", two_levels(0, 1), "no background vote has a higher probability"),
        ("platt", two_levels(0.4, 1), "no background vote has a higher probability"),
        ("temperature", two_levels(0.9, 0.1), "tells nothing about the votes, or the opposite"),
        ("platt", two_levels(0.9, 0.1), "falls where votes rise"),
        ("platt", two_levels(1, 0), "no foreground vote has a higher probability"),
        ("temperature", two_levels(0.3, 0.6, 0.5, 0.5), "tells nothing"),
        ("platt", two_levels(0.3, 0.6, 0.2, 0.2), "same everywhere"),
    ],
    ids=[
        "separated-t",
        "separated-p",
        "one-sure-level",
        "reversed-t",
        "reversed-p",
        "inverted-p",
        "half-t",
        "one-bin-p",
    ],
)
def test_a_best_map_that_does_not_exist_is_explained(method, table, reason):
    with pytest.raises(ValueError, match=reason):
        fit_calibrator(method, table)


def test_one_bin_is_enough_for_isotonic():
    found = fit_calibrator("isotonic", two_levels(0.3, 0.6, 0.2, 0.2))
    assert found.values == pytest.approx((0.45,) * len(found.values))
    assert fit_calibrator("isotonic", two_levels(0.9, 0.1))(torch.tensor([0.1, 0.9])).tolist() == pytest.approx(
        [0.5] * 2
    )


def test_isotonic_keeps_away_from_certainty():
    found = fit_calibrator("isotonic", two_levels(0, 1))
    assert found(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist() == pytest.approx([1 / 202, 201 / 202])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TemperatureCalibrator(0.0), ValueError, "'temperature' must be a finite number above 0, got 0.0"),
        (lambda: PlattCalibrator(-1.0, 0.0), ValueError, "'slope' must be a finite number above 0, got -1.0"),
        (lambda: PlattCalibrator(1.0, math.nan), ValueError, "'intercept' must be finite, got nan"),
        (lambda: IsotonicCalibrator((), ()), ValueError, "at least one, got 0 and 0"),
        (lambda: IsotonicCalibrator((0.0, 0.5), (0.1,)), ValueError, "got 2 and 1"),
        (lambda: IsotonicCalibrator((0.0, 2.0), (0.1, 0.2)), ValueError, "'thresholds' must lie in"),
        (lambda: IsotonicCalibrator((0.0, 0.5), (0.2, 0.1)), ValueError, "'values' must not decrease"),
        (
            lambda: fit_calibrator("beta", two_levels(0.1, 0.7)),
            ValueError,
            "one of temperature, platt, isotonic, got 'beta'",
        ),
        (lambda: calibrator_from_dict({"method": "beta"}), ValueError, "one of temperature, platt, isotonic"),
        (lambda: calibrator_from_dict({"method": "platt", "slope": 1.0}), ValueError, "parameters of platt do not fit"),
        (lambda: EXAMPLES["platt"](torch.tensor([1])), TypeError, "must be floating point, got dtype torch.int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
