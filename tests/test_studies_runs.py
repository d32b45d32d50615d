# SPDX-License-Identifier: Apache-2.0
"""One run of a comparison: settings are chosen on the validation split, and only the chosen ones see the test split.

Trainings are replaced by a written-out validation score for each setting, so that every choice is known by hand.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from monai_multirater.calibration import CALIBRATORS, CalibrationRecord
from monai_multirater.cli import app
from monai_multirater.data import make_phantoms
from monai_multirater.studies import Run, TunedOption, compare_objectives, method_overlays, run_once, settings_table
from monai_multirater.studies import runs as module

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "rps"
Score = Callable[[Mapping[str, Any]], float]


class Recorder:
    """Stands for the bundle: trainings end with a given validation Brier score, evaluations leave a summary."""

    def __init__(self, brier: Score) -> None:
        self.brier = brier
        self.trained: list[dict[str, Any]] = []
        self.evaluated: list[str] = []
        self.folders: list[str] = []
        self.fitted: list[str] = []

    def __call__(self, configs: Any, overrides: Mapping[str, Any]) -> None:
        out = Path(overrides["output_dir"])
        if any(Path(config).stem == "calibrate" for config in configs):
            self.fitted.append(overrides["foreground_rule"])
            Path(overrides["calibration_file"]).write_text(overrides["foreground_rule"])
            return
        if "model_dir" in overrides:
            self.folders.append(out.name)
            if overrides["calibration"] != "none":
                assert Path(overrides["calibration_file"]).read_text() == overrides["foreground_rule"]
            self.evaluated.append(overrides["model_dir"])
            out.mkdir(parents=True, exist_ok=True)
            (out / "summary.json").write_text("{}")
            return
        self.trained.append({key: overrides[key] for key in ("lr", "loss#weight") if key in overrides})
        brier = self.brier(overrides)
        rows = {"epoch": [1.0, 2.0], "brier": [0.0, brier], "mr_ece": [0.0, 1 - brier], "auc": [1.0, brier]}
        (out / "models").mkdir(parents=True)
        pd.DataFrame(rows).assign(best=[False, not math.isnan(brier)]).to_csv(out / "models" / "history.csv")


def make_run(tmp_path: Path, *tune: str, choose_by: str = "brier", method: str = "rps") -> Run:
    options = tuple(TunedOption.parse(text) for text in tune)
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / f"{method}.json").write_text('{"objective": "rps"}')
    return Run(
        tmp_path / "m.json", tmp_path / f"{method}.json", 0, tmp_path / "out", {}, tune=options, choose_by=choose_by
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=0.002,0.01", TunedOption("learning_rate", (0.002, 0.01))),
        ("rps:loss#weight=1,3", TunedOption("loss#weight", (1, 3), ("rps",))),
        ("a+b: init_prior = true", TunedOption("init_prior", (True,), ("a", "b"))),
        (
            "network_options#backbone=resnet18,resnet34",
            TunedOption("network_options#backbone", ("resnet18", "resnet34")),
        ),
    ],
    ids=["all-methods", "one-method", "two-methods", "text"],
)
def test_options_are_read_from_text(text: str, expected: TunedOption) -> None:
    assert TunedOption.parse(text) == expected


@pytest.mark.parametrize("text", ["", "lr", "lr=", "=1", "lr=1,,2", ":lr=1", "a+:lr=1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be given as"):
        TunedOption.parse(text)


def test_options_are_chosen_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brier(settings: Mapping[str, Any]) -> float:
        return abs(settings.get("lr", 5) - 2) + abs(settings.get("loss#weight", 1) - 3)

    recorder = Recorder(brier)
    monkeypatch.setattr(module, "_workflow", recorder)
    run = run_once(tmp_path, make_run(tmp_path, "lr=1,2,9", "rps:loss#weight=3,7", "soft:lr=4"))
    assert recorder.trained == [
        {},
        {"lr": 1},
        {"lr": 2},
        {"lr": 9},
        {"lr": 2, "loss#weight": 3},
        {"lr": 2, "loss#weight": 7},
    ]
    chosen = tmp_path / "out" / "trials" / "lr=2,loss.weight=3" / "models"
    assert recorder.evaluated == [str(chosen)] * 2
    table = settings_table([run])
    assert table["brier"].tolist() == [5, 3, 2, 9, 0, 4]
    assert set(table["manifest"]) == {f"{tmp_path.name}/m.json"}
    assert table.loc[table["chosen"], "settings"].tolist() == ["lr=2, loss#weight=3"]
    assert table["settings"].iloc[0] == "as configured"


@pytest.mark.parametrize(
    ("choose_by", "settings"), [("brier", {"lr": 1}), ("mr_ece", {"lr": 9}), ("auc", {"lr": 9})], ids=str
)
def test_the_criterion_decides(
    choose_by: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_workflow", Recorder(lambda s: s.get("lr", 5) / 10))
    run = run_once(tmp_path, make_run(tmp_path, "lr=1,9", choose_by=choose_by))
    trials = json.loads(run.trials_file.read_text())["trials"]
    assert [trial["settings"] for trial in trials if trial["chosen"]] == [settings]


def test_what_the_bundle_says_is_kept_when_nothing_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(lambda s: 0.5 if "lr" in s else 0.1)
    monkeypatch.setattr(module, "_workflow", recorder)
    run_once(tmp_path, make_run(tmp_path, "lr=1"))
    assert recorder.evaluated[0] == str(tmp_path / "out" / "trials" / "as_configured" / "models")


def test_trainings_without_a_model_are_never_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(lambda s: math.nan if s.get("lr", 0) < 9 else 0.7)
    monkeypatch.setattr(module, "_workflow", recorder)
    run_once(tmp_path, make_run(tmp_path, "lr=1,9"))
    assert recorder.evaluated[0].endswith("lr=9/models")
    monkeypatch.setattr(module, "_workflow", Recorder(lambda _: math.nan))
    with pytest.raises(RuntimeError, match=r"no setting of .* led to a model"):
        run_once(tmp_path, make_run(tmp_path / "other", "lr=1"))


def test_finished_trials_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: Mapping[str, Any]) -> float:
        if settings.get("lr") == 2:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(module, "_workflow", Recorder(interrupted))
    with pytest.raises(KeyboardInterrupt):
        run_once(tmp_path, make_run(tmp_path, "lr=1,2,3"))
    recorder = Recorder(lambda s: s.get("lr", 5))
    monkeypatch.setattr(module, "_workflow", recorder)
    run = make_run(tmp_path, "lr=1,2,3")
    run_once(tmp_path, run)
    assert recorder.trained == [{"lr": 2}, {"lr": 3}]
    run_once(tmp_path, run)
    assert len(recorder.evaluated) == 2


def test_a_finished_run_is_not_taken_for_one_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_workflow", Recorder(lambda _: 0.2))
    run_once(tmp_path, make_run(tmp_path, "lr=1", "soft:lr=3"))
    make_run(tmp_path, "lr=1").check_directory()  # the option of another method does not matter
    message = r"out holds a run that was asked for something else \(tune was \[\['lr', \[1\]\]\], is .*2.*Give another"
    with pytest.raises(ValueError, match=message):
        run_once(tmp_path, make_run(tmp_path, "lr=1,2"))
    with pytest.raises(ValueError, match="choose_by was brier, is auc"):
        run_once(tmp_path, make_run(tmp_path, "lr=1", choose_by="auc"))
    changed = make_run(tmp_path, "lr=1")
    changed.overlay.write_text('{"objective": "soft"}')
    with pytest.raises(ValueError, match="configuration was"):
        run_once(tmp_path, changed)


def test_methods_without_options_train_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(lambda _: 0.2)
    monkeypatch.setattr(module, "_workflow", recorder)
    run = run_once(tmp_path, make_run(tmp_path, "soft:lr=1"))
    assert recorder.evaluated[0] == str(tmp_path / "out" / "models")
    assert settings_table([run]).empty


def test_a_finished_run_takes_calibrations_without_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(lambda _: 0.2)
    monkeypatch.setattr(module, "_workflow", recorder)
    run = run_once(tmp_path, make_run(tmp_path))
    assert run.finished
    assert (recorder.folders, recorder.fitted) == (["eval_expected", "eval_majority"], [])
    more = replace(run, calibrations=("temperature", "isotonic"))
    assert not more.finished
    run_once(tmp_path, more)
    assert len(recorder.trained) == 1
    assert recorder.fitted == ["expected", "majority"]
    assert recorder.folders[2:] == [
        f"eval_{rule}_{name}" for name in more.calibrations for rule in ("expected", "majority")
    ]
    assert more.finished
    assert more.summary("majority", "isotonic").is_file()
    found = [(each.label, each.rule, each.calibration, each.folder.name) for each in more.evaluations()]
    assert found[0] == ("rps", "expected", "none", "eval_expected")
    assert found[-1] == ("rps + isotonic", "majority", "isotonic", "eval_majority_isotonic")
    run_once(tmp_path, more)
    assert len(recorder.folders) == 6


def test_an_interrupted_run_evaluates_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(lambda _: 0.2)
    monkeypatch.setattr(module, "_workflow", recorder)
    run = run_once(tmp_path, replace(make_run(tmp_path), calibrations=("platt",)))
    run.summary("majority", "platt").unlink()
    run.summary("expected").unlink()
    run_once(tmp_path, run)
    assert recorder.folders[4:] == ["eval_expected", "eval_majority_platt"]
    assert recorder.fitted == ["expected", "majority"]


@pytest.mark.parametrize(("dimensions", "overlays"), [(2, []), (3, ["evaluate_3d"])], ids=["2d", "3d"])
def test_models_of_volumes_are_evaluated_as_such(
    dimensions: int, overlays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, configurations = Recorder(lambda _: 0.2), []

    def workflow(configs: Any, overrides: Mapping[str, Any]) -> None:
        configurations.append([Path(config).stem for config in configs])
        recorder(configs, overrides)
        if "model_dir" not in overrides:
            settings = {"spatial_dims": dimensions}
            (Path(overrides["output_dir"]) / "models" / "model.json").write_text(json.dumps(settings))

    monkeypatch.setattr(module, "_workflow", workflow)
    run_once(tmp_path, replace(make_run(tmp_path), calibrations=("platt",)))
    plain, fit = ["evaluate", *overlays], ["evaluate", *overlays, "calibrate"]
    assert configurations[1:] == [plain, plain, fit, plain, fit, plain]


@pytest.mark.parametrize("names", [("beta",), ("none",), ("platt", "platt")], ids=["unknown", "none", "repeated"])
def test_calibrations_are_known_names(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be among temperature, platt, isotonic, each once"):
        replace(make_run(tmp_path), calibrations=names)


@pytest.mark.slow
def test_a_calibrated_run_on_phantoms(phantoms_2d: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "small.json"
    overlay.write_text(json.dumps({"spatial_size": [32, 32], "network_options": {"channels": [4, 8]}}))
    run = Run(phantoms_2d, overlay, 0, tmp_path / "out", {"max_epochs": 1}, calibrations=tuple(CALIBRATORS))
    run_once(BUNDLE, run)
    losses = {}
    for each in run.evaluations():
        content = json.loads((each.folder / "summary.json").read_text())
        losses[each.rule, each.calibration] = content["scores"]["model"]["nll"]["value"]
    assert len(set(losses.values())) == len(losses) == 8
    for rule in ("expected", "majority"):
        record = CalibrationRecord.load(run.directory / f"calibration_{rule}.json")
        assert (record.rule, record.split) == (rule, "validation")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"choose_by": "dice"}, "choose_by must be one of brier, mr_ece, auc. Got 'dice'"),
        ({"tune": [TunedOption("lr", (1,), ("rps", "none"))]}, "lr is to be tuned for none, which is not compared"),
    ],
    ids=["criterion", "method"],
)
def test_impossible_choices_stop_everything_before_work(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        compare_objectives(
            [], method_overlays(BUNDLE, ["objectives/rps"]), bundle=BUNDLE, out=tmp_path / "out", **arguments
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_tuned_comparison_from_the_command_line(tmp_path: Path) -> None:
    manifest = make_phantoms(tmp_path / "skin", cases=8, size=32, raters=3, splits=(0.5, 0.25, 0.25), progress=False)
    tiny = tmp_path / "tiny.json"
    tiny.write_text(json.dumps({"spatial_size": [32, 32], "augment": []}))
    words = ["compare", str(manifest), "--methods", "rps", "--out", str(tmp_path / "out"), "--bundle", str(BUNDLE)]
    words += ["--epochs", "2", "--overlay", str(tiny), "--tune", "rps:loss_options#lambda_rps=4"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out" / "settings.csv")
    assert table["settings"].tolist() == ["as configured", "loss_options#lambda_rps=4"]
    assert table["brier"].between(0, 1).all()
    assert table["chosen"].tolist() == (table["brier"] == table["brier"].min()).tolist()
    trial = tmp_path / "out" / "rps_bce" / "skin-manifest-0" / "trials" / "loss_options.lambda_rps=4"
    settings = json.loads((trial / "models" / "model.json").read_text())
    assert settings["training"]["loss_options"] == {"lambda_rps": 4}
