# SPDX-License-Identifier: Apache-2.0
"""Best and resumable checkpoints. Reference: the uninterrupted run, and the best epoch found by hand."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from monai_multirater.handlers import AtomicCheckpointSaver, ResumeHandler
from monai_multirater.handlers.checkpoints import _ReplacingSaver


class Counter:
    """A model whose only weight is the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch = state["epoch"]


def validate(saver: AtomicCheckpointSaver, model: Counter, values: Sequence[float], first_epoch: int = 1) -> None:
    """Run the epochs of a validation engine whose key metric has the given values."""
    engine = Engine(lambda *_: None)
    saver.attach(engine)
    engine.state.key_metric_name = "score"
    engine.state.metrics = {}

    def before(running: Engine) -> None:
        model.epoch = running.state.epoch
        running.state.metrics["score"] = values[running.state.epoch - first_epoch]

    engine.add_event_handler(Events.ITERATION_COMPLETED, before)
    engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", first_epoch - 1))
    engine.run([0], max_epochs=first_epoch - 1 + len(values))


def saved_epoch(folder: Path) -> int:
    return int(torch.load(folder / "model.pt", weights_only=True)["epoch"])


@pytest.mark.parametrize(
    ("values", "options", "best"),
    [
        ([0.3, 0.1, 0.2], {}, 2),
        ([0.3, 0.1, 0.2], {"lower_is_better": False}, 1),
        ([0.01, 0.3, 0.1, 0.2], {"select_from_epoch": 2}, 3),
        ([0.1, 0.1], {}, 1),
        ([math.nan, 0.4, math.nan, 0.3], {}, 4),
    ],
    ids=["error", "score", "lucky-first-epoch", "tie-keeps-first", "nan"],
)
def test_the_best_epoch_is_kept(tmp_path: Path, values: list[float], options: dict[str, Any], best: int) -> None:
    model = Counter()
    validate(AtomicCheckpointSaver(str(tmp_path), {"model": model}, **options), model, values)
    assert saved_epoch(tmp_path) == best
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_without_an_eligible_epoch_nothing_is_written(tmp_path: Path) -> None:
    model = Counter()
    saver = AtomicCheckpointSaver(str(tmp_path / "models"), {"model": model}, select_from_epoch=5)
    validate(saver, model, [0.1, 0.2])
    assert not (tmp_path / "models" / "model.pt").exists()


@pytest.mark.parametrize(("later", "best"), [([0.25, 0.3], 2), ([0.25, 0.05], 4)], ids=["former-best", "new-best"])
def test_a_resumed_run_compares_with_the_best_before(tmp_path: Path, later: list[float], best: int) -> None:
    model = Counter()
    first = AtomicCheckpointSaver(str(tmp_path), {"model": model})
    validate(first, model, [0.3, 0.1])
    state = torch.load(_write(first.state_dict(), tmp_path / "state.pt"), weights_only=True)
    second = AtomicCheckpointSaver(str(tmp_path), {"model": model})
    second.load_state_dict(state)
    validate(second, model, later, first_epoch=3)
    assert saved_epoch(tmp_path) == best


def _write(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def test_the_former_best_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counter()
    saver = AtomicCheckpointSaver(str(tmp_path), {"model": model})
    real = torch.save

    def dies_in_epoch_2(state: Any, path: Path) -> None:
        assert model.epoch == 1 or saved_epoch(tmp_path) == 1  # not removed before
        if model.epoch == 2:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        real(state, path)

    monkeypatch.setattr(torch, "save", dies_in_epoch_2)
    with pytest.raises(KeyboardInterrupt):
        validate(saver, model, [0.3, 0.1])
    assert saved_epoch(tmp_path) == 1


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_multirater.handlers.checkpoints.idist.get_rank", lambda: 1)
    _ReplacingSaver(tmp_path / "a.pt")({"a": 1}, "ignored")
    assert not list(tmp_path.iterdir())


def make_training(path: Path, **options: Any) -> tuple[Engine, torch.nn.Module]:
    """A tiny training with momentum and a schedule: both must be restored for equal weights."""
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)

    def step(_: Engine, batch: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = (network(batch) - batch.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = Engine(step)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: scheduler.step())
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler}
    ResumeHandler(str(path), objects, **options).attach(engine)
    return engine, network


BATCHES = torch.linspace(-1, 1, 16).reshape(4, 2, 2)


def test_an_interrupted_training_ends_with_the_weights_of_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, expected = make_training(tmp_path / "whole.pt")
    whole.run(BATCHES, max_epochs=6)
    broken, _ = make_training(tmp_path / "resume.pt")
    broken.add_event_handler(Events.ITERATION_COMPLETED(once=14), _interrupt)
    with pytest.raises(KeyboardInterrupt):
        broken.run(BATCHES, max_epochs=6)
    resumed, network = make_training(tmp_path / "resume.pt")
    with torch.no_grad():
        network.weight.fill_(9.0)
    resumed.run(BATCHES, max_epochs=6)
    assert resumed.state.epoch == 6
    assert resumed.state.iteration == 24
    for left, right in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(left, right)


def _interrupt(_: Engine) -> None:
    raise KeyboardInterrupt


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first, network = make_training(tmp_path / "resume.pt")
    first.run(BATCHES, max_epochs=2)
    second, again = make_training(tmp_path / "resume.pt")
    steps: list[int] = []
    second.add_event_handler(Events.ITERATION_COMPLETED, lambda e: steps.append(e.state.iteration))
    second.run(BATCHES, max_epochs=2)
    assert not steps
    assert torch.equal(again.weight, network.weight)


def test_resuming_can_be_refused(tmp_path: Path) -> None:
    first, _ = make_training(tmp_path / "resume.pt")
    first.run(BATCHES, max_epochs=2)
    second, _ = make_training(tmp_path / "resume.pt", resume=False)
    epochs: list[int] = []
    second.add_event_handler(Events.EPOCH_STARTED, lambda e: epochs.append(e.state.epoch))
    second.run(BATCHES, max_epochs=1)
    assert epochs == [1]
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["engine"] == {"epoch": 1, "iteration": 4}


def test_a_file_of_another_run_is_named(tmp_path: Path) -> None:
    torch.save({"engine": {"epoch": 1, "iteration": 4}, "network": {}}, tmp_path / "resume.pt")
    engine, _ = make_training(tmp_path / "resume.pt")
    with pytest.raises(ValueError, match=r"resume\.pt does not fit this run, entries differ: lr_scheduler, optimizer"):
        engine.run(BATCHES, max_epochs=1)
