# SPDX-License-Identifier: Apache-2.0
"""Call a function on many tasks: here, in processes that may die, or on a Dask cluster.

All three give an :class:`Outcome` per task as soon as it is known. A task that raises has failed; a task whose process
dies (killed, out of memory) is tried once more in a new process. The others are not disturbed.
"""

from __future__ import annotations

import importlib
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

__all__ = ["Outcome", "check_workers", "one_thread", "run_here", "run_in_processes", "run_on_dask", "run_tasks"]

ATTEMPTS = 2
_DASK = {
    "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
    "distributed.scheduler.worker-saturation": 1.0,  # nothing waits on a worker: only what runs on it dies with it
}
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes:
        index: of the task.
        value: what the function returned.
        error: why it failed; empty if it did not.
    """

    index: int
    value: Any = None
    error: str = ""


def attempt(function: Function, task: Any) -> tuple[Any, str]:
    """Return the value of ``function(task)``, or the reason why there is none."""
    try:
        return function(task), ""
    except (ValueError, OSError) as error:
        return None, str(error) or type(error).__name__
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def check_workers(jobs: int, dask: str | None, *, function: str) -> None:
    """Refuse less than one process or Dask worker, and processes together with Dask."""
    if jobs < 1 or (dask is not None and jobs > 1):
        raise ValueError(f"{function}: jobs must be at least 1, and 1 with Dask. Got jobs={jobs}, dask={dask!r}.")
    if dask is not None and dask.isdecimal() and int(dask) < 1:
        raise ValueError(f"{function}: dask must be an address or at least 1 worker. Got {dask!r}.")


def run_tasks(function: Function, tasks: Sequence[Any], jobs: int, dask: str | None) -> Iterator[Outcome]:
    """Call the function here, in ``jobs`` processes, or on the Dask cluster ``dask``."""
    if not tasks:
        return iter(())
    if dask is not None:
        return run_on_dask(function, tasks, dask)
    return run_here(function, tasks) if jobs == 1 else run_in_processes(function, tasks, jobs)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: work on small masks is slower with several, which wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_here(function: Function, tasks: Sequence[Any]) -> Iterator[Outcome]:
    """Call the function in this process, one task after the other."""
    for index, task in enumerate(tasks):
        yield Outcome(index, *attempt(function, task))


def run_in_processes(function: Function, tasks: Sequence[Any], jobs: int) -> Iterator[Outcome]:
    """Call the function in ``jobs`` processes, one torch thread each.

    Every process has one task at a time, so that the one that killed it is known. When this process ends, even killed,
    the others end after the task they are at.

    Raises:
        RuntimeError: if processes die before they get a task.
    """
    waiting, deaths, unable = deque(range(len(tasks))), Counter[int](), 0
    workers = [_Worker(function) for _ in range(min(jobs, len(tasks)))]
    try:
        while workers:
            by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in workers}
            for connection in wait(list(by_connection)):
                worker = by_connection[connection]
                index, answer = worker.index, worker.receive()
                if answer is not None and index is not None:
                    yield Outcome(index, *answer)
                if answer is not None and waiting:
                    worker.give(waiting[0], tasks[waiting.popleft()])
                    continue
                workers.remove(worker)
                worker.stop()
                if answer is not None:
                    continue
                status = worker.process.exitcode
                if index is None:
                    unable = _count_start(unable, jobs, status)
                elif deaths[index] + 1 < ATTEMPTS:
                    deaths[index] += 1
                    waiting.append(index)
                else:
                    yield Outcome(index, error=_death(status))
                if waiting:
                    workers.append(_Worker(function))
    finally:
        for worker in workers:
            worker.close()


def _count_start(unable: int, jobs: int, status: int | None) -> int:
    """Count one more process that ended before its first task; give up when all may have."""
    if unable >= jobs:
        raise RuntimeError(
            f"Worker processes cannot start: the last one ended with exit status {status} before its first case. "
            "Use one job to see why."
        )
    return unable + 1


def _death(status: int | None) -> str:
    how = f"killed by signal {-status}" if status and status < 0 else f"exit status {status}"
    return f"its worker process died {ATTEMPTS} times ({how})"


class _Worker:
    """A process and the index of the task it is at; None before its first one."""

    def __init__(self, function: Function) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()
        self.index: int | None = None

    def give(self, index: int, task: Any) -> None:
        self.index = index
        try:
            self.connection.send(task)
        except OSError:
            return  # it died: the next receive() tells

    def receive(self) -> tuple[Any, str] | None:
        """Return the answer to the last task, or to the question whether it is ready; None if it died."""
        try:
            answer: tuple[Any, str] = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return None
        return answer

    def stop(self) -> None:
        """End a process that has nothing to do."""
        self.connection.close()
        self.process.terminate()
        self.process.join()

    def close(self) -> None:
        """Let the process end after the task it is at."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection[Any, Any], function: Function) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        connection.send((None, ""))
        while True:
            connection.send(attempt(function, connection.recv()))
    except (EOFError, OSError):
        return  # the main process has ended, or has no more tasks


def run_on_dask(function: Function, tasks: Sequence[Any], cluster: str) -> Iterator[Outcome]:
    """Call the function on a Dask cluster whose workers see the same files.

    Args:
        function: as above.
        tasks: as above.
        cluster: a number of workers to start here, the address of a scheduler, or its scheduler file (``*.json``).
            How often a task is tried again after its worker died is up to that scheduler; here it is once.

    Raises:
        RuntimeError: if dask.distributed is not installed.
        OSError: if there is no scheduler at this address.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise RuntimeError(
            "Dask needs the package distributed, which is not installed: pip install 'monai-multirater[dask]'."
        ) from None
    with _dask_client(distributed, cluster) as client:
        futures = {client.submit(_attempt_alone, function, task, pure=False): i for i, task in enumerate(tasks)}
        for future in distributed.as_completed(futures):
            index, error = futures.pop(future), future.exception()
            if error is None:
                yield Outcome(index, *future.result())
            elif isinstance(error, distributed.KilledWorker):
                yield Outcome(index, error=f"its Dask worker died {ATTEMPTS} times or more")
            else:
                yield Outcome(index, error=f"{type(error).__name__}: {error}")


def _attempt_alone(function: Function, task: Any) -> tuple[Any, str]:
    torch.set_num_threads(1)
    return attempt(function, task)


@contextmanager
def _dask_client(distributed: Any, cluster: str) -> Iterator[Any]:
    dask: Any = importlib.import_module("dask")
    if not cluster.isdecimal():
        where = {"scheduler_file": cluster} if Path(cluster).suffix == ".json" else {"address": cluster}
        with distributed.Client(**where) as client:
            yield client
        return
    with (
        dask.config.set(_DASK),
        distributed.LocalCluster(n_workers=int(cluster), threads_per_worker=1, dashboard_address=":0") as local,
        distributed.Client(local) as client,
    ):
        yield client
