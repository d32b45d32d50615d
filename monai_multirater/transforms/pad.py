# SPDX-License-Identifier: Apache-2.0
"""Give every case the same number of rater planes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

__all__ = ["PadRaters", "PadRatersd"]


class PadRaters(Transform):
    """Append empty planes, marked as missing, until there are ``raters`` planes.

    Args:
        raters: number of planes wanted.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, raters: int) -> None:
        if raters < 1:
            raise ValueError(f"PadRaters: 'raters' must be at least 1, got {raters}.")
        self.raters = raters

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ratings ``[raters, *spatial]`` and rater mask ``[raters]``.

        Args:
            ratings: ``[R, *spatial]`` with R at most ``raters``.
            rater_mask: ``[R]`` bool, True where the rater is present; by default all are.

        Raises:
            ValueError: if there are already more planes, or the mask has another length than the ratings.
        """
        missing = self.raters - ratings.shape[0]
        if missing < 0:
            raise ValueError(f"PadRaters: {ratings.shape[0]} raters do not fit into 'raters'={self.raters}.")
        if rater_mask is None:
            rater_mask = torch.ones(ratings.shape[0], dtype=torch.bool)
        if tuple(rater_mask.shape) != (ratings.shape[0],):
            raise ValueError(
                f"PadRaters: 'rater_mask' must have the shape ({ratings.shape[0]},), got {tuple(rater_mask.shape)}."
            )
        plain = torch.as_tensor(ratings)
        padded = torch.cat([plain, plain.new_zeros(missing, *plain.shape[1:])])
        mask = torch.cat([rater_mask, rater_mask.new_zeros(missing)])
        return convert_to_dst_type(padded, ratings, dtype=padded.dtype)[0], mask


class PadRatersd(MapTransform):
    """Dictionary form of ``PadRaters``.

    Args:
        keys: key of the ratings.
        raters: number of planes wanted.
        rater_mask_key: key of the rater mask, made when there is none.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    backend = PadRaters.backend

    def __init__(
        self,
        keys: KeysCollection,
        raters: int,
        *,
        rater_mask_key: Hashable = "rater_mask",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rater_mask_key = rater_mask_key
        self.pad = PadRaters(raters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with padded ratings and rater mask."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key], sample[self.rater_mask_key] = self.pad(sample[key], sample.get(self.rater_mask_key))
        return sample
