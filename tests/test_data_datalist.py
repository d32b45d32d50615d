# SPDX-License-Identifier: Apache-2.0
"""The manifest: reading, writing, paths that may not leave, everything wrong in one error."""

import json
from pathlib import Path
from typing import Any

import pytest

from monai_multirater.data import CaseRecord, Manifest, ManifestError, datalist, read_manifest, write_manifest
from monai_multirater.data import datalist as datalist_function
from monai_multirater.data.problems import path_problem

CONTENT: dict[str, Any] = {
    "name": "cells",
    "raters": ["A", "B", "C"],
    "license": "CC0",
    "training": [
        {
            "case": "b01",
            "image": "images/b01.png",
            "ratings": {"C": "C/b01.png", "A": "A/b01.png"},
            "diagnosis": 1,
            "group": "p7",
            "fold": 2,
        }
    ],
    "test": [{"case": "b02", "image": "images/b02.png", "ratings": {"B": "B/b02.png"}, "truth": "t/b02.npy"}],
}


def _write(folder: Path, content: object) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_manifest_survives_reading_and_writing(tmp_path: Path) -> None:
    manifest = read_manifest(_write(tmp_path, CONTENT))
    assert manifest.raters == ("A", "B", "C")
    assert manifest.meta == {"license": "CC0"}
    assert manifest.root == tmp_path
    write_manifest(manifest, tmp_path / "copy.json")
    assert read_manifest(tmp_path / "copy.json") == manifest
    assert json.loads((tmp_path / "copy.json").read_text(encoding="utf-8")) == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.json", "manifest.json"]


def test_datalist_gives_absolute_paths_in_rater_order(tmp_path: Path) -> None:
    path = _write(tmp_path, CONTENT)
    (item,) = datalist(path, "training")
    assert item == {
        "case": "b01",
        "image": str(tmp_path / "images/b01.png"),
        "ratings": (str(tmp_path / "A/b01.png"), None, str(tmp_path / "C/b01.png")),
        "diagnosis": 1,
        "group": "p7",
        "fold": 2,
    }
    (item,) = datalist(read_manifest(path), "test")
    assert item["truth"] == str(tmp_path / "t/b02.npy")
    assert "group" not in item


def test_unknown_split_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'split' must be one of \['test', 'training'\], got 'validation'"):
        datalist_function(_write(tmp_path, CONTENT), "validation")


def test_relative_manifest_path_gives_absolute_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, CONTENT)
    monkeypatch.chdir(tmp_path)
    assert datalist("manifest.json", "training")[0]["image"] == str(tmp_path / "images/b01.png")


@pytest.mark.parametrize(
    "path",
    ["../x.png", "a/../../x.png", "/etc/passwd", "C:/x.png", "C:x.png", "a\\x.png", "\\\\host\\x", "", ".."],
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    assert path_problem(path)
    with pytest.raises(ValueError, match=r"Manifest\.path"):
        Manifest("m", ("A",), {}, tmp_path).path(path)


@pytest.mark.parametrize("path", ["x.png", "a/../x.png", "a/b..c/x.png", "...png"])
def test_paths_inside_the_folder_are_allowed(tmp_path: Path, path: str) -> None:
    assert Manifest("m", ("A",), {}, tmp_path).path(path).is_relative_to(tmp_path)


def test_all_structural_problems_come_in_one_error(tmp_path: Path) -> None:
    case = {"case": "c1", "image": "i/c1.png", "ratings": {"A": "A/c1.png"}}
    content = {
        "raters": ["A", "B", "B"],
        "training": [
            case,
            case,
            {"image": "i/x.png", "ratings": {"A": "A/x.png"}},
            {"case": "c2", "ratings": {"A": "A/c2.png"}},
            {"case": "c3", "image": "i/c3.png", "ratings": {}},
            {"case": "c4", "image": "../c4.png", "ratings": {"A": "/abs/c4.png", "Z": "Z/c4.png"}},
            {"case": "c5", "image": "i/c5.png", "ratings": {"A": None}},
        ],
        "test": [],
    }
    with pytest.raises(ManifestError) as caught:
        read_manifest(_write(tmp_path, content))
    message = str(caught.value)
    for text in (
        "rater B: is listed twice in 'raters'",
        "case c1: is listed twice",
        "case training[2]: 'case' is missing",
        "case c2: 'image' must be a path",
        "case c3: no rater marked it",
        "case c4, ../c4.png: leaves the manifest's folder",
        "case c4, rater A, /abs/c4.png: is absolute",
        "case c4, rater Z, Z/c4.png: is not listed in 'raters'",
        "case c5: 'ratings' must map rater to path",
        "split 'test' is empty",
    ):
        assert text in message
    assert f"{len(caught.value.problems)} problems" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "lists no rater"),
        ('{"raters": "A", "training": []}', "'raters' must be a list"),
    ],
    ids=["broken", "list", "empty", "raters"],
)
def test_files_that_are_no_manifest(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "m.json").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=reason):
        read_manifest(tmp_path / "m.json")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest(tmp_path / "nowhere.json")


def test_wrong_manifest_is_not_written_and_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("old", encoding="utf-8")
    wrong = Manifest("m", ("A",), {"training": (CaseRecord("a", "a.png", {}),)}, tmp_path)
    with pytest.raises(ManifestError, match="no rater marked it"):
        write_manifest(wrong, tmp_path / "m.json")
    unwritable = Manifest("m", ("A",), {"training": (CaseRecord("a", "a.png", {"A": "b"}),)}, tmp_path, {"x": {1}})
    with pytest.raises(TypeError):
        write_manifest(unwritable, tmp_path / "m.json")
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == "old"
