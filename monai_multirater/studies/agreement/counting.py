# SPDX-License-Identifier: Apache-2.0
"""Count what the raters of a case share, from one pass over their masks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement import group_agreement
from monai_multirater.agreement.bits import pack_masks, popcount
from monai_multirater.agreement.measures import GROUP_MEASURES
from monai_multirater.agreement.reference import others_majority
from monai_multirater.studies.agreement.request import AgreementRequest, Record
from monai_multirater.studies.records import plain
from monai_multirater.votes import VoteTable

__all__ = ["count_case", "pattern_counts"]

_DENSE = 6  # raters: up to here all 2^R patterns are counted, on bits
_BLOCK = 1 << 18  # voxels: bits of all subsets of raters stay in the cache
Counts = NDArray[np.int64]


def count_case(planes: Tensor, request: AgreementRequest) -> Record:
    """Count a case ``[R, *spatial]`` of uint8 {0, 1} with all raters present.

    Returns:
        ``voxels``, ``gram`` (what two raters share), ``cells`` (TP, FP, FN, TN of each rater against the majority of
        the others; zeros for a rater alone), ``group`` (measures of all raters together) and ``at_least`` (voxels that
        at least 1, 2, ... raters mark; with group measures only).
    """
    raters = planes.shape[0]
    table: VoteTable | None = None
    if raters > _DENSE:
        table = VoteTable.from_ratings(planes)
        design, counts = _Design(table), table.counts.numpy()
    else:
        design, counts = _design(raters), pattern_counts(planes.numpy().reshape(raters, -1))
    record: Record = {
        "voxels": planes[0].numel(),
        "gram": design.gram(counts).tolist(),
        "cells": design.cells(counts).tolist(),
        "group": {},
        "at_least": [],
    }
    if raters > 1 and request.chosen(GROUP_MEASURES):
        found = group_agreement(table or _table(counts, raters))
        record["group"] = {name: plain(float(getattr(found, name))) for name in request.chosen(GROUP_MEASURES)}
        record["at_least"] = found.volumes.tolist()
    return record


def pattern_counts(planes: NDArray[np.uint8]) -> Counts:
    """int64 ``[2^R]``: how often each pattern of votes occurs in ``planes [R, N]``; bit r is rater r.

    On bits: the voxels that all raters of a subset mark are counted for every subset, and what larger subsets hold is
    taken away again.
    """
    raters, voxels = planes.shape
    counts = np.zeros(1 << raters, np.int64)
    for start in range(0, voxels, _BLOCK):
        words = pack_masks(planes[:, start : start + _BLOCK])
        used = np.flatnonzero(np.bitwise_or.reduce(words, axis=0))
        words = words[:, used[0] : used[-1] + 1] if len(used) else words[:, :0]
        shared = np.empty((1 << raters, words.shape[1]), np.uint64)
        shared[0] = 0  # everybody of nobody: all voxels, known
        for r in range(raters):
            shared[1 << r] = words[r]
            np.bitwise_and(shared[1 : 1 << r], words[r], out=shared[(1 << r) + 1 : 2 << r])
        counts += popcount(shared).sum(1, dtype=np.uint32)
    counts[0] = voxels
    for r in range(raters):
        halves = counts.reshape(-1, 2, 1 << r)
        halves[:, 0] -= halves[:, 1]
    return counts


def _table(counts: Counts, raters: int) -> VoteTable:
    occurring = np.flatnonzero(counts)
    return VoteTable(torch.from_numpy(occurring), torch.from_numpy(counts[occurring]), raters, (1 << raters) - 1)


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
        """int64 ``[R, R]`` from counts ``[P]``."""
        return np.asarray(self.bits.T @ (counts[:, None] * self.bits))

    def cells(self, counts: Counts) -> Counts:
        """int64 ``[R, 4]``: TP, FP, FN, TN."""
        return np.asarray(counts @ self.cell_weights).reshape(self.raters, 4)


@lru_cache(maxsize=_DENSE)
def _design(raters: int) -> _Design:
    patterns = torch.arange(1 << raters)
    return _Design(VoteTable(patterns, torch.ones_like(patterns), raters, (1 << raters) - 1))
