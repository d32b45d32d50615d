# SPDX-License-Identifier: Apache-2.0
"""Common part of the metrics that reduce every case to a row of sums at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric

from monai_multirater.calibration.reliability import ReliabilityTable, check_bins
from monai_multirater.calibration.stack import HistogramStack, case_entries
from monai_multirater.metrics.cases import split_cases
from monai_multirater.metrics.gather import gather_names, gather_rows, gather_stack
from monai_multirater.metrics.rows import RowLayout, case_row
from monai_multirater.metrics.statistics import CaseStatistics

__all__ = ["CaseMetric"]


class CaseMetric(CumulativeIterationMetric):
    """Base of the multi-rater metrics. Voxels are read once, when a batch comes in, and are not kept.

    Call: `metric(y_pred, y, n_raters=None, cases=None)`.

    - `y_pred`: foreground probability, `[B, 1, *spatial]` or a list of `[1, *spatial]` of any sizes.
    - `y`: votes in the same layout with `n_raters` (int or `[B]`), or a mapping with `votes` and `n_raters`
      (or `ratings [B, R, *spatial]` and `rater_mask [B, R]`), optionally `truth` and `case`, or a list of
      such mappings without the batch axis. So `from_engine(["pred", "label"])` works before and after
      decollation.
    - `cases`: names of the cases, if `y` does not hold them.

    Returns the value of each case, float64 `[B]`. `aggregate()` gives the score over all cases of all
    processes as a scalar tensor, NaN where undefined; every process must call it, and a process without a
    case may. Cases are summed
    with correct rounding: their order, the batch size and the number of processes do not change the result. A
        case
    that several processes saw (samplers repeat cases to fill the last batch) counts once if cases are named.

    Args:
        bins: bins of equal width of the calibration error.
        raters: number of raters where neither `y` nor `n_raters` says.
    """

    score: str = "mr_ece"
    collects: ClassVar[frozenset[str]] = frozenset()
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, bins: int = 15, raters: int | None = None) -> None:
        check_bins(bins, function=type(self).__name__)
        self.bins = bins
        self.raters = raters
        super().__init__()

    @property
    def total_score(self) -> str:
        """Name of the score over all cases; the name of the value of one case is `score`."""
        return self.score

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self._rows: list[np.ndarray] = []
        self._names: list[str] = []
        self._entries: list[np.ndarray] = []
        self._gathered: CaseStatistics | None = None

    def __call__(
        self, y_pred: Any, y: Any = None, n_raters: Any = None, cases: Sequence[str] | None = None, **_: Any
    ) -> torch.Tensor:
        """Add cases; see the class."""
        name = type(self).__name__
        found = split_cases(y_pred, y, n_raters=n_raters, default_raters=self.raters, function=name)
        names = [case.name or "" for case in found] if cases is None else [str(case) for case in cases]
        if len(names) != len(found):
            raise ValueError(f"{name}: 'cases' must name {len(found)} cases, got {len(names)}.")
        layout = RowLayout(self.bins)
        rows, entries = [], []
        for case in found:
            rows.append(
                case_row(case, layout, log_loss="log_loss" in self.collects, ranking="ranking" in self.collects)
            )
            if "histogram" in self.collects:
                entries.append(case_entries(case.votes))
        self._rows += rows
        self._names += names
        self._entries += entries
        self._gathered = None
        columns = CaseStatistics(tuple(names), np.stack(rows), None, self.bins).case_table()
        return torch.from_numpy(np.asarray(columns[self.score], np.float64))

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> Any:
        return self(y_pred, y, **kwargs)

    def case_statistics(self) -> CaseStatistics:
        """Evidence of all cases of all processes, sorted by name when every case has one; collective."""
        if self._gathered is None:
            width = RowLayout(self.bins).width
            local = np.stack(self._rows) if self._rows else np.zeros((0, width))
            rows = torch.cat(gather_rows(torch.from_numpy(local))).cpu().numpy()
            names = gather_names(self._names)
            stack = None
            if "histogram" in self.collects:
                stack = gather_stack(HistogramStack.from_entries(self._entries))
            self._gathered = _arrange(names, rows, stack, self.bins)
        return self._gathered

    def reliability_table(self) -> ReliabilityTable:
        """Reliability table of all cases of all processes together; collective."""
        return self.case_statistics().reliability_table()

    def case_table(self) -> dict[str, np.ndarray]:
        """Columns by case, see `CaseStatistics.case_table`; collective."""
        return self.case_statistics().case_table()

    def aggregate(self) -> torch.Tensor:
        """Score over all cases of all processes; NaN where undefined; collective."""
        return torch.tensor(self.case_statistics().score(self.total_score), dtype=torch.float64)

    def get_buffer(self) -> torch.Tensor:
        """Value of each case `[cases, 1]`, as MONAI's `MetricsSaver` expects it; collective."""
        return torch.from_numpy(np.asarray(self.case_table()[self.score], np.float64))[:, None]

    def __len__(self) -> int:
        return len(self.case_statistics())


def _arrange(names: list[str], rows: np.ndarray, stack: HistogramStack | None, bins: int) -> CaseStatistics:
    """Sort by name and drop repeated cases if all are named, else number the cases in the order they came."""
    if not all(names):
        numbered = tuple(name or str(index) for index, name in enumerate(names))
        return CaseStatistics(numbered, rows, stack, bins)
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        kept = first.setdefault(name, index)
        if not np.array_equal(rows[kept, :4], rows[index, :4], equal_nan=True):
            raise ValueError(f"case {name!r} came twice with different votes; names of cases must be unique.")
    order = [first[name] for name in sorted(first)]
    return CaseStatistics(tuple(names), rows, stack, bins).select(order)
