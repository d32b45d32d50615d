# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation. References: scikit-learn and NumPy over expanded (voxel, rater) pairs, a hand loop."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from sklearn.metrics import brier_score_loss, f1_score, log_loss, roc_auc_score

from monai_multirater.handlers import EvaluationReport, RaterCeiling
from monai_multirater.metrics import CaseStatistics, MultiRaterSummaryMetric
from monai_multirater.visualize import reliability_diagram

RATERS = ("A", "B", "C")
Sample = dict[str, Any]


def make_cases(
    *, missing: bool, truth: bool = True, shapes: tuple[tuple[int, ...], ...] = ((9, 8),) * 4
) -> list[Sample]:
    """Engine outputs of single cases: raters vote independently with the true probability."""
    rng = np.random.default_rng(3)
    cases = []
    for index, shape in enumerate(shapes):
        q = rng.beta(0.6, 1.2, shape)
        ratings = (rng.random((3, *shape)) < q).astype(np.uint8)
        present = np.array([True, not (missing and index % 2), not (missing and index == 2)])
        ratings[~present] = 0
        label: Sample = {
            "votes": torch.from_numpy(ratings.sum(0, keepdims=True)),
            "n_raters": torch.tensor(int(present.sum())),
            "ratings": torch.from_numpy(ratings),
            "rater_mask": torch.from_numpy(present),
            "case": f"case{index}",
        }
        if truth:
            label["truth"] = torch.from_numpy(q[None].astype(np.float32))
        p = np.clip(0.8 * q + 0.1 + rng.normal(0, 0.05, shape), 0.001, 0.999)
        cases.append({"pred": torch.from_numpy(p[None].astype(np.float32)), "label": label})
    return cases


