# SPDX-License-Identifier: Apache-2.0
"""What all losses on votes share: target, precision, reduction, and scores of level distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_multirater.losses.targets import read_target
from monai_multirater.ordinal.blocks import BlockScore, blockwise, score_by_autograd
from monai_multirater.ordinal.encoding import nearest_levels
from monai_multirater.ordinal.families import get_family
from monai_multirater.ordinal.foreground import check_ties
from monai_multirater.ordinal.kernels import fused_score
from monai_multirater.ordinal.scores import SCORES

__all__ = ["OrdinalLoss", "VoteLoss"]

REDUCTIONS = ("mean", "sum", "none")


class VoteLoss(nn.Module):
    """Base of the losses: ``loss(outputs, target, rater_mask=None, n_raters=None)``.

    * ``outputs``: ``[B, C, *spatial]``, C as ``family`` says (``FAMILIES[family].channels(raters)``).
    * ``target``: votes ``[B, 1, *spatial]`` with ``n_raters [B]`` (R by default); or ratings ``[B, R,
      *spatial]`` with ``rater_mask [B, R]`` (all present by default); or a mapping with ``votes`` and
      ``n_raters``, or ``ratings`` and ``rater_mask``, which is how a trainer hands a batch over. With R = 1
      both readings are the same.

    The loss is computed in float32 (float64 for float64 outputs), also under autocast. ``mean`` is over
    voxels, each item of a batch weighing the same whatever its raters.

    Args:
        raters: R of the data set.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[B, 1, *spatial]``).

    Raises:
        ValueError: unknown reduction, raters outside 1..64; when called: channels, shapes or votes that do
            not fit, or an item without rater.

    Value and gradient are computed together, block by block; the loss can be differentiated once.
    """

    family: str

    def __init__(self, raters: int, *, family: str, reduction: str = "mean") -> None:
        super().__init__()
        name = type(self).__name__
        if reduction not in REDUCTIONS:
            raise ValueError(f"{name}: reduction must be one of {REDUCTIONS}. Got {reduction!r}.")
        if not 1 <= raters <= 64:
            raise ValueError(f"{name}: raters must be in 1..64. Got {raters}.")
        get_family(family)
        self.raters, self.family, self.reduction = raters, family, str(reduction)

    def forward(
        self,
        outputs: Tensor,
        target: Tensor | Mapping[str, Any],
        rater_mask: Tensor | None = None,
        n_raters: Tensor | int | None = None,
    ) -> Tensor:
        """Value of the loss."""
        outputs = outputs.as_subclass(Tensor)
        channels = get_family(self.family).channels(self.raters)
        if outputs.ndim < 2 or outputs.shape[1] != channels:
            raise ValueError(
                f"{type(self).__name__}: outputs of family {self.family!r} for {self.raters} raters must "
                f"have {channels} channels. Got shape {tuple(outputs.shape)}."
            )
        votes, counts = self._read(outputs, target, rater_mask, n_raters)
        made = {present: self._block_score(present) for present in set(counts)}
        return blockwise(outputs, votes, [made[n] for n in counts], levels=self.raters + 1, reduction=self.reduction)

    def _read(
        self,
        outputs: Tensor,
        target: Tensor | Mapping[str, Any],
        rater_mask: Tensor | None,
        n_raters: Tensor | int | None,
    ) -> tuple[Tensor, list[int]]:
        """Votes to score, ``[B, 1, *spatial]``, and raters present of each item."""
        name = type(self).__name__
        return read_target(target, rater_mask, n_raters, outputs=outputs, raters=self.raters, name=name)

    def _block_score(self, present: int) -> BlockScore:
        """Score of items with ``present`` raters."""
        return score_by_autograd(lambda outputs, votes: self._score(outputs, votes, present))

    def _score(self, outputs: Tensor, votes: Tensor, present: int) -> Tensor:
        """Loss per voxel, ``[b, 1, n]``, of float32 or float64 outputs ``[b, C, n]``, differentiable."""
        raise NotImplementedError


class OrdinalLoss(VoteLoss):
    """Any family with any weighted sum of scores: ``sum_s weight_s * score_s(levels(outputs), votes)``.

    Args:
        raters: R of the data set.
        family: key of :data:`monai_multirater.ordinal.FAMILIES`.
        scores: a key of :data:`monai_multirater.ordinal.SCORES`, or weights by key, for example
            ``{"majority_ce": 1.0, "rps": 2.0}``.
        normalize: divide ``rps`` and ``ranked_log`` by the number of cut points.
        ties: what ``majority_ce`` makes of a tie: ``"background"``, ``"foreground"`` or ``"half"``.
        exponent: of ``earth_mover``.
        margin: of ``unimodality``.
        missing: items with r < R raters: ``"thin"`` scores the distribution of the votes of r random raters
            of the R (exact for exchangeable raters), ``"nearest"`` takes the nearest level of R as the
            target.
        reduction: see :class:`VoteLoss`.

    Raises:
        ValueError: unknown family, score, ties, missing or reduction; a score of single levels for a family
            that can leave levels empty (its loss would be infinite).
    """

    def __init__(
        self,
        raters: int,
        *,
        family: str = "softmax",
        scores: str | Mapping[str, float] = "ranked_log",
        normalize: bool = True,
        ties: str = "background",
        exponent: float = 2.0,
        margin: float = 0.05,
        missing: str = "thin",
        reduction: str = "mean",
    ) -> None:
        super().__init__(raters, family=family, reduction=reduction)
        name = type(self).__name__
        self.weights = {scores: 1.0} if isinstance(scores, str) else dict(scores)
        check_ties(ties)
        if missing not in ("thin", "nearest"):
            raise ValueError(f"{name}: missing must be 'thin' or 'nearest'. Got {missing!r}.")
        for score in self.weights:
            if score not in SCORES:
                raise ValueError(f"{name}: scores must be among {sorted(SCORES)}. Got {score!r}.")
            if SCORES[score].reads_levels and not get_family(family).positive_levels:
                raise ValueError(
                    f"{name}: score {score!r} reads single levels, which family {family!r} can leave empty. "
                    "Use 'ranked_log' or another family."
                )
        self.missing, self.normalize, self.ties = missing, normalize, ties
        self.options: dict[str, dict[str, Any]] = {
            "rps": {"normalize": normalize},
            "ranked_log": {"normalize": normalize},
            "majority_ce": {"ties": ties},
            "earth_mover": {"exponent": exponent},
            "unimodality": {"margin": margin},
        }

    def extra_repr(self) -> str:
        """What the module prints."""
        return f"raters={self.raters}, family={self.family!r}, scores={self.weights}, missing={self.missing!r}"

    def _read(
        self,
        outputs: Tensor,
        target: Tensor | Mapping[str, Any],
        rater_mask: Tensor | None,
        n_raters: Tensor | int | None,
    ) -> tuple[Tensor, list[int]]:
        votes, counts = super()._read(outputs, target, rater_mask, n_raters)
        if self.missing == "nearest" and min(counts) < self.raters:
            votes = nearest_levels(votes, torch.tensor(counts), self.raters)
            counts = [self.raters] * len(votes)
        return votes, counts

    def _block_score(self, present: int) -> BlockScore:
        fused = fused_score(self.family, self.weights, self.raters, present, normalize=self.normalize, ties=self.ties)
        return fused or super()._block_score(present)

    def _score(self, outputs: Tensor, votes: Tensor, present: int) -> Tensor:
        dist = get_family(self.family).distribution(outputs, self.raters)
        if present < self.raters:
            dist = dist.thin(present)
        total: Tensor | None = None
        for name, weight in self.weights.items():
            value = SCORES[name].function(dist, votes, present, **self.options.get(name, {}))
            value = value if weight == 1 else weight * value
            total = value if total is None else total + value
        assert total is not None
        return total
