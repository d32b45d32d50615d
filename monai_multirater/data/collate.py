# SPDX-License-Identifier: Apache-2.0
"""Collation of cases that different numbers of raters marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import list_data_collate

RATINGS, RATER_MASK = "ratings", "rater_mask"


def multirater_collate(batch: Sequence[Any]) -> dict[str, Any]:
    """Collate sample dictionaries, padding raters.

    ``ratings`` ``[R_i, *spatial]`` become ``[B, R, *spatial]`` with ``R = max R_i``; added planes are
    zero and False in ``rater_mask`` ``[B, R]``, which is made (all True for real planes) where a sample has
    none. Everything else is collated by MONAI's ``list_data_collate``: scalars such as ``n_raters`` become
    ``[B]``, strings such as ``case`` a list. A key that some samples lack, or that is ``None`` in some,
    becomes a list with ``None`` in those places. Lists of samples (crops) are flattened first.

    Args:
        batch: samples, or lists of samples.

    Returns:
        The batch.

    Raises:
        TypeError: if a sample is not a dictionary.
        ValueError: if the batch is empty, or images or ratings differ in spatial shape (names the cases).
    """
    samples = [s for item in batch for s in (item if isinstance(item, (list, tuple)) else [item])]
    if not samples:
        raise ValueError("multirater_collate: 'batch' is empty.")
    for sample in samples:
        if not isinstance(sample, Mapping):
            raise TypeError(f"multirater_collate: samples must be dictionaries, got {type(sample).__name__}.")
    if any(torch.is_tensor(sample.get(RATINGS)) for sample in samples):
        samples = _pad_raters(samples)
    _check_shapes(samples)
    keys = list(dict.fromkeys(key for sample in samples for key in sample))
    loose = [key for key in keys if any(_is_loose(sample.get(key)) for sample in samples)]
    fixed = [{key: sample[key] for key in keys if key not in loose} for sample in samples]
    result = dict(list_data_collate(fixed)) if fixed[0] else {}
    result.update({key: [sample.get(key) for sample in samples] for key in loose})
    return {key: result[key] for key in keys}


def _is_loose(value: object) -> bool:
    return value is None or isinstance(value, (str, list, tuple))


def _pad_raters(samples: list[Any]) -> list[dict[str, Any]]:
    most = max(int(sample[RATINGS].shape[0]) for sample in samples)
    padded = []
    for sample in samples:
        ratings = sample[RATINGS]
        raters = int(ratings.shape[0])
        mask = sample.get(RATER_MASK)
        mask = torch.ones(raters, dtype=torch.bool) if mask is None else torch.as_tensor(mask, dtype=torch.bool)
        if mask.shape != (raters,):
            raise ValueError(
                f"multirater_collate: 'rater_mask' of case {sample.get('case')!r} must have shape "
                f"({raters},), got {tuple(mask.shape)}."
            )
        if raters < most:
            ratings = torch.nn.functional.pad(ratings, [0, 0] * (ratings.ndim - 1) + [0, most - raters])
            mask = torch.nn.functional.pad(mask, [0, most - raters])
        padded.append({**sample, RATINGS: ratings, RATER_MASK: mask})
    return padded


def _check_shapes(samples: Sequence[Mapping[str, Any]]) -> None:
    for key in ("image", RATINGS):
        shapes = {
            f"{sample.get('case', index)}": tuple(sample[key].shape)
            for index, sample in enumerate(samples)
            if torch.is_tensor(sample.get(key))
        }
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"multirater_collate: '{key}' must have one shape within a batch, got {shapes}; "
                "crop, pad or resize in the transforms, or use batch_size=1."
            )
