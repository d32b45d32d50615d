# SPDX-License-Identifier: Apache-2.0
"""Stack the masks of several raters into one array with a raters' axis."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

from monai_multirater.transforms.grids import known_affine, on_grid
from monai_multirater.transforms.mask_files import RaterMask, foreground, read_rater_mask

__all__ = ["LoadRaters", "LoadRatersd", "StackRaters", "StackRatersd", "like_reference"]


class StackRaters(Transform):
    """Stack one mask per rater, None for a missing one, into ratings ``[R, *spatial]``.

    Args:
        raters: names in the order of the masks, for error messages; by default the positions.
        affine_atol: largest difference between an entry of a mask's affine and the image's (mm) that counts
            as the same grid.
        resample: read masks that lie on another grid by the nearest voxel instead of raising.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self, *, raters: Sequence[str] | None = None, affine_atol: float = 1e-3, resample: bool = False
    ) -> None:
        self.raters = None if raters is None else tuple(raters)
        self.affine_atol = affine_atol
        self.resample = resample

    def __call__(self, masks: Sequence[Any], reference: Tensor, *, case: str | None = None) -> tuple[Tensor, Tensor]:
        """Return ratings and rater mask.

        Args:
            masks: per rater ``[*spatial]`` or ``[1, *spatial]`` (array, tensor, or ``MetaTensor`` whose
                affine is then compared), or None.
            reference: image ``[C, *spatial]`` whose grid, affine and meta data the ratings get.
            case: name of the case for error messages.

        Returns:
            ratings uint8 ``[R, *spatial]``, a ``MetaTensor`` if the reference is one, with a plane of zeros
            for every missing rater; rater mask bool ``[R]``, True where the rater is present.

        Raises:
            ValueError: naming case, rater and path, for a mask that is not binary or lies on another grid
                than the reference, when no rater is present, and when masks and rater names differ in number.
        """
        shape = tuple(reference.shape[1:])
        affine = known_affine(reference)
        self._check(masks, case)
        ratings = np.zeros((len(masks), *shape), dtype=np.uint8)
        for index, mask in enumerate(masks):
            if mask is None:
                continue
            try:
                item = self._as_rater_mask(mask, len(shape))
                options = {"affine_atol": self.affine_atol, "resample": self.resample}
                ratings[index] = foreground(on_grid(item, shape, affine, **options))  # type: ignore[arg-type]
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(self._describe(index, mask, case) + f" {error}.") from error
        present = torch.tensor([mask is not None for mask in masks])
        return like_reference(torch.from_numpy(ratings), reference), present

    def _check(self, masks: Sequence[Any], case: str | None) -> None:
        name = f"{type(self).__name__}: case {case!r}"
        if self.raters is not None and len(masks) != len(self.raters):
            raise ValueError(f"{name} has {len(masks)} masks for the {len(self.raters)} raters {self.raters}.")
        if all(mask is None for mask in masks):
            raise ValueError(f"{name} has no rater: all {len(masks)} masks are missing.")

    def _as_rater_mask(self, mask: Any, ndim: int) -> RaterMask:
        affine = None
        if isinstance(mask, MetaTensor) and known_affine(mask) is not None:
            affine = np.asarray(to_affine_nd(3, np.asarray(mask.affine, dtype=np.float64)))
        array = np.asarray(mask)
        if array.ndim == ndim + 1 and array.shape[0] == 1:
            array = array[0]
        return RaterMask(array, affine, _source(mask))

    def _describe(self, index: int, mask: Any, case: str | None) -> str:
        rater = index if self.raters is None else repr(self.raters[index])
        source = _source(mask)
        path = f" ({source})" if source else ""
        return f"{type(self).__name__}: case {case!r}, rater {rater}: the mask{path}"


