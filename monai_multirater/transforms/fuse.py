# SPDX-License-Identifier: Apache-2.0
"""One consensus from the ratings of a case, by any method of the room ``fusion``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from monai_multirater.fusion import fuse, fusion_method
from monai_multirater.transforms.consensus import binary_ratings
from monai_multirater.transforms.grids import known_spacing

__all__ = ["FuseRaters", "FuseRatersd"]


class FuseRaters(Transform):
    """Fuse ratings ``[R, *spatial]`` to the probability of foreground ``[1, *spatial]``.

    Args:
        method: key of :data:`monai_multirater.fusion.FUSIONS`, with ``-`` or ``_``; not ``"random"``, which draws anew
            at every call and is the work of ``RandSelectRaterd``.
        options: options of the method, for example ``{"sigma": 2.0, "unit": "mm"}`` of ``soft_gaussian``.

    Raises:
        ValueError: unknown method or option, or a method that draws at random.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, method: str, *, options: Mapping[str, Any] | None = None) -> None:
        found = fusion_method(method)
        if found.random:
            raise ValueError(
                f"{type(self).__name__}: method {method!r} draws anew at every call; use RandSelectRaterd and "
                "OrdinalConsensusd, which are seeded."
            )
        self.method, self.options = found.name, dict(options or {})
        found.check_options(self.options)

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
        """Return the probability, float32, 0 or 1 for methods that give labels; meta data of the ratings are kept.

        The size of voxels, for options in mm, is read from the affine of the ratings where their file had one.

        Args:
            ratings: zeros and ones of any dtype (spatial transforms return float).
            rater_mask: ``[R]`` bool, True where the rater is present; by default all are.

        Raises:
            ValueError: a rating is neither 0 nor 1, no rater is present, an option has a value that the method does not
                take, or needs the size of voxels and it is unknown; see :func:`monai_multirater.fusion.fuse`.
        """
        plain = binary_ratings(ratings, type(self).__name__)
        result = fuse(plain, self.method, rater_mask, spacing=known_spacing(ratings), **self.options)
        consensus: Tensor = convert_to_dst_type(result.probability, ratings, dtype=torch.float32)[0]
        return consensus


class FuseRatersd(MapTransform):
    """Dictionary form of ``FuseRaters``: adds ``consensus``, keeps the ratings.

    Args:
        keys: key of the ratings.
        method: see ``FuseRaters``.
        options: options of the method.
        consensus_key: key that gets the probability ``[1, *spatial]``.
        rater_mask_key: key of the rater mask; where it is missing all raters are present.
        case_key: key of the case's name, used in error messages when present.
        allow_missing_keys: pass on samples without ratings unchanged.

    Raises:
        ValueError: see ``FuseRaters``; when called, naming the case.
    """

    backend = FuseRaters.backend

    def __init__(
        self,
        keys: KeysCollection = "ratings",
        method: str = "staple",
        *,
        options: Mapping[str, Any] | None = None,
        consensus_key: Hashable = "consensus",
        rater_mask_key: Hashable = "rater_mask",
        case_key: Hashable = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.consensus_key = consensus_key
        self.rater_mask_key = rater_mask_key
        self.case_key = case_key
        self.fuse = FuseRaters(method, options=options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the consensus."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            try:
                sample[self.consensus_key] = self.fuse(sample[key], sample.get(self.rater_mask_key))
            except ValueError as error:
                raise ValueError(f"{type(self).__name__}: case {sample.get(self.case_key)!r}: {error}") from error
        return sample