def pairs(predictions: list[np.ndarray], votes: list[np.ndarray], counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """All (voxel, rater) pairs: every voxel n times, of which `votes` say foreground."""
    p = np.concatenate([np.repeat(x.ravel(), n) for x, n in zip(predictions, counts, strict=True)])
    y = np.concatenate([(np.arange(n) < v.reshape(-1, 1)).ravel() for v, n in zip(votes, counts, strict=True)])
    return p.astype(np.float64), y


def calibration_error(p: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Bins of equal width, right-closed, weighted by their pairs."""
    index = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    gaps = [abs(p[index == b].mean() - y[index == b].mean()) * (index == b).sum() for b in np.unique(index)]
    return math.fsum(gaps) / len(p)


def model_scores(cases: list[Sample]) -> dict[str, float]:
    p, y = pairs(
        [c["pred"].numpy() for c in cases],
        [c["label"]["votes"].numpy() for c in cases],
        [int(c["label"]["n_raters"]) for c in cases],
    )
    scores = {
        "mr_ece": calibration_error(p, y),
        "auc": roc_auc_score(y, p),
        "brier": brier_score_loss(y, p),
        "nll": log_loss(y, p),
    }
    if "truth" in cases[0]["label"]:
        distance = np.concatenate([(c["pred"] - c["label"]["truth"]).double().numpy().ravel() for c in cases])
        scores |= {"truth_mae": np.abs(distance).mean(), "truth_brier": np.square(distance).mean()}
    return scores


def report(cases: list[Sample], folder: Path, *, batch: int = 2, **options: Any) -> EvaluationReport:
    """Run an evaluator that gives out `cases`."""
    metric = MultiRaterSummaryMetric()
    engine = Engine(lambda _, data: data)
    handler = IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]), save_details=False)
    handler.attach(engine, "mr_ece")
    made = EvaluationReport(str(folder), metric=metric, raters=RATERS, resamples=200, **options)
    made.attach(engine)
    engine.run([cases[i : i + batch] for i in range(0, len(cases), batch)])
    return made


@pytest.mark.parametrize("missing", [False, True], ids=["all-raters", "missing-raters"])
def test_scores_equal_those_of_scikit_learn_over_all_pairs(missing: bool, tmp_path: Path) -> None:
    cases = make_cases(missing=missing)
    stack = report(cases, tmp_path).metric.case_statistics().histograms
    assert stack is not None
    bound = stack.auc_error_bound(exact=True)  # of the fine histograms, between cases
    assert bound < 1e-4
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["cases"] == 4
    assert found["bootstrap"] == {"resamples": 200, "fraction": 0.6, "seed": 0}
    for name, value in model_scores(cases).items():
        row = found["scores"]["model"][name]
        tolerance = bound if name == "auc" else 0
        assert row["value"] == pytest.approx(value, rel=1e-6, abs=tolerance + 1e-12), name
        assert row["low"] <= row["high"]
        assert row["standard_error"] > 0
    table = pd.read_csv(tmp_path / "summary.csv").set_index(["who", "score"])
    assert table.loc[("model", "brier"), "value"] == pytest.approx(found["scores"]["model"]["brier"]["value"])


def test_cases_of_different_sizes_have_their_own_rows(tmp_path: Path) -> None:
    cases = make_cases(missing=True, shapes=((9, 8), (5, 5), (4, 12), (7, 7)))
    report(cases, tmp_path, batch=1)
    table = pd.read_csv(tmp_path / "cases.csv").set_index("case")
    assert list(table.index) == ["case0", "case1", "case2", "case3"]
    for case in cases:
        row, scores = table.loc[case["label"]["case"]], model_scores([case])
        assert row["voxels"] == case["pred"].numel()
        assert row["raters"] == int(case["label"]["n_raters"])
        for name in ("auc", "brier", "nll", "mr_ece", "truth_mae"):
            assert row[name] == pytest.approx(scores[name], rel=1e-6), name
    mean = sum(row["voxels"] * row["truth_mae"] for _, row in table.iterrows()) / table["voxels"].sum()
    found = json.loads((tmp_path / "summary.json").read_text())["scores"]["model"]["truth_mae"]["value"]
    assert found == pytest.approx(mean)


@pytest.mark.parametrize("missing", [False, True], ids=["all-raters", "missing-raters"])
@pytest.mark.parametrize("shape", [(9, 8), (4, 5, 6)], ids=["2d", "3d"])
def test_a_rater_is_scored_against_the_others_and_the_truth(missing: bool, shape: tuple[int, ...]) -> None:
    cases = make_cases(missing=missing, shapes=(shape,) * 4)
    ceiling = RaterCeiling(RATERS)
    for case in cases:
        ceiling.update(case["label"])
    found = ceiling.statistics()
    assert list(found) == list(RATERS)
    for index, rater in enumerate(RATERS):
        errors, distances, names = [], [], []
        for case in cases:
            label = case["label"]
            present = [r for r in range(3) if label["rater_mask"][r]]
            if index not in present or len(present) < 2:
                continue
            names.append(label["case"])
            mask = label["ratings"][index].double()
            errors += [(mask - label["ratings"][other].double()).square().mean() for other in present if other != index]
            distances.append((mask - label["truth"][0].double()).square().mean())
        assert list(found[rater].names) == names
        weights = [int(c["label"]["n_raters"]) - 1 for c in cases if c["label"]["case"] in names]
        assert len(errors) == sum(weights)
        assert found[rater].score("brier") == pytest.approx(float(np.mean(errors)))
        assert found[rater].score("truth_brier") == pytest.approx(float(np.mean(distances)))


def test_one_rater_tells_nothing_about_raters(tmp_path: Path) -> None:
    ceiling = RaterCeiling(["A", "B"])
    label = {"ratings": torch.ones(2, 3, 3, dtype=torch.uint8), "rater_mask": torch.tensor([True, False])}
    ceiling.update(label)
    assert ceiling.statistics() == {}


def test_the_report_starts_anew_with_every_run(tmp_path: Path) -> None:
    cases = make_cases(missing=False)
    ceiling = RaterCeiling(RATERS)
    for _ in range(2):
        ceiling.reset()
        for case in cases:
            ceiling.update(case["label"])
    assert len(ceiling.statistics()["A"]) == 4


def test_files_are_whole_and_the_table_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = report(make_cases(missing=False), tmp_path, figure=reliability_diagram, title="Test split")
    names = {"cases.csv", "dice.csv", "summary.csv", "summary.json", "statistics.npz", "reliability.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    again = CaseStatistics.load(tmp_path / "statistics.npz")
    assert again.score("auc") == made.metric.case_statistics().score("auc")
    printed = capsys.readouterr().out
    assert "Test split (4 cases" in printed.replace("\n", " ")
    assert "best single rater" in printed


def test_higher_is_better_for_auc_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(make_cases(missing=False), tmp_path)
    scores = json.loads((tmp_path / "summary.json").read_text())["scores"]
    lines = capsys.readouterr().out.splitlines()
    for name, best in (("auc", max), ("brier", min)):
        values = [scores[f"rater {rater}"][name]["value"] for rater in RATERS]
        line = next(x for x in lines if f" {name} " in x)
        assert line.split("│")[3].strip() == f"{best(values):.5f}"


def test_a_score_that_is_undefined_is_null_or_absent(tmp_path: Path) -> None:
    """No foreground anywhere: AUC and Dice are undefined, calibration is not."""
    cases = make_cases(missing=False, truth=False)
    for case in cases:
        case["label"]["ratings"][:] = 0
        case["label"]["votes"][:] = 0
        case["pred"][:] = 0.1
    report(cases, tmp_path)
    scores = json.loads((tmp_path / "summary.json").read_text())["scores"]["model"]
    assert "auc" not in scores
    assert "truth_mae" not in scores
    assert "dice_majority" not in scores
    assert scores["mr_ece"]["value"] == pytest.approx(0.1, rel=1e-6)
    assert pd.read_csv(tmp_path / "cases.csv")["auc"].isna().all()


def test_other_ranks_write_and_print_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(make_cases(missing=False), tmp_path / "out", disable=True)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


def test_an_interrupted_report_leaves_the_former_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(make_cases(missing=False), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def killed(self: pd.DataFrame, path: Path, **_: Any) -> None:
        Path(path).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", killed)
    with pytest.raises(KeyboardInterrupt):
        report(make_cases(missing=True), tmp_path)
    for name in ("cases.csv", "dice.csv", "summary.csv", "summary.json"):
        assert (tmp_path / name).read_bytes() == before[name]


def test_engines_without_ratings_have_no_ceiling(tmp_path: Path) -> None:
    cases = make_cases(missing=False)
    for case in cases:
        del case["label"]["ratings"]
    report(cases, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["scores"]) == ["model"]
    assert "dice" not in summary
    assert not (tmp_path / "dice.csv").exists()


@pytest.mark.parametrize("missing", [False, True], ids=["all-raters", "missing-raters"])
def test_dice_of_the_model_stands_beside_that_of_the_raters(missing: bool, tmp_path: Path) -> None:
    """Reference: scikit-learn's ``f1_score`` case by case; the model's mean is that of the metric."""
    cases = make_cases(missing=missing)
    report(cases, tmp_path)
    rows = pd.read_csv(tmp_path / "dice.csv").set_index(["rater", "case"])
    assert len(rows) == sum(int(case["label"]["n_raters"]) for case in cases)
    for case in cases:
        planes, present = case["label"]["ratings"].numpy(), case["label"]["rater_mask"].numpy()
        for index in np.flatnonzero(present):
            row = rows.loc[RATERS[index], case["label"]["case"]]
            others = planes[present & (np.arange(3) != index)]
            mask = planes[index].ravel()
            assert row["model"] == pytest.approx(f1_score(mask, case["pred"].numpy().ravel() > 0.5))
            if len(others):
                assert row["consensus"] == pytest.approx(f1_score((others.mean(0) > 0.5).ravel(), mask))
                assert row["others"] == pytest.approx(np.mean([f1_score(other.ravel(), mask) for other in others]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    for rater in RATERS:
        for partner in ("model", "consensus", "others"):
            found = summary["dice"][rater][partner]
            assert found["value"] == pytest.approx(rows.loc[rater][partner].mean())
            assert found["low"] <= found["high"]
        human = summary["scores"][f"rater {rater}"]
        assert human["dice_raters"] == summary["dice"][rater]["others"]
        assert human["dice_majority"]["value"] == pytest.approx(summary["dice"][rater]["consensus"]["value"])
    means = rows.groupby("case")["model"].mean()
    assert summary["scores"]["model"]["dice_raters"]["value"] == pytest.approx(means.mean())
