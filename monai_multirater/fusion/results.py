# SPDX-License-Identifier: Apache-2.0
"""What every fusion tells: the consensus and how each rater compares with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FusionResult"]


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
