# SPDX-License-Identifier: Apache-2.0
"""Keep the mask of one rater: a given one, or one drawn anew each time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

__all__ = ["RandSelectRater", "RandSelectRaterd", "SelectRater", "SelectRaterd"]


class SelectRater(Transform):
    """Keep the plane of one rater: ``[R, *spatial]`` to ``[1, *spatial]``.

    Args:
        index: position of the rater.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
        """Return the rater's plane.

        Args:
            ratings: ``[R, *spatial]``.
            rater_mask: ``[R]`` bool, True where the rater is present; by default all are.

        Raises:
            ValueError: if there is no such rater, or the rater did not mark this case.
        """
        raters = ratings.shape[0]
        if not 0 <= self.index < raters:
            raise ValueError(f"SelectRater: 'index' must be in 0..{raters - 1}, got {self.index}.")
        if rater_mask is not None and not bool(rater_mask[self.index]):
            raise ValueError(f"SelectRater: rater {self.index} did not mark this case.")
        return ratings[self.index : self.index + 1]


class SelectRaterd(MapTransform):
    """Dictionary form of ``SelectRater``: ratings become ``[1, *spatial]`` and the rater mask ``[True]``.

    What follows, such as ``OrdinalConsensusd``, then sees a case with a single rater.

    Args:
        keys: key of the ratings.
        index: position of the rater.
        rater_mask_key: key of the rater mask.
        case_key: key of the case's name, used in error messages when present.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    backend = SelectRater.backend

    def __init__(
        self,
        keys: KeysCollection = "ratings",
        index: int = 0,
        *,
        rater_mask_key: Hashable = "rater_mask",
        case_key: Hashable = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rater_mask_key = rater_mask_key
        self.case_key = case_key
        self.select = SelectRater(index)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the rater's plane."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            try:
                sample[key] = self.select(sample[key], sample.get(self.rater_mask_key))
            except ValueError as error:
                raise ValueError(f"{type(self).__name__}: case {sample.get(self.case_key)!r}: {error}") from error
            sample[self.rater_mask_key] = torch.ones(1, dtype=torch.bool)
        return sample


class RandSelectRater(RandomizableTransform):
    """Keep the plane of a rater drawn uniformly among those present, a new draw at every call.

    Reproducible from ``set_random_state``. After a call ``index`` is the rater drawn.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(prob=1.0)
        self.index: int | None = None

    def randomize(self, data: Tensor) -> None:
        """Draw ``index`` among the raters present in the rater mask ``data`` of shape ``[R]``."""
        present = np.flatnonzero(np.asarray(data))
        if not len(present):
            raise ValueError(f"RandSelectRater: no rater is present in 'rater_mask' of {len(data)} raters.")
        self.index = int(present[self.R.randint(len(present))])

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None, *, randomize: bool = True) -> Tensor:
        """Return the plane ``[1, *spatial]`` of the rater drawn.

        Args:
            ratings: ``[R, *spatial]``.
            rater_mask: ``[R]`` bool, True where the rater is present; by default all are.
            randomize: False repeats the last draw.

        Raises:
            ValueError: if no rater is present, or there was no last draw to repeat.
        """
        if randomize:
            present = torch.ones(ratings.shape[0], dtype=torch.bool) if rater_mask is None else rater_mask
            self.randomize(present)
        if self.index is None:
            raise ValueError("RandSelectRater: 'randomize' must be True at the first call, nothing was drawn.")
        return SelectRater(self.index)(ratings, rater_mask)


class RandSelectRaterd(RandomizableTransform, MapTransform):
    """Dictionary form of ``RandSelectRater``: the sample becomes one with a single rater.

    The ratings become ``[1, *spatial]`` and the rater mask ``[True]``, so ``OrdinalConsensusd`` after it
    gives that rater's mask as votes with ``n_raters`` 1. ``rater_index`` records who was drawn.

    Args:
        keys: key of the ratings.
        rater_mask_key: key of the rater mask.
        index_key: key that gets the position of the rater drawn.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    backend = RandSelectRater.backend

    def __init__(
        self,
        keys: KeysCollection = "ratings",
        *,
        rater_mask_key: Hashable = "rater_mask",
        index_key: Hashable = "rater_index",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.rater_mask_key = rater_mask_key
        self.index_key = index_key
        self.select = RandSelectRater()

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandSelectRaterd:
        """Set the state from which raters are drawn, see ``monai.transforms.Randomizable``."""
        super().set_random_state(seed, state)
        self.select.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the plane of one rater."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.select(sample[key], sample.get(self.rater_mask_key))
            sample[self.index_key] = self.select.index
            sample[self.rater_mask_key] = torch.ones(1, dtype=torch.bool)
        return sample
