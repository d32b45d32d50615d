# SPDX-License-Identifier: Apache-2.0
"""Output heads: a 1x1 convolution plus the parameters that an ordinal family shares between voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional as F

from monai_multirater.networks.priors import ordered_gaps, prior_biases
from monai_multirater.ordinal import FAMILIES

__all__ = ["FreeBiases", "OrderedThresholds", "OrdinalHead"]

_FREE_BIASES = frozenset({"coral"})
_ORDERED = frozenset({"cumulative_logit", "cumulative_probit"})


class FreeBiases(nn.Module):
    """Add one free bias per cut point to a latent map: ``z_k = f + b_k``, ``[B, 1, *] -> [B, R, *]``.

    The biases start in decreasing order and nothing keeps them so; the CORAL loss does (arXiv 1901.07884).
    """

    def __init__(self, raters: int, spatial_dims: int) -> None:
        super().__init__()
        self.biases = nn.Parameter(torch.zeros(1, raters, *[1] * spatial_dims))

    def set_biases(self, biases: Tensor) -> None:
        """Set ``b_k`` from a tensor of shape ``[R]``."""
        with torch.no_grad():
            self.biases.copy_(biases.reshape(self.biases.shape))

    def forward(self, latent: Tensor) -> Tensor:
        """Return the R cumulative logits of a latent map ``[B, 1, *]``."""
        return latent + self.biases


class OrderedThresholds(nn.Module):
    """Subtract ordered thresholds: ``z_k = f - theta_k`` with ``theta_1 < ... < theta_R``.

    ``theta_1`` is free, every further threshold adds ``softplus(gap)``, so the order always holds.
    """

    def __init__(self, raters: int, spatial_dims: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1))
        self.gaps = nn.Parameter(torch.zeros(raters - 1))
        self.spatial_dims = spatial_dims

    def set_biases(self, biases: Tensor) -> None:
        """Set ``theta = -biases`` from a strictly decreasing tensor of shape ``[R]``."""
        with torch.no_grad():
            self.first.copy_(-biases[:1])
            self.gaps.copy_(ordered_gaps(-biases))

    def thresholds(self) -> Tensor:
        """Return ``theta``, shape ``[R]``, ascending."""
        return torch.cumsum(torch.cat([self.first, F.softplus(self.gaps)]), dim=0)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the R ordered cumulative values of a latent map ``[B, 1, *]``."""
        theta = self.thresholds()
        return latent - theta.reshape([1, -1] + [1] * self.spatial_dims)


class OrdinalHead(nn.Module):
    """Turn features ``[B, F, *]`` into the outputs ``[B, C, *]`` of an ordinal family.

    A 1x1 convolution, followed for ``coral`` by free biases and for ``cumulative_logit`` and
    ``cumulative_probit`` by ordered thresholds, both shared by all voxels. Any network whose last layer gives
    features becomes an ordinal network: ``nn.Sequential(network, OrdinalHead(2, features, raters))``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of features F.
        raters: largest number of raters R; the outputs describe the R + 1 vote counts 0..R.
        family: a name in ``monai_multirater.ordinal.FAMILIES``; C is ``FAMILIES[family].channels(raters)``.

    Raises:
        ValueError: for an unknown family, fewer than one rater, or spatial dimensions other than 1 to 3.
    """

    def __init__(self, spatial_dims: int, in_channels: int, raters: int, family: str = "softmax") -> None:
        super().__init__()
        _check_head(spatial_dims, raters, family)
        self.family = family
        self.raters = raters
        shared = family in _FREE_BIASES or family in _ORDERED
        channels = 1 if shared else FAMILIES[family].channels(raters)
        self.conv: nn.Module = Conv[Conv.CONV, spatial_dims](in_channels, channels, kernel_size=1, bias=not shared)
        self.shared: nn.Module = nn.Identity()
        if shared:
            self.shared = (FreeBiases if family in _FREE_BIASES else OrderedThresholds)(raters, spatial_dims)
            uniform = torch.full([raters + 1], 1.0 / (raters + 1), dtype=torch.float64)
            self.shared.set_biases(prior_biases(family, uniform))

    @torch.no_grad()
    def set_prior(
        self, level_frequencies: Sequence[float] | Tensor, *, floor: float = 1e-6, weight_scale: float = 1.0
    ) -> None:
        """Initialize the biases so that features of zero give the level frequencies.

        Exact for ``softmax``, ``coral``, ``corn``, ``cumulative_logit`` and ``cumulative_probit``, which can
        express every distribution over 0..R. ``beta_binomial`` gets the exact mean vote and the concentration
        with the least Kullback-Leibler divergence from the frequencies (within e^-5
        and e^8); ``binary`` gets the exact mean vote.

        Args:
            level_frequencies: R + 1 non-negative numbers, for example vote counts of the training set;
                divided by their sum.
            floor: smallest frequency used, since a level of frequency 0 could never be learned again.
            weight_scale: factor on the weights of the 1x1 convolution. With 1 the features spread the first
                predictions around the prior; with 0 every voxel starts at the prior exactly, but then all
                features get their first gradients from one direction and learn nearly the same: a worse fit.

        Raises:
            ValueError: if the frequencies are not R + 1 finite non-negative numbers with a positive sum.
        """
        biases = prior_biases(self.family, self._frequencies(level_frequencies, floor))
        self.conv.weight.mul_(weight_scale)  # type: ignore[operator]
        if isinstance(self.shared, (FreeBiases, OrderedThresholds)):
            self.shared.set_biases(biases)
        else:
            self.conv.bias.copy_(biases)  # type: ignore[operator]

    def _frequencies(self, level_frequencies: Sequence[float] | Tensor, floor: float) -> Tensor:
        values = torch.as_tensor(level_frequencies, dtype=torch.float64).flatten().cpu()
        valid = values.numel() == self.raters + 1 and bool((torch.isfinite(values) & (values >= 0)).all())
        if not valid or not values.sum() > 0:
            raise ValueError(
                f"OrdinalHead.set_prior: 'level_frequencies' must be {self.raters + 1} finite non-negative "
                f"numbers with a positive sum (levels 0..{self.raters}), got {values.tolist()}."
            )
        values = (values / values.sum()).clamp_min(floor)
        return values / values.sum()

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs ``[B, C, *]`` of features ``[B, F, *]``."""
        outputs: Tensor = self.shared(self.conv(features))
        return outputs


def _check_head(spatial_dims: int, raters: int, family: str) -> None:
    if family not in FAMILIES:
        raise ValueError(f"OrdinalHead: 'family' must be one of {sorted(FAMILIES)}, got {family!r}.")
    if raters < 1:
        raise ValueError(f"OrdinalHead: 'raters' must be at least 1, got {raters}.")
    if spatial_dims not in (1, 2, 3):
        raise ValueError(f"OrdinalHead: 'spatial_dims' must be 1, 2 or 3, got {spatial_dims}.")
