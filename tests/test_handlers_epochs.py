# SPDX-License-Identifier: Apache-2.0
"""Seeds, progress and history by epoch. References: values set by hand, pandas reads the file back."""

import logging
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events

from monai_multirater.handlers import SeedEpochs, TrainingHistory, TrainingProgress

LOSSES = [[0.9, 0.7], [0.5, 0.3], [0.4, 0.2]]
SCORES = [{"mr_ece": 0.01, "auc": 0.5}, {"mr_ece": 0.2, "auc": 0.8}, {"mr_ece": 0.1, "auc": 0.9}]


class Recorder:
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def draws(seed: int, first: int, last: int) -> tuple[list[float], list[int]]:
    """One number of torch's global generator per epoch, of a run that starts after epoch `first - 1`."""
    values: list[float] = []
    recorder = Recorder()
    engine = Engine(lambda *_: values.append(torch.rand(1).item()))
    engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", first - 1))
    SeedEpochs(seed, [recorder]).attach(engine)
    engine.run([0], max_epochs=last)
    return values, recorder.epochs


def test_what_an_epoch_draws_depends_on_seed_and_epoch_only() -> None:
    whole, epochs = draws(3, 1, 4)
    later, later_epochs = draws(3, 3, 4)
    assert whole[2:] == later
    assert (epochs, later_epochs) == ([1, 2, 3, 4], [3, 4])
    assert len(set(whole)) == 4
    assert draws(4, 1, 4)[0] != whole


def training(
    history: TrainingHistory, evaluator: Engine, *, interval: int = 1, epochs: int = 3, progress: Any = None
) -> None:
    """A trainer with the losses above, validated every `interval` epochs with the scores above."""

    def step(engine: Engine, _: Any) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(LOSSES[engine.state.epoch - 1][(engine.state.iteration - 1) % 2])}

    def score(engine: Engine) -> None:
        if engine.state.epoch % interval == 0:
            evaluator.state.epoch = engine.state.epoch
            evaluator.state.metrics = dict(SCORES[engine.state.epoch - 1])

    trainer = Engine(step)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, score)
    history.attach(trainer)
    if progress is not None:
        progress.attach(trainer)
    trainer.run([0, 1], max_epochs=epochs)


def make(path: Path, **options: Any) -> tuple[TrainingHistory, Engine]:
    evaluator = Engine(lambda *_: None)
    return TrainingHistory(str(path), evaluator=evaluator, metrics=["mr_ece", "auc"], **options), evaluator


def test_history_holds_mean_losses_and_validation_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history, evaluator = make(tmp_path / "models" / "history.csv", title="Validation of a test")
    training(history, evaluator)
    table = pd.read_csv(tmp_path / "models" / "history.csv")
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table["loss"].tolist() == pytest.approx([0.8, 0.4, 0.3])
    assert table["mr_ece"].tolist() == [0.01, 0.2, 0.1]
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["history.csv"]
    printed = capsys.readouterr().out
    assert "Validation of a test" in printed
    assert "0.01000" in printed  # best
    assert "0.90000" in printed  # last


@pytest.mark.parametrize(
    ("options", "best"),
    [({}, 1), ({"select_from_epoch": 2}, 3), ({"lower_is_better": False}, 2)],
    ids=["lowest", "lowest-from-2", "highest"],
)
def test_the_best_row(tmp_path: Path, options: dict[str, Any], best: int) -> None:
    history, evaluator = make(tmp_path / "h.csv", **options)
    training(history, evaluator)
    found = history.best()
    assert found is not None
    assert found["epoch"] == best
    table = pd.read_csv(tmp_path / "h.csv")
    assert table.loc[table["best"], "epoch"].tolist() == [best]


def test_epochs_without_validation_have_no_metrics(tmp_path: Path) -> None:
    history, evaluator = make(tmp_path / "h.csv")
    training(history, evaluator, interval=2)
    table = pd.read_csv(tmp_path / "h.csv")
    assert table["mr_ece"].isna().tolist() == [True, False, True]
    best = history.best()
    assert best is not None
    assert best["epoch"] == 2


def test_a_training_without_a_best_epoch_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history, evaluator = make(tmp_path / "h.csv", select_from_epoch=9)
    with caplog.at_level(logging.WARNING):
        training(history, evaluator)
    assert history.best() is None
    assert "No epoch from 9 on has a validation mr_ece" in caplog.text


def test_history_goes_on_from_its_state(tmp_path: Path) -> None:
    whole, evaluator = make(tmp_path / "whole.csv")
    training(whole, evaluator)
    first, evaluator = make(tmp_path / "h.csv")
    training(first, evaluator, epochs=2)
    state = first.state_dict()
    second, evaluator = make(tmp_path / "h.csv")
    second.load_state_dict(state)
    state["rows"][0]["loss"] = math.nan  # the state is a copy
    trainer = Engine(lambda e, _: {"loss": torch.tensor(LOSSES[2][(e.state.iteration - 1) % 2])})
    trainer.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", 2))
    trainer.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "iteration", 4))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: setattr(evaluator.state, "epoch", e.state.epoch))
    evaluator.state.metrics = dict(SCORES[2])
    second.attach(trainer)
    trainer.run([0, 1], max_epochs=3)
    assert (tmp_path / "h.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_other_ranks_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history, evaluator = make(tmp_path / "h.csv", disable=True)
    progress = TrainingProgress(evaluator=evaluator, metrics=["auc"], disable=True)
    training(history, evaluator, progress=progress)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert not list(tmp_path.iterdir())
    assert len(history.rows) == 3


def test_the_bar_counts_all_steps_and_shows_loss_and_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history, evaluator = make(tmp_path / "h.csv")
    training(history, evaluator, progress=TrainingProgress(evaluator=evaluator, metrics=["mr_ece", "auc"]))
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "loss=0.2000" in shown
    assert "auc=0.8000" in shown
    assert "epoch 3/3" in shown
