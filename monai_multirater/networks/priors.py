# SPDX-License-Identifier: Apache-2.0
"""Bias values with which each ordinal family starts from given level frequencies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ordered_gaps", "prior_biases"]


def prior_biases(family: str, frequencies: Tensor) -> Tensor:
    """Return the biases (float64) whose level probabilities are ``frequencies``, or come closest to them.

    Args:
        family: name of an ordinal family.
        frequencies: positive level frequencies ``[R + 1]`` in float64 that sum to 1.

    Returns:
        ``[C]``; for ``coral`` and the cumulative families the R cumulative values at latent 0.

    Raises:
        ValueError: for a family without a known prior.
    """
    if family == "softmax":
        return frequencies.log()
    if family in ("coral", "cumulative_logit"):
        above, below = _tails(frequencies)
        return above.log() - below.log()
    if family == "cumulative_probit":
        above, below = _tails(frequencies)
        # the smaller tail keeps its digits: Phi^-1(above) = -Phi^-1(below)
        return torch.where(above < below, torch.special.ndtri(above), -torch.special.ndtri(below))
    if family == "corn":
        above, _ = _tails(frequencies)
        return above.log() - frequencies[:-1].log()
    if family in ("binary", "beta_binomial"):
        return _mean_vote_biases(family, frequencies)
    raise ValueError(f"prior_biases: no prior is known for the family {family!r}.")


def ordered_gaps(thresholds: Tensor) -> Tensor:
    """Return ``g`` with ``softplus(g) = diff(thresholds)`` for ascending thresholds ``[R]``."""
    steps = torch.diff(thresholds)
    if not bool((steps > 0).all()):
        raise ValueError(f"ordered_gaps: 'thresholds' must ascend strictly, got {thresholds.tolist()}.")
    return steps + torch.log(-torch.expm1(-steps))


def _tails(frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(level > k) and P(level <= k) for k = 0..R-1."""
    above = frequencies.flip(0).cumsum(0).flip(0)[1:]
    return above, frequencies.cumsum(0)[:-1]


def _mean_vote_biases(family: str, frequencies: Tensor) -> Tensor:
    levels = torch.arange(frequencies.numel(), dtype=torch.float64)
    yes = (frequencies * levels).sum()
    no = (frequencies * levels.flip(0)).sum()
    logit = (yes.log() - no.log()).reshape(1)
    if family == "binary":
        return logit
    return torch.cat([logit, _closest_log_concentration(frequencies, yes / (yes + no)).reshape(1)])


def _closest_log_concentration(frequencies: Tensor, mean: Tensor) -> Tensor:
    """Minimize KL(frequencies || beta-binomial) over the log concentration in [-5, 8] on refined grids."""
    low, high = -5.0, 8.0
    best = torch.zeros((), dtype=torch.float64)
    for _ in range(6):
        grid = torch.linspace(low, high, 201, dtype=torch.float64)
        log_levels = _beta_binomial_log_levels(frequencies.numel() - 1, mean, grid)
        best = grid[(frequencies * log_levels).sum(1).argmax()]
        step = (high - low) / 200
        low, high = max(-5.0, float(best) - 2 * step), min(8.0, float(best) + 2 * step)
    return best


def _beta_binomial_log_levels(raters: int, mean: Tensor, log_concentration: Tensor) -> Tensor:
    """Return log P(level) ``[G, R + 1]`` for G log concentrations."""
    levels = torch.arange(raters + 1, dtype=torch.float64)
    a = (mean * log_concentration.exp())[:, None]
    b = ((1 - mean) * log_concentration.exp())[:, None]
    unnormalized = torch.lgamma(levels + a) - torch.lgamma(levels + 1) + torch.lgamma(raters - levels + b)
    return F.log_softmax(unnormalized - torch.lgamma(raters - levels + 1), dim=1)
