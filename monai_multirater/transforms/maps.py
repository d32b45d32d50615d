# SPDX-License-Identifier: Apache-2.0
"""From network outputs to the maps that people look at, with a stop in between to undo spatial transforms."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_multirater.ordinal import level_entropy
from monai_multirater.transforms.foreground import OrdinalToForeground

__all__ = ["LevelMapsd", "OrdinalToLevelsd"]


class OrdinalToLevelsd(MapTransform):
    """Replace network outputs ``[C, *spatial]`` by level probabilities ``[R + 1, *spatial]``, meta data kept.

    Args:
        keys: key of the outputs.
        family: name in ``monai_multirater.ordinal.FAMILIES``.
        raters: number of raters R of the network.
    """

    def __init__(self, keys: KeysCollection, family: str, raters: int) -> None:
        super().__init__(keys)
        self.convert = OrdinalToForeground(family, raters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with level probabilities."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.convert.levels(sample[key])
        return sample


class LevelMapsd(MapTransform):
    """Derive the maps of one case from its level probabilities ``[R + 1, *spatial]``.

    Adds ``probability`` (foreground, float), ``votes`` (the most probable number of raters who say foreground,
    uint8) and ``uncertainty`` (entropy of the levels divided by ``log(R + 1)``: 0 when one vote count is certain, 1
    when all are equally likely), each ``[1, *spatial]``. Interpolated levels are made a distribution again first.

    Args:
        keys: key of the level probabilities.
        rule: ``majority`` or ``expected``, see :func:`monai_multirater.ordinal.foreground_probability`.
        ties: how ``majority`` counts the level R/2 of an even R.
    """

    def __init__(self, keys: KeysCollection, *, rule: str = "expected", ties: str = "background") -> None:
        super().__init__(keys)
        self.rule = rule
        self.ties = ties

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the maps."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            levels = sample[key].clamp_min(0.0)
            levels = levels / levels.sum(0, keepdim=True)
            raters = levels.shape[0] - 1
            convert = OrdinalToForeground("softmax", raters, rule=self.rule, ties=self.ties)
            sample["probability"] = convert.foreground(levels).clamp(0.0, 1.0)
            sample["votes"] = levels.argmax(0, keepdim=True).to(torch.uint8)
            entropy = level_entropy(levels, dim=0) / math.log(raters + 1)
            sample["uncertainty"] = entropy.clamp(0.0, 1.0)
        return sample
