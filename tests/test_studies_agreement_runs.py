# SPDX-License-Identifier: Apache-2.0
"""Agreement measured in several processes, on Dask, killed and started again. Reference: one undisturbed process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusing_data import make_dataset, planes, save_mask

from monai_multirater.studies.agreement import agreement_study, incomplete, measured
from monai_multirater.studies.agreement.measuring import ChunkTask, measure_chunk

QUICK: dict[str, Any] = {"report": False, "pictures": 0, "resamples": 20, "factors": ()}


def dying_chunk(task: ChunkTask) -> Any:
    """Measure, but case c1 kills its process, and case c4 does so the first time."""
    flag = task.folder.path / "c4-died"
    names = [case.case for case in task.cases]
    if "c4" in names and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "c1" in names:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure_chunk(task)


def _contents(folder: Path) -> dict[str, bytes]:
    """Tables, as bytes; the JSON without the folder's own state."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))} | {
        "agreement.json": (folder / "agreement.json").read_bytes()
    }


def _records(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / ".cases").glob("[!.]*.jsonl")}


def test_measured_cases_are_not_measured_again(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path, cases=6), tmp_path / "out"
    agreement_study(manifest, out=out, **QUICK)
    before, tables = _records(out), _contents(out)
    assert len(before) == 3  # chunks of two: four for a process
    agreement_study(manifest, out=out, **QUICK)
    assert (_records(out), _contents(out)) == (before, tables)
    agreement_study(manifest, out=out, **{**QUICK, "factors": None})  # what is asked of the pairs may change
    assert _records(out) == before


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, cases=6)
    agreement_study(manifest, out=tmp_path / "parts", splits=["test"], **QUICK)
    agreement_study(manifest, out=tmp_path / "parts", **QUICK)
    agreement_study(manifest, out=tmp_path / "whole", **QUICK)
    assert _contents(tmp_path / "parts") == _contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["mask", "record", "repair"])
def test_what_is_no_longer_valid_is_measured_again(tmp_path: Path, change: str) -> None:
    manifest, out = make_dataset(tmp_path, cases=5), tmp_path / "out"
    whole = (tmp_path / "ben" / "c1.nii.gz").read_bytes()
    if change == "repair":
        (tmp_path / "ben" / "c1.nii.gz").write_bytes(whole[:80])
    first = agreement_study(manifest, out=out, **QUICK)
    assert bool(incomplete(first)) == (change == "repair")
    if change == "mask":
        save_mask(tmp_path / "ben" / "c1.nii.gz", np.ones((14, 12, 8), np.uint8))
    elif change == "record":
        next((out / ".cases").glob("*.jsonl")).write_text('{"request": ')
    else:
        (tmp_path / "ben" / "c1.nii.gz").write_bytes(whole)
    study = agreement_study(manifest, out=out, **QUICK)
    assert incomplete(study) == ""
    agreement_study(manifest, out=tmp_path / "fresh", **QUICK)
    assert _contents(out) == _contents(tmp_path / "fresh")


def test_another_request_is_refused_with_what_differs_unless_overwritten(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    agreement_study(manifest, out=out, measures="overlap", **QUICK)
    with pytest.raises(
        ValueError, match=r"holds cases that were measured in another way \(measures was .*tolerance was"
    ):
        agreement_study(manifest, out=out, tolerance=2.0, **QUICK)
    study = agreement_study(manifest, out=out, tolerance=2.0, overwrite=True, **QUICK)
    assert "surface_dice" in study.pairs


@pytest.mark.slow
def test_two_processes_of_which_some_die_give_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_dataset(tmp_path, cases=10)
    agreement_study(manifest, out=tmp_path / "one", **QUICK)
    monkeypatch.setattr(measured, "measure_chunk", dying_chunk)
    study = agreement_study(manifest, out=tmp_path / "two", jobs=2, **QUICK)
    assert incomplete(study).splitlines()[1:] == ["  - case c1: its worker process died 2 times (killed by signal 9)"]
    assert set(study.cases["case"]) == {f"c{k}" for k in range(10)} - {"c1"}
    monkeypatch.undo()
    agreement_study(manifest, out=tmp_path / "two", **QUICK)  # only what is left is measured, without processes
    assert _contents(tmp_path / "two") == _contents(tmp_path / "one")


@pytest.mark.slow
def test_a_killed_run_loses_at_most_the_chunks_at_work(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path, shape=(48, 48, 32), cases=40), tmp_path / "out"
    command = [sys.executable, "-m", "monai_multirater.cli", "agreement", str(manifest), "--out", str(out)]
    process = subprocess.Popen([*command, "--jobs", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end and len(_records(out)) < 3:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(3)  # workers finish the chunk they are at, and end
    before = _records(out)
    assert 3 <= len(before) < 10
    assert not (out / "pairs.csv").exists()
    agreement_study(manifest, out=out, **QUICK)
    assert {name: moment for name, moment in _records(out).items() if name in before} == before
    agreement_study(manifest, out=tmp_path / "whole", **QUICK)
    assert _contents(out) == _contents(tmp_path / "whole")
    assert not [path for path in out.rglob("*") if ".tmp~" in path.name]


@pytest.mark.slow
def test_dask_gives_the_same_bytes_and_survives_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    manifest = make_dataset(tmp_path, cases=10)
    agreement_study(manifest, out=tmp_path / "one", **QUICK)
    monkeypatch.setattr(measured, "measure_chunk", dying_chunk)
    study = agreement_study(manifest, out=tmp_path / "dask", dask="2", **QUICK)
    assert "case c1: its Dask worker died 2 times or more" in incomplete(study)
    monkeypatch.undo()
    agreement_study(manifest, out=tmp_path / "dask", **QUICK)
    assert _contents(tmp_path / "dask") == _contents(tmp_path / "one")


def test_tables_do_not_depend_on_the_size_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raters = tuple("abcdefgh")
    manifest = make_dataset(
        tmp_path, suffix=".png", shape=(24, 20), raters=raters, cases=9, missing=((0, "a"), (1, "h"))
    )
    agreement_study(manifest, out=tmp_path / "one", **QUICK)
    monkeypatch.setattr(measured, "_PICTURES", 1)
    agreement_study(manifest, out=tmp_path / "single", **QUICK)
    assert len(_records(tmp_path / "single")) == 9
    assert _contents(tmp_path / "single") == _contents(tmp_path / "one")
    assert planes(manifest, "c0").keys() == set(raters[1:])
