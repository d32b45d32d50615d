# SPDX-License-Identifier: Apache-2.0
"""The agreement of the raters of a case as one number, for example as the target of a regression."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

from monai_multirater import agreement
from monai_multirater.transforms.consensus import binary_ratings
from monai_multirater.transforms.grids import known_spacing

__all__ = ["AGREEMENT_SCORES", "AgreementScore", "AgreementScored"]

_NOT_OPTIONS = {"rater_mask", "batched", "spacing"}

AGREEMENT_SCORES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "dice": agreement.pairwise_dice,
        "iou": agreement.pairwise_iou,
        "kappa": agreement.pairwise_kappa,
        "hausdorff": agreement.pairwise_hausdorff,
        "hausdorff95": partial(agreement.pairwise_hausdorff, percentile=95),
        "assd": agreement.pairwise_average_surface_distance,
        "surface_dice": agreement.pairwise_surface_dice,
        "fleiss_kappa": agreement.fleiss_kappa,
        "krippendorff_alpha": agreement.krippendorff_alpha,
        "conformity": agreement.conformity_index,
        "entropy": agreement.vote_entropy,
    }
)
"""Measures by name, see ``monai_multirater.agreement.measures``: of all pairs, whose mean is taken, or of the group."""


class AgreementScore(Transform):
    """Measure how much the raters of ``[R, *spatial]`` agree.

    Args:
        measure: key of ``AGREEMENT_SCORES``. Of measures of pairs the mean over the pairs of raters present is taken,
            without pairs whose value is undefined.
        size: bring the masks to this size first, one number per spatial axis; the voxel under each new voxel's center
            is taken. ``(256, 256)`` with mean pairwise Dice is the agreement of arXiv:2508.09381.
        unit: ``"voxels"``, or ``"mm"`` for distances and tolerances by the affine of the ratings.
        options: of the measure, for example ``{"tolerance": 2.0}`` of ``surface_dice``, which needs it.

    Raises:
        ValueError: unknown measure, unit or option, a missing option, a size that is not positive.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(
        self,
        measure: str = "dice",
        *,
        size: Sequence[int] | None = None,
        unit: str = "voxels",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        name = type(self).__name__
        if measure not in AGREEMENT_SCORES:
            raise ValueError(f"{name}: measure must be one of {', '.join(AGREEMENT_SCORES)}. Got {measure!r}.")
        if unit not in ("voxels", "mm"):
            raise ValueError(f"{name}: unit must be 'voxels' or 'mm'. Got {unit!r}.")
        if size is not None and not all(int(length) == length and length > 0 for length in size):
            raise ValueError(f"{name}: size must hold positive whole numbers. Got {tuple(size)}.")
        self.measure, self.unit, self.options = measure, unit, dict(options or {})
        self.size = None if size is None else tuple(int(length) for length in size)
        self.function = AGREEMENT_SCORES[measure]
        _check_options(name, measure, self.function, self.options)

    def __call__(self, ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
        """Return the agreement, a float32 scalar; NaN where it is undefined, as for a rater alone.

        Args:
            ratings: zeros and ones of any dtype (spatial transforms return float).
            rater_mask: ``[R]`` bool, True where the rater is present; by default all are.

        Raises:
            ValueError: a rating is neither 0 nor 1, no rater is present, `size` has another number of axes, or the unit
                is mm and the size of the voxels is unknown.
        """
        name = type(self).__name__
        plain = binary_ratings(ratings, name)
        options = self.options | ({"spacing": self._spacing(ratings)} if _needs_spacing(self.function) else {})
        if self.size is not None:
            if len(self.size) != plain.ndim - 1:
                raise ValueError(f"{name}: size must have {plain.ndim - 1} axes. Got {self.size}.")
            plain = _resized(plain, self.size)
        found = self.function(plain, rater_mask, **options)
        value = agreement.upper_pairs(found).nanmean() if isinstance(found, Tensor) else found
        return torch.as_tensor(value, dtype=torch.float32)

    def _spacing(self, ratings: Tensor) -> tuple[float, ...] | None:
        if self.unit == "voxels":
            return None
        spacing = known_spacing(ratings)
        if spacing is None:
            raise ValueError(f"{type(self).__name__}: unit 'mm' needs the size of voxels, which is unknown: no affine.")
        if self.size is None:
            return spacing
        return tuple(length * old / new for length, old, new in zip(spacing, ratings.shape[1:], self.size, strict=True))


class AgreementScored(MapTransform):
    """Dictionary form of ``AgreementScore``: adds ``agreement``, keeps the ratings.

    Args:
        keys: key of the ratings.
        measure, size, unit, options: see ``AgreementScore``.
        agreement_key: key that gets the float32 scalar.
        rater_mask_key: key of the rater mask; where it is missing all raters are present.
        case_key: key of the case's name, used in error messages when present.
        allow_missing_keys: pass on samples without ratings unchanged.

    Raises:
        ValueError: see ``AgreementScore``; when called, naming the case.
    """

    backend = AgreementScore.backend

    def __init__(
        self,
        keys: KeysCollection = "ratings",
        measure: str = "dice",
        *,
        size: Sequence[int] | None = None,
        unit: str = "voxels",
        options: Mapping[str, Any] | None = None,
        agreement_key: Hashable = "agreement",
        rater_mask_key: Hashable = "rater_mask",
        case_key: Hashable = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.agreement_key = agreement_key
        self.rater_mask_key = rater_mask_key
        self.case_key = case_key
        self.score = AgreementScore(measure, size=size, unit=unit, options=options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the agreement."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            try:
                sample[self.agreement_key] = self.score(sample[key], sample.get(self.rater_mask_key))
            except ValueError as error:
                raise ValueError(f"{type(self).__name__}: case {sample.get(self.case_key)!r}: {error}") from error
        return sample


def _check_options(name: str, measure: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    fixed = set(function.keywords) if isinstance(function, partial) else set()
    parameters = list(inspect.signature(function).parameters.values())[1:]
    known = {parameter.name: parameter for parameter in parameters if parameter.name not in _NOT_OPTIONS | fixed}
    unknown = sorted(set(options) - set(known))
    if unknown:
        has = ", ".join(sorted(known)) or "no options"
        raise ValueError(f"{name}: {measure} does not have the option {', '.join(unknown)}. It has {has}.")
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in options]
    if missing:
        raise ValueError(f"{name}: {measure} needs the option {', '.join(missing)}. Got {dict(options)}.")


def _needs_spacing(function: Callable[..., Any]) -> bool:
    return "spacing" in inspect.signature(function).parameters


def _resized(ratings: Tensor, size: tuple[int, ...]) -> Tensor:
    """Take the voxel under the center of each new voxel."""
    for axis, (old, new) in enumerate(zip(ratings.shape[1:], size, strict=True), start=1):
        under = (2 * torch.arange(new, device=ratings.device) + 1) * old // (2 * new)
        ratings = ratings.index_select(axis, under)
    return ratings
