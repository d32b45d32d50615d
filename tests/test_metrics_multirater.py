# SPDX-License-Identifier: Apache-2.0
"""Metric classes against the plain functions of `calibration`, on their own and inside MONAI's engines."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from monai_multirater.calibration import (
    brier_score,
    imagewise_ece,
    multirater_auc,
    multirater_ece,
    negative_log_likelihood,
    per_rater_ece,
    truth_errors,
)
from monai_multirater.handlers.metrics import (
    MultiRaterAUC,
    MultiRaterBrier,
    MultiRaterCalibrationError,
    MultiRaterLogLoss,
    MultiRaterSummary,
    TruthError,
)
from monai_multirater.metrics import (
    CaseStatistics,
    MultiRaterAUCMetric,
    MultiRaterBrierMetric,
    MultiRaterCalibrationErrorMetric,
    MultiRaterLogLossMetric,
    MultiRaterSummaryMetric,
    TruthErrorMetric,
    compare_models,
)

POOLED = {
    "mr_ece": (MultiRaterCalibrationErrorMetric, multirater_ece, 1e-12),
    "brier": (MultiRaterBrierMetric, brier_score, 1e-12),
    "nll": (MultiRaterLogLossMetric, negative_log_likelihood, 1e-12),
    "auc": (MultiRaterAUCMetric, multirater_auc, 1e-5),
}


def _cases(count=5, spatial=2, same_size=False, seed=0, raters=4):
    """Cases of different sizes and raters present, with the truth."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for index in range(count):
        shape = [12 + (0 if same_size else index + axis) for axis in range(spatial)]
        truth = torch.rand(1, *shape, generator=generator) ** 2
        present = torch.arange(raters) <= index % raters
        ratings = (torch.rand(raters, *shape, generator=generator) < truth).to(torch.uint8)
        p = (0.7 * truth + 0.3 * torch.rand(1, *shape, generator=generator)).clamp(0, 1)
        cases.append(
            {
                "pred": p,
                "ratings": ratings,
                "rater_mask": present,
                "votes": ratings[present].sum(0, dtype=torch.uint8)[None],
                "n_raters": present.sum(),
                "truth": truth,
                "case": f"case {index:02d}",
            }
        )
    return cases


def _functional(function, cases):
    return function(*([case[key] for case in cases] for key in ("pred", "votes", "n_raters")))


def _label(case, *keys):
    return {key: case[key] for key in keys or ("votes", "n_raters")}


def _add(metric, cases, *keys):
    return metric([case["pred"] for case in cases], [_label(case, *keys) for case in cases])


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("spatial", [2, 3], ids=["2d", "3d"])
def test_cases_of_any_size_and_rater_count_equal_the_function(name, spatial):
    kind, function, tolerance = POOLED[name]
    cases = _cases(spatial=spatial)
    metric = kind()
    values = torch.cat([_add(metric, cases[:2]), _add(metric, cases[2:])])
    assert metric.aggregate().item() == pytest.approx(_functional(function, cases), abs=tolerance)
    single = [_functional(function, [case]) for case in cases]
    assert values.tolist() == pytest.approx(single, abs=1e-12)
    assert metric.get_buffer().flatten().tolist() == values.tolist()
    assert len(metric) == len(cases)
    metric.reset()
    assert len(metric) == 0
    assert math.isnan(metric.aggregate().item())


def test_auc_stays_within_its_reported_bound():
    cases = _cases()
    metric = MultiRaterAUCMetric()
    _add(metric, cases)
    error = abs(metric.aggregate().item() - _functional(multirater_auc, cases))
    assert error <= metric.error_bound() < 1e-4


