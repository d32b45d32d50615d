# SPDX-License-Identifier: Apache-2.0
"""Counting and looking up the codes of a batch: large cases block by block, small ones several at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from monai_multirater.votes.counting import SMALL_BLOCKS, block_size
from monai_multirater.votes.table import count_dense, look_up, marked_spans

__all__ = ["CodeBatch", "code_batch"]

_SMALL_TABLE = 8  # raters
_KEPT_FROM = 4  # raters: numbers of four bytes a voxel, kept between count and look-up, are no more than the ratings


class CodeBatch(Protocol):
    """Codes ``[B, N]`` of up to 16 raters."""

    def count(self) -> Tensor:
        """int64 ``[B, 2^R]``: how often each code occurs in each case."""

    def look_up(self, tables: Tensor, out: Tensor) -> None:
        """Write ``tables[b, code]`` into ``out [B, N]``, reading codes before writing where they are or further on.

        Hence the codes may be the last bytes of ``out``'s memory when its elements are not smaller than theirs.
        """


def code_batch(codes: Tensor, raters: int, width: int) -> CodeBatch:
    """Choose how to work on codes ``[B, N]``, of cases whose last axis has ``width`` voxels."""
    together = min(len(codes), SMALL_BLOCKS * block_size(codes.device) // codes.shape[1])
    if together > 1 and raters <= _SMALL_TABLE:
        return _Grouped(codes, raters, width, together)
    return _OneByOne(codes, raters)


class _OneByOne:
    def __init__(self, codes: Tensor, raters: int) -> None:
        self.codes, self.raters = codes, raters
        self.spans = marked_spans(codes)

    def count(self) -> Tensor:
        found = [count_dense(case, self.raters, spans) for case, spans in zip(self.codes, self.spans, strict=True)]
        return torch.stack(found)

    def look_up(self, tables: Tensor, out: Tensor) -> None:
        for codes, table, case, spans in zip(self.codes, tables, out, self.spans, strict=True):
            look_up(codes, table, case, spans)


class _Grouped:
    """Several cases as one long list of codes, each case with numbers of its own, within the box that anybody marks."""

    def __init__(self, codes: Tensor, raters: int, width: int, together: int) -> None:
        self.codes, self.size, self.together = codes.view(len(codes), -1, width), 1 << raters, together
        self.keep = raters >= _KEPT_FROM
        self.boxes = [_marked_box(group) for _, group in self._groups()]
        self.kept: list[Tensor] = []

    def _groups(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.codes), self.together):
            cases = slice(start, start + self.together)
            yield cases, self.codes[cases]

    def _numbered(self, group: Tensor, box: tuple[slice, slice]) -> Tensor:
        """int32 ``[b, rows, columns]``: ``code + 2^R * case`` in the box."""
        inside = group[:, box[0], box[1]].to(torch.int32, memory_format=torch.contiguous_format)
        first = torch.arange(0, len(group) * self.size, self.size, dtype=torch.int32, device=group.device)
        return inside.add_(first.view(-1, 1, 1))

    def count(self) -> Tensor:
        counts = []
        for (_, group), box in zip(self._groups(), self.boxes, strict=True):
            inside = self._numbered(group, box)
            if self.keep:
                self.kept.append(inside)
            found = torch.bincount(inside.view(-1), minlength=len(group) * self.size).view(-1, self.size)
            found[:, 0] += group[0].numel() - inside[0].numel()
            counts.append(found)
        return torch.cat(counts)

    def look_up(self, tables: Tensor, out: Tensor) -> None:
        whole = out.view(self.codes.shape)
        for number, ((cases, group), box) in enumerate(zip(self._groups(), self.boxes, strict=True)):
            inside = self.kept[number] if self.kept else self._numbered(group, box)
            table, target = tables[cases], whole[cases]
            target.copy_(table[:, :1, None].expand_as(target))
            target[:, box[0], box[1]] = table.reshape(-1).index_select(0, inside.view(-1)).view(inside.shape)


def _marked_box(codes: Tensor) -> tuple[slice, slice]:
    """Rows and columns of ``[b, rows, columns]`` outside of which all codes are 0."""
    seen = codes.amax(0)
    rows, columns = seen.amax(1).nonzero(), seen.amax(0).nonzero()
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
