# SPDX-License-Identifier: Apache-2.0
"""Votes of several raters: counts, pattern codes and the mergeable table of pattern counts.

The ratings of one case are a ``[R, *spatial]`` tensor of zeros and ones, one plane per rater; a batch is
``[B, R, *spatial]`` with ``rater_mask [B, R]`` (True = this rater marked this case). Whatever the plane of an
absent rater holds is ignored. Nothing here makes a floating-point copy of the stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["VoteTable", "check_ratings", "class_ratings", "count_votes", "encode_votes", "vote_tables_by_class"]

MAX_RATERS = 64
_DENSE_RATERS = 16  # up to here a lookup table of 2^R entries; above it, only the patterns that occur
_BLOCK = 1 << 18  # voxels per block: codes and one plane stay in the cache


def check_ratings(ratings: Tensor, rater_mask: Tensor | None = None, *, name: str = "ratings") -> None:
    """Check that ``ratings`` is a stack of binary masks with at least one rater present.

    Args:
        ratings: ``[R, *spatial]``, or ``[B, R, *spatial]`` when ``rater_mask`` has two axes.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present. Planes of absent raters are not looked at.
        name: how error messages call the tensor.

    Raises:
        TypeError: not a tensor, or neither bool nor integer.
        ValueError: no or more than 64 raters, a mask of the wrong shape, nobody present in an item, or a
            value other than 0 and 1 (a class label: see :func:`class_ratings`).
    """
    dim = 1 if rater_mask is not None and rater_mask.ndim == 2 else 0
    _check_stack(ratings, dim, name)
    if rater_mask is not None:
        rater_mask = _check_mask(rater_mask, ratings, dim)
    if ratings.dtype == torch.bool:
        return
    for r in range(ratings.shape[dim]):
        plane = ratings.select(dim, r)
        if rater_mask is not None:
            plane = plane[rater_mask[:, r]] if dim else plane[None][rater_mask[r : r + 1]]
        if plane.numel() and bool(((plane < 0) | (plane > 1)).any()):
            raise ValueError(
                f"{name} must hold only 0 and 1. Got {plane.min().item()} to {plane.max().item()} "
                f"for rater {r}. Use class_ratings(labels, label) for class labels."
            )


def count_votes(ratings: Tensor, rater_mask: Tensor | None = None, *, dim: int = 0) -> Tensor:
    """Number of raters present who say foreground, ``sum_r mask_r * ratings_r``.

    Args:
        ratings: zeros and ones, bool or integer, the rater axis at ``dim`` (at most 64 raters).
        rater_mask: True = present. ``[R]`` for every ``dim``; for a batch (``dim=1``) also ``[B, R]``.
        dim: 0 for one case ``[R, *spatial]``, 1 for a batch ``[B, R, *spatial]``.

    Returns:
        uint8 without the rater axis: ``[*spatial]`` or ``[B, *spatial]``. Values are not checked (see
        :func:`check_ratings`).

    Raises:
        TypeError: floating-point ratings. ValueError: no or more than 64 raters, or a mask that does not fit.
    """
    _check_stack(ratings, dim, "ratings")
    if rater_mask is not None:
        rater_mask = _check_mask(rater_mask, ratings, dim)
    planes = _as_bytes(ratings)
    votes = torch.zeros_like(planes.select(dim, 0), memory_format=torch.contiguous_format)
    for r in range(ratings.shape[dim]):
        if rater_mask is None:
            votes += planes.select(dim, r)
        elif rater_mask.ndim == 1:
            if bool(rater_mask[r]):
                votes += planes.select(dim, r)
        else:
            votes += planes.select(dim, r) * rater_mask[:, r].view(-1, *[1] * (votes.ndim - 1))
    return votes


def encode_votes(ratings: Tensor, rater_mask: Tensor | None = None) -> Tensor:
    """Pack the ratings of one case into one integer per voxel, ``code = sum_r ratings_r 2^r``.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer, R <= 64.
        rater_mask: ``[R]`` bool; the bit of an absent rater is 0.

    Returns:
        ``[*spatial]``: uint8 for R <= 8, int16 for R <= 15, int32 for R <= 31, int64 above (bit 63 is the
        sign).

    Raises:
        TypeError: floating-point ratings. ValueError: no or more than 64 raters, or a mask that does not fit.
    """
    _check_stack(ratings, 0, "ratings")
    raters, device = ratings.shape[0], ratings.device
    here = [True] * raters if rater_mask is None else _check_mask(rater_mask, ratings, 0).tolist()
    planes = _as_bytes(ratings).reshape(raters, -1)
    codes = torch.zeros(planes.shape[1], dtype=_code_dtype(raters), device=device)
    for start in range(0, planes.shape[1], _BLOCK):
        part = codes[start : start + _BLOCK]
        for low in range(0, raters, 8):
            byte = part if raters <= 8 else torch.zeros(part.shape, dtype=torch.uint8, device=device)
            for r in range(low, min(low + 8, raters)):
                if here[r]:
                    byte.add_(planes[r, start : start + _BLOCK], alpha=1 << (r - low))
            if raters > 8:
                part |= byte.to(part.dtype) << low
    return codes.reshape(ratings.shape[1:])


def class_ratings(labels: Tensor, label: int) -> Tensor:
    """Binary ratings of one class: ``labels == label`` as uint8, ``[R, *spatial]``."""
    return labels.eq(label).view(torch.uint8)


def vote_tables_by_class(
    labels: Tensor, classes: Iterable[int], rater_mask: Tensor | None = None
) -> dict[int, VoteTable]:
    """One :class:`VoteTable` per class label of multi-class ratings ``[R, *spatial]``."""
    return {label: VoteTable.from_ratings(class_ratings(labels, label), rater_mask) for label in classes}


@dataclass(frozen=True, eq=False)
class VoteTable:
    """How often each pattern of votes occurs: the sufficient statistic of everything that is not spatial.

    Attributes:
        patterns: int64 ``[P]``, ascending, only patterns that occur; bit r = rater r says foreground.
        counts: int64 ``[P]`` voxels with that pattern.
        raters: R, the number of raters of the data set, present or not.
        present: bit mask (a Python integer) of the raters present; the bits of absent raters are 0
            everywhere.

    Tables over the same raters add: ``table_a + table_b`` counts the voxels of both cases.
    """

    patterns: Tensor
    counts: Tensor
    raters: int
    present: int

    @classmethod
    def from_ratings(cls, ratings: Tensor, rater_mask: Tensor | None = None) -> VoteTable:
        """Count the patterns of ``ratings [R, *spatial]`` of the raters in ``rater_mask [R]`` (bool)."""
        return cls.from_codes(encode_votes(ratings, rater_mask), ratings.shape[0], rater_mask)

    @classmethod
    def from_codes(cls, codes: Tensor, raters: int, rater_mask: Tensor | None = None) -> VoteTable:
        """Count the patterns of a code volume; ValueError for ``raters`` outside 1..64 or nobody present."""
        if not 1 <= raters <= MAX_RATERS:
            raise ValueError(f"VoteTable: raters must be in 1..{MAX_RATERS}. Got {raters}.")
        here = [True] * raters if rater_mask is None else rater_mask.tolist()
        present = sum(1 << r for r, is_here in enumerate(here) if is_here)
        if not present:
            raise ValueError("VoteTable: at least one rater must be present. Got none.")
        if raters > _DENSE_RATERS:
            patterns, counts = torch.unique(codes.to(torch.int64), return_counts=True)
        else:
            dense = torch.zeros(1 << raters, dtype=torch.int64, device=codes.device)
            flat = codes.reshape(-1)
            for start in range(0, flat.numel(), _BLOCK):
                dense += torch.bincount(flat[start : start + _BLOCK], minlength=1 << raters)
            patterns = dense.nonzero().squeeze(1)
            counts = dense[patterns]
        return cls(patterns.cpu(), counts.cpu(), raters, present)

    def merge(self, other: VoteTable) -> VoteTable:
        """Table of the voxels of both; ValueError if not the same raters are present in both."""
        if (self.raters, self.present) != (other.raters, other.present):
            raise ValueError(
                f"VoteTable.merge: both tables must have the same raters present. Got {self.present:#b} of "
                f"{self.raters} and {other.present:#b} of {other.raters}."
            )
        patterns, where = torch.unique(torch.cat([self.patterns, other.patterns]), return_inverse=True)
        counts = torch.zeros_like(patterns).index_add_(0, where, torch.cat([self.counts, other.counts]))
        return VoteTable(patterns, counts, self.raters, self.present)

    def __add__(self, other: VoteTable) -> VoteTable:
        return self.merge(other)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VoteTable):
            return NotImplemented
        same = (self.raters, self.present) == (other.raters, other.present)
        return same and self.patterns.equal(other.patterns) and self.counts.equal(other.counts)

    __hash__ = None  # type: ignore[assignment]

    @property
    def voxels(self) -> int:
        """Number of voxels counted."""
        return int(self.counts.sum())

    @property
    def n_raters(self) -> int:
        """Number of raters present."""
        return self.present.bit_count()

    @property
    def bits(self) -> Tensor:
        """Bool ``[P, R]``: who says foreground in each pattern."""
        return (self.patterns[:, None] >> torch.arange(self.raters)).bitwise_and(1).bool()

    @property
    def votes(self) -> Tensor:
        """int64 ``[P]``: number of foreground votes of each pattern."""
        return self.bits.sum(1)

    def level_counts(self) -> Tensor:
        """int64 ``[n + 1]``: voxels with 0, 1, ..., n votes, n = raters present."""
        levels = torch.zeros(self.n_raters + 1, dtype=torch.int64)
        return levels.index_add_(0, self.votes, self.counts)

    def gram(self) -> Tensor:
        """int64 ``[R, R]``: voxels that both raters mark; volumes on the diagonal, 0 for absent raters."""
        bits = self.bits.to(torch.int64)
        return bits.T @ (bits * self.counts[:, None])

    def expand(self, codes: Tensor, values: Tensor) -> Tensor:
        """Map one value per pattern back to the volume.

        Args:
            codes: volume of codes whose patterns are all in this table, else ValueError.
            values: ``[P]``, any dtype.

        Returns:
            the shape and device of ``codes`` with the dtype of ``values``.
        """
        if values.shape != self.patterns.shape:
            raise ValueError(
                f"VoteTable.expand: values must have shape {tuple(self.patterns.shape)}, one per "
                f"pattern. Got {tuple(values.shape)}."
            )
        values, patterns = values.to(codes.device), self.patterns.to(codes.device)
        out = torch.empty(codes.numel(), dtype=values.dtype, device=codes.device)
        position = None
        if self.raters <= _DENSE_RATERS:
            position = torch.full((1 << self.raters,), -1, dtype=torch.int64, device=codes.device)
            position[patterns] = torch.arange(len(patterns), device=codes.device)
        flat = codes.reshape(-1)
        for start in range(0, flat.numel(), _BLOCK):
            part = slice(start, start + _BLOCK)
            out[part] = values[_positions(flat[part].to(torch.int64), patterns, position)]
        return out.reshape(codes.shape)


def _positions(block: Tensor, patterns: Tensor, position: Tensor | None) -> Tensor:
    """Index of every code of ``block`` in ``patterns``."""
    if position is not None:
        where = position[block]
        unknown = where < 0
    else:
        where = torch.searchsorted(patterns, block).clamp_(max=len(patterns) - 1)
        unknown = patterns[where] != block
    if bool(unknown.any()):
        raise ValueError(f"VoteTable.expand: code {int(block[unknown][0])} is not in the table.")
    return where


def _code_dtype(raters: int) -> torch.dtype:
    if raters <= 8:
        return torch.uint8
    return torch.int16 if raters <= 15 else torch.int32 if raters <= 31 else torch.int64


def _as_bytes(ratings: Tensor) -> Tensor:
    """The same memory as uint8 where possible (bool, int8), else a uint8 copy."""
    ratings = ratings.as_subclass(Tensor)
    if ratings.dtype in (torch.bool, torch.int8, torch.uint8):
        return ratings.view(torch.uint8)
    return ratings.to(torch.uint8)


def _check_stack(ratings: Tensor, dim: int, name: str) -> None:
    if not isinstance(ratings, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor. Got {type(ratings).__name__}.")
    if ratings.is_floating_point() or ratings.is_complex():
        raise TypeError(f"{name} must be bool or integer masks. Got dtype {ratings.dtype}.")
    if ratings.ndim <= dim or not 1 <= ratings.shape[dim] <= MAX_RATERS:
        raise ValueError(
            f"{name} must have 1 to {MAX_RATERS} raters along axis {dim}. Got shape {tuple(ratings.shape)}."
        )


def _check_mask(rater_mask: Tensor, ratings: Tensor, dim: int) -> Tensor:
    raters = ratings.shape[dim]
    allowed = [(raters,)] if dim == 0 else [(raters,), (ratings.shape[0], raters)]
    if rater_mask.dtype != torch.bool or tuple(rater_mask.shape) not in allowed:
        raise ValueError(
            f"rater_mask must be bool of shape {' or '.join(map(str, allowed))} for ratings of shape "
            f"{tuple(ratings.shape)}. Got {rater_mask.dtype} of shape {tuple(rater_mask.shape)}."
        )
    if not bool(rater_mask.any(-1).all()):
        raise ValueError("rater_mask must have at least one rater present in every item. Got an item with none.")
    return rater_mask.to(ratings.device).as_subclass(Tensor)
