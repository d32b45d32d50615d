# SPDX-License-Identifier: Apache-2.0
"""Beta-binomial vote likelihood: two outputs per voxel that predict the votes of any number of raters.

Each voxel has a foreground probability drawn from a beta distribution of mean mu and concentration nu = a +
b, and every rater votes with that probability. So ``P(k of n) = C(n, k) B(k + a, n - k + b) / B(a, b)``, a =
mu nu, b = (1 - mu) nu. It is closed under leaving raters out, therefore missing raters need no correction.

For whole n the ratio of beta functions is a product, ``prod_{i<k} (mu + i/nu) prod_{i<n-k} (1 - mu + i/nu) /
prod_{i<n} (1 + i/nu)``, whose logarithms are exact where differences of ``lgamma`` cancel: for nu to infinity
the terms i/nu vanish and the binomial remains.
"""

from __future__ import annotations

from math import comb, log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["beta_binomial_log_levels", "beta_binomial_log_likelihood", "log_binomials"]


def log_binomials(raters: int, like: Tensor) -> Tensor:
    """``log C(raters, k)`` for k = 0..raters, shaped to broadcast along axis 1 of ``like``."""
    values = [log(comb(raters, k)) for k in range(raters + 1)]
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, *[1] * (like.ndim - 2))


def _rising(log_start: Tensor, log_concentration: Tensor, raters: int) -> Tensor:
    """``log prod_{i<k} (start + i / concentration)`` for k = 0..raters, along axis 1."""
    steps = torch.arange(1, raters, dtype=log_start.dtype, device=log_start.device).log()
    steps = steps.view(1, -1, *[1] * (log_start.ndim - 2)) - log_concentration
    terms = torch.cat([torch.zeros_like(log_start), log_start, torch.logaddexp(log_start, steps)], dim=1)
    return terms.cumsum(1)


def beta_binomial_log_levels(logit_mean: Tensor, log_concentration: Tensor, raters: int) -> Tensor:
    """``log P(k of raters)`` for k = 0..raters.

    Args:
        logit_mean: ``[B, 1, *spatial]`` logit of mu.
        log_concentration: ``[B, 1, *spatial]`` logarithm of nu.
        raters: n >= 1.

    Returns:
        ``[B, raters + 1, *spatial]``.
    """
    yes = _rising(logsigmoid(logit_mean), log_concentration, raters)
    no = _rising(logsigmoid(-logit_mean), log_concentration, raters).flip(1)
    total = _rising(torch.zeros_like(logit_mean), log_concentration, raters)[:, -1:]
    return log_binomials(raters, logit_mean) + yes + no - total


def beta_binomial_log_likelihood(logit_mean: Tensor, log_concentration: Tensor, votes: Tensor, raters: int) -> Tensor:
    """``log P(votes of raters)`` at every voxel.

    Args:
        logit_mean, log_concentration: ``[B, 1, *spatial]``.
        votes: ``[B, 1, *spatial]`` integers 0..raters.
        raters: raters present in all items.

    Returns:
        ``[B, 1, *spatial]``.
    """
    log_levels = beta_binomial_log_levels(logit_mean, log_concentration, raters)
    return log_levels.gather(1, votes.to(torch.int64))
