# SPDX-License-Identifier: Apache-2.0
"""Checked, flat views of a case: foreground probability, votes and number of raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

ArrayLike: TypeAlias = torch.Tensor | npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]

MAX_RATERS = 64
BLOCK = 1 << 16
_PIECE = 1 << 13


@dataclass(frozen=True, eq=False)
class VoteCase:
    """One case, flat: `probability [N]` float32 or float64, `votes [N]` uint8, `raters` present (>= 1)."""

    probability: FloatArray
    votes: npt.NDArray[np.uint8]
    raters: int


def dot(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Sum of products, in pieces too small for BLAS to share among threads.

    Sharing saves next to nothing here, and the threads keep their cores busy for a while after every call.
    """
    return sum(float(np.dot(a[i : i + _PIECE], b[i : i + _PIECE])) for i in range(0, len(a), _PIECE))


def to_numpy(values: ArrayLike) -> npt.NDArray[Any]:
    """Bring a tensor (any device, subclass or precision) or an array to NumPy without changing a value."""
    if isinstance(values, torch.Tensor):
        plain = values.detach().as_subclass(torch.Tensor)
        if plain.dtype in (torch.float16, torch.bfloat16):
            plain = plain.float()
        return np.asarray(plain.cpu().numpy())
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check_probability(probability: ArrayLike, *, function: str, argument: str = "probability") -> FloatArray:
    """Return `probability` as a flat float array; every value must be in [0, 1] and none may be NaN."""
    array = to_numpy(probability)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{function}: '{argument}' must be floating point, got dtype {array.dtype}.")
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size:
        low, high = flat.min(), flat.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{function}: '{argument}' must lie in [0, 1] without NaN, got values from {low} to {high}; "
                "pass foreground probabilities, not logits."
            )
    return flat


def check_votes(votes: ArrayLike, raters: int, *, function: str) -> npt.NDArray[np.uint8]:
    """Return `votes` as a flat uint8 array; every value must be a whole number in 0..raters."""
    if not 1 <= raters <= MAX_RATERS:
        raise ValueError(f"{function}: 'n_raters' must be in 1..{MAX_RATERS}, got {raters}.")
    array = to_numpy(votes)
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype == np.bool_:
        flat = flat.view(np.uint8)
    if flat.size:
        low, high = flat.min(), flat.max()
        if not (low >= 0 and high <= raters):
            raise ValueError(f"{function}: 'votes' must lie in 0..n_raters = 0..{raters}, got {low} to {high}.")
        if np.issubdtype(flat.dtype, np.floating) and not np.array_equal(flat, np.trunc(flat)):
            raise ValueError(f"{function}: 'votes' must be whole numbers (a count of raters), got fractions.")
    return flat.astype(np.uint8, copy=False)


def as_case(probability: ArrayLike, votes: ArrayLike, n_raters: int, *, function: str) -> VoteCase:
    """Check one case. `probability` and `votes` have the same shape, except for axes of length one."""
    if [s for s in probability.shape if s != 1] != [s for s in votes.shape if s != 1]:
        raise ValueError(
            f"{function}: 'probability' and 'votes' must have the same shape, "
            f"got {tuple(probability.shape)} and {tuple(votes.shape)}."
        )
    flat = check_probability(probability, function=function)
    return VoteCase(flat, check_votes(votes, int(n_raters), function=function), int(n_raters))


def count_ratings(
    ratings: ArrayLike, rater_mask: ArrayLike | None, *, function: str
) -> tuple[npt.NDArray[np.uint8], int]:
    """Votes `[*spatial]` and number of raters present; planes of missing raters are ignored."""
    planes = rater_planes(ratings, rater_mask, function=function)
    return np.sum(planes, axis=0, dtype=np.uint8), len(planes)


