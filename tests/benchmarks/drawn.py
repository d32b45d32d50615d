# SPDX-License-Identifier: Apache-2.0
"""Masks of made raters for benchmarks."""

import numpy as np
import torch


def draw_raters(raters, spatial, seed):
    """Ellipsoids, uint8 ``[raters, *spatial]``; each rater has an offset, a size and a wobbly boundary of its own."""
    rng = np.random.default_rng(seed)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in spatial), indexing="ij")
    planes = torch.empty((raters, *spatial), dtype=torch.uint8)
    for r in range(raters):
        size = 0.45 * (1 + 0.06 * rng.standard_normal())
        distance, wave = torch.zeros(spatial), torch.ones(spatial)
        for axis in axes:
            shifted = axis - float(0.05 * rng.standard_normal())
            distance += shifted**2
            wave *= torch.cos(float(rng.uniform(4, 12)) * shifted)
        planes[r] = distance.sqrt_() < size * (1 + 0.08 * wave)
    return planes
