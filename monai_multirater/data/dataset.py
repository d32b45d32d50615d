# SPDX-License-Identifier: Apache-2.0
"""A data set whose random augmentation depends on seed, epoch and item only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import RandomizableTrait, Transform
from tqdm.auto import tqdm


def _is_random(transform: object) -> bool:
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)


class SeededDataset(Dataset):
    """MONAI data set that seeds its random transforms anew for each item.

    Before item ``i`` of epoch ``e`` is transformed, every random transform gets its state from
    ``(seed, e, i)``. What an item looks like hence depends neither on the number of workers, nor on the order
    of items, the rank of the process or an interruption. The epoch lives in shared memory, so that
    :meth:`set_epoch` also reaches persistent workers; the handler ``SeedEpochs`` calls it in a MONAI trainer.
    Transforms that draw from the global random state of NumPy or torch are outside of this promise; none of
    MONAI's or ours do.

    Args:
        data: sequence of items, usually dictionaries.
        transform: a transform, a sequence of them or a ``Compose``.
        seed: non-negative integer.
        cache: keep the result of the leading deterministic transforms in memory, computed once here.
        progress: show a progress bar while caching.

    Raises:
        ValueError: if ``seed`` is negative.
        TypeError: if ``seed`` is not an integer.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        cache: bool = False,
        progress: bool = True,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"SeededDataset: 'seed' must be an integer, got {type(seed).__name__}.")
        if seed < 0:
            raise ValueError(f"SeededDataset: 'seed' must be >= 0, got {seed}.")
        super().__init__(data, transform)
        self.seed = int(seed)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._first_random = self.transform.get_index_of_first(_is_random) if cache else 0
        if self._first_random is None:
            self._first_random = len(self.transform)
        self._cache: list[Any] | None = None
        if cache:
            bar = tqdm(data, desc="Caching data", disable=not progress, leave=False)
            self._cache = [self.transform(item, end=self._first_random, threading=True) for item in bar]

    @property
    def epoch(self) -> int:
        """Epoch whose augmentation the next items get."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; call it before the loader's iterator is made."""
        if epoch < 0:
            raise ValueError(f"SeededDataset.set_epoch: 'epoch' must be >= 0, got {epoch}.")
        self._epoch.fill_(int(epoch))

    def _transform(self, index: int) -> Any:
        index = range(len(self.data))[index]
        state = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)
        self.transform.set_random_state(seed=int(state[0]))
        if self._cache is None:
            return self.transform(self.data[index])
        return self.transform(deepcopy(self._cache[index]), start=self._first_random)
