# SPDX-License-Identifier: Apache-2.0
"""Post-hoc calibrators: increasing maps of the foreground probability, frozen and written as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

__all__ = [
    "CALIBRATORS",
    "LOGIT_BOUND",
    "Calibrator",
    "IsotonicCalibrator",
    "PlattCalibrator",
    "TemperatureCalibrator",
    "bounded_logit",
    "calibrator_from_dict",
]

LOGIT_BOUND = 25 * math.log(2.0)
"""Logits are bounded to this on both sides: the probability 2^-25, half a step of float32 below one."""


class Calibrator(Protocol):
    """An increasing map of the foreground probability."""

    method: ClassVar[str]

    def __call__(self, probability: Tensor) -> Tensor:
        """Return calibrated probabilities of the same shape, on the same device."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return what `calibrator_from_dict` reads; JSON holds it exactly."""
        ...


@dataclass(frozen=True)
class TemperatureCalibrator:
    r"""Temperature scaling of the foreground probability, \( q = \sigma(\mathrm{logit}(p) / T) \).

    For an ordinal network the logit is that of the foreground probability, whatever rule it came from; the outputs of
    the network and the probabilities of its levels stay as they are. `p = 1/2` stays 1/2, and the order of the voxels
    stays. Logits are bounded to +-17.33 (`LOGIT_BOUND`), so 0 and 1 count as 2^-25 and 1 - 2^-25 and can be softened.
    Source: Guo et al. 2017 (arXiv:1706.04599).

    Call: a tensor of any shape and device, in [0, 1]. float64 stays float64, anything less precise is computed in and
    returned as float32, under autocast too. NaN stays NaN. Integers raise `TypeError`.

    Args:
        temperature: T, above 0; above 1 moves probabilities towards 1/2.

    Raises:
        ValueError: unless T is a finite number above 0.
    """

    method: ClassVar[str] = "temperature"
    temperature: float

    def __post_init__(self) -> None:
        _check_positive("TemperatureCalibrator", "temperature", self.temperature)

    def __call__(self, probability: Tensor) -> Tensor:
        """Return calibrated probabilities."""
        p = _as_floating(probability, function="TemperatureCalibrator")
        return torch.sigmoid(bounded_logit(p) / self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """Return the method and its parameter."""
        return {"method": self.method, "temperature": self.temperature}


@dataclass(frozen=True)
class PlattCalibrator:
    r"""Platt scaling of the foreground probability, \( q = \sigma(a\, \mathrm{logit}(p) + b) \).

    Temperature scaling with a shift that corrects a foreground rate predicted too high or too low. Logits are bounded
    and tensors treated as in `TemperatureCalibrator`; the order of the voxels stays. Source: Platt 1999, Probabilistic
    outputs for support vector machines, in Advances in Large Margin Classifiers.

    Args:
        slope: a, above 0.
        intercept: b.

    Raises:
        ValueError: unless the slope is a finite number above 0 and the intercept is finite.
    """

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float

    def __post_init__(self) -> None:
        _check_positive("PlattCalibrator", "slope", self.slope)
        if not math.isfinite(self.intercept):
            raise ValueError(f"PlattCalibrator: 'intercept' must be finite, got {self.intercept!r}.")

    def __call__(self, probability: Tensor) -> Tensor:
        """Return calibrated probabilities."""
        p = _as_floating(probability, function="PlattCalibrator")
        return torch.sigmoid(bounded_logit(p) * self.slope + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        """Return the method and its parameters."""
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class IsotonicCalibrator:
    """Isotonic regression: the nondecreasing function through `(thresholds, values)`, linear in between, flat outside.

    Voxels whose probabilities the fit could not order keep no order among themselves (ties), so the AUC may change a
    little. 0 and 1 are numbers like any other. Tensors are treated as in `TemperatureCalibrator`. Source: Zadrozny and
    Elkan 2002 (doi:10.1145/775047.775151).

    Args:
        thresholds: increasing numbers in [0, 1], at least one.
        values: calibrated probability at each, in [0, 1], nondecreasing.

    Raises:
        ValueError: for numbers in another order or range, or unequal lengths.
    """

    method: ClassVar[str] = "isotonic"
    thresholds: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.thresholds or len(self.thresholds) != len(self.values):
            raise ValueError(
                "IsotonicCalibrator: 'thresholds' and 'values' must hold as many numbers, at least one, "
                f"got {len(self.thresholds)} and {len(self.values)}."
            )
        for name, numbers in (("thresholds", self.thresholds), ("values", self.values)):
            if not all(0 <= number <= 1 for number in numbers):
                raise ValueError(
                    f"IsotonicCalibrator: '{name}' must lie in [0, 1], got {min(numbers)} to {max(numbers)}."
                )
        if not all(a < b for a, b in pairwise(self.thresholds)) or not all(a <= b for a, b in pairwise(self.values)):
            raise ValueError("IsotonicCalibrator: 'thresholds' must increase and 'values' must not decrease.")

    def __call__(self, probability: Tensor) -> Tensor:
        """Return calibrated probabilities."""
        p = _as_floating(probability, function="IsotonicCalibrator")
        x = torch.tensor(self.thresholds, dtype=p.dtype, device=p.device)
        y = torch.tensor(self.values, dtype=p.dtype, device=p.device)
        above = torch.searchsorted(x, p.contiguous(), right=True)
        left, right = (above - 1).clamp_min(0), above.clamp_max(len(x) - 1)
        width = x[right] - x[left]
        share = torch.where(width > 0, (p - x[left]) / width, 0.0 * p)  # 0 p: NaN stays NaN
        return torch.minimum(y[left] + share.clamp(0, 1) * (y[right] - y[left]), y[right])

    def to_dict(self) -> dict[str, Any]:
        """Return the method and its nodes."""
        return {"method": self.method, "thresholds": list(self.thresholds), "values": list(self.values)}


CALIBRATORS: dict[str, type[TemperatureCalibrator] | type[PlattCalibrator] | type[IsotonicCalibrator]] = {
    each.method: each for each in (TemperatureCalibrator, PlattCalibrator, IsotonicCalibrator)
}
"""The methods by name."""


def calibrator_from_dict(content: Mapping[str, Any]) -> Calibrator:
    """Make a calibrator from what its `to_dict` returned.

    Raises:
        ValueError: unknown method, or parameters that are missing, unknown or impossible.
    """
    name = "calibrator_from_dict"
    found = dict(content)
    method = found.pop("method", None)
    if method not in CALIBRATORS:
        raise ValueError(f"{name}: 'method' must be one of {', '.join(CALIBRATORS)}, got {method!r}.")
    try:
        options: dict[str, Any] = {
            key: tuple(map(float, v)) if isinstance(v, list) else float(v) for key, v in found.items()
        }
        return CALIBRATORS[method](**options)
    except TypeError as error:
        raise ValueError(f"{name}: the parameters of {method} do not fit, got {', '.join(found)}: {error}") from error


def bounded_logit(probability: Tensor) -> Tensor:
    """Return `log(p / (1 - p))`, bounded to +-`LOGIT_BOUND`; float32 or float64 as `probability` is."""
    return (probability.log() - torch.log1p(-probability)).clamp(-LOGIT_BOUND, LOGIT_BOUND)


def _as_floating(probability: Tensor, *, function: str) -> Tensor:
    """A plain tensor in float32 or float64."""
    if not probability.is_floating_point():
        raise TypeError(f"{function}: 'probability' must be floating point, got dtype {probability.dtype}.")
    plain = probability.as_subclass(Tensor)
    return plain if plain.dtype == torch.float64 else plain.float()


def _check_positive(function: str, argument: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{function}: '{argument}' must be a finite number above 0, got {value!r}.")