class LoadRaters(StackRaters):
    """Read one mask file per rater and stack them, see ``StackRaters`` and ``read_rater_mask``.

    The files are read by Pillow, nibabel, NumPy or SimpleITK directly, in the axis order of ``LoadImage``.

    Args:
        raters: as in ``StackRaters``.
        affine_atol: as in ``StackRaters``.
        resample: as in ``StackRaters``.
        reverse_indexing: for PNG, JPEG, BMP and TIFF: must equal that of the image's ``PILReader``, whose
            default is True, ``[W, H]``.
    """

    def __init__(
        self,
        *,
        raters: Sequence[str] | None = None,
        affine_atol: float = 1e-3,
        resample: bool = False,
        reverse_indexing: bool = True,
    ) -> None:
        super().__init__(raters=raters, affine_atol=affine_atol, resample=resample)
        self.reverse_indexing = reverse_indexing

    def _as_rater_mask(self, mask: Any, ndim: int) -> RaterMask:
        return read_rater_mask(mask, reverse_indexing=self.reverse_indexing)


class StackRatersd(MapTransform):
    """Dictionary form of ``StackRaters``: ``ratings`` becomes ``[R, *spatial]`` and ``rater_mask`` ``[R]``.

    Args:
        keys: the one key that holds the sequence of masks, and then the ratings.
        reference: key of the image whose grid counts. Place this transform directly after the one that loads
            the image, before any change of its grid.
        rater_mask_key: key that gets the rater mask.
        case_key: key of the case's name, used in error messages when present.
        raters: as in ``StackRaters``.
        affine_atol: as in ``StackRaters``.
        resample: as in ``StackRaters``.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    backend = StackRaters.backend

    def __init__(
        self,
        keys: Hashable = "ratings",
        reference: Hashable = "image",
        *,
        rater_mask_key: Hashable = "rater_mask",
        case_key: Hashable = "case",
        raters: Sequence[str] | None = None,
        affine_atol: float = 1e-3,
        resample: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"{type(self).__name__}: 'keys' must name one key, got {self.keys}.")
        self.reference = reference
        self.rater_mask_key = rater_mask_key
        self.case_key = case_key
        self.stack = StackRaters(raters=raters, affine_atol=affine_atol, resample=resample)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with stacked ratings and rater mask; errors as in ``StackRaters``."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            case = sample.get(self.case_key)
            ratings, present = self.stack(sample[key], sample[self.reference], case=case)
            sample[key] = ratings
            sample[self.rater_mask_key] = present
        return sample


class LoadRatersd(StackRatersd):
    """Dictionary form of ``LoadRaters``: reads the tuple of paths under ``ratings``.

    Args:
        keys: the one key that holds a path, or None, per rater, and then the ratings.
        reference: as in ``StackRatersd``.
        rater_mask_key: as in ``StackRatersd``.
        case_key: as in ``StackRatersd``.
        raters: as in ``StackRaters``.
        affine_atol: as in ``StackRaters``.
        resample: as in ``StackRaters``.
        reverse_indexing: as in ``LoadRaters``.
        allow_missing_keys: pass on samples without ratings unchanged.
    """

    def __init__(
        self,
        keys: Hashable = "ratings",
        reference: Hashable = "image",
        *,
        rater_mask_key: Hashable = "rater_mask",
        case_key: Hashable = "case",
        raters: Sequence[str] | None = None,
        affine_atol: float = 1e-3,
        resample: bool = False,
        reverse_indexing: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            reference,
            rater_mask_key=rater_mask_key,
            case_key=case_key,
            allow_missing_keys=allow_missing_keys,
        )
        self.stack = LoadRaters(
            raters=raters, affine_atol=affine_atol, resample=resample, reverse_indexing=reverse_indexing
        )


def _source(mask: Any) -> str:
    if isinstance(mask, (str, Path)):
        return str(mask)
    if isinstance(mask, MetaTensor):
        return str(mask.meta.get("filename_or_obj", ""))
    return ""


def like_reference(ratings: Tensor, reference: Tensor) -> Tensor:
    """Return ratings with a copy of the reference's affine and meta data."""
    if not isinstance(reference, MetaTensor):
        return ratings
    meta = {key: deepcopy(value) for key, value in reference.meta.items() if key != "affine"}
    meta["original_channel_dim"] = float("nan")
    result: Tensor = MetaTensor(ratings, affine=reference.affine.clone(), meta=meta)
    return result
