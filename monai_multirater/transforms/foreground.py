# SPDX-License-Identifier: Apache-2.0
"""From network outputs to probability, level and uncertainty maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from monai_multirater.ordinal import (
    foreground_probability,
    get_family,
    level_entropy,
    level_probabilities,
    vote_variance,
)
from monai_multirater.ordinal.foreground import check_ties

__all__ = ["OrdinalToForeground", "OrdinalToForegroundd"]


class OrdinalToForeground(Transform):
    """Turn outputs ``[C, *spatial]`` of an ordinal network into foreground probabilities ``[1, *spatial]``.

    Args:
        family: name in ``monai_multirater.ordinal.FAMILIES`` of the network's outputs.
        raters: number of raters R of the network.
        rule: ``majority``, the probability that most raters say foreground, or ``expected``, the expected
            fraction of raters who do.
        ties: how ``majority`` counts the level R/2 of an even R: ``background``, ``foreground`` or ``half``.

    Raises:
        ValueError: for an unknown family, rule or tie rule.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, family: str, raters: int, *, rule: str = "majority", ties: str = "background") -> None:
        get_family(family)
        check_ties(ties)
        if rule not in ("majority", "expected"):
            raise ValueError(f"OrdinalToForeground: 'rule' must be 'majority' or 'expected', got {rule!r}.")
        self.family = family
        self.raters = raters
        self.rule = rule
        self.ties = ties

    def levels(self, outputs: Tensor) -> Tensor:
        """Return level probabilities ``[R + 1, *spatial]`` of outputs ``[C, *spatial]``, meta data kept."""
        levels = level_probabilities(outputs[None], family=self.family, raters=self.raters)[0]
        result: Tensor = convert_to_dst_type(levels, outputs, dtype=levels.dtype)[0]
        return result

    def foreground(self, levels: Tensor) -> Tensor:
        """Return foreground probabilities ``[1, *spatial]`` of level probabilities ``[R + 1, *spatial]``."""
        return foreground_probability(levels, self.rule, ties=self.ties, dim=0)

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return foreground probabilities ``[1, *spatial]`` in [0, 1], float32 or float64, meta data kept."""
        return self.foreground(self.levels(outputs))


class OrdinalToForegroundd(MapTransform):
    """Dictionary form of ``OrdinalToForeground``, with level and uncertainty maps on request.

    Args:
        keys: key of the outputs.
        family: as in ``OrdinalToForeground``.
        raters: as in ``OrdinalToForeground``.
        rule: as in ``OrdinalToForeground``.
        ties: as in ``OrdinalToForeground``.
        output_key: key that gets the foreground probability; by default it replaces the outputs.
        levels_key: key that gets the level probabilities ``[R + 1, *spatial]``, if given.
        entropy_key: key that gets the entropy of the levels (nats) ``[1, *spatial]``, if given.
        variance_key: key that gets the variance of the fraction of votes ``[1, *spatial]``, if given.
        allow_missing_keys: pass on samples without outputs unchanged.
    """

    backend = OrdinalToForeground.backend

    def __init__(
        self,
        keys: KeysCollection,
        family: str,
        raters: int,
        *,
        rule: str = "majority",
        ties: str = "background",
        output_key: Hashable | None = None,
        levels_key: Hashable | None = None,
        entropy_key: Hashable | None = None,
        variance_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"OrdinalToForegroundd: 'keys' must name one key, got {self.keys}.")
        self.output_key = output_key
        self.levels_key = levels_key
        self.entropy_key = entropy_key
        self.variance_key = variance_key
        self.convert = OrdinalToForeground(family, raters, rule=rule, ties=ties)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the maps asked for."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            levels = self.convert.levels(sample[key])
            sample[key if self.output_key is None else self.output_key] = self.convert.foreground(levels)
            if self.levels_key is not None:
                sample[self.levels_key] = levels
            if self.entropy_key is not None:
                sample[self.entropy_key] = level_entropy(levels, dim=0)
            if self.variance_key is not None:
                sample[self.variance_key] = vote_variance(levels, dim=0)
        return sample
