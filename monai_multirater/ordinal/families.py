# SPDX-License-Identifier: Apache-2.0
"""Families: how network outputs become a distribution over the levels 0..R.

A family is a pure function of the outputs ``[B, C, *spatial]``; biases and ordered thresholds that are shared
by all voxels live in the network's head. Every family computes in float32 at least, in log space, so that a
confident wrong prediction keeps a finite loss and gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr, ndtr

from monai_multirater.ordinal.beta_binomial import beta_binomial_log_levels, log_binomials
from monai_multirater.ordinal.distribution import LevelDistribution, log1mexp

__all__ = ["FAMILIES", "OrdinalFamily", "get_family", "level_probabilities"]


_END = 1e18  # stands for infinity; half its square is finite in float32


class OrdinalFamily(ABC):
    """Turns network outputs into a distribution over levels.

    Attributes:
        name: its key in ``FAMILIES``.
        any_raters: the same outputs predict the votes of any number of raters (the channels do not depend on
            R).
        positive_levels: no level ever has probability 0, so that the logarithmic score of levels is finite.
    """

    name: str
    any_raters = False
    positive_levels = True

    @abstractmethod
    def channels(self, raters: int) -> int:
        """Channels that a network must give for ``raters``."""

    @abstractmethod
    def _distribution(self, outputs: Tensor, raters: int) -> LevelDistribution: ...

    def distribution(self, outputs: Tensor, raters: int) -> LevelDistribution:
        """Distribution over levels 0..raters from outputs ``[B, C, *spatial]``.

        Raises:
            ValueError: a number of channels other than ``channels(raters)``, or raters < 1.
        """
        if raters < 1:
            raise ValueError(f"{self.name}: raters must be at least 1. Got {raters}.")
        if outputs.ndim < 2 or outputs.shape[1] != self.channels(raters):
            raise ValueError(
                f"{self.name}: outputs for {raters} raters must have {self.channels(raters)} channels along "
                f"axis 1. Got shape {tuple(outputs.shape)}."
            )
        outputs = outputs.as_subclass(Tensor)
        return self._distribution(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), raters)

    def log_levels(self, outputs: Tensor, raters: int) -> Tensor:
        """``log P(level = k)``: ``[B, raters + 1, *spatial]``, float32 at least."""
        return self.distribution(outputs, raters).log_levels

    def levels(self, outputs: Tensor, raters: int) -> Tensor:
        """``P(level = k)``: ``[B, raters + 1, *spatial]``, float32 at least."""
        return self.distribution(outputs, raters).levels


class Softmax(OrdinalFamily):
    """R + 1 logits, one per level: ``P(k) = softmax(outputs)_k``."""

    name = "softmax"

    def channels(self, raters: int) -> int:
        """R + 1."""
        return raters + 1

    def _distribution(self, outputs: Tensor, raters: int) -> LevelDistribution:
        probs = torch.softmax
        return LevelDistribution(
            lambda: torch.log_softmax(outputs, 1),
            levels=lambda: probs(outputs, 1),
            below=lambda: probs(outputs, 1).cumsum(1)[:, :-1],
        )


class Cumulative(OrdinalFamily):
    """R cumulative values: ``P(level > k) = link(z_k)``, ``P(k) = link(z_{k-1}) - link(z_k)``.

    ``coral``: logistic link, ``z_k = f + b_k`` with free biases (Cao et al. 2020,
    doi:10.1016/j.patrec.2020.11.008); ``cumulative_logit`` and ``cumulative_probit``: ``z_k = f - theta_k``
    with ordered thresholds (McCullagh 1980, doi:10.1111/j.2517-6161.1980.tb01109.x). Values that are not in
    descending order are made so by the cumulative minimum for levels, hence a level can have probability 0;
    scores of the cut points read z as it is.
    """

    def __init__(self, name: str, link: str, *, positive_levels: bool) -> None:
        self.name, self.link, self.positive_levels = name, link, positive_levels

    def channels(self, raters: int) -> int:
        """R."""
        return raters

    def _distribution(self, outputs: Tensor, raters: int) -> LevelDistribution:
        logistic = self.link == "logistic"
        log_cdf, cdf = (logsigmoid, torch.sigmoid) if logistic else (log_ndtr, ndtr)
        log_step = _log_logistic_step if logistic else _log_normal_step

        def log_levels() -> Tensor:
            z = torch.cummin(outputs, 1).values
            return torch.cat([log_cdf(-z[:, :1]), log_step(z[:, :-1], z[:, 1:]), log_cdf(z[:, -1:])], dim=1)

        def at(votes: Tensor) -> Tensor:
            ends = torch.full_like(outputs[:, :1], _END)
            z = torch.cat([ends, torch.cummin(outputs, 1).values, -ends], dim=1)
            level = votes.to(torch.int64)
            return log_step(z.gather(1, level), z.gather(1, level + 1))

        return LevelDistribution(
            log_levels,
            cuts=lambda: (log_cdf(-outputs), log_cdf(outputs)),
            below=lambda: cdf(-outputs),
            at=at,
            sides=lambda is_above: log_cdf(outputs * (2 * is_above.to(outputs.dtype) - 1)),
        )


def _log_logistic_step(upper: Tensor, lower: Tensor) -> Tensor:
    """Log of sigmoid(upper) - sigmoid(lower) = sigmoid(upper) sigmoid(-lower) (1 - exp(lower - upper))."""
    return logsigmoid(upper) + logsigmoid(-lower) + log1mexp(upper - lower)


def _log_normal_step(upper: Tensor, lower: Tensor) -> Tensor:
    """``log(Phi(upper) - Phi(lower))``, reflected into the lower tail where both logarithms are resolved."""
    reflect = upper + lower > 0
    upper, lower = torch.where(reflect, -lower, upper), torch.where(reflect, -upper, lower)
    log_upper = log_ndtr(upper)
    return log_upper + log1mexp(log_upper - log_ndtr(lower))


class Corn(OrdinalFamily):
    """R conditional logits: ``P(level > k | level > k - 1) = sigmoid(z_k)``, the continuation ratio.

    Source: Shi, Cao, Raschka 2021, arXiv:2111.08851.
    """

    name = "corn"

    def channels(self, raters: int) -> int:
        """R."""
        return raters

    def _distribution(self, outputs: Tensor, raters: int) -> LevelDistribution:
        def log_levels() -> Tensor:
            above = logsigmoid(outputs).cumsum(1)
            before = torch.cat([torch.zeros_like(above[:, :1]), above[:, :-1]], dim=1)
            return torch.cat([before + logsigmoid(-outputs), above[:, -1:]], dim=1)

        def at(votes: Tensor) -> Tensor:
            cuts = torch.arange(raters, device=votes.device).view(1, -1, *[1] * (votes.ndim - 2))
            sign = 2 * (votes > cuts).to(outputs.dtype) - 1
            return (logsigmoid(outputs * sign) * (votes >= cuts)).sum(1, keepdim=True)

        return LevelDistribution(log_levels, at=at)


class BetaBinomial(OrdinalFamily):
    """Two outputs, logit of the mean and logarithm of the concentration: beta-binomial votes for any R."""

    name = "beta_binomial"
    any_raters = True

    def channels(self, raters: int) -> int:
        """Two."""
        return 2

    def _distribution(self, outputs: Tensor, raters: int) -> LevelDistribution:
        return LevelDistribution(
            lambda: beta_binomial_log_levels(outputs[:, :1], outputs[:, 1:], raters),
            thin=lambda present: self._distribution(outputs, present),
        )


class Binary(OrdinalFamily):
    """One logit: raters vote independently with probability ``sigmoid(outputs)``; binomial for any R."""

    name = "binary"
    any_raters = True

    def channels(self, raters: int) -> int:
        """One."""
        return 1

    def _distribution(self, outputs: Tensor, raters: int) -> LevelDistribution:
        def log_levels() -> Tensor:
            k = torch.arange(raters + 1, dtype=outputs.dtype, device=outputs.device)
            k = k.view(1, -1, *[1] * (outputs.ndim - 2))
            log_p, log_q = logsigmoid(outputs), logsigmoid(-outputs)
            return log_binomials(raters, outputs) + k * log_p + (raters - k) * log_q

        return LevelDistribution(log_levels, thin=lambda present: self._distribution(outputs, present))


FAMILIES: dict[str, OrdinalFamily] = {
    family.name: family
    for family in (
        Softmax(),
        Cumulative("coral", "logistic", positive_levels=False),
        Corn(),
        Cumulative("cumulative_logit", "logistic", positive_levels=True),
        Cumulative("cumulative_probit", "normal", positive_levels=True),
        BetaBinomial(),
        Binary(),
    )
}


def get_family(name: str) -> OrdinalFamily:
    """Family of that name.

    Raises:
        ValueError: unknown name.
    """
    if name not in FAMILIES:
        raise ValueError(f"family must be one of {sorted(FAMILIES)}. Got {name!r}.")
    return FAMILIES[name]


def level_probabilities(outputs: Tensor, *, family: str, raters: int) -> Tensor:
    """Level probabilities from network outputs.

    Args:
        outputs: ``[B, C, *spatial]``, C as the family says (``FAMILIES[family].channels(raters)``).
        family: key of ``FAMILIES``.
        raters: R.

    Returns:
        ``[B, raters + 1, *spatial]``, float32 (float64 for float64 outputs), sums to 1 along axis 1.

    Raises:
        ValueError: unknown family, or a number of channels that does not fit.
    """
    return get_family(family).levels(outputs, raters)
