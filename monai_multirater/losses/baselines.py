# SPDX-License-Identifier: Apache-2.0
"""Baselines with one output: binary cross-entropy against the fraction of votes or the majority."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_multirater.losses.base import VoteLoss
from monai_multirater.ordinal.foreground import check_ties, majority_labels

__all__ = ["MajorityVoteLoss", "SoftVoteLoss"]


class SoftVoteLoss(VoteLoss):
    """Binary cross-entropy of one logit against ``votes / n_raters``.

    Up to a constant and the factor 1/n it is the binomial likelihood of the votes.
    """

    def __init__(self, raters: int, *, reduction: str = "mean") -> None:
        super().__init__(raters, family="binary", reduction=reduction)

    def _score(self, outputs: Tensor, votes: Tensor, present: int) -> Tensor:
        return binary_cross_entropy_with_logits(outputs, votes / present, reduction="none")


class MajorityVoteLoss(VoteLoss):
    """Binary cross-entropy of one logit against the majority label of the raters present.

    Args:
        ties: label of a tie: ``"background"``, ``"foreground"`` or ``"half"`` (0.5).
    """

    def __init__(self, raters: int, *, ties: str = "background", reduction: str = "mean") -> None:
        super().__init__(raters, family="binary", reduction=reduction)
        check_ties(ties)
        self.ties = ties

    def _score(self, outputs: Tensor, votes: Tensor, present: int) -> Tensor:
        labels = majority_labels(votes, present, ties=self.ties).to(outputs.dtype)
        return binary_cross_entropy_with_logits(outputs, labels, reduction="none")
