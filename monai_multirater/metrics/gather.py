# SPDX-License-Identifier: Apache-2.0
"""Gathering of rows, names and sparse histograms over the processes of a distributed evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import evenly_divisible_all_gather

from monai_multirater.calibration.stack import HistogramStack, compact

__all__ = ["gather_names", "gather_rows", "gather_stack"]


def gather_rows(rows: torch.Tensor) -> list[torch.Tensor]:
    """Rows `[n, width]` of each process, in rank order; `n` may differ and may be zero."""
    gathered = evenly_divisible_all_gather(rows, concat=False)
    return [gathered] if isinstance(gathered, torch.Tensor) else list(gathered)


def gather_names(names: Sequence[str]) -> list[str]:
    """Names held by all processes, in rank order."""
    encoded = [name.encode() for name in names]
    longest = torch.tensor([[max((len(code) for code in encoded), default=0) + 1]])
    length = int(torch.cat(gather_rows(longest)).max())
    table = np.zeros((len(names), length), np.uint8)
    for line, code in zip(table, encoded, strict=True):
        line[: len(code)] = np.frombuffer(code, np.uint8)
    everything = torch.cat(gather_rows(torch.from_numpy(table))).cpu().numpy()
    return [bytes(line).rstrip(b"\0").decode() for line in everything]


def gather_stack(stack: HistogramStack) -> HistogramStack:
    """Histograms of the cases of all processes, in rank order."""
    counts = torch.cat(gather_rows(torch.from_numpy(stack.counts)))
    entries = torch.cat(gather_rows(torch.from_numpy(np.ascontiguousarray(stack.entries.T, np.int64))))
    return HistogramStack(compact(np.ascontiguousarray(entries.cpu().numpy().T)), counts.cpu().numpy())
