# SPDX-License-Identifier: Apache-2.0
"""Work in other processes: what fails, what dies, and what goes on. References: files that the work leaves."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from monai_multirater.studies.workers import WorkerDiedError, each_in_worker

pytestmark = pytest.mark.slow


def work(folder: Path, name: str) -> None:
    """Leave a line per attempt; names say what happens then."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    attempts = len((folder / name).read_text().splitlines())
    if name.startswith("killed") or (name.startswith("unlucky") and attempts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("wrong"):
        raise ValueError(f"{name} is wrong")


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_item_is_answered_whatever_the_others_do(jobs: int, tmp_path: Path) -> None:
    names = ["a", "wrong", "killed", "b", "unlucky", "c"]
    found = dict(each_in_worker(partial(work, tmp_path), names, jobs=jobs))
    assert set(found) == set(names)
    assert [name for name in names if found[name] is None] == ["a", "b", "unlucky", "c"]
    assert isinstance(found["wrong"], ValueError)
    assert str(found["wrong"]) == "wrong is wrong"
    assert isinstance(found["killed"], WorkerDiedError)
    assert "died 2 times" in str(found["killed"])
    attempts = {name: len((tmp_path / name).read_text().splitlines()) for name in names}
    assert attempts == {"a": 1, "wrong": 1, "killed": 2, "b": 1, "unlucky": 2, "c": 1}


def test_the_processes_are_others_and_are_used_again(tmp_path: Path) -> None:
    list(each_in_worker(partial(work, tmp_path), ["a", "wrong", "b"]))
    processes = {int((tmp_path / name).read_text()) for name in ("a", "wrong", "b")}
    assert len(processes) == 1
    assert os.getpid() not in processes


def test_nothing_new_begins_when_the_caller_stops(tmp_path: Path) -> None:
    for _name, _error in each_in_worker(partial(work, tmp_path), [f"item{i}" for i in range(50)]):
        break
    assert 1 <= len(list(tmp_path.iterdir())) < 50


def sleep(folder: Path, seconds: float) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(seconds)


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of processes from /proc")
def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = "\n".join(
        [
            "import pathlib, functools, test_studies_workers as t",
            "if __name__ == '__main__':",
            f"    list(t.each_in_worker(functools.partial(t.sleep, pathlib.Path({str(tmp_path)!r})), [600.0]))",
        ]
    )
    (tmp_path / "caller.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    caller = subprocess.Popen([sys.executable, str(tmp_path / "caller.py")], env=environment)
    limit = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < limit
        time.sleep(0.1)
    worker = int((tmp_path / "pid").read_text())
    caller.kill()
    caller.wait()
    while _is_running(worker):
        assert time.monotonic() < limit
        time.sleep(0.1)
