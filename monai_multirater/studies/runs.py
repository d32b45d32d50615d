# SPDX-License-Identifier: Apache-2.0
"""One run of a comparison: train, choose settings on the validation split, evaluate on the test split; resumable."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_multirater.calibration import CALIBRATORS

__all__ = ["CRITERIA", "FOREGROUND_RULES", "Evaluated", "Run", "Trial", "TunedOption", "run_once"]

FOREGROUND_RULES = ("expected", "majority")
CRITERIA = {"brier": 1.0, "mr_ece": 1.0, "auc": -1.0}
"""Validation scores by which settings can be chosen, with the sign that makes the lowest value the best."""


@dataclass(frozen=True)
class TunedOption:
    """Values of one configuration entry that compete with what the configuration says.

    Attributes:
        option: id of the entry, such as ``learning_rate`` or ``loss_options#lambda_rps``.
        values: the alternatives.
        methods: names of the methods concerned; empty for all.
    """

    option: str
    values: tuple[Any, ...]
    methods: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> TunedOption:
        """Read ``[method[+method...]:]option=value,value,...``; values are JSON, or else text.

        Raises:
            ValueError: the text has another form, or an empty part.
        """
        name, equals, values = text.partition("=")
        methods, colon, option = name.rpartition(":")
        parts = [value.strip() for value in values.split(",")]
        chosen = tuple(methods.split("+")) if colon else ()
        if not equals or not option.strip() or not all(parts) or not all(chosen):
            raise ValueError(
                "An option to tune must be given as [METHOD[+METHOD...]:]OPTION=VALUE,VALUE,..., for example "
                f"rps_bce:loss_options#lambda_rps=0.3,3. Got {text!r}."
            )
        return cls(option.strip(), tuple(_value(part) for part in parts), chosen)

    def concerns(self, method: str) -> bool:
        """Whether a method has this option tuned."""
        return not self.methods or method in self.methods


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Evaluated(NamedTuple):
    """One evaluation of a run: name of its row, foreground rule, calibration (``none`` for none), folder."""

    label: str
    rule: str
    calibration: str
    folder: Path


@dataclass(frozen=True)
class Run:
    """One training: a manifest (its splits), an overlay (the method) and a seed.

    Attributes:
        manifest: the data set and its splits.
        overlay: configuration file over ``train.json``; its stem names the method.
        seed: seed of initialization, order and augmentation.
        directory: where models and evaluations go.
        options: further overrides for training, by configuration id.
        common: configuration files between ``train.json`` and the overlay.
        tune: options to choose on the validation split, one after the other in this order, each with those before
            it as chosen. What the configuration says is always a candidate.
        choose_by: key of ``CRITERIA``, the validation score that decides.
        calibrations: post-hoc calibrators, fitted on the validation split for each foreground rule, with which the run
            is evaluated too. They decide nothing about the training: a finished run takes more of them.

    Raises:
        ValueError: unknown or repeated calibrations.
    """

    manifest: Path
    overlay: Path
    seed: int
    directory: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    common: tuple[Path, ...] = ()
    tune: tuple[TunedOption, ...] = ()
    choose_by: str = "brier"
    calibrations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.calibrations) - set(CALIBRATORS) or len(set(self.calibrations)) < len(self.calibrations):
            raise ValueError(
                f"The 'calibrations' of a Run must be among {', '.join(CALIBRATORS)}, each once. "
                f"Got {', '.join(self.calibrations)}."
            )

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.overlay.stem

    @property
    def finished(self) -> bool:
        """Whether this run has been evaluated in every way asked for."""
        return all((each.folder / "summary.json").is_file() for each in self.evaluations())

    @property
    def trials_file(self) -> Path:
        """File that lists the settings tried, when there was something to choose."""
        return self.directory / "trials.json"

    def summary(self, rule: str, calibration: str = "none") -> Path:
        """Return the file that exists when this run has been evaluated with a foreground rule and a calibration."""
        suffix = "" if calibration == "none" else f"_{calibration}"
        return self.directory / f"eval_{rule}{suffix}" / "summary.json"

    def evaluations(self) -> list[Evaluated]:
        """Return all evaluations asked for, done or not; the label of a calibrated one is ``method + calibration``."""
        return [
            Evaluated(f"{self.method} + {name}" if name != "none" else self.method, rule, name, path.parent)
            for name in ("none", *self.calibrations)
            for rule in FOREGROUND_RULES
            for path in [self.summary(rule, name)]
        ]

    def request(self) -> dict[str, Any]:
        """Return what decides the result of this run, as JSON holds it; written to ``run.json`` in its directory."""
        tune = [[option.option, list(option.values)] for option in self.tune if option.concerns(self.method)]
        asked = {
            "configuration": [ConfigParser.load_config_file(str(path)) for path in (*self.common, self.overlay)],
            "options": dict(self.options),
            "tune": tune,
            "choose_by": self.choose_by if tune else None,
        }
        return dict(json.loads(json.dumps(asked, default=str)))

    def check_directory(self) -> None:
        """Refuse a directory that holds a run which was asked for something else.

        Raises:
            ValueError: naming the directory and what differs.
        """
        path = self.directory / "run.json"
        if not path.is_file():
            return
        then, now = json.loads(path.read_text(encoding="utf-8")), self.request()
        changes = [f"{key} was {then.get(key)}, is {now[key]}" for key in now if then.get(key) != now[key]]
        if changes:
            raise ValueError(
                f"{self.directory} holds a run that was asked for something else ({'; '.join(changes)}). "
                "Give another --out."
            )


@dataclass(frozen=True)
class Trial:
    """A finished training with some settings: where it lies, and the validation scores of its checkpoint."""

    directory: Path
    settings: Mapping[str, Any]
    validation: Mapping[str, float]

    def loss(self, choose_by: str) -> float:
        """Value of the criterion, lower is better; infinite when the training has no checkpoint."""
        value = CRITERIA[choose_by] * self.validation.get(choose_by, math.nan)
        return math.inf if math.isnan(value) else value


def run_once(bundle: Path, run: Run, *, threads: int | None = None) -> Run:
    """Train, choose settings and evaluate; what is already there is not done again.

    An interrupted training goes on from its last epoch. The test split is read only by the evaluation, and only with
    the settings that were chosen on the validation split.

    Raises:
        RuntimeError: a training or evaluation ended with an error, or no setting led to a model.
        ValueError: the directory holds a run that was asked for something else.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    run.check_directory()
    if run.finished:
        return run
    _write_json(run.directory / "run.json", run.request())
    trained = _choose(bundle, run)
    for each in run.evaluations():
        if not (each.folder / "summary.json").is_file():
            _evaluate(bundle, run, trained, each)
    return run