@pytest.mark.parametrize("form", ["mapping", "list_of_mappings", "tensor_and_numbers", "ratings", "meta_tensor"])
def test_every_form_of_the_label_gives_the_same(form):
    cases = _cases(same_size=True)
    p, votes = (torch.stack([case[key] for case in cases]) for key in ("pred", "votes"))
    n_raters = torch.stack([case["n_raters"] for case in cases])
    metric = MultiRaterCalibrationErrorMetric()
    if form == "mapping":
        metric(p, {"votes": votes, "n_raters": n_raters})
    elif form == "list_of_mappings":
        metric(p, decollate_batch({"votes": votes, "n_raters": n_raters}))
    elif form == "tensor_and_numbers":
        metric(p, votes, n_raters=n_raters)
    elif form == "ratings":
        metric(p, {key: torch.stack([case[key] for case in cases]) for key in ("ratings", "rater_mask")})
    else:
        metric([MetaTensor(x) for x in p], [MetaTensor(v) for v in votes], n_raters.tolist())
    assert metric.aggregate().item() == pytest.approx(_functional(multirater_ece, cases), abs=1e-13)


def test_a_fixed_number_of_raters_can_be_given_once():
    p, votes = torch.rand(2, 1, 5, 5), torch.randint(0, 4, (2, 1, 5, 5))
    metric = MultiRaterCalibrationErrorMetric(raters=3)
    metric(p, votes)
    assert metric.aggregate().item() == pytest.approx(multirater_ece(p, votes, torch.tensor([3, 3])), abs=1e-13)


def test_imagewise_reduction_is_the_mean_over_cases():
    cases = _cases()
    metric = MultiRaterCalibrationErrorMetric(reduction="imagewise", bins=10)
    _add(metric, cases)
    expected = imagewise_ece(*([c[key] for c in cases] for key in ("pred", "votes", "n_raters")), bins=10)
    assert metric.aggregate().item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("error", ["mae", "brier", "calibration"])
def test_truth_errors_equal_the_function_and_are_nan_without_truth(error):
    cases = _cases()
    metric = TruthErrorMetric(error=error)
    _add(metric, cases, "votes", "n_raters", "truth")
    everything = [torch.cat([case[key].flatten() for case in cases]) for key in ("pred", "truth")]
    result = truth_errors(*everything)
    field = {"mae": "mean_absolute_error", "brier": "brier_score", "calibration": "calibration_error"}[error]
    assert metric.aggregate().item() == pytest.approx(getattr(result, field), abs=1e-12)
    metric.reset()
    _add(metric, cases)
    assert math.isnan(metric.aggregate().item())


def _summary(cases, *keys, **options):
    metric = MultiRaterSummaryMetric(**options)
    _add(metric, cases, *keys)
    return metric


def test_summary_agrees_with_every_function():
    cases = _cases()
    metric = _summary(cases, "votes", "n_raters", "ratings", "rater_mask", "truth", "case")
    summary = metric.compute_summary(resamples=20)
    for name, (_, function, tolerance) in POOLED.items():
        assert summary[name].estimate == pytest.approx(_functional(function, cases), abs=tolerance)
    table = metric.case_table()
    assert table["case"].tolist() == [case["case"] for case in cases]
    for row, case in enumerate(cases):
        mask = case["rater_mask"]
        expected = per_rater_ece(case["pred"], case["ratings"], rater_mask=mask)
        assert table["per_rater_ece"][row] == pytest.approx(expected, abs=1e-12)
        predicted = case["pred"][0] > 0.5
        dice = [2 * (predicted & (r > 0)).sum() / (predicted.sum() + r.sum()) for r in case["ratings"][mask]]
        assert table["dice_raters"][row] == pytest.approx(np.mean(dice), abs=1e-6)
        assert table["raters"][row] == int(case["n_raters"])
        assert table["auc"][row] == pytest.approx(_functional(multirater_auc, [case]), abs=1e-13)
    assert summary["dice_raters"].estimate == pytest.approx(table["dice_raters"].mean())
    everything = metric.reliability_table()
    assert everything.compute() == pytest.approx(summary["mr_ece"].estimate, abs=1e-14)
    assert everything.cases == len(cases)


