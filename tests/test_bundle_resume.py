# SPDX-License-Identifier: Apache-2.0
"""Interrupted trainings and random numbers. Reference: the uninterrupted training with the same seed, bitwise."""

import json
import signal
from pathlib import Path
from typing import Any

import bundle_runs as bundle
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events

EPOCHS = 4


def state(root: Path) -> dict[str, Any]:
    """Everything that a training leaves, as comparable values."""
    models = root / "models"
    return {
        "history": (models / "history.csv").read_bytes(),
        "settings": json.loads((models / "model.json").read_text()),
        "best": torch.load(models / "model.pt", weights_only=True),
        "resume": torch.load(models / "resume.pt", weights_only=True),
    }


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Bitwise equality of nested states."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}/{index}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right or (left != left and right != right), where


@pytest.fixture(scope="module")
def whole(phantoms_2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted training."""
    root = tmp_path_factory.mktemp("whole")
    bundle.train(phantoms_2d, root, max_epochs=EPOCHS, batch_size=2)
    return root


def interrupt(engine: Engine) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("iteration", [1, 3, 8, 11], ids=["in-epoch-1", "end-of-epoch-1", "in-epoch-3", "in-epoch-4"])
def test_an_interrupted_training_ends_like_the_uninterrupted_one(
    iteration: int, whole: Path, phantoms_2d: Path, tmp_path: Path
) -> None:
    """6 cases in batches of 2 are three steps an epoch."""
    options = {"max_epochs": EPOCHS, "batch_size": 2}
    made = bundle.workflow(
        bundle.configs("train"), tmp_path, "train", datalist=str(phantoms_2d), spatial_size=[32, 32], **options
    )
    made.initialize()
    trainer = made.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    made.finalize()
    bundle.train(phantoms_2d, tmp_path, **options)
    assert_same(state(tmp_path), state(whole))


@pytest.mark.slow
def test_two_trainings_with_one_seed_are_equal_and_with_another_are_not(
    whole: Path, phantoms_2d: Path, tmp_path: Path
) -> None:
    bundle.train(phantoms_2d, tmp_path / "again", max_epochs=EPOCHS, batch_size=2)
    assert_same(state(tmp_path / "again"), state(whole))
    for root in (whole, tmp_path / "again"):
        bundle.evaluate(phantoms_2d, root)
    left, right = (root / "eval" for root in (whole, tmp_path / "again"))
    for name in ("cases.csv", "summary.csv", "summary.json"):
        assert (left / name).read_bytes() == (right / name).read_bytes()
    bundle.train(phantoms_2d, tmp_path / "other", max_epochs=EPOCHS, batch_size=2, seed=1)
    assert state(tmp_path / "other")["history"] != state(whole)["history"]


@pytest.mark.slow
def test_a_finished_training_is_left_as_it_is(whole: Path, phantoms_2d: Path) -> None:
    before = {path.name: path.read_bytes() for path in (whole / "models").iterdir()}
    bundle.train(phantoms_2d, whole, max_epochs=EPOCHS, batch_size=2)
    assert {path.name: path.read_bytes() for path in (whole / "models").iterdir()} == before


@pytest.mark.slow
def test_another_objective_does_not_go_on_from_it(whole: Path, phantoms_2d: Path) -> None:
    before = {path.name: path.read_bytes() for path in (whole / "models").iterdir()}
    with pytest.raises(SystemExit, match=r"objective was \w+, is soft; family was \w+, is binary"):
        bundle.train(phantoms_2d, whole, max_epochs=EPOCHS, batch_size=2, objective="soft")
    assert {path.name: path.read_bytes() for path in (whole / "models").iterdir()} == before


KILLER = {
    "run": [
        "$@prepare",
        "$@train#trainer.add_event_handler(monai_multirater.handlers.epochs.Events.ITERATION_COMPLETED(once=8),"
        " lambda engine: os.kill(os.getpid(), 9))",
        "$@train#trainer.run()",
    ]
}


@pytest.mark.slow
def test_a_killed_training_leaves_whole_files_and_ends_like_the_uninterrupted_one(
    phantoms_2d: Path, tmp_path: Path
) -> None:
    """SIGKILL in step 2 of epoch 3 (3 steps an epoch)."""
    overlay = tmp_path / "killer.json"
    overlay.write_text(json.dumps(KILLER))
    options = {"max_epochs": EPOCHS, "batch_size": 2, "select_from_epoch": 1, "spatial_size": [32, 32]}
    words = {"datalist": phantoms_2d, "output_dir": tmp_path / "killed", "device": "cpu", **options}
    arguments = [f"--{key}={value}" for key, value in {**words, "network_options#channels": [4, 8]}.items()]
    files = str([*bundle.configs("train"), str(overlay)])
    result = bundle.shell(["run", "training", "--config_file", files, *arguments], tmp_path)
    assert result.returncode == -signal.SIGKILL, result.stderr
    models = tmp_path / "killed" / "models"
    assert torch.load(models / "resume.pt", weights_only=True)["engine"] == {"epoch": 2, "iteration": 6}
    torch.load(models / "model.pt", weights_only=True)
    assert pd.read_csv(models / "history.csv")["epoch"].tolist() == [1, 2]
    assert {path.name for path in models.iterdir()} == {"resume.pt", "model.pt", "history.csv", "model.json"}
    for root in (tmp_path / "killed", tmp_path / "whole"):
        bundle.train(phantoms_2d, tmp_path, output_dir=str(root), **options)
    assert_same(state(tmp_path / "killed"), state(tmp_path / "whole"))


def votes_by_epoch(manifest: Path, root: Path, *, seed: int = 0) -> list[torch.Tensor]:
    """Targets of the first training case in three epochs, drawn by the random rater objective, without flips."""
    made = bundle.workflow(
        bundle.configs("train", "objectives/random_rater"), root, "train", datalist=str(manifest), augment=[], seed=seed
    )
    made.initialize()
    data = made.parser.get_parsed_content("train#dataset")
    targets = []
    for epoch in range(1, 9):
        data.set_epoch(epoch)
        targets.append(data[0]["votes"].clone())
        assert int(data[0]["n_raters"]) == 1
    made.finalize()
    return targets


def test_the_random_rater_changes_over_epochs_and_is_reproducible(phantoms_2d: Path, tmp_path: Path) -> None:
    first, again = (votes_by_epoch(phantoms_2d, tmp_path) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({target.numpy().tobytes() for target in first}) >= 3  # of 4 raters in 8 epochs
    other = votes_by_epoch(phantoms_2d, tmp_path, seed=1)
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
