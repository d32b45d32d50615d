# SPDX-License-Identifier: Apache-2.0
"""Processes that ``torchrun`` started side by side share a list of jobs, each of which stays one process's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

__all__ = ["Ranks"]

Item = TypeVar("Item")
LONGEST_WAIT = timedelta(days=30)
"""How long ranks that are done wait for the others."""

_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Ranks:
    """Which of the processes side by side this one is; without a launcher the only one.

    Attributes:
        rank: 0 to ``world_size - 1``.
        world_size: number of processes.
        local_rank: rank among those of this machine, which decides the GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """Read the variables that ``torchrun`` sets."""
        rank, size, local = (environment.get(key) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(int(rank or 0), int(size or 1), int(local or 0))

    @contextmanager
    def joined(self) -> Iterator[Any]:
        """Join the other ranks; gives the process group (on the CPU) that :meth:`share` and :meth:`gather` need."""
        if self.world_size == 1:
            yield None
            return
        distributed.init_process_group("gloo", rank=self.rank, world_size=self.world_size)
        try:
            yield distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        finally:
            distributed.destroy_process_group()

    def share(self, items: Sequence[Item], group: Any) -> list[Item]:
        """Return every ``world_size``-th item of what the first rank gives as ``items``, from this rank on."""
        whole = [list(items)]
        if self.world_size > 1:
            distributed.broadcast_object_list(whole, 0, group=group)
        return whole[0][self.rank :: self.world_size]

    def gather(self, value: Item, group: Any) -> list[Item]:
        """Wait until all ranks come here; return the values of all."""
        values: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            distributed.all_gather_object(values, value, group=group)
        return values

    @contextmanager
    def hidden(self, environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
        """Let processes that are started inside see no other ranks, and of the GPUs only that of this rank.

        MONAI and ignite would take what finds a launcher's variables for a part of a distributed training.
        """
        kept = {key: value for key, value in environment.items() if key.startswith((*_LAUNCHER, _VISIBLE))}
        devices = torch.cuda.device_count() if self.world_size > 1 else 0
        for key in kept:
            if key != _VISIBLE:
                del environment[key]
        if devices:
            visible = kept.get(_VISIBLE) or ",".join(str(index) for index in range(devices))
            environment[_VISIBLE] = visible.split(",")[self.local_rank % devices]
        try:
            yield
        finally:
            if devices:
                del environment[_VISIBLE]
            environment.update(kept)
