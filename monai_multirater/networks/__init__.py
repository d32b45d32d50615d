# SPDX-License-Identifier: Apache-2.0
"""Networks whose outputs describe how many raters mark each voxel."""

from monai_multirater.networks.fpn import OrdinalFPN
from monai_multirater.networks.heads import FreeBiases, OrderedThresholds, OrdinalHead
from monai_multirater.networks.make import NETWORKS, make_network
from monai_multirater.networks.unet import OrdinalUNet

__all__ = [
    "NETWORKS",
    "FreeBiases",
    "OrderedThresholds",
    "OrdinalFPN",
    "OrdinalHead",
    "OrdinalUNet",
    "make_network",
]
