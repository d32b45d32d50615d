# SPDX-License-Identifier: Apache-2.0
"""Pattern counts of one case or a batch, and the way back from one value per pattern to a volume.

Whatever is not spatial depends on a voxel only through its *pattern*: which raters said foreground. So the votes are
packed into one code per voxel and counted, a method works on the counts (at most 2^R of them), and its answer is
looked up for every voxel. While the method works, the codes lie in the memory of the volume that it will fill: beside
the ratings nothing is allocated but the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monai_multirater.votes.batches import CodeBatch, code_batch
from monai_multirater.votes.counting import as_bytes, check_mask, check_stack, code_dtype, encode_batch
from monai_multirater.votes.table import DENSE_RATERS

__all__ = ["PatternVolume", "Stack", "open_stack", "performance"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """Ratings as uint8 planes ``[B, R, N]`` with who is present, and the shape of a result.

    Attributes:
        planes: uint8 ``[B, R, N]``, the memory of the ratings where possible.
        present: bool ``[B, R]``.
        shape: of a map over the whole input: ``[1, *spatial]`` or ``[B, 1, *spatial]``.
        batched: whether the ratings had a batch axis.
    """

    planes: Tensor
    present: npt.NDArray[np.bool_]
    shape: tuple[int, ...]
    batched: bool

    @property
    def raters(self) -> int:
        """R."""
        return self.planes.shape[1]

    def per_case(self, values: npt.NDArray[np.generic]) -> Tensor:
        """Values ``[B, ...]`` as a tensor, without the batch axis for a single case."""
        return torch.from_numpy(np.array(values if self.batched else values[0]))

    def number(self, values: npt.NDArray[np.generic]) -> Any:
        """Values ``[B]`` as a tensor, or as a Python number for a single case."""
        return self.per_case(values) if self.batched else values[0].item()


def open_stack(ratings: Tensor, rater_mask: Tensor | None = None, batched: bool | None = None) -> Stack:
    """Read ratings ``[R, *spatial]`` or ``[B, R, *spatial]``.

    Args:
        ratings: zeros and ones, bool or integer, at most 64 raters.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.votes.count_votes`; a ``rater_mask`` of two axes with
            ``batched=False``; no voxels.
    """
    if batched is None:
        batched = rater_mask is not None and rater_mask.ndim == 2
    dim = 1 if batched else 0
    check_stack(ratings, dim, "ratings")
    items = ratings.shape[0] if batched else 1
    present = np.ones((items, ratings.shape[dim]), dtype=bool)
    if rater_mask is not None:
        present &= check_mask(rater_mask, ratings, dim).cpu().numpy()
    spatial = tuple(ratings.shape[dim + 1 :])
    planes = as_bytes(ratings).reshape(items, ratings.shape[dim], -1)
    if planes.shape[2] == 0:
        raise ValueError(f"ratings must have voxels. Got shape {tuple(ratings.shape)}.")
    return Stack(planes, present, (items, 1, *spatial) if batched else (1, *spatial), batched)


@dataclass(frozen=True, eq=False)
class PatternVolume:
    """Pattern counts of every case of a stack, and the volume that a method fills from one value per pattern.

    Attributes:
        stack: the ratings.
        bits: bool ``[P, R]``: who says foreground in each pattern that occurs in some case.
        counts: float64 ``[B, P]`` (whole numbers): voxels of each case with each pattern.
    """

    stack: Stack
    bits: npt.NDArray[np.bool_]
    counts: Floats
    _patterns: npt.NDArray[np.int64] = field(repr=False)
    _codes: Tensor = field(repr=False)
    _batch: CodeBatch | None = field(repr=False)
    _out: Tensor = field(repr=False)

    @classmethod
    def count(cls, stack: Stack, dtype: torch.dtype = torch.float32) -> PatternVolume:
        """Encode and count; ``dtype`` is that of the volume to fill."""
        items, raters, voxels = stack.planes.shape
        out = torch.empty((items, voxels), dtype=dtype, device=stack.planes.device)
        codes = _code_memory(out, raters)
        encode_batch(stack.planes, stack.present.tolist(), codes)
        batch = code_batch(codes, raters, stack.shape[-1]) if raters <= DENSE_RATERS else None
        patterns, counts = _count_sparse(codes) if batch is None else _count_dense(batch)
        bits = (patterns[:, None] >> np.arange(raters)) & 1
        return cls(stack, bits.astype(bool), counts.astype(np.float64), patterns, codes, batch, out)

    @property
    def votes(self) -> Floats:
        """float64 ``[P]``: foreground votes of each pattern."""
        return self.bits.sum(1).astype(np.float64)

    def fill(self, values: npt.NDArray[np.generic]) -> Tensor:
        """Volume with ``values [B, P]`` at the voxels of each pattern; can be called once."""
        device, dtype = self._out.device, self._out.dtype
        per_pattern = torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)
        patterns = torch.from_numpy(self._patterns).to(device)
        if self._batch is None:
            for codes, out, row in zip(self._codes, self._out, per_pattern, strict=True):
                out.copy_(row[torch.searchsorted(patterns, codes.to(torch.int64))])
        else:
            tables = torch.zeros((len(per_pattern), 1 << self.stack.raters), dtype=dtype, device=device)
            tables[:, patterns] = per_pattern
            self._batch.look_up(tables, self._out)
        return self._out.reshape(self.stack.shape)


def _code_memory(out: Tensor, raters: int) -> Tensor:
    """The last bytes of ``out [B, N]`` as codes ``[B, N]`` where they fit, see ``look_up``; else new memory."""
    dtype = code_dtype(raters)
    if dtype.itemsize > out.element_size():
        return torch.empty(out.shape, dtype=dtype, device=out.device)
    return out.view(-1).view(dtype)[-out.numel() :].view(out.shape)


def _count_dense(batch: CodeBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    counts = batch.count().cpu().numpy()
    patterns = np.flatnonzero(counts.any(0))
    return patterns.astype(np.int64), counts[:, patterns]


def _count_sparse(codes: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    found = [torch.unique(item.to(torch.int64), return_counts=True) for item in codes]
    patterns = np.unique(np.concatenate([p.cpu().numpy() for p, _ in found]))
    counts = np.zeros((len(codes), len(patterns)), dtype=np.int64)
    for row, (item, number) in zip(counts, found, strict=True):
        row[np.searchsorted(patterns, item.cpu().numpy())] = number.cpu().numpy()
    return patterns, counts


def performance(volume: PatternVolume, probability: Floats) -> tuple[Floats, Floats]:
    """Sensitivity and specificity ``[B, R]`` of every rater against the foreground probability of each pattern.

    ``sum_v W d / sum_v W`` and ``sum_v (1 - W)(1 - d) / sum_v (1 - W)``; NaN for absent raters, and where no voxel is
    foreground or none is background.

    Args:
        volume: counted ratings.
        probability: W of each pattern, ``[B, P]``.
    """
    inside, outside = volume.counts * probability, volume.counts * (1 - probability)
    bits = volume.bits.astype(np.float64)
    sensitivity = share(inside @ bits, inside.sum(1, keepdims=True))
    specificity = share(outside @ (1 - bits), outside.sum(1, keepdims=True))
    absent = ~volume.stack.present
    sensitivity[absent], specificity[absent] = np.nan, np.nan
    return sensitivity, specificity


def share(part: Floats, whole: Floats) -> Floats:
    """``part / whole`` with NaN where the whole is 0."""
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