def test_intervals_equal_scores_of_explicitly_repeated_cases():
    from monai_multirater.resampling import case_weights

    cases = _cases()
    summary = _summary(cases, "votes", "n_raters", "truth", "case").compute_summary(resamples=8, seed=4)
    for index, weights in enumerate(case_weights(len(cases), resamples=8, seed=4)):
        drawn = [cases[i] for i in np.repeat(np.arange(len(cases)), weights.astype(int))]
        for name, (_, function, tolerance) in POOLED.items():
            expected = _functional(function, drawn)
            assert summary[name].distribution[index] == pytest.approx(expected, abs=max(tolerance, 2e-5))
        truth = truth_errors(*(torch.cat([c[key].flatten() for c in drawn]) for key in ("pred", "truth")))
        assert summary["truth_mae"].distribution[index] == pytest.approx(truth.mean_absolute_error, abs=1e-12)


def test_what_no_case_defines_is_left_out_of_the_summary():
    metric = _summary(_cases())
    summary = metric.compute_summary(resamples=5)
    assert {"mr_ece", "auc", "brier", "nll"} <= summary.keys()
    assert not {"truth_mae", "dice_raters"} & summary.keys()
    assert np.isnan(metric.case_table()["truth_mae"]).all()


def test_order_and_batching_of_cases_do_not_change_a_bit():
    cases = _cases()
    keys = ("votes", "n_raters", "truth", "case")
    one, other = _summary(cases, *keys), MultiRaterSummaryMetric()
    for case in cases[::-1]:
        _add(other, [case], *keys)
    first, second = one.compute_summary(resamples=10), other.compute_summary(resamples=10)
    for name, result in first.items():
        assert result.estimate == second[name].estimate
        assert np.array_equal(result.distribution, second[name].distribution)


def test_a_repeated_case_counts_once_and_another_of_its_name_raises():
    cases = _cases()
    metric = _summary([*cases, cases[0]], "votes", "n_raters", "case")
    assert len(metric) == len(cases)
    other = {**cases[1], "case": cases[0]["case"]}
    with pytest.raises(ValueError, match="'case 00' came twice"):
        _summary([*cases, other], "votes", "n_raters", "case").aggregate()


def test_saved_statistics_read_back_and_leave_no_partial_file(tmp_path):
    statistics = _summary(_cases(), "votes", "n_raters", "case").case_statistics()
    statistics.save(tmp_path / "evidence.npz")
    again = CaseStatistics.load(tmp_path / "evidence.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.npz"]
    assert again.names == statistics.names
    assert np.array_equal(again.rows, statistics.rows, equal_nan=True)
    assert again.score("auc") == statistics.score("auc")


@pytest.mark.parametrize("bins", [None, 1 << 16], ids=["unknown", "other"])
def test_statistics_of_another_version_are_refused(tmp_path, bins):
    _summary(_cases(), "votes", "n_raters", "case").case_statistics().save(tmp_path / "evidence.npz")
    with np.load(tmp_path / "evidence.npz") as file:
        arrays = {name: file[name] for name in file if name != "histogram_bins"}
    np.savez(tmp_path / "old.npz", **arrays, **({} if bins is None else {"histogram_bins": bins}))
    with pytest.raises(ValueError, match=r"old\.npz was written by another version.*Evaluate again"):
        CaseStatistics.load(tmp_path / "old.npz")


def test_models_are_compared_on_the_same_resamples():
    cases = _cases(8)
    sharper = [{**case, "pred": case["truth"]} for case in cases]
    keys = ("votes", "n_raters", "truth", "case")
    worse, better = (_summary(c, *keys).case_statistics() for c in (cases, sharper[::-1]))
    result = compare_models(better, worse, resamples=200)
    assert result["truth_brier"].first.estimate == 0
    assert result["brier"].difference.estimate == pytest.approx(
        _functional(brier_score, sharper) - _functional(brier_score, cases), abs=1e-12
    )
    assert result["brier"].difference.interval[1] < 0
    assert result["brier"].p_value < 0.05
    with pytest.raises(ValueError, match="same cases"):
        compare_models(better, worse.select([0, 1]))


class _Sigmoid(torch.nn.Module):
    def forward(self, image):
        return torch.sigmoid(image)


