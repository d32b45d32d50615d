# SPDX-License-Identifier: Apache-2.0
"""Consensus targets from ratings: vote counts and vote fractions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from monai_multirater.fusion import soft_consensus
from monai_multirater.ordinal import ordinal_consensus

__all__ = ["OrdinalConsensus", "OrdinalConsensusd", "SoftConsensus", "SoftConsensusd"]


class OrdinalConsensus(Transform):
    """Count the votes: ratings ``[R, *spatial]`` to the number of raters present who say foreground."""

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return votes uint8 ``[1, *spatial]`` and the number of raters present, an int64 scalar tensor.

        Args:
            ratings: zeros and ones of any dtype (spatial transforms return float); meta data are kept.
            rater_mask: ``[R]`` bool, True where the rater is present; by default all are.

        Raises:
            ValueError: if a rating is neither 0 nor 1 (a spatial transform that interpolated), or no rater is
                present.
        """
        plain = binary_ratings(ratings, type(self).__name__)
        votes = ordinal_consensus(plain, rater_mask)
        present = len(plain) if rater_mask is None else int(rater_mask.sum())
        return convert_to_dst_type(votes, ratings, dtype=votes.dtype)[0], torch.tensor(present)


class OrdinalConsensusd(MapTransform):
    """Dictionary form of ``OrdinalConsensus``: adds ``votes`` and ``n_raters``, keeps the ratings.

    Args:
        keys: key of the ratings.
        votes_key: key that gets the votes.
        n_raters_key: key that gets the number of raters present.
        rater_mask_key: key of the rater mask; where it is missing all raters are present.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    backend = OrdinalConsensus.backend

    def __init__(
        self,
        keys: KeysCollection = "ratings",
        *,
        votes_key: Hashable = "votes",
        n_raters_key: Hashable = "n_raters",
        rater_mask_key: Hashable = "rater_mask",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.votes_key = votes_key
        self.n_raters_key = n_raters_key
        self.rater_mask_key = rater_mask_key
        self.consensus = OrdinalConsensus()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with votes and number of raters."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            votes, present = self.consensus(sample[key], sample.get(self.rater_mask_key))
            sample[self.votes_key], sample[self.n_raters_key] = votes, present
        return sample


class SoftConsensus(Transform):
    """Average the ratings of the raters present: ``[R, *spatial]`` to vote fractions ``[1, *spatial]``."""

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
        """Return float32 fractions in [0, 1]; arguments and errors as in ``OrdinalConsensus``."""
        soft = soft_consensus(binary_ratings(ratings, type(self).__name__), rater_mask)
        result: Tensor = convert_to_dst_type(soft, ratings, dtype=soft.dtype)[0]
        return result


class SoftConsensusd(MapTransform):
    """Dictionary form of ``SoftConsensus``: adds ``soft``, keeps the ratings.

    Args:
        keys: key of the ratings.
        soft_key: key that gets the vote fractions.
        rater_mask_key: key of the rater mask; where it is missing all raters are present.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    backend = SoftConsensus.backend

    def __init__(
        self,
        keys: KeysCollection = "ratings",
        *,
        soft_key: Hashable = "soft",
        rater_mask_key: Hashable = "rater_mask",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.soft_key = soft_key
        self.rater_mask_key = rater_mask_key
        self.consensus = SoftConsensus()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with vote fractions."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[self.soft_key] = self.consensus(sample[key], sample.get(self.rater_mask_key))
        return sample


def binary_ratings(ratings: Tensor, name: str) -> Tensor:
    """Return ratings as a plain uint8 tensor; spatial transforms return exact zeros and ones as float.

    Raises:
        ValueError: if a value is neither 0 nor 1.
    """
    plain = torch.as_tensor(ratings).as_subclass(Tensor)
    exact = plain.to(torch.uint8)
    if not bool(((plain == 0) | (plain == 1)).all()):
        raise ValueError(
            f"{name}: ratings must be 0 or 1, got values in [{plain.min().item():g}, {plain.max().item():g}] "
            f"of dtype {plain.dtype}; spatial transforms need mode='nearest' for ratings."
        )
    return exact
