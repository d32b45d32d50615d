# SPDX-License-Identifier: Apache-2.0
"""The command line: what a user types, sees, and the exit status."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from monai_multirater import __version__
from monai_multirater.cli import app


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def _text(result: Result) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", result.output))


@pytest.fixture
def folder(phantoms_2d: Path, tmp_path: Path) -> Path:
    """Images and masks of the phantoms without their manifest."""
    root = tmp_path / "lesions"
    shutil.copytree(phantoms_2d.parent, root, ignore=shutil.ignore_patterns("manifest.json"))
    return root


def test_phantoms_then_check(tmp_path: Path) -> None:
    made = _run("phantoms", tmp_path / "p", "--cases", 5, "--size", 32, "--raters", 2, "--split", 0.6, 0.2, 0.2)
    assert made.exit_code == 0, made.output
    assert "p: 5 cases" in _text(made)
    checked = _run("check", tmp_path / "p" / "manifest.json")
    assert checked.exit_code == 0, checked.output
    assert "marked by careful │ 3 │ 1 │ 1 │ 5" in _text(checked)
    again = _run("phantoms", tmp_path / "p", "--cases", 5, "--size", 32, "--raters", 2, "--split", 0.6, 0.2, 0.2)
    assert "used again" in _text(again)


def test_manifest_then_check(folder: Path) -> None:
    built = _run("manifest", folder, "--truth", "truth", "--split", 0.6, 0.2, 0.2, "--name", "mine")
    assert built.exit_code == 0, built.output
    assert "mine: 10 cases" in _text(built)
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert content["raters"] == ["careful", "detailed", "generous", "tight"]
    assert len(content["training"]) == 6
    assert _run("check", folder / "manifest.json", "--headers").exit_code == 0


def test_rater_order_is_that_of_the_command(folder: Path) -> None:
    assert _run("manifest", folder, "--rater", "tight", "--rater", "careful").exit_code == 0
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["raters"] == [
        "tight",
        "careful",
    ]


def test_one_rater_is_allowed_with_a_warning(folder: Path) -> None:
    result = _run("manifest", folder, "--rater", "tight")
    assert result.exit_code == 0
    assert "WARNING Only one rater (tight): agreement is undefined" in _text(result)


@pytest.mark.parametrize("option", ["--copy", "--link"])
def test_transfer(folder: Path, tmp_path: Path, option: str) -> None:
    result = _run("manifest", folder, "--out", tmp_path / "new" / "manifest.json", option)
    assert result.exit_code == 0, result.output
    assert _run("check", tmp_path / "new" / "manifest.json").exit_code == 0


def _damage_truncated(folder: Path) -> None:
    path = next((folder / "images").iterdir())
    path.write_bytes(path.read_bytes()[:500])


def _damage_gray(folder: Path) -> None:
    Image.fromarray(np.full((64, 64), 77, np.uint8)).save(next((folder / "tight").iterdir()))


def _damage_shape(folder: Path) -> None:
    Image.fromarray(np.zeros((64, 63), np.uint8)).save(next((folder / "tight").iterdir()))


def _damage_names(folder: Path) -> None:
    for rater in ("careful", "detailed", "generous", "tight"):
        for path in (folder / rater).iterdir():
            path.rename(path.with_name("x_" + path.name))


def _damage_double(folder: Path) -> None:
    path = next((folder / "images").iterdir())
    shutil.copy(path, path.with_suffix(".tif"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_damage_truncated, "damaged or truncated"),
        (_damage_gray, "is not binary: expected {0, 1} or {0, 255}, found 1 values (77)"),
        (_damage_shape, "has shape (64, 63), its image has (64, 64)"),
        (_damage_names, "no mask has the name of an image"),
        (_damage_double, "is also images/"),
        (lambda folder: shutil.rmtree(folder / "images"), "the folder does not exist"),
        (lambda folder: shutil.rmtree(folder), "the folder does not exist"),
    ],
    ids=["truncated", "gray", "shape", "names", "double", "images", "root"],
)
def test_bad_data_give_one_clear_error(folder: Path, damage: object, message: str) -> None:
    damage(folder)
    result = _run("manifest", folder)
    assert result.exit_code == 1
    assert _text(result).count("Error") == 1
    assert message in _text(result)
    assert "Traceback" not in result.output
    assert not (folder / "manifest.json").exists()


def test_threshold_repairs_gray_masks(folder: Path, tmp_path: Path) -> None:
    _damage_gray(folder)
    out = tmp_path / "new" / "manifest.json"
    assert "needs transfer='copy' (--copy)" in _text(_run("manifest", folder, "--threshold", 50))
    assert _run("manifest", folder, "--out", out, "--copy", "--threshold", 50).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "nowhere.json"),
        ("manifest", ".", "--copy", "--link"),
        ("phantoms", "p", "--split", 0.5, 0.5, 0.5),
    ],
    ids=lambda a: a[0],
)
def test_errors_exit_with_status_1(
    arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run(*arguments)
    assert result.exit_code == 1
    assert "Error" in result.output


@pytest.mark.parametrize("arguments", [("manifest",), ("phantoms", "p", "--dimensions", 4), ("nothing",)], ids=str)
def test_wrong_usage_exits_with_status_2(arguments: tuple[object, ...]) -> None:
    assert _run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["manifest", "check", "phantoms"])
def test_help_shows_examples(command: str) -> None:
    result = _run(command, "--help")
    assert result.exit_code == 0
    assert f"monai-multirater {command} " in _text(result)


def test_version() -> None:
    assert _run("--version").output.strip() == __version__
