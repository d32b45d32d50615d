# SPDX-License-Identifier: Apache-2.0
"""How each rater performs over a data set: a mergeable table of cases and its summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_multirater.agreement.outliers import CaseOutlier, find_outliers
from monai_multirater.agreement.performance import RaterPerformance

__all__ = ["RaterSummary", "RaterTable", "Spread"]

_MEASURES = ("dice", "sensitivity", "specificity", "agreement", "size_bias", "boundary_bias", "boundary_distance")
_CELLS = ("true_positives", "false_positives", "false_negatives", "true_negatives")


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and sample standard deviation (n - 1) over the cases in which a measure is defined.

    Attributes:
        mean: float64 ``[R]``; NaN without a case.
        std: float64 ``[R]``; NaN with fewer than two cases.
        cases: int64 ``[R]``, cases in which it is defined.
    """

    mean: Tensor
    std: Tensor
    cases: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        """Spread over the first axis of ``values [N, R]``, NaN left out."""
        defined = ~values.isnan()
        n = defined.sum(0)
        mean = values.nansum(0) / n
        squares = (values - mean).square().nansum(0)
        return cls(mean, torch.where(n > 1, squares / (n - 1), math.nan).sqrt(), n)


@dataclass(frozen=True, eq=False)
class RaterSummary:
    """How each of the R raters performs over a data set; entry r of every tensor belongs to ``raters[r]``.

    Attributes:
        raters: names.
        reference: ``"others"`` or ``"consensus"``, see :class:`RaterPerformance`.
        unit: ``"voxels"`` or ``"mm"``.
        cases: int64 ``[R]``, cases that the rater marked or left empty (present).
        empty_masks: int64 ``[R]``, how many of these are empty.
        pooled_sensitivity: float64 ``[R]``, over the voxels of all cases together; large lesions weigh more.
        pooled_specificity: float64 ``[R]``, likewise.
        dice, sensitivity, specificity, agreement, size_bias, boundary_bias, boundary_distance: :class:`Spread`
            of the measure of this name over the cases.
        outlier: bool ``[R]``, by the rule of :func:`find_outliers` on `agreement`.
        outlier_gap: float64 ``[R]``, how far the rater's agreement lies below the others in the median case.
        outlier_score: float64 ``[R]``, the gap in units of the spread of the others.
        case_outliers: (name of the case, name of the rater, numbers) of single masks.
    """

    raters: tuple[str, ...]
    reference: str
    unit: str
    cases: Tensor
    empty_masks: Tensor
    pooled_sensitivity: Tensor
    pooled_specificity: Tensor
    dice: Spread
    sensitivity: Spread
    specificity: Spread
    agreement: Spread
    size_bias: Spread
    boundary_bias: Spread
    boundary_distance: Spread
    outlier: Tensor
    outlier_gap: Tensor
    outlier_score: Tensor
    case_outliers: tuple[tuple[str, str, CaseOutlier], ...]

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary per rater, for a table or a CSV file."""
        rows = []
        for r, rater in enumerate(self.raters):
            row: dict[str, Any] = {"rater": rater, "reference": self.reference, "unit": self.unit}
            row |= {name: getattr(self, name)[r].item() for name in ("cases", "empty_masks")}
            for name in _MEASURES:
                spread: Spread = getattr(self, name)
                row |= {f"{name}_mean": spread.mean[r].item(), f"{name}_std": spread.std[r].item()}
            for name in ("pooled_sensitivity", "pooled_specificity", "outlier", "outlier_gap", "outlier_score"):
                row[name] = getattr(self, name)[r].item()
            row["outlier_cases"] = sum(name == rater for _, name, _ in self.case_outliers)
            rows.append(row)
        return rows


@dataclass(frozen=True, eq=False)
class RaterTable:
    """The performances of many cases with the same raters; tables add, in any order, to the same summary.

    Attributes:
        raters: names of the R raters of the data set.
        cases: the performance of each case by its name; do not change it in place.
    """

    raters: tuple[str, ...]
    cases: Mapping[str, RaterPerformance] = field(default_factory=dict)

    def update(self, case: str, performance: RaterPerformance) -> RaterTable:
        """Return this table plus one case.

        Raises:
            ValueError: a case that is in the table, another number of raters, reference or unit.
        """
        return self.merge(RaterTable(self.raters, {case: performance}))

    def merge(self, other: RaterTable) -> RaterTable:
        """Return the table of the cases of both.

        Raises:
            ValueError: other raters, a case that is in both, another reference or unit.
        """
        if self.raters != other.raters:
            raise ValueError(
                f"RaterTable.merge: both tables must have the same raters. Got {self.raters} and {other.raters}."
            )
        first = next(iter(self.cases.values()), None)
        for case, performance in other.cases.items():
            first = performance if first is None else first
            if case in self.cases:
                raise ValueError(f"RaterTable.merge: a case must be added once. Got {case!r} twice.")
            if len(performance.present) != len(self.raters):
                raise ValueError(
                    f"RaterTable.merge: case {case!r} must have {len(self.raters)} raters. "
                    f"Got {len(performance.present)}."
                )
            if (performance.reference, performance.unit) != (first.reference, first.unit):
                raise ValueError(
                    f"RaterTable.merge: case {case!r} must be measured as the others, against {first.reference} in "
                    f"{first.unit}. Got {performance.reference} in {performance.unit}."
                )
        return RaterTable(self.raters, {**self.cases, **other.cases})

    __add__ = merge

    def compute(self, *, threshold: float = 3.5, min_gap: float = 0.1, min_cases: int = 4) -> RaterSummary:
        """Summarize the cases, in the order of their names so that the order of merging changes no bit.

        Args:
            threshold, min_gap, min_cases: rule for outliers, see :func:`find_outliers`.

        Raises:
            ValueError: a table without cases, or a bound out of range.
        """
        if not self.cases:
            raise ValueError("RaterTable.compute: the table must hold at least one case. Got none.")
        names = sorted(self.cases)
        rows = [self.cases[name] for name in names]
        values = {name: torch.stack([getattr(row, name) for row in rows]) for name in _MEASURES}
        report = find_outliers(values["agreement"].numpy(), threshold=threshold, min_gap=min_gap, min_cases=min_cases)
        tp, fp, fn, tn = torch.stack([row.counts for row in rows]).sum(0).unbind(1)
        return RaterSummary(
            raters=self.raters,
            reference=rows[0].reference,
            unit=rows[0].unit,
            cases=torch.stack([row.present for row in rows]).sum(0),
            empty_masks=torch.stack([row.empty for row in rows]).sum(0),
            pooled_sensitivity=tp.to(torch.float64) / (tp + fn),
            pooled_specificity=tn.to(torch.float64) / (tn + fp),
            **{name: Spread.of(stacked) for name, stacked in values.items()},
            outlier=torch.from_numpy(report.flagged),
            outlier_gap=torch.from_numpy(report.gap),
            outlier_score=torch.from_numpy(report.score),
            case_outliers=tuple((names[found.case], self.raters[found.rater], found) for found in report.cases),
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary per case and rater present, by name of the case, for a table or a CSV file."""
        rows = []
        for case in sorted(self.cases):
            performance = self.cases[case]
            for r in performance.present.nonzero().flatten().tolist():
                row: dict[str, Any] = {"case": case, "rater": self.raters[r]}
                row |= {"reference": performance.reference, "unit": performance.unit}
                for name in (*_MEASURES, "volume", "reference_volume"):
                    row[name] = getattr(performance, name)[r].item()
                row |= dict(zip(_CELLS, performance.counts[r].tolist(), strict=True))
                rows.append(row)
        return rows
