# SPDX-License-Identifier: Apache-2.0
"""What bundle configurations call. Reference: the files and messages written out by hand."""

import json
import logging
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_multirater.bundles import (
    bundle_root,
    check_checkpoint,
    describe_data,
    keep_freed_memory,
    open_data,
    open_images,
    read_settings,
    start_training,
    write_settings,
)
from monai_multirater.data import read_manifest


@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "bundles/rps/configs/train.json"],
        ["--config_file=bundles/rps/configs/train.json"],
        ["--config-file", "bundles/rps/configs/train.json"],
        ["--config_file", "['bundles/rps/configs/train.json', 'bundles/rps/configs/objectives/rps.json']"],
        ["--config_file", "bundles/rps/configs/objectives/rps.json"],
        ["--max_epochs", "2", "--config_file", "bundles/rps/configs/train.json", "--seed", "1"],
    ],
    ids=["space", "equals", "dash", "list", "overlay", "among-others"],
)
def test_the_root_is_the_parent_of_configs(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_root(["monai.bundle", "run", "training", *words]) == "bundles/rps"


def test_inside_of_the_bundle_the_root_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_root(["run", "--config_file", "configs/train.json"]) == "."


@pytest.mark.parametrize(
    "words", [[], ["run", "--config_file"], ["run", "--config_file", "train.json"]], ids=["none", "no-value", "loose"]
)
def test_without_a_configs_folder_the_root_is_here(words: list[str]) -> None:
    assert bundle_root(words) == "."


def test_settings_are_read_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "models" / "model.json"
    assert read_settings(path, {"raters": 5}) == {"raters": 5}
    write_settings(path, {"raters": 3, "objective": "rps"})
    assert read_settings(path, {"raters": 5, "in_channels": 3}) == {"raters": 3, "objective": "rps", "in_channels": 3}
    assert [p.name for p in path.parent.iterdir()] == ["model.json"]
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"must hold a JSON object\. Got list"):
        read_settings(path, {})


SETTINGS = {"objective": "rps", "spatial_size": (32, 32)}
TRAINING = {"seed": 0, "max_epochs": 4}


def trained(folder: Path) -> Path:
    start_training(str(folder), SETTINGS, TRAINING)
    for name in ("resume.pt", "model.pt", "history.csv"):
        (folder / name).write_text(name)
    return folder


def test_the_same_training_goes_on(tmp_path: Path) -> None:
    start_training(str(trained(tmp_path)), {**SETTINGS, "spatial_size": [32, 32]}, TRAINING)
    assert (tmp_path / "resume.pt").is_file()
    assert json.loads((tmp_path / "model.json").read_text())["training"] == TRAINING


@pytest.mark.parametrize(
    ("settings", "training", "message"),
    [
        ({"objective": "soft"}, {}, "objective was rps, is soft"),
        ({}, {"max_epochs": 9}, "max_epochs was 4, is 9"),
        ({"objective": "soft"}, {"seed": 1}, "objective was rps, is soft; seed was 0, is 1"),
    ],
    ids=["objective", "epochs", "both"],
)
def test_a_training_with_other_settings_is_not_resumed(
    tmp_path: Path, settings: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    before = (trained(tmp_path) / "model.json").read_bytes()
    with pytest.raises(SystemExit, match=message) as caught:
        start_training(str(tmp_path), {**SETTINGS, **settings}, {**TRAINING, **training})
    assert "--output_dir" in str(caught.value)
    assert "--resume False" in str(caught.value)
    assert (tmp_path / "model.json").read_bytes() == before


def test_starting_over_removes_what_the_earlier_training_left(tmp_path: Path) -> None:
    start_training(str(trained(tmp_path)), {**SETTINGS, "objective": "soft"}, TRAINING, resume=False)
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


def test_a_model_that_cannot_be_resumed_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("somebody's model")
    write_settings(tmp_path / "model.json", {"objective": "soft"})
    start_training(str(tmp_path), SETTINGS, TRAINING)
    assert (tmp_path / "model.pt").is_file()


def test_the_description_of_data_depends_on_cases_and_raters_only(phantoms_2d: Path, phantoms_missing: Path) -> None:
    texts = [describe_data(read_manifest(path)) for path in (phantoms_2d, phantoms_2d, phantoms_missing)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("small_2d, 8 cases, ")


def test_a_checkpoint_that_fits_passes(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    torch.save({"model": network.state_dict()}, tmp_path / "nested.pt")
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    check_checkpoint(str(tmp_path / "nested.pt"), network)
    check_checkpoint(str(tmp_path / "plain.pt"), network)


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text", "number", "shape", "names"])
def test_an_unusable_checkpoint_ends_the_run_with_its_name_and_reason(tmp_path: Path, kind: str) -> None:
    network, path = torch.nn.Linear(3, 2), tmp_path / "model.pt"
    other = {"shape": torch.nn.Linear(4, 2), "names": torch.nn.Sequential(torch.nn.Linear(3, 2))}.get(kind, network)
    torch.save({"model": other.state_dict()}, path)
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "number":
        torch.save(3, path)
    elif kind not in ("shape", "names"):
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello"}[kind])
    reason = {
        "missing": "there is no trained model",
        "shape": r"1 entries differ \(weight is \(2, 4\) there and \(2, 3\) here\)",
        "names": "4 entries differ",
    }.get(kind, "cannot be read as a checkpoint")
    with pytest.raises(SystemExit, match=reason) as caught:
        check_checkpoint(str(path), network)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_data_end_the_run_with_one_message(tmp_path: Path, phantoms_2d: Path) -> None:
    with pytest.raises(SystemExit, match=r"(?s)Error in the data set: .*the manifest does not exist") as caught:
        open_data(str(tmp_path / "manifest.json"))
    assert caught.value.code != 0
    with pytest.raises(SystemExit, match="has 4 raters; the model was trained for 2"):
        open_data(str(phantoms_2d), raters=2)
    with pytest.raises(SystemExit, match="'cases' must be >= 1"):
        open_data(str(tmp_path / "manifest.json"), phantoms={"cases": 0})
    with pytest.raises(SystemExit, match=r"(?s)Error in the images: .*holds no image"):
        open_images(str(tmp_path), channels=3, spatial_dims=2)


def test_one_rater_is_allowed_and_said(phantoms_2d: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = json.loads(phantoms_2d.read_text())
    content["raters"] = content["raters"][:1]
    for split in ("training", "validation", "test"):
        for case in content[split]:
            case["ratings"] = {rater: case["ratings"][rater] for rater in content["raters"]}
    path = phantoms_2d.parent / "one.json"
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert len(open_data(str(path)).raters) == 1
    assert "Only one rater" in caplog.text
    path.unlink()


FAULTS = """
import resource, sys, torch
from monai_multirater.bundles import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [torch.ones(1 << 24) for _ in range(3)]  # three blocks of 64 MiB, more than glibc keeps by itself
for _ in range(3):
    step()
before = faults()
for _ in range(4):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_process_that_keeps_its_memory_has_no_page_faults() -> None:
    """Reference: the page faults that the system counts; 4096 of 64 KiB, or 49152 of 4 KiB, for each step without."""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and not k.startswith("MALLOC_")}
    found = {}
    for word in ("keep", "plain"):
        command = [sys.executable, "-c", FAULTS, word]
        found[word] = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
    assert found["keep"][0] == "True"
    assert int(found["keep"][1]) < 200
    assert int(found["plain"][1]) > 10 * max(1, int(found["keep"][1]))


def test_settings_of_the_environment_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert keep_freed_memory() is False
