# SPDX-License-Identifier: Apache-2.0
"""Fusing in several processes, on Dask, killed and started again. Reference: an undisturbed run in one process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fusing_data import dying_case, make_dataset, number, save_mask
from typer.testing import CliRunner, Result

from monai_multirater.cli import app
from monai_multirater.studies import fuse_manifest, fusing
from monai_multirater.studies.pool import Outcome, run_here, run_in_processes, run_on_dask

PARTS = ("consensus", "probability")


def _contents(folder: Path) -> dict[str, bytes]:
    files = [path for part in PARTS for path in sorted((folder / part).iterdir())]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in [*files, folder / "raters.csv"]}


def _times(folder: Path) -> dict[str, int]:
    """Time of change of the record and the maps of every finished case."""
    records = list((folder / ".cases").glob("[!.]*.json"))
    maps = [folder / part / f"{record.stem}.nii.gz" for record in records for part in PARTS]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in [*records, *maps]}


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["fuse", *(str(a) for a in arguments)])


def _text(result: Result) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", result.output))


def test_tasks_here_give_values_and_reasons() -> None:
    outcomes = list(run_here(number, [1, "raise", 3]))
    assert outcomes == [Outcome(0, 2), Outcome(1, error="KeyError: 'gone'"), Outcome(2, 6)]


@pytest.mark.slow
def test_a_process_that_dies_costs_its_task_one_retry_and_no_other_task_anything(tmp_path: Path) -> None:
    tasks = [1, "die", "raise", f"once:{tmp_path / 'flag'}", 5]
    outcomes = {outcome.index: outcome for outcome in run_in_processes(number, tasks, 2)}
    assert len(outcomes) == len(tasks)
    assert (outcomes[0].value, outcomes[3].value, outcomes[4].value) == (2, "second", 10)
    assert outcomes[1].error == "its worker process died 2 times (killed by signal 9)"
    assert outcomes[2].error == "KeyError: 'gone'"


@pytest.mark.slow
def test_processes_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from monai_multirater.studies.pool import run_in_processes\n"
        "list(run_in_processes(abs, [1, 2], 1))\n"  # without a guard: a new process runs this line again
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert "Worker processes cannot start" in done.stderr


@pytest.mark.slow
def test_two_processes_of_which_some_die_give_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_dataset(tmp_path, cases=6)
    fuse_manifest(manifest, method="staple", out=tmp_path / "one")
    monkeypatch.setattr(fusing, "fuse_case", dying_case)
    with pytest.raises(RuntimeError) as caught:
        fuse_manifest(manifest, method="staple", out=tmp_path / "two", jobs=2)
    assert "1 of 6 cases failed:\n  - case c1: its worker process died 2 times" in str(caught.value)
    expected, found = _contents(tmp_path / "one"), _contents(tmp_path / "two")
    maps = {name: content for name, content in expected.items() if name != "raters.csv" and "c1" not in name}
    assert {name: content for name, content in found.items() if name != "raters.csv"} == maps
    monkeypatch.undo()
    fuse_manifest(manifest, method="staple", out=tmp_path / "two")
    assert _contents(tmp_path / "two") == expected


@pytest.mark.slow
def test_a_killed_run_loses_and_repeats_nothing(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, shape=(64, 64, 48), cases=40)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "monai_multirater.cli", "fuse", str(manifest), "--method", "staple"]
    command += ["--out", str(out), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        if (out / ".cases").is_dir() and len(_times(out)) >= 30:
            break
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(3)  # workers finish the case they are at, and end
    before = _times(out)
    assert 30 <= len(before) < 120
    again = _run(manifest, "--method", "staple", "--out", out)
    assert again.exit_code == 0, again.output
    assert f"{len(before) // 3} were finished before" in _text(again)
    after = _times(out)
    assert len(after) == 120
    assert {name: moment for name, moment in after.items() if name in before} == before
    fuse_manifest(manifest, method="staple", out=tmp_path / "whole")
    assert _contents(out) == _contents(tmp_path / "whole")
    assert not [path for path in out.rglob("*") if ".tmp~" in path.name]


@pytest.mark.slow
def test_dask_gives_the_same_bytes_and_survives_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    manifest = make_dataset(tmp_path, cases=5)
    fuse_manifest(manifest, method="staple", out=tmp_path / "one")
    monkeypatch.setattr(fusing, "fuse_case", dying_case)
    with pytest.raises(RuntimeError, match=r"1 of 5 cases failed:\n  - case c1: its Dask worker died 2 times"):
        fuse_manifest(manifest, method="staple", out=tmp_path / "dask", dask="2")
    monkeypatch.undo()
    fuse_manifest(manifest, method="staple", out=tmp_path / "dask")
    assert _contents(tmp_path / "dask") == _contents(tmp_path / "one")


@pytest.mark.slow
def test_the_address_of_a_dask_scheduler(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        outcomes = list(run_on_dask(number, [1, 2, "raise"], cluster.scheduler_address))
    assert sorted((o.index, o.value, o.error) for o in outcomes) == [
        (0, 2, ""),
        (1, 4, ""),
        (2, None, "KeyError: 'gone'"),
    ]


def test_a_missing_dask_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    manifest = make_dataset(tmp_path)
    with pytest.raises(RuntimeError, match=r"needs the package distributed.*pip install 'monai-multirater\[dask\]'"):
        fuse_manifest(manifest, method="soft", out=tmp_path / "out", dask="2")


def test_command_writes_tables_and_says_how_long_each_step_took(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    result = _run(manifest, "--method", "soft-gaussian", "--option", "sigma=0.8", "--option", "unit=mm", "--out", out)
    assert result.exit_code == 0, result.output
    pattern = r"4 cases in \d+\.\d s: checking \d+ %, reading \d+ %, fusing \d+ %, measuring \d+ %, writing \d+ %"
    assert re.search(pattern, _text(result))
    assert f"{out}/raters.csv" in result.output.replace("\n", "")
    assert "4 were finished before" in _text(
        _run(manifest, "--method", "soft-gaussian", "--option", "sigma=0.8", "--option", "unit=mm", "--out", out)
    )


def _no_manifest(root: Path) -> None:
    (root / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (_no_manifest, ("--method", "staple"), "the manifest does not exist"),
        (lambda root: None, ("--method", "stapel"), "method must be one of random, majority, union"),
        (lambda root: None, ("--method", "staple", "--option", "x=1"), "does not have the option x. It has"),
        (lambda root: shutil.rmtree(root / "ben"), ("--method", "staple"), "case c0, rater ben, ben/c0.nii.gz"),
        (
            lambda root: save_mask(root / "ben" / "c1.nii.gz", np.full((14, 12, 8), 7, np.uint8)),
            ("--method", "staple"),
            "fuse: 1 of 4 cases failed: - case c1: rater ben, ben/c1.nii.gz: is not binary",
        ),
    ],
    ids=["manifest", "method", "option", "rater", "mask"],
)
def test_errors_are_one_message_and_exit_status_1(
    tmp_path: Path, damage: object, arguments: tuple[str, ...], message: str
) -> None:
    manifest = make_dataset(tmp_path)
    damage(tmp_path)
    result = _run(manifest, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert _text(result).count("Error") == 1
    assert message in _text(result)
    assert "Traceback" not in result.output


def test_help_shows_examples() -> None:
    result = _run("--help")
    assert result.exit_code == 0
    assert "monai-multirater fuse scans/manifest.json --method simple" in _text(result)
