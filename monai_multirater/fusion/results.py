# SPDX-License-Identifier: Apache-2.0
"""What every fusion tells: the consensus and how each rater compares with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["FusionResult"]

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class FusionResult:
    """A consensus and the raters behind it, the same for all methods.

    For a batch every entry has the batch as its first axis.

    Attributes:
        method: name in ``FUSIONS``.
        probability: float32 ``[1, *spatial]``; 0 and 1 where the method decides.
        sensitivity: float64 ``[R]``, of each rater against the probability; for STAPLE and Dawid-Skene as
            estimated by the method. NaN for absent raters and where nothing is foreground.
        specificity: likewise; NaN where nothing is background.
        weights: float64 ``[R]``, share of each rater in the vote; 0 for absent and dropped raters, NaN where the
            method has no such weights (STAPLE, Dawid-Skene).
        dropped: bool ``[R]``, raters present that the method left out.
        iterations: 0 for methods that do not iterate.
        converged: False when the largest number of iterations was reached.
    """

    method: str
    probability: Tensor
    sensitivity: Tensor
    specificity: Tensor
    weights: Tensor
    dropped: Tensor
    iterations: int | Tensor
    converged: bool | Tensor

    @property
    def consensus(self) -> Tensor:
        """uint8 mask of the shape of ``probability``: foreground where it is above 0.5."""
        return (self.probability > 0.5).to(torch.uint8)


def stack_results(results: Sequence[Result]) -> Result:
    """Results of single cases as one result of a batch: every entry gets the batch as its first axis."""
    entries = {
        entry.name: torch.stack([torch.as_tensor(getattr(result, entry.name)) for result in results])
        for entry in fields(results[0])  # type: ignore[arg-type]
    }
    return type(results[0])(**entries)


def case_by_case(
    fusion: Callable[..., Result],
    ratings: Tensor,
    rater_mask: Tensor | None,
    batched: bool | None,
    **options: Any,
) -> Result | None:
    """Run a fusion of single cases on each case of a batch; None when the ratings are of one case."""
    if not (rater_mask is not None and rater_mask.ndim == 2 if batched is None else batched):
        return None
    masks = [None] * len(ratings) if rater_mask is None else rater_mask.expand(len(ratings), -1)
    return stack_results([fusion(case, mask, **options) for case, mask in zip(ratings, masks, strict=True)])
