# SPDX-License-Identifier: Apache-2.0
"""Count what the raters of many small cases share, from one pass over their masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement import group_agreement
from monai_multirater.agreement.measures import GROUP_MEASURES
from monai_multirater.agreement.reference import others_majority
from monai_multirater.studies.agreement.request import AgreementRequest, Record
from monai_multirater.studies.records import plain
from monai_multirater.votes import VoteTable
from monai_multirater.votes.batches import code_batch
from monai_multirater.votes.counting import code_dtype, encode_batch

__all__ = ["count_cases"]

_DENSE = 8  # raters: up to here all 2^R patterns are counted for many cases at once
Counts = NDArray[np.int64]


def count_cases(stacks: Sequence[Tensor], request: AgreementRequest) -> list[Record]:
    """Count cases ``[R, *spatial]`` of uint8 {0, 1} with equal shape and all raters present.

    Returns:
        Per case ``voxels``, ``gram`` (what two raters share), ``cells`` (TP, FP, FN, TN of each rater against the
        majority of the others; zeros for a rater alone) and ``group`` (measures of all raters together).
    """
    raters, voxels = stacks[0].shape[0], stacks[0][0].numel()
    if raters > _DENSE:
        tables = [VoteTable.from_ratings(stack) for stack in stacks]
    else:
        counts = _count_dense(stacks, raters, voxels)
        design = _design(raters)
        grams, cells = design.gram(counts), design.cells(counts)
        tables = _tables(counts, raters) if request.chosen(GROUP_MEASURES) else []
    found = []
    for k in range(len(stacks)):
        if raters > _DENSE:
            design, counts = _Design(tables[k]), tables[k].counts.numpy()[None]
            gram, cell = design.gram(counts)[0], design.cells(counts)[0]
        else:
            gram, cell = grams[k], cells[k]
        record: Record = {"voxels": voxels, "gram": gram.tolist(), "cells": cell.tolist()}
        record["group"] = _group(tables[k], request) if raters > 1 and request.chosen(GROUP_MEASURES) else {}
        found.append(record)
    return found


def _count_dense(stacks: Sequence[Tensor], raters: int, voxels: int) -> Counts:
    """int64 ``[B, 2^R]``: how often each pattern of votes occurs in each case."""
    planes = torch.stack([stack.reshape(raters, -1) for stack in stacks])
    codes = torch.empty(len(stacks), voxels, dtype=code_dtype(raters))
    encode_batch(planes, [[True] * raters] * len(stacks), codes)
    return code_batch(codes, raters, stacks[0].shape[-1]).count().numpy()


def _tables(counts: Counts, raters: int) -> list[VoteTable]:
    found = []
    for row in counts:
        occurring = np.flatnonzero(row)
        found.append(
            VoteTable(torch.from_numpy(occurring), torch.from_numpy(row[occurring]), raters, (1 << raters) - 1)
        )
    return found


class _Design:
    """What each pattern of votes contributes: to pairs of raters, and to each rater against the others."""

    def __init__(self, table: VoteTable) -> None:
        bits = table.bits.numpy()
        reference = others_majority(table).numpy()
        self.raters = table.raters
        self.bits = bits.astype(np.int64)
        cells = (bits & reference, bits & ~reference, ~bits & reference, ~bits & ~reference)
        alone = table.n_raters < 2
        self.cell_weights = np.stack(cells, axis=2).astype(np.int64).reshape(len(bits), -1) * (not alone)

    def gram(self, counts: Counts) -> Counts:
        """int64 ``[B, R, R]`` from counts ``[B, P]``."""
        return np.stack([self.bits.T @ (row[:, None] * self.bits) for row in counts])

    def cells(self, counts: Counts) -> Counts:
        """int64 ``[B, R, 4]``: TP, FP, FN, TN."""
        return (counts @ self.cell_weights).reshape(len(counts), self.raters, 4)


@lru_cache(maxsize=_DENSE)
def _design(raters: int) -> _Design:
    patterns = torch.arange(1 << raters)
    return _Design(VoteTable(patterns, torch.ones_like(patterns), raters, (1 << raters) - 1))


def _group(table: VoteTable, request: AgreementRequest) -> dict[str, float | None]:
    found = group_agreement(table)
    return {name: plain(float(getattr(found, name))) for name in request.chosen(GROUP_MEASURES)}