def _evaluator(cases, decollate, handlers, key):
    data = [{**case, "image": torch.logit(case["pred"], eps=1e-6)} for case in cases]
    for item in data:
        item["ratings"] = item["ratings"] * item["rater_mask"][:, None, None]

    def prepare(batch, device, non_blocking, **kwargs):
        keys = ("votes", "n_raters", "ratings", "rater_mask", "truth")
        return batch["image"].to(device), {key: batch[key] for key in keys}

    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=2),
        network=_Sigmoid(),
        prepare_batch=prepare,
        decollate=decollate,
        key_val_metric=key,
        additional_metrics=handlers,
    )


@pytest.mark.parametrize("decollate", [True, False], ids=["decollated", "batched"])
def test_handlers_report_in_monai_engines(decollate):
    cases = _cases(same_size=True)
    handlers = {
        "ece": MultiRaterCalibrationError(),
        "roc": MultiRaterAUC(),
        "squares": MultiRaterBrier(),
        "logs": MultiRaterLogLoss(),
        "truth": TruthError(error="mae"),
    }
    summary = MultiRaterSummary()
    evaluator = _evaluator(cases, decollate, handlers, {"mr_ece": summary})
    evaluator.run()
    found = evaluator.state.metrics
    for own, (name, (_, function, tolerance)) in zip(("ece", "squares", "logs", "roc"), POOLED.items(), strict=True):
        expected = _functional(function, cases)
        assert found[own] == pytest.approx(expected, abs=max(tolerance, 1e-6))
        assert found[name] == pytest.approx(expected, abs=max(tolerance, 1e-6))
    assert found["truth"] == found["truth_mae"]
    assert evaluator.state.metric_details["mr_ece"].shape == (5, 1)
    assert summary.metric_fn.case_statistics().names == tuple(case["case"] for case in cases)
    evaluator.run()
    assert len(summary.metric_fn) == 5


def test_summary_handler_publishes_the_chosen_scores_only():
    handler = MultiRaterSummary(score="brier", scores=("auc",))
    evaluator = _evaluator(_cases(same_size=True), True, {}, {"key": handler})
    evaluator.run()
    assert set(evaluator.state.metrics) == {"key", "auc"}


def test_unnamed_cases_are_numbered():
    metric = _summary(_cases(3))
    assert metric.case_table()["case"].tolist() == ["0", "1", "2"]


P, V = torch.rand(2, 1, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
WRONG = {
    "network_outputs": ((torch.rand(2, 5, 4, 4), {"votes": V, "n_raters": [4, 4]}), "one channel"),
    "too_few_labels": ((P, [{"votes": V[0], "n_raters": 4}]), "as many cases"),
    "too_few_votes": ((P, {"votes": V[:1], "n_raters": torch.tensor([4])}), "2 cases"),
    "no_label": ((P, None), "as many cases"),
    "raters_unknown": ((P, V), "number of raters is unknown"),
    "neither_votes_nor_ratings": ((P, [{"truth": V[0]}, {"truth": V[1]}]), "'votes' or 'ratings'"),
    "bad_case_is_named": ((P, [{"votes": V[0] + 9, "n_raters": 4, "case": "b7"}] * 2), "case b7"),
    "rater_counts": ((P, V, [4, 4, 4]), "'n_raters' must hold 2"),
    "names": ((P, V, 4, ["one"]), "must name 2 cases"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_calls_are_named(arguments, message):
    metric = MultiRaterBrierMetric()
    with pytest.raises(ValueError, match=f"MultiRaterBrierMetric.*{message}"):
        metric(*arguments)
    assert len(metric) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: MultiRaterSummaryMetric(score="dice"),
        lambda: TruthErrorMetric(error="rmse"),
        lambda: MultiRaterCalibrationErrorMetric(reduction="sum"),
        lambda: MultiRaterCalibrationErrorMetric(bins=0),
    ],
    ids=["score", "error", "reduction", "bins"],
)
def test_wrong_options_are_named(make):
    with pytest.raises(ValueError, match="must be"):
        make()
