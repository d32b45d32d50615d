# SPDX-License-Identifier: Apache-2.0
"""The comparison: every run happens once, tables hold what the evaluations wrote, failures are named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from monai_multirater.cli import app
from monai_multirater.data import ManifestError, make_phantoms
from monai_multirater.metrics import CaseStatistics, MultiRaterSummaryMetric
from monai_multirater.studies import (
    Run,
    compare_objectives,
    differences,
    method_overlays,
    tabulate,
    write_tables,
)
from monai_multirater.studies.tables import _holm

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "rps"
TINY = {"max_epochs": 1, "network_options#channels": [4, 8], "spatial_size": [32, 32], "augment": []}


def _evaluated(tmp_path: Path, method: str, seed: int, *, cases: int = 6) -> Run:
    """A run whose evaluation is made by hand, so that tables can be tested without training."""
    run = Run(tmp_path / "data" / "m.json", tmp_path / f"{method}.json", seed, tmp_path / method / str(seed))
    rng = np.random.default_rng(seed)
    for shift, rule in enumerate(("expected", "majority")):
        metric = MultiRaterSummaryMetric(bins=5)
        for case in range(cases):
            votes = rng.integers(0, 4, (1, 8, 8))
            probability = np.clip(votes / 3 + rng.normal(0, 0.1 + shift, votes.shape), 0, 1).astype(np.float32)
            metric([probability], [{"votes": votes, "n_raters": 3, "case": f"c{case}"}])
        run.summary(rule).parent.mkdir(parents=True)
        metric.case_statistics().save(run.summary(rule).with_name("statistics.npz"))
        human = {f"rater {name}": {"auc": {"value": value}} for name, value in (("A", 0.7), ("B", 0.9))}
        run.summary(rule).write_text(json.dumps({"scores": {"model": {}, **human}}))
    return run


def test_table_is_the_mean_of_the_runs(tmp_path: Path) -> None:
    runs = [_evaluated(tmp_path, "a", seed) for seed in range(3)]
    table = tabulate(runs, scores=("mr_ece", "brier"), resamples=200)
    row = table[(table["rule"] == "majority") & (table["score"] == "brier")].iloc[0]
    each = [CaseStatistics.load(run.summary("majority").with_name("statistics.npz")).score("brier") for run in runs]
    assert row["mean"] == pytest.approx(np.mean(each), rel=1e-12)
    assert [float(value) for value in row["values"].split()] == pytest.approx(each, abs=1e-6)
    assert row["low"] < row["mean"] < row["high"]
    assert row["runs"] == 3


def test_tables_are_written_per_data_set(tmp_path: Path) -> None:
    table = tabulate([_evaluated(tmp_path, "a", 0), _evaluated(tmp_path, "b", 1)], scores=("auc",), resamples=50)
    paths = write_tables(table, tmp_path / "out")
    assert [path.name for path in paths] == ["scores.csv", "data.md"]
    assert pd.read_csv(paths[0])["mean"].tolist() == pytest.approx(table["mean"].tolist(), rel=1e-12)
    lines = paths[1].read_text().splitlines()
    assert lines[0] == "| method | foreground | auc |"
    assert len(lines) == 2 + 4 + 1
    assert lines[-1] == "| single rater (mean, range) |  | 0.8000 [0.7000, 0.9000] |"
    assert not list((tmp_path / "out").glob(".*"))


def test_differences_are_those_of_the_same_cases(tmp_path: Path) -> None:
    """By hand: the second method has the probabilities of the first, so all differences but those of rules are 0."""
    runs = [_evaluated(tmp_path, method, seed) for method in "ab" for seed in range(3)]
    table = differences(runs, ("a", "expected"), scores=("brier", "mr_ece"), resamples=300)
    assert set(zip(table["method"], table["rule"], strict=True)) == {
        ("a", "majority"),
        ("b", "expected"),
        ("b", "majority"),
    }
    same = table[(table["method"] == "b") & (table["rule"] == "expected")]
    assert same[["difference", "low", "high"]].to_numpy().tolist() == [[0.0, 0.0, 0.0]] * 2
    assert same["p"].tolist() == [1.0, 1.0]
    worse = table[(table["method"] == "b") & (table["rule"] == "majority") & (table["score"] == "brier")].iloc[0]
    scores = tabulate(runs, scores=("brier",)).set_index(["method", "rule"])["mean"]
    assert worse["difference"] == pytest.approx(scores["b", "majority"] - scores["a", "expected"], rel=1e-12)
    assert 0 < worse["low"] <= worse["difference"] <= worse["high"]
    assert worse["p"] == pytest.approx(2 / 301)
    assert worse["p_holm"] == pytest.approx(3 * 2 / 301)  # the smallest of three comparisons


def test_holm_correction_by_hand() -> None:
    """Holm 1979, three values: 0.01 * 3, 0.02 * 2, and 0.04 * 1 raised to the one before."""
    found = _holm(pd.Series([0.04, 0.01, 0.02], index=[7, 8, 9]))
    assert found.to_dict() == pytest.approx({7: 0.04, 8: 0.03, 9: 0.04})
    assert _holm(pd.Series([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_a_case_in_two_test_splits_is_drawn_together(tmp_path: Path) -> None:
    """Two runs of one seed on two manifests test the same cases: their mean must vary as one of them, not less."""
    runs = [_evaluated(tmp_path, "a", 0), _evaluated(tmp_path / "again", "a", 0)]
    other = replace(runs[1], manifest=runs[0].manifest.with_name("other.json"))
    one, two = (tabulate(chosen, scores=("brier",), resamples=200).iloc[0] for chosen in (runs[:1], [runs[0], other]))
    assert two["runs"] == 2
    assert (two["low"], two["high"]) == (one["low"], one["high"])


@pytest.mark.slow
def test_a_comparison_runs_once_and_goes_on(tmp_path: Path) -> None:
    manifest = make_phantoms(tmp_path / "skin", cases=8, size=32, raters=3, splits=(0.5, 0.25, 0.25), progress=False)
    overlays = method_overlays(BUNDLE, ["ranked_log", "random_rater"])
    first = compare_objectives([manifest], overlays[:1], bundle=BUNDLE, out=tmp_path / "out", options=TINY)
    model = first[0].directory / "models" / "model.pt"
    written = model.stat().st_mtime_ns
    runs = compare_objectives([manifest], overlays, bundle=BUNDLE, out=tmp_path / "out", options=TINY)
    assert model.stat().st_mtime_ns == written
    table = tabulate(runs, resamples=20)
    assert set(table["method"]) == {"ranked_log", "random_rater", "single rater (mean, range)"}
    assert {"mr_ece", "auc", "brier", "truth_brier"} <= set(table["score"])
    assert table["mean"].between(0, 1).sum() >= len(table) - (table["score"] == "nll").sum()
    more = compare_objectives(
        [manifest], overlays[:1], bundle=BUNDLE, out=tmp_path / "out", options=TINY, calibrations=["platt"]
    )
    assert model.stat().st_mtime_ns == written
    assert all((each.folder / "summary.json").is_file() for each in more[0].evaluations())
    assert more[0].summary("expected", "platt").parent.name == "eval_expected_platt"


def test_missing_manifest_stops_everything_before_work(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        compare_objectives([tmp_path / "no.json"], [], bundle=BUNDLE, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_may_not_share_a_directory(tmp_path: Path) -> None:
    first, second = (
        make_phantoms(tmp_path / side / "skin", cases=4, size=32, raters=2, splits=(0.5, 0.25, 0.25), progress=False)
        for side in ("left", "right")
    )
    with pytest.raises(ValueError, match="share a directory"):
        compare_objectives([first, second], method_overlays(BUNDLE, ["soft"]), bundle=BUNDLE, out=tmp_path / "out")


@pytest.mark.slow
def test_failed_runs_are_named_after_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = make_phantoms(tmp_path / "skin", cases=8, size=32, raters=3, splits=(0.5, 0.25, 0.25), progress=False)
    broken = tmp_path / "broken.json"
    broken.write_text('{"objective": "no_such_objective"}')
    overlays = [broken, *method_overlays(BUNDLE, ["soft"])]
    with pytest.raises(RuntimeError, match=r"1 of 2 runs failed:\n  .*broken.skin-manifest-0: "):
        compare_objectives([manifest], overlays, bundle=BUNDLE, out=tmp_path / "out", options=TINY)
    finished = tmp_path / "out" / "soft" / "skin-manifest-0"
    assert (finished / "eval_expected" / "summary.json").is_file()
    assert "Validation, objective consensus soft" in (finished / "log.txt").read_text()
    printed = capfd.readouterr()
    assert "Comparing" in printed.err
    assert "Validation" not in printed.out + printed.err
    assert "INFO" not in printed.out + printed.err


def test_command_refuses_an_unknown_calibration(phantoms_2d: Path, tmp_path: Path) -> None:
    arguments = ["compare", str(phantoms_2d), "--methods", "soft", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--bundle", str(BUNDLE), "--calibrations", "platt,beta"])
    assert result.exit_code == 1
    assert "must be among temperature, platt, isotonic" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_command_refuses_an_unknown_method(tmp_path: Path) -> None:
    arguments = ["compare", "a.json", "--methods", "soft,nonsense", "--out", str(tmp_path), "--bundle", str(BUNDLE)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "known are" in result.output
