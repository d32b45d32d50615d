# SPDX-License-Identifier: Apache-2.0
"""Small parts that several networks share."""

from __future__ import annotations

from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["crop_to", "group_norm", "pad_to_multiple", "replace_batch_norm"]


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row, column and slice until every spatial size is a multiple of ``multiple``.

    The first spatial axis gets at least two multiples if otherwise a single voxel would remain after division
    by ``multiple``, since instance normalization over one voxel is undefined.

    Args:
        images: ``[B, C, *spatial]``.
        multiple: positive divisor of the new sizes.
    """
    pads: list[int] = []
    voxels = 1
    for axis in range(images.dim() - 1, 1, -1):
        extra = -images.size(axis) % multiple
        pads.append(0)
        pads.append(extra)
        voxels = voxels * ((images.size(axis) + extra) // multiple)
    if voxels == 1:
        pads[-1] += multiple
    if max(pads) == 0:
        return images
    return F.pad(images, pads, mode="replicate")


def crop_to(images: Tensor, reference: Tensor) -> Tensor:
    """Cut the end of every spatial axis of ``images`` so that its size is that of ``reference``."""
    for axis in range(2, reference.dim()):
        images = images.narrow(axis, 0, reference.size(axis))
    return images


def replace_batch_norm(module: nn.Module, norm: str, spatial_dims: int) -> None:
    """Replace every batch normalization inside ``module`` in place by ``norm``: ``group`` or ``instance``."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, _norm_layer(norm, spatial_dims, child.num_features))
        else:
            replace_batch_norm(child, norm, spatial_dims)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group normalization of at most 32 groups, with at least 2 channels in each if there are 2."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and (channels >= 2 * g or g == 1))
    return nn.GroupNorm(groups, channels)


def _norm_layer(norm: str, spatial_dims: int, channels: int) -> nn.Module:
    if norm == "instance":
        layer: nn.Module = get_norm_layer(("instance", {"affine": True}), spatial_dims, channels)
        return layer
    if norm != "group":
        raise ValueError(f"replace_batch_norm: 'norm' must be 'group' or 'instance', got {norm!r}.")
    return group_norm(channels)
