# SPDX-License-Identifier: Apache-2.0
"""Agreement of the raters as metrics for MONAI's engines: one number a case, its mean over cases, and all pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from monai_multirater.agreement import (
    fleiss_kappa,
    pair_indices,
    pairwise_average_surface_distance,
    pairwise_dice,
    pairwise_hausdorff,
    pairwise_iou,
    pairwise_kappa,
    pairwise_surface_dice,
)
from monai_multirater.metrics.agreement_table import AgreementTable
from monai_multirater.metrics.gather import gather_names, gather_rows
from monai_multirater.metrics.rated import split_ratings

__all__ = [
    "AgreementMetric",
    "FleissKappaMetric",
    "PairwiseDiceMetric",
    "PairwiseHausdorffDistanceMetric",
    "PairwiseIoUMetric",
    "PairwiseKappaMetric",
    "PairwiseSurfaceDiceMetric",
    "PairwiseSurfaceDistanceMetric",
]

Spacing = Sequence[float] | None


class AgreementMetric(CumulativeIterationMetric):
    """Base of the metrics of agreement between raters. Masks are read once, when a batch comes in, and are not kept.

    Call: ``metric(ratings, rater_mask=None)``, as ``from_engine(["ratings", "rater_mask"])`` gives them, or
    ``metric(pred, label)``, where the label holds the ratings and the prediction is not looked at.

    - ``ratings``: zeros and ones of any dtype, ``[B, R, *spatial]`` or a list of ``[R, *spatial]`` of any sizes and
      numbers of raters.
    - ``rater_mask``: bool ``[B, R]``, or a list of ``[R]`` or None; False for a rater who did not mark the case.
    - ``label``: a mapping with ``ratings``, and optionally ``rater_mask`` and ``case``, or a list of such mappings
      without the batch axis, as decollation leaves them.

    Returns the value of each case, float64 ``[B]``: the mean over its pairs of raters present, without the pairs whose
    value is undefined. `aggregate()` gives the mean over the cases of all processes that have a value, a float64
    scalar, NaN if none has; every process must call it, and one without a case may. It does not depend on the order of
    the cases. A case that several processes saw counts once if cases are named.

    Args:
        raters: names of the raters, for the table; numbers by default.
    """

    score: str = ""
    higher_is_better: ClassVar[bool] = True
    spacing: Spacing = None

    def __init__(self, *, raters: Sequence[str] | None = None) -> None:
        self.raters = None if raters is None else tuple(raters)
        super().__init__()

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor | float:
        """Values of all pairs, float64 ``[R, R]``, or of the group, of one case ``[R, *spatial]``."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self._names: list[str] = []
        self._rows: list[tuple[float, float]] = []
        self._pairs: list[Tensor] = []
        self._table: AgreementTable | None = None

    def __call__(
        self,
        y_pred: Any,
        y: Any = None,
        *,
        cases: Sequence[str] | None = None,
        spacing: Spacing | Sequence[Spacing] = None,
        **_: Any,
    ) -> Tensor:
        """Add cases; see the class.

        Args:
            y_pred: ratings, or anything beside a label that holds them.
            y: rater masks or labels.
            cases: names of the cases, if the labels do not hold them.
            spacing: size of the voxels along each axis, one for all cases or a list of one per case; for distances,
                which are in voxels without it. By default that of the metric.

        Raises:
            ValueError: ratings other than 0 and 1, masks that do not fit, nobody present, another number of raters than
                names, or names or spacings that are not as many as cases.
        """
        name = type(self).__name__
        found = split_ratings(y_pred, y, cases=cases, function=name)
        sizes = _spacings(self.spacing if spacing is None else spacing, len(found), name)
        values = []
        for case, size in zip(found, sizes, strict=True):
            if self.raters is not None and len(case.ratings) != len(self.raters):
                raise ValueError(f"{name}: ratings must have {len(self.raters)} raters. Got {len(case.ratings)}.")
            values.append(self._add(case.name, self.measure(case.ratings, case.rater_mask, size), case.present))
        self._table = None
        return torch.tensor(values, dtype=torch.float64)

    def _add(self, name: str, value: Tensor | float, present: Tensor) -> float:
        pairs = torch.zeros(0, 4, dtype=torch.float64)
        if isinstance(value, Tensor):
            first, second = pair_indices(len(present))
            both = present[first] & present[second]
            first, second = first[both], second[both]
            columns = (torch.full_like(first, len(self._names)), first, second, value[first, second])
            pairs = torch.stack([column.to(torch.float64) for column in columns], dim=1)
            defined = [pair for pair in pairs[:, 3].tolist() if not math.isnan(pair)]
            value = math.fsum(defined) / len(defined) if defined else math.nan
        self._names.append(name)
        self._rows.append((float(present.sum()), value))
        self._pairs.append(pairs)
        return value

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Any:
        return self(y_pred, y, **kwargs)

    def table(self) -> AgreementTable:
        """Values of all cases and pairs of all processes, sorted by name if all cases have one; collective."""
        if self._table is None:
            rows = gather_rows(torch.tensor(self._rows, dtype=torch.float64).reshape(-1, 2))
            pairs = gather_rows(torch.cat([torch.zeros(0, 4, dtype=torch.float64), *self._pairs]))
            names, before = gather_names(self._names), 0
            for share, part in zip(rows, pairs, strict=True):
                part[:, 0] += before
                before += len(share)
            self._table = AgreementTable.arrange(
                names, *(torch.cat(part).cpu().numpy() for part in (rows, pairs)), score=self.score, raters=self.raters
            )
        return self._table

    def aggregate(self) -> Tensor:
        """Mean over the cases of all processes that have a value; NaN if none has; collective."""
        return torch.tensor(self.table().mean(), dtype=torch.float64)

    def get_buffer(self) -> Tensor:
        """Value of each case ``[cases, 1]``, as MONAI's ``MetricsSaver`` expects it; collective."""
        return torch.from_numpy(np.array(self.table().values))[:, None]

    def __len__(self) -> int:
        return len(self.table().cases)


