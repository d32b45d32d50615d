# SPDX-License-Identifier: Apache-2.0
"""A residual U-Net whose outputs describe how many raters mark each voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.networks.layers.utils import get_act_layer
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_multirater.networks.heads import OrdinalHead
from monai_multirater.networks.layers import crop_to, pad_to_multiple

__all__ = ["OrdinalUNet"]

_NormOrAct = str | tuple[str, Mapping[str, Any]]
_INSTANCE: _NormOrAct = ("instance", {"affine": True})
_LEAKY_RELU: _NormOrAct = ("leakyrelu", {"negative_slope": 0.01, "inplace": True})


class OrdinalUNet(nn.Module):
    """MONAI's residual ``UNet`` followed by an ``OrdinalHead``: ``[B, in_channels, *] -> [B, C, *]``.

    Takes any spatial size: the image is padded by repeating its border to a multiple of ``2 ** levels`` and
    the outputs are cropped back. Instance normalization by default, so that results depend neither on the
    batch size nor on the number of processes. Scriptable, traceable and exportable.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of image channels.
        raters: largest number of raters R.
        family: a name in ``monai_multirater.ordinal.FAMILIES``, which sets the number C of output channels.
        channels: features of each level, top first; every level but the last halves the size once.
        num_res_units: convolutions in each residual unit of the encoder.
        norm: MONAI normalization, name or (name, arguments).
        act: MONAI activation, name or (name, arguments); leaky ReLU by default, since PReLU, MONAI's default,
            takes a fifth to a quarter of a training step on the CPU.
        dropout: dropout probability after each normalization.

    Source: Kerfoot et al. 2019, https://doi.org/10.1007/978-3-030-12029-0_40
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        raters: int,
        family: str = "softmax",
        *,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        num_res_units: int = 1,
        norm: _NormOrAct = _INSTANCE,
        act: _NormOrAct = _LEAKY_RELU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"OrdinalUNet: 'channels' needs at least two levels, got {tuple(channels)}.")
        self.multiple = 2 ** (len(channels) - 1)
        self.body = UNet(
            spatial_dims,
            in_channels,
            channels[0],
            tuple(channels),
            (2,) * (len(channels) - 1),
            num_res_units=num_res_units,
            act=act,
            norm=norm,
            dropout=dropout,
        )
        self.act = get_act_layer(act)
        self.head = OrdinalHead(spatial_dims, channels[0], raters, family)

    def set_prior(self, level_frequencies: Sequence[float] | Tensor, **options: float) -> None:
        """Start from given level frequencies, see ``OrdinalHead.set_prior``."""
        self.head.set_prior(level_frequencies, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs ``[B, C, *spatial]`` of images ``[B, in_channels, *spatial]``."""
        features = self.body(pad_to_multiple(images, self.multiple))
        outputs: Tensor = self.head(self.act(crop_to(features, images)))
        return outputs
