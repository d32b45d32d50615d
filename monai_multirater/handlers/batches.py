# SPDX-License-Identifier: Apache-2.0
"""From a collated batch to what MONAI's engines hand to networks, losses and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.engines import PrepareBatch

__all__ = ["PrepareVotes"]

TARGET_KEYS = ("votes", "n_raters", "ratings", "rater_mask", "truth", "consensus", "case")


class PrepareVotes(PrepareBatch):
    """Split a batch into the image and one label mapping, moved to the engine's device.

    The label is a mapping with those of ``votes [B, 1, *]``, ``n_raters [B]``, ``ratings [B, R, *]``,
    ``rater_mask [B, R]``, ``truth [B, 1, *]`` and ``consensus [B, 1, *]`` (a fused probability) that the batch holds
    and ``keys`` names, and of ``case`` (names). The losses and metrics of this package take such a mapping, so rater
    masks reach them through stock engines.

    Args:
        keys: entries of the label.
        image_key: the network's input.
    """

    def __init__(self, keys: Sequence[str] = ("votes", "n_raters"), *, image_key: str = "image") -> None:
        unknown = sorted(set(keys) - set(TARGET_KEYS))
        if unknown:
            raise ValueError(
                f"The 'keys' parameter of PrepareVotes must be among {', '.join(TARGET_KEYS)}. "
                f"Got {', '.join(unknown)} instead."
            )
        self.keys = tuple(keys)
        self.image_key = image_key

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any] | None]:
        """Return ``(image, label)``; the label is None when the batch has none of the keys (inference)."""
        image = batchdata[self.image_key].to(device=device, non_blocking=non_blocking, **kwargs)
        label = {
            key: value.to(device=device, non_blocking=non_blocking) if isinstance(value, torch.Tensor) else value
            for key, value in ((key, batchdata[key]) for key in self.keys if key in batchdata)
        }
        return image, label or None
