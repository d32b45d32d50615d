# SPDX-License-Identifier: Apache-2.0
"""Negative log-likelihood of beta-binomial votes in one pass: value and gradient block by block.

The n factors of ``P(k of n) / C(n, k)`` are taken one per rater: with s = mu for the k who say foreground and
1 - mu for the others, counted i = 0, 1, ... within each group and j = 0, 1, ... over all, factor j is
``(s + i rho) / (1 + j rho)``, rho = 1 / concentration. One logarithm per factor instead of the three of the
general formula, and rational derivatives. Where ``s + i rho`` underflows, the block is computed again in log
space.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb, log

import torch
from torch import Tensor

from monai_multirater.ordinal.beta_binomial import beta_binomial_log_likelihood
from monai_multirater.ordinal.blocks import TINY, BlockScore, score_by_autograd

__all__ = ["beta_binomial_score"]

_LARGEST = 60.0  # |log concentration| beyond which rho or its inverse leaves the safe range of float32


def beta_binomial_score(raters: int) -> BlockScore:
    """Block score ``-log P(votes of raters)`` of outputs ``[b, 2, n]``, logit of mu and log concentration."""
    log_combinations = torch.tensor([log(comb(raters, k)) for k in range(raters + 1)], dtype=torch.float64)
    exact = score_by_autograd(_exact(raters))

    def score(outputs: Tensor, votes: Tensor, gradient: Tensor | None, scale: float) -> Tensor:
        logit, log_concentration = outputs[:, :1], outputs[:, 1:]
        j = torch.arange(raters, dtype=outputs.dtype, device=outputs.device)[:, None]
        rho = torch.exp(-log_concentration)
        says_no = torch.ge(j, votes, out=torch.empty_like(outputs[:, :1].expand(-1, raters, -1)))
        i_rho = torch.addcmul(j, says_no, votes, value=-1).mul_(rho)
        share = torch.lerp(torch.sigmoid(logit), torch.sigmoid(-logit), says_no)  # exact for weights 0 and 1
        total, whole = share + i_rho, 1 + j * rho
        if float(total.amin()) < TINY or float(log_concentration.abs().amax()) > _LARGEST:
            return exact(outputs, votes, gradient, scale)
        values = torch.log(total / whole).sum(1, keepdim=True).neg_()
        values -= log_combinations.to(outputs)[votes.to(torch.int64)]
        if gradient is not None:
            by_logit = (1 - 2 * says_no).mul_(1 - share).mul_(share).div_(total)
            gradient[:, :1] = by_logit.sum(1, keepdim=True).mul_(-scale)
            gradient[:, 1:] = (i_rho / total - j * rho / whole).sum(1, keepdim=True).mul_(scale)
        return values

    return score


def _exact(raters: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, votes: -beta_binomial_log_likelihood(outputs[:, :1], outputs[:, 1:], votes, raters)