class PairwiseDiceMetric(AgreementMetric):
    """Mean pairwise Dice of the raters, see :func:`monai_multirater.agreement.pairwise_dice`."""

    score = "dice"

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor:
        """Dice of all pairs."""
        return pairwise_dice(ratings, rater_mask)


class PairwiseIoUMetric(AgreementMetric):
    """Mean pairwise intersection over union, see :func:`monai_multirater.agreement.pairwise_iou`."""

    score = "iou"

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor:
        """IoU of all pairs."""
        return pairwise_iou(ratings, rater_mask)


class PairwiseKappaMetric(AgreementMetric):
    """Mean pairwise Cohen's kappa, see :func:`monai_multirater.agreement.pairwise_kappa`."""

    score = "kappa"

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor:
        """Kappa of all pairs."""
        return pairwise_kappa(ratings, rater_mask)


class FleissKappaMetric(AgreementMetric):
    """Fleiss' kappa of the raters of each case, see :func:`monai_multirater.agreement.fleiss_kappa`; has no pairs."""

    score = "fleiss_kappa"

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> float:
        """Kappa of the group."""
        return fleiss_kappa(ratings, rater_mask)


class PairwiseHausdorffDistanceMetric(AgreementMetric):
    """Mean pairwise Hausdorff distance, see :func:`monai_multirater.agreement.pairwise_hausdorff`.

    Args:
        percentile: of the distances; the largest by default.
        definition: of the percentile.
        spacing: size of the voxels along each axis where the call does not say; voxels by default.
        raters: see :class:`AgreementMetric`.
    """

    score = "hausdorff"
    higher_is_better = False

    def __init__(
        self,
        *,
        percentile: float | None = None,
        definition: str = "larger",
        spacing: Spacing = None,
        raters: Sequence[str] | None = None,
    ) -> None:
        self.percentile, self.definition, self.spacing = percentile, definition, spacing
        if percentile is not None:
            self.score = f"hausdorff{percentile:g}"
        super().__init__(raters=raters)

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor:
        """Distances of all pairs; NaN where one mask is empty."""
        return pairwise_hausdorff(
            ratings, rater_mask, spacing=spacing, percentile=self.percentile, definition=self.definition
        )


class PairwiseSurfaceDistanceMetric(AgreementMetric):
    """Mean over pairs of the average symmetric surface distance.

    See :func:`monai_multirater.agreement.pairwise_average_surface_distance`.

    Args:
        spacing: size of the voxels along each axis where the call does not say; voxels by default.
        raters: see :class:`AgreementMetric`.
    """

    score = "assd"
    higher_is_better = False

    def __init__(self, *, spacing: Spacing = None, raters: Sequence[str] | None = None) -> None:
        self.spacing = spacing
        super().__init__(raters=raters)

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor:
        """Distances of all pairs; NaN where one mask is empty."""
        return pairwise_average_surface_distance(ratings, rater_mask, spacing=spacing)


class PairwiseSurfaceDiceMetric(AgreementMetric):
    """Mean pairwise surface Dice, see :func:`monai_multirater.agreement.pairwise_surface_dice`.

    Args:
        tolerance: distance that counts as none, in the unit of the spacing.
        spacing: size of the voxels along each axis where the call does not say; voxels by default.
        raters: see :class:`AgreementMetric`.
    """

    score = "surface_dice"

    def __init__(self, *, tolerance: float, spacing: Spacing = None, raters: Sequence[str] | None = None) -> None:
        self.tolerance, self.spacing = tolerance, spacing
        super().__init__(raters=raters)

    def measure(self, ratings: Tensor, rater_mask: Tensor | None, spacing: Spacing) -> Tensor:
        """Surface Dice of all pairs."""
        return pairwise_surface_dice(ratings, rater_mask, tolerance=self.tolerance, spacing=spacing)


def _spacings(spacing: Spacing | Sequence[Spacing], cases: int, name: str) -> Sequence[Spacing]:
    if spacing is None or all(isinstance(size, (int, float)) for size in spacing):
        return [spacing] * cases  # type: ignore[list-item]
    if len(spacing) != cases:
        raise ValueError(f"{name}: spacing must be one for all or one for each of {cases} cases. Got {len(spacing)}.")
    return spacing  # type: ignore[return-value]
