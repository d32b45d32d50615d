# SPDX-License-Identifier: Apache-2.0
"""Beta-binomial vote likelihood as a loss."""

from __future__ import annotations

from monai_multirater.losses.base import OrdinalLoss

__all__ = ["BetaBinomialLoss"]


class BetaBinomialLoss(OrdinalLoss):
    """Negative log-likelihood of k of r votes under a beta-binomial of two outputs, logit mean and log
    concentration.

    Exact for any number of raters present: nothing depends on R. See
    :mod:`monai_multirater.ordinal.beta_binomial`.
    """

    def __init__(self, raters: int, *, reduction: str = "mean") -> None:
        super().__init__(raters, family="beta_binomial", scores="level_ce", reduction=reduction)