def _evaluate(bundle: Path, run: Run, trained: Trial, wanted: Evaluated) -> None:
    """Evaluate on the test split; a calibration is fitted on the validation split first."""
    file = run.directory / f"calibration_{wanted.rule}.json"
    common = {
        **_data(bundle, run),
        "model_dir": str(trained.directory / "models"),
        "output_dir": str(wanted.folder),
        "foreground_rule": wanted.rule,
        "calibration_file": str(file),
    }
    configs = [bundle / "configs" / f"{name}.json" for name in ("evaluate", *_volumes(trained))]
    if wanted.calibration != "none" and not file.is_file():
        _workflow([*configs, bundle / "configs" / "calibrate.json"], common)
    _workflow(configs, {**common, "calibration": wanted.calibration})


def _volumes(trained: Trial) -> tuple[str, ...]:
    """Overlay of the evaluation that a model of volumes needs."""
    path = trained.directory / "models" / "model.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return ("evaluate_3d",) if settings.get("spatial_dims") == 3 else ()


def _choose(bundle: Path, run: Run) -> Trial:
    """Train all trials of a run; return the best by validation and write the list of all."""
    tune = [option for option in run.tune if option.concerns(run.method)]
    if not tune:
        return _train(bundle, run, run.directory, {})
    best = _train(bundle, run, run.directory / "trials" / "as_configured", {})
    trials = [best]
    for option in tune:
        for value in option.values:
            settings = {**best.settings, option.option: value}
            name = ",".join(f"{key}={value}" for key, value in settings.items()).replace("#", ".").replace("/", "_")
            trials.append(_train(bundle, run, run.directory / "trials" / name, settings))
        best = min(trials, key=lambda trial: trial.loss(run.choose_by))
    if math.isinf(best.loss(run.choose_by)):
        raise RuntimeError(f"no setting of {run.directory} led to a model with a validation {run.choose_by}")
    rows = [{"settings": t.settings, "validation": t.validation, "chosen": t is best} for t in trials]
    _write_json(run.trials_file, {"choose_by": run.choose_by, "trials": rows})
    return best


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _train(bundle: Path, run: Run, directory: Path, settings: Mapping[str, Any]) -> Trial:
    finished = directory / "trained"
    if not finished.is_file():
        _workflow(
            [bundle / "configs" / "train.json", *run.common, run.overlay],
            {**_data(bundle, run), "output_dir": str(directory), "seed": run.seed, **run.options, **settings},
        )
        finished.touch()
    history = pd.read_csv(directory / "models" / "history.csv")
    scores = history[history["best"]].drop(columns="best").to_dict("records")
    return Trial(directory, dict(settings), {str(k): float(v) for k, v in scores[0].items()} if scores else {})


def _data(bundle: Path, run: Run) -> dict[str, Any]:
    return {"bundle_root": str(bundle), "datalist": str(run.manifest), "make_phantoms": False}


def _workflow(configs: Iterable[Path], overrides: Mapping[str, Any]) -> None:
    files = [str(config) for config in configs]
    workflow = ConfigWorkflow(config_file=files, logging_file=False, workflow_type=None, **overrides)
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except SystemExit as error:
        raise RuntimeError(str(error)) from error
