# SPDX-License-Identifier: Apache-2.0
"""The mergeable table of pattern counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monai_multirater.votes.counting import MAX_RATERS, block_size, class_ratings, encode_votes

__all__ = ["VoteTable", "vote_tables_by_class"]

DENSE_RATERS = 16  # up to here a lookup table of 2^R entries; above it, only the patterns that occur
_GRAIN = 1 << 11


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
        if raters > DENSE_RATERS:
            patterns, counts = torch.unique(codes.to(torch.int64), return_counts=True)
        else:
            flat = codes.reshape(-1)
            dense = count_dense(flat, raters, marked_spans(flat[None])[0])
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
        flat, size = codes.reshape(-1), block_size(codes.device)
        if self.raters <= DENSE_RATERS:
            known = torch.zeros(1 << self.raters, dtype=torch.bool, device=codes.device)
            known[patterns] = True
            table = torch.zeros(1 << self.raters, dtype=values.dtype, device=codes.device)
            table[patterns] = values
            if len(patterns) < 1 << self.raters:
                _check_known(flat, known)
            look_up(flat, table, out, marked_spans(flat[None])[0])
        else:
            for start in range(0, flat.numel(), size):
                part = slice(start, start + size)
                out[part] = values[_positions(flat[part].to(torch.int64), patterns)]
        return out.reshape(codes.shape)


def vote_tables_by_class(
    labels: Tensor, classes: Iterable[int], rater_mask: Tensor | None = None
) -> dict[int, VoteTable]:
    """One :class:`VoteTable` per class label of multi-class ratings ``[R, *spatial]``."""
    return {label: VoteTable.from_ratings(class_ratings(labels, label), rater_mask) for label in classes}


def marked_spans(codes: Tensor) -> list[list[tuple[int, int]]]:
    """For each case of ``codes [B, N]``, blocks of ``[0, N)`` cut down to a stretch with all codes other than 0.

    On a CPU it pays not to count and look up the background before and after a structure. Elsewhere, and where a block
    cannot be cut evenly, the stretch is the whole block.
    """
    spans: list[list[tuple[int, int]]] = [[] for _ in codes]
    size = block_size(codes.device)
    for start in range(0, codes.shape[1], size):
        part = codes[:, start : start + size]
        length = part.shape[1]
        if codes.device.type != "cpu" or length % _GRAIN:
            stretches = [(start, start + length)] * len(codes)
        else:
            stretches = [
                (start + _GRAIN * int(rows[0]), start + _GRAIN * (int(rows[-1]) + 1)) if len(rows) else (start, start)
                for rows in map(np.flatnonzero, part.reshape(len(codes), -1, _GRAIN).amax(2).numpy())
            ]
        for case, stretch in zip(spans, stretches, strict=True):
            case.append(stretch)
    return spans


def count_dense(codes: Tensor, raters: int, spans: Sequence[tuple[int, int]]) -> Tensor:
    """int64 ``[2^R]``: how often each code occurs in ``codes [N]``; ``spans`` as from :func:`marked_spans`."""
    counts = torch.zeros(1 << raters, dtype=torch.int64, device=codes.device)
    background = codes.numel()
    for start, stop in spans:
        if stop > start:
            counts += torch.bincount(codes[start:stop], minlength=1 << raters)
            background -= stop - start
    if background:
        counts[0] += background
    return counts


def look_up(codes: Tensor, table: Tensor, out: Tensor, spans: Sequence[tuple[int, int]]) -> None:
    """Write ``table[codes]`` into ``out``, block by block in ascending order, reading a block before writing it.

    Hence ``codes`` may be the last bytes of ``out``'s memory when its elements are not larger than those of ``out``.
    """
    done, background = 0, float(table[0]) if table.is_floating_point() else int(table[0])
    for start, stop in spans:
        marked = codes[start:stop].to(torch.int32)
        if start > done:
            out[done:start] = background
        if stop > start:
            torch.index_select(table, 0, marked, out=out[start:stop])
        done = max(done, stop)
    if done < out.numel():
        out[done:] = background


def _check_known(codes: Tensor, known: Tensor) -> None:
    for part in torch.split(codes, block_size(codes.device)):
        unknown = ~known[part.to(torch.int64)]
        if bool(unknown.any()):
            raise ValueError(f"VoteTable.expand: code {int(part[unknown][0])} is not in the table.")


def _positions(block: Tensor, patterns: Tensor) -> Tensor:
    """Index of every code of ``block`` in ``patterns``."""
    where = torch.searchsorted(patterns, block).clamp_(max=len(patterns) - 1)
    unknown = patterns[where] != block
    if bool(unknown.any()):
        raise ValueError(f"VoteTable.expand: code {int(block[unknown][0])} is not in the table.")
    return where
