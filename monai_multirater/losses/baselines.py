# SPDX-License-Identifier: Apache-2.0
"""Baselines with one output: binary cross-entropy against the vote fraction, the majority or a fused probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_multirater.losses.base import VoteLoss
from monai_multirater.losses.targets import read_consensus
from monai_multirater.ordinal.foreground import check_ties, majority_labels

__all__ = ["ConsensusLoss", "MajorityVoteLoss", "SoftVoteLoss"]


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


class ConsensusLoss(VoteLoss):
    """Binary cross-entropy of one logit against a probability that a fusion made of the ratings.

    ``loss = -(p log sigmoid(x) + (1 - p) log(1 - sigmoid(x)))`` with the consensus p of the target: a mapping with
    ``consensus`` ``[B, 1, *spatial]`` in [0, 1], as :class:`monai_multirater.transforms.FuseRatersd` makes, or that
    tensor. Votes, numbers of raters and rater masks are not read: the fusion has seen them. With the vote fraction as
    consensus this is ``SoftVoteLoss``. Values that an interpolation rounded out of [0, 1] count as 0 or 1.

    Raises:
        TypeError, ValueError: see :func:`monai_multirater.losses.targets.read_consensus`.
    """

    def __init__(self, raters: int, *, reduction: str = "mean") -> None:
        super().__init__(raters, family="binary", reduction=reduction)

    def _read(
        self,
        outputs: Tensor,
        target: Tensor | Mapping[str, Any],
        rater_mask: Tensor | None,
        n_raters: Tensor | int | None,
    ) -> tuple[Tensor, list[int]]:
        consensus = read_consensus(target, outputs=outputs, name=type(self).__name__)
        return consensus, [self.raters] * len(consensus)

    def _score(self, outputs: Tensor, votes: Tensor, present: int) -> Tensor:
        return binary_cross_entropy_with_logits(outputs, votes.clamp(0, 1), reduction="none")
