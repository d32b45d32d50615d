# SPDX-License-Identifier: Apache-2.0
"""Ratings for the tests of fusion: disks or balls with raters who shift, scale and err at random."""

from __future__ import annotations

import torch
from torch import Tensor


def disagreeing_raters(
    raters: int, spatial: tuple[int, ...] = (32, 30), *, seed: int = 0, noise: float = 0.02, radius: float = 0.5
) -> Tensor:
    """uint8 ``[R, *spatial]``: one ellipsoid, drawn by each rater with an offset and a size of their own, and noise."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in spatial), indexing="ij")
    planes = []
    for _ in range(raters):
        center = 0.15 * torch.randn(len(spatial), generator=generator)
        size = radius * (1 + 0.15 * torch.randn((), generator=generator))
        inside = sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True)) < size**2
        planes.append(inside ^ (torch.rand(spatial, generator=generator) < noise))
    return torch.stack(planes).to(torch.uint8)
