# SPDX-License-Identifier: Apache-2.0
"""Load a whole sample: image, ratings and, where known, the true vote probability."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import PILReader
from monai.transforms import LoadImage, Transform
from torch import Tensor

from monai_multirater.transforms.mask_files import RASTER_SUFFIXES, read_rater_mask
from monai_multirater.transforms.stack import LoadRaters, like_reference

__all__ = ["LoadImageRatersd"]


class LoadImageRatersd(Transform):
    """Load ``image``, ``ratings`` and ``truth`` of a sample onto one grid.

    ``image`` becomes float32 ``[C, *spatial]`` with the file's channels, ``ratings`` and ``rater_mask`` are
    as by ``LoadRatersd``, ``truth`` becomes float32 ``[1, *spatial]``. PNG, JPEG, BMP and TIFF have the axes
    ``[H, W]``. Ratings and truth are optional, so that the same transform serves inference.

    Args:
        spatial_dims: 2 or 3; a trailing axis of size 1 is dropped in 2D.
        raters: names in the order of the ratings, for error messages.
        affine_atol: as in ``LoadRaters``.
        resample: as in ``LoadRaters``.
        image_key: key of the image's path.
        ratings_key: key of the tuple of paths, None for a missing rater.
        rater_mask_key: key that gets the rater mask.
        truth_key: key of the path of the true vote probability.
        case_key: key of the case's name, used in error messages when present.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        *,
        raters: Sequence[str] | None = None,
        affine_atol: float = 1e-3,
        resample: bool = False,
        image_key: Hashable = "image",
        ratings_key: Hashable = "ratings",
        rater_mask_key: Hashable = "rater_mask",
        truth_key: Hashable = "truth",
        case_key: Hashable = "case",
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"LoadImageRatersd: 'spatial_dims' must be 2 or 3, got {spatial_dims}.")
        self.spatial_dims = spatial_dims
        self.image_key = image_key
        self.ratings_key = ratings_key
        self.rater_mask_key = rater_mask_key
        self.truth_key = truth_key
        self.case_key = case_key
        self._image = LoadImage(image_only=True, ensure_channel_first=True)
        self._picture = PILReader(converter=_without_palette, reverse_indexing=False)
        self._ratings = LoadRaters(raters=raters, affine_atol=affine_atol, resample=resample, reverse_indexing=False)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the loaded sample.

        Raises:
            ValueError: naming case and path, for an image that cannot be decoded or has other dimensions, for
                a truth of another shape, and as in ``LoadRaters``.
        """
        sample = dict(data)
        case = sample.get(self.case_key)
        image = self._load_image(sample[self.image_key], case)
        sample[self.image_key] = image
        if sample.get(self.ratings_key) is not None:
            ratings, present = self._ratings(sample[self.ratings_key], image, case=case)
            sample[self.ratings_key], sample[self.rater_mask_key] = ratings, present
        if sample.get(self.truth_key) is not None:
            sample[self.truth_key] = self._load_truth(sample[self.truth_key], image, case)
        return sample

    def _load_image(self, path: str | Path, case: str | None) -> Tensor:
        picture = str(path).lower().endswith(RASTER_SUFFIXES)
        try:
            image: Tensor = self._image(path, self._picture if picture else None)
        except (OSError, RuntimeError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"LoadImageRatersd: case {case!r}: the image ({path}) cannot be decoded "
                f"({type(error).__name__}: {str(error).splitlines()[0]})."
            ) from error
        if image.dim() == self.spatial_dims + 2 and image.shape[-1] == 1:
            image = image[..., 0]
        if image.dim() != self.spatial_dims + 1:
            raise ValueError(
                f"LoadImageRatersd: case {case!r}: the image ({path}) has the spatial shape "
                f"{tuple(image.shape[1:])}, 'spatial_dims' is {self.spatial_dims}."
            )
        return image

    def _load_truth(self, path: str | Path, image: Tensor, case: str | None) -> Tensor:
        truth = read_rater_mask(path, reverse_indexing=False).array
        shape = tuple(image.shape[1:])
        if [n for n in truth.shape if n > 1] != [n for n in shape if n > 1]:
            raise ValueError(
                f"LoadImageRatersd: case {case!r}: the truth ({path}) has the shape {truth.shape}, the image "
                f"has {shape}."
            )
        values = torch.from_numpy(np.ascontiguousarray(truth, dtype=np.float32))
        return like_reference(values.reshape(1, *shape), image)


def _without_palette(picture: Any) -> Any:
    if picture.mode in ("P", "PA"):
        raise ValueError("its values are palette positions, store it as gray or RGB")
    return picture
