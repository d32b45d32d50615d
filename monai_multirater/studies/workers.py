# SPDX-License-Identifier: Apache-2.0
"""Work in processes of their own: one that dies takes nothing but its own item with it, which is tried once more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

__all__ = ["WorkerDiedError", "each_in_worker"]

Item = TypeVar("Item")


class WorkerDiedError(RuntimeError):
    """The process of an item ended without an answer, again when it was tried once more."""


class _Worker:
    """One spawned process, replaced when it dies."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def call(self, function: Callable[[Item], None], item: Item, attempts: int = 2) -> BaseException | None:
        """Return what the function raised, if anything."""
        for _ in range(attempts):
            self._pool = self._pool or ProcessPoolExecutor(1, get_context("spawn"), _end_with_parent)
            error = self._pool.submit(function, item).exception()
            if not isinstance(error, BrokenProcessPool):
                return error
            self.close()
        return WorkerDiedError(f"its process died {attempts} times (killed, or out of memory?)")

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def each_in_worker(
    function: Callable[[Item], None], items: Sequence[Item], *, jobs: int = 1
) -> Iterator[tuple[Item, BaseException | None]]:
    """Call a function on every item in spawned processes; yield each item with its error or None, as they finish.

    An exception of an item is yielded and not tried again. A process that dies (killed, out of memory) is replaced and
    its item tried once more; other items do not notice. When the caller stops early, what is running is finished and
    nothing else is begun; when the caller's process ends in whatever way, its processes end too.

    Args:
        function: importable by name, as are the items picklable.
        items: what to call it on, begun in this order.
        jobs: processes side by side.
    """
    free: SimpleQueue[_Worker] = SimpleQueue()
    workers = [_Worker() for _ in range(jobs)]
    for worker in workers:
        free.put(worker)

    def call(item: Item) -> BaseException | None:
        worker = free.get()
        try:
            return worker.call(function, item)
        finally:
            free.put(worker)

    slots = ThreadPoolExecutor(jobs)
    try:
        pending: dict[Future[BaseException | None], Item] = {slots.submit(call, item): item for item in items}
        for future in as_completed(pending):
            yield pending[future], future.result()
    finally:
        slots.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def _end_with_parent() -> None:
    """Let this process end when the one that started it has ended; an executor's would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
