# SPDX-License-Identifier: Apache-2.0
"""A distribution over levels in the four forms that scores read, each computed when asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from monai_multirater.ordinal.encoding import thin_cuts, thin_levels, thin_log

__all__ = ["LevelDistribution", "log1mexp", "log_cuts"]


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - exp(-x))`` for x >= 0 without cancellation; minus infinity at 0."""
    small = x < 0.6931471805599453
    near = torch.log(-torch.expm1(-torch.where(small, x, 0.6931471805599453)))
    far = torch.log1p(-torch.exp(-torch.where(small, 0.6931471805599453, x)))
    return torch.where(small, near, far)


def log_cuts(log_levels: Tensor) -> tuple[Tensor, Tensor]:
    """``log P(level <= k)`` and ``log P(level > k)`` at the R cut points, each from the sum of its own side.

    Args:
        log_levels: ``[B, R + 1, *spatial]``.

    Returns:
        two tensors ``[B, R, *spatial]``.
    """
    below = torch.logcumsumexp(log_levels[:, :-1], dim=1)
    above = torch.logcumsumexp(log_levels[:, 1:].flip(1), dim=1).flip(1)
    return below, above


class LevelDistribution:
    """Distribution of the level 0..n at every voxel.

    Attributes (each computed once, on first use):
        log_levels: ``log P(level = k)``, ``[B, n + 1, *spatial]``.
        levels: ``P(level = k)``.
        log_cuts: ``log P(level <= k)`` and ``log P(level > k)`` at the cut points, two tensors ``[B, n,
            *spatial]``.
        below: ``P(level <= k)``, ``[B, n, *spatial]``.

    A family that has a shorter way to the probability of one level, or of one side of every cut point, gives
    it as ``at`` or ``sides``.
    """

    def __init__(
        self,
        log_levels: Callable[[], Tensor],
        *,
        levels: Callable[[], Tensor] | None = None,
        cuts: Callable[[], tuple[Tensor, Tensor]] | None = None,
        below: Callable[[], Tensor] | None = None,
        thin: Callable[[int], LevelDistribution] | None = None,
        at: Callable[[Tensor], Tensor] | None = None,
        sides: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._log_levels, self._levels, self._cuts, self._below = log_levels, levels, cuts, below
        self._thin, self._at, self._sides = thin, at, sides

    @classmethod
    def from_levels(cls, probs: Tensor, *, log: bool = False) -> LevelDistribution:
        """From (log-)probabilities ``[B, n + 1, *spatial]``."""
        if log:
            return cls(lambda: probs)

        def cuts() -> tuple[Tensor, Tensor]:
            return probs.cumsum(1)[:, :-1].log(), probs.flip(1).cumsum(1).flip(1)[:, 1:].log()

        return cls(probs.log, levels=lambda: probs, cuts=cuts, below=lambda: probs.cumsum(1)[:, :-1])

    @cached_property
    def log_levels(self) -> Tensor:
        """``log P(level = k)``."""
        return self._log_levels()

    @cached_property
    def levels(self) -> Tensor:
        """``P(level = k)``."""
        return self._levels() if self._levels else self.log_levels.exp()

    @cached_property
    def log_cuts(self) -> tuple[Tensor, Tensor]:
        """``log P(level <= k)``, ``log P(level > k)``."""
        return self._cuts() if self._cuts else log_cuts(self.log_levels)

    @cached_property
    def below(self) -> Tensor:
        """``P(level <= k)``."""
        return self._below() if self._below else self.log_cuts[0].exp()

    def log_level_at(self, votes: Tensor) -> Tensor:
        """``log P(level = votes)`` for votes ``[B, 1, *spatial]``."""
        return self._at(votes) if self._at else self.log_levels.gather(1, votes.to(torch.int64))

    def log_sides(self, is_above: Tensor) -> Tensor:
        """``log P(level > k)`` where ``is_above [B, n, *spatial]``, else ``log P(level <= k)``."""
        if self._sides:
            return self._sides(is_above)
        below, above = self.log_cuts
        return torch.where(is_above, above, below)

    def thin(self, present: int) -> LevelDistribution:
        """Distribution of the votes of ``present`` of the raters."""
        if self._thin:
            return self._thin(present)
        return LevelDistribution(
            lambda: thin_log(self.log_levels, present, cuts=False),
            levels=lambda: thin_levels(self.levels, present),
            cuts=lambda: (
                thin_log(self.log_cuts[0], present, cuts=True),
                thin_log(self.log_cuts[1], present, cuts=True),
            ),
            below=lambda: thin_cuts(self.below, present),
        )
