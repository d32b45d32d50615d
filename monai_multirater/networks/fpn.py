# SPDX-License-Identifier: Apache-2.0
"""A ResNet with a feature pyramid decoder whose outputs describe how many raters mark each voxel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import FeaturePyramidNetwork
from monai.networks.layers.factories import Conv, Dropout
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from monai_multirater.networks.heads import OrdinalHead
from monai_multirater.networks.layers import group_norm, replace_batch_norm

__all__ = ["OrdinalFPN"]

_BLOCKS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}
_SMP_PREFIX = "smp:"


class OrdinalFPN(nn.Module):
    """ResNet encoder, feature pyramid decoder and ``OrdinalHead``: ``[B, in_channels, *] -> [B, C, *]``.

    The four pyramid levels (strides 4 to 32) are each brought to stride 4 by blocks of 3x3 convolution, group
    normalization and upsampling, then added; the head works at stride 4 and its outputs are interpolated to
    exactly the size of the image, which can be any. Without ``weights`` every normalization is a group
    normalization, so that results depend neither on the batch size nor on the number of processes, and
    nothing is ever downloaded. Scriptable, traceable and exportable (``smp:`` encoders: as far as they are).

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of image channels.
        raters: largest number of raters R.
        family: a name in ``monai_multirater.ordinal.FAMILIES``, which sets the number C of output channels.
        backbone: ``resnet10``, ``resnet18``, ``resnet34`` or ``resnet50`` (2D and 3D), or ``smp:NAME`` for an
            encoder of segmentation_models_pytorch (2D, needs the extra ``smp``).
        weights: name of pretrained weights of an ``smp:`` encoder, for example ``imagenet``. Asking for them
            downloads them. They expect images normalized as in their training.
        norm: normalization of the encoder: ``group``, ``instance`` or ``batch``. By default ``group`` without
            weights, and with weights the normalization that the weights were trained with.
        pyramid_channels: channels of every pyramid level.
        segmentation_channels: channels of the segmentation blocks, a multiple of 8.
        dropout: dropout probability of whole channels before the head.

    Raises:
        ValueError: for an unknown backbone, weights without an ``smp:`` backbone, or ``smp:`` in 3D.
        ImportError: for an ``smp:`` backbone without segmentation_models_pytorch.

    Source: Kirillov et al. 2019, https://arxiv.org/abs/1901.02446
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        raters: int,
        family: str = "softmax",
        *,
        backbone: str = "resnet18",
        weights: str | None = None,
        norm: str | None = None,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.encoder, encoder_channels = _make_encoder(backbone, spatial_dims, in_channels, weights)
        norm = norm or ("batch" if weights else "group")
        if norm != "batch":
            replace_batch_norm(self.encoder, norm, spatial_dims)
        self.pyramid = FeaturePyramidNetwork(spatial_dims, list(encoder_channels), pyramid_channels)
        # the first convolution of each decoder branch does what the 3x3 convolutions of the pyramid would do
        self.pyramid.layer_blocks = nn.ModuleList([nn.Identity() for _ in encoder_channels])
        self.decoder = _SegmentationDecoder(spatial_dims, pyramid_channels, segmentation_channels)
        self.dropout: nn.Module = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.head = OrdinalHead(spatial_dims, segmentation_channels, raters, family)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def set_prior(self, level_frequencies: Sequence[float] | Tensor, **options: float) -> None:
        """Start from given level frequencies, see ``OrdinalHead.set_prior``."""
        self.head.set_prior(level_frequencies, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs ``[B, C, *spatial]`` of images ``[B, in_channels, *spatial]``."""
        levels: dict[str, Tensor] = {}
        for feature in self.encoder(images)[-4:]:
            levels[str(len(levels))] = feature
        pyramid = self.pyramid(levels)
        outputs = self.head(self.dropout(self.decoder(list(pyramid.values()))))
        return F.interpolate(outputs, size=images.shape[2:], mode=self.mode, align_corners=False)


class _ResNetLevels(ResNet):
    """MONAI's ResNet that returns the features at strides 4, 8, 16 and 32.

    ``ResNetFeatures`` is not used: its ResNet-18 and ResNet-34 have parameter-free shortcuts that stop the
    gradient. The layout here is the one of torchvision, whose state dictionaries fit in 2D.
    """

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return four feature maps, the largest first."""
        stride_4 = self.layer1(self.maxpool(self.act(self.bn1(self.conv1(images)))))
        stride_8 = self.layer2(stride_4)
        stride_16 = self.layer3(stride_8)
        return [stride_4, stride_8, stride_16, self.layer4(stride_16)]


class _SegmentationDecoder(nn.Module):
    """Bring pyramid levels to the size of the largest one and add them."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_Branch(spatial_dims, in_channels, out_channels, doublings) for doublings in (0, 1, 2, 3)]
        )

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return the sum of the levels at the largest size; ``pyramid`` is ordered from large to small."""
        total = torch.zeros_like(pyramid[0][:, :1])
        for level, branch in enumerate(self.branches):
            total = total + branch(pyramid, level)
        return total


class _Branch(nn.Module):
    """Blocks that bring one pyramid level to the size of the largest one, level by level."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, doublings: int) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        widths = [in_channels] + [out_channels] * max(doublings, 1)
        self.blocks = nn.ModuleList([_block(spatial_dims, a, b) for a, b in pairwise(widths)])

    def forward(self, pyramid: list[Tensor], level: int) -> Tensor:
        features = pyramid[level]
        for step, block in enumerate(self.blocks):
            features = block(features)
            if level > 0:
                size = pyramid[level - 1 - step].shape[2:]
                features = F.interpolate(features, size=size, mode=self.mode, align_corners=False)
        return features


def _block(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(conv, group_norm(out_channels), nn.ReLU(inplace=True))


def _make_encoder(
    backbone: str, spatial_dims: int, in_channels: int, weights: str | None
) -> tuple[nn.Module, tuple[int, ...]]:
    if backbone.startswith(_SMP_PREFIX):
        return _make_smp_encoder(backbone.removeprefix(_SMP_PREFIX), spatial_dims, in_channels, weights)
    if backbone not in _BLOCKS:
        raise ValueError(
            f"OrdinalFPN: 'backbone' must be one of {list(_BLOCKS)} or '{_SMP_PREFIX}NAME', got {backbone!r}."
        )
    if weights is not None:
        raise ValueError(
            f"OrdinalFPN: pretrained 'weights' ({weights!r}) exist only for '{_SMP_PREFIX}NAME' backbones, "
            f"got backbone {backbone!r}; '{_SMP_PREFIX}{backbone}' has them in 2D."
        )
    block, depths = _BLOCKS[backbone]
    encoder = _ResNetLevels(
        block,
        list(depths),
        [64, 128, 256, 512],
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    )
    expansion = 1 if block == "basic" else 4
    return encoder, tuple(expansion * width for width in (64, 128, 256, 512))


def _make_smp_encoder(
    name: str, spatial_dims: int, in_channels: int, weights: str | None
) -> tuple[nn.Module, tuple[int, ...]]:
    if spatial_dims != 2:
        raise ValueError(f"OrdinalFPN: '{_SMP_PREFIX}' backbones are 2D, got spatial_dims={spatial_dims}.")
    try:
        from segmentation_models_pytorch.encoders import get_encoder
    except ImportError as error:
        raise ImportError(
            f"OrdinalFPN: backbone '{_SMP_PREFIX}{name}' needs segmentation_models_pytorch: "
            "pip install 'monai-multirater[smp]'."
        ) from error
    encoder = get_encoder(name, in_channels=in_channels, depth=5, weights=weights)
    return encoder, tuple(encoder.out_channels[-4:])