def rater_planes(ratings: ArrayLike, rater_mask: ArrayLike | None, *, function: str) -> npt.NDArray[np.uint8]:
    """Masks of the raters present, `[present, *spatial]` uint8 in {0, 1}."""
    array = to_numpy(ratings)
    if array.ndim < 2:
        raise ValueError(f"{function}: 'ratings' must be [R, *spatial], got shape {array.shape}.")
    if rater_mask is not None:
        mask = to_numpy(rater_mask).astype(bool)
        if mask.shape != array.shape[:1]:
            raise ValueError(
                f"{function}: 'rater_mask' must hold one flag per rater, {array.shape[:1]}, got {mask.shape}."
            )
        array = array[mask]
    if not len(array):
        raise ValueError(f"{function}: no rater is present; a case needs at least one.")
    if array.dtype != np.bool_ and array.size and not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{function}: 'ratings' must hold 0 and 1 only, got values up to {array.max()}.")
    return array.astype(np.uint8, copy=False)


def as_cases(
    probability: ArrayLike | Sequence[ArrayLike],
    votes: ArrayLike | Sequence[ArrayLike] | None,
    n_raters: int | ArrayLike | Sequence[int] | None,
    *,
    ratings: ArrayLike | Sequence[ArrayLike] | None = None,
    rater_mask: ArrayLike | Sequence[ArrayLike | None] | None = None,
    function: str,
) -> list[VoteCase]:
    """One or several cases.

    A case is `probability [*spatial]`, `votes [*spatial]`, `n_raters` int (or `ratings [R, *spatial]`,
    `rater_mask [R]`). Several are given as sequences, or as a batch whose first axis is the case, which is
    recognized by `n_raters` (votes) or `rater_mask` (ratings) having an axis more.
    """
    if (votes is None) == (ratings is None):
        raise ValueError(f"{function}: give either 'votes' with 'n_raters' or 'ratings' with 'rater_mask'.")
    if ratings is not None:
        return _cases_from_ratings(probability, ratings, rater_mask, function=function)
    assert votes is not None
    if n_raters is None:
        raise ValueError(f"{function}: 'votes' needs 'n_raters', the number of raters present.")
    counts = _counts(n_raters)
    if isinstance(counts, int):
        if isinstance(probability, Sequence):
            counts = [counts] * len(probability)
        else:
            return [as_case(probability, votes, counts, function=function)]  # type: ignore[arg-type]
    if not len(probability) == len(votes) == len(counts):
        raise ValueError(
            f"{function}: 'probability', 'votes' and 'n_raters' must hold as many cases, "
            f"got {len(probability)}, {len(votes)} and {len(counts)}."
        )
    return [as_case(p, v, n, function=function) for p, v, n in zip(probability, votes, counts, strict=True)]


def _counts(n_raters: int | ArrayLike | Sequence[int]) -> int | list[int]:
    if isinstance(n_raters, (int, np.integer)):
        return int(n_raters)
    if isinstance(n_raters, (torch.Tensor, np.ndarray)) and n_raters.ndim == 0:
        return int(n_raters.item())
    return [int(n) for n in n_raters]


def _cases_from_ratings(
    probability: ArrayLike | Sequence[ArrayLike],
    ratings: ArrayLike | Sequence[ArrayLike],
    rater_mask: ArrayLike | Sequence[ArrayLike | None] | None,
    *,
    function: str,
) -> list[VoteCase]:
    mask_axes = 1 if rater_mask is None or isinstance(rater_mask, Sequence) else rater_mask.ndim
    if not isinstance(ratings, Sequence) and mask_axes == 1:
        votes, raters = count_ratings(ratings, rater_mask, function=function)  # type: ignore[arg-type]
        return [as_case(probability, votes, raters, function=function)]  # type: ignore[arg-type]
    masks = [None] * len(ratings) if rater_mask is None else list(rater_mask)
    cases = []
    for p, r, mask in zip(probability, ratings, masks, strict=True):
        votes, raters = count_ratings(r, mask, function=function)
        cases.append(as_case(p, votes, raters, function=function))
    return cases
