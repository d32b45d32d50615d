# SPDX-License-Identifier: Apache-2.0
"""Geometry of phantoms and simulated raters whose vote probability is known in closed form.

A lesion is a signed distance ``s(x)`` (positive inside, in the unit of ``spacing``) with a boundary
fuzziness ``f(x)`` in the same unit. Rater r marks the foreground

    m_r(x) = 1 if the rater sees the lesion and s(x) + b_r + sigma_r(x) g_r(x) > 0

with the bias ``b_r = size_bias * radius``, ``sigma_r(x) = boundary_noise * f(x)`` and a stationary Gaussian
field ``g_r`` of mean 0 and variance 1 at every voxel. The probability of a vote is therefore exactly

    P(m_r(x) = 1) = (1 - miss_rate) * Phi((s(x) + b_r) / sigma_r(x)).

Works in any number of dimensions; arrays are NumPy, float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RaterStyle:
    """How a simulated rater draws. Lengths are relative to the lesion, so that styles do not depend on size.

    Args:
        name: rater identity in the manifest; becomes a folder name.
        size_bias: shift of the whole contour in mean lesion radii; positive draws larger.
        boundary_noise: standard deviation of the contour in units of the lesion's local fuzziness; 0 draws
            the same contour every time.
        smoothness: correlation length of the contour's deviations in mean lesion radii; small is jagged.
        miss_rate: probability that the rater overlooks the lesion and leaves an empty mask.

    Raises:
        ValueError: if a value is outside its range or ``name`` cannot be a folder name.
    """

    name: str
    size_bias: float = 0.0
    boundary_noise: float = 1.0
    smoothness: float = 0.3
    miss_rate: float = 0.0

    def __post_init__(self) -> None:
        reserved = {"", ".", "..", "images", "truth"}
        if self.name in reserved or any(sign in self.name for sign in '/\\:*?"<>|'):
            raise ValueError(f"RaterStyle: 'name' must be usable as a folder name, got {self.name!r}.")
        if not np.isfinite(self.size_bias):
            raise ValueError(f"RaterStyle: 'size_bias' must be finite, got {self.size_bias}.")
        if not (np.isfinite(self.boundary_noise) and self.boundary_noise >= 0):
            raise ValueError(f"RaterStyle: 'boundary_noise' must be >= 0, got {self.boundary_noise}.")
        if not (np.isfinite(self.smoothness) and self.smoothness >= 0):
            raise ValueError(f"RaterStyle: 'smoothness' must be >= 0, got {self.smoothness}.")
        if not 0 <= self.miss_rate <= 1:
            raise ValueError(f"RaterStyle: 'miss_rate' must be in [0, 1], got {self.miss_rate}.")


DEFAULT_RATERS: tuple[RaterStyle, ...] = (
    RaterStyle("careful", size_bias=0.00, boundary_noise=0.8, smoothness=0.30),
    RaterStyle("generous", size_bias=0.10, boundary_noise=1.0, smoothness=0.40),
    RaterStyle("tight", size_bias=-0.08, boundary_noise=1.0, smoothness=0.35),
    RaterStyle("detailed", size_bias=-0.02, boundary_noise=1.1, smoothness=0.20),
    RaterStyle("hasty", size_bias=0.04, boundary_noise=1.6, smoothness=0.70, miss_rate=0.03),
    RaterStyle("rounded", size_bias=0.02, boundary_noise=0.9, smoothness=0.90),
    RaterStyle("cautious", size_bias=0.15, boundary_noise=1.2, smoothness=0.50),
    RaterStyle("novice", size_bias=-0.05, boundary_noise=1.8, smoothness=0.25, miss_rate=0.06),
)


@dataclass(frozen=True)
class Lesion:
    """Signed distance and fuzziness of one phantom lesion.

    Attributes:
        distance: ``[*spatial]``, positive inside, in the unit of ``spacing``.
        fuzziness: ``[*spatial]`` > 0, local width of the boundary, same unit.
        radius: radius of the disk or ball of the same area or volume, same unit.
        spacing: voxel size along each axis.
    """

    distance: FloatArray
    fuzziness: FloatArray
    radius: float
    spacing: tuple[float, ...]


def gaussian_field(
    shape: Sequence[int], lengths: Sequence[float] | FloatArray, generator: np.random.Generator
) -> FloatArray:
    """Draw a periodic stationary Gaussian field of mean 0 and variance exactly 1.

    Args:
        shape: size of the field.
        lengths: standard deviation of the smoothing kernel along each axis in voxels; 0 is white noise.
        generator: source of randomness.

    Returns:
        float64 array of ``shape``.
    """
    spectrum = np.fft.rfftn(generator.standard_normal(tuple(shape)))
    variance = 1.0
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        response = np.exp(-2.0 * (np.pi * length * np.fft.fftfreq(n)) ** 2)
        variance *= float(np.mean(response**2))
        half = response[: spectrum.shape[axis]]
        spectrum *= half.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    field = np.fft.irfftn(spectrum, s=tuple(shape), axes=tuple(range(len(shape))))
    return np.asarray(field / np.sqrt(variance), dtype=np.float64)


def signed_distance(mask: NDArray[np.bool_], spacing: Sequence[float]) -> FloatArray:
    """Euclidean distance to the border of ``mask``, positive inside, zero half-way between the two sides."""
    half = 0.5 * float(np.mean(spacing))
    inside = ndimage.distance_transform_edt(mask, sampling=tuple(spacing))
    outside = ndimage.distance_transform_edt(~mask, sampling=tuple(spacing))
    signed = np.where(mask, inside - half, half - outside)
    return np.asarray(signed, dtype=np.float64)


def make_lesion(
    shape: Sequence[int],
    spacing: Sequence[float],
    generator: np.random.Generator,
    *,
    radius: tuple[float, float] = (0.17, 0.30),
    irregularity: float = 0.22,
    fuzziness: tuple[float, float] = (0.03, 0.22),
) -> Lesion:
    """Draw an irregular lesion near the center of a field of view.

    Args:
        shape: ``[*spatial]`` size in voxels.
        spacing: voxel size along each axis.
        generator: source of randomness.
        radius: range of the mean radius relative to the shortest side.
        irregularity: amplitude of the boundary relative to the radius.
        fuzziness: range of the boundary width relative to the radius; the width drifts along the boundary.

    Returns:
        The lesion; its distance is computed on a grid twice as fine and averaged.
    """
    side = float(min(n * s for n, s in zip(shape, spacing, strict=True)))
    mean_radius = side * generator.uniform(*radius)
    fine_shape, fine_spacing = [2 * n for n in shape], [s / 2 for s in spacing]
    axes = []
    for n, s in zip(fine_shape, fine_spacing, strict=True):
        center = n * s / 2 + generator.uniform(-0.3, 0.3) * (side / 2 - mean_radius)
        axes.append((np.arange(n) + 0.5) * s - center)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    stretch = generator.uniform(0.8, 1.25, size=len(shape))
    stretch /= np.prod(stretch) ** (1 / len(shape))
    rotation = np.linalg.qr(generator.standard_normal((len(shape), len(shape))))[0]
    grid = np.tensordot(rotation, grid, axes=1) / stretch.reshape(-1, *[1] * len(shape))
    rough = sum(
        weight * gaussian_field(fine_shape, [length * mean_radius / s for s in fine_spacing], generator)
        for weight, length in ((0.8, 0.55), (0.5, 0.22), (0.15, 0.08))
    )
    inside = np.linalg.norm(grid, axis=0) < mean_radius * (1 + irregularity * np.clip(rough, -2.2, 2.2))
    inside = _largest_component(inside)
    distance = ndimage.gaussian_filter(signed_distance(inside, fine_spacing), 1.0)
    low, high = fuzziness
    drift = gaussian_field(shape, [0.8 * mean_radius / s for s in spacing], generator)
    level = special.ndtr(1.3 * drift + generator.normal(-0.2, 0.5))
    effective = _equivalent_radius(float(inside.sum() * np.prod(fine_spacing)), len(shape))
    return Lesion(
        distance=_halve(distance),
        fuzziness=effective * (low + (high - low) * level),
        radius=effective,
        spacing=tuple(float(s) for s in spacing),
    )


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(mask), dtype=bool)


def _equivalent_radius(volume: float, dimensions: int) -> float:
    unit_ball = np.pi ** (dimensions / 2) / special.gamma(dimensions / 2 + 1)
    return float((volume / unit_ball) ** (1 / dimensions))


def _halve(fine: FloatArray) -> FloatArray:
    shape = [part for n in fine.shape for part in (n // 2, 2)]
    return np.asarray(fine.reshape(shape).mean(axis=tuple(range(1, 2 * fine.ndim, 2))), dtype=np.float64)


def vote_probability(lesion: Lesion, style: RaterStyle) -> FloatArray:
    """Probability that a rater of this style votes foreground, ``(1 - miss) Phi((s + b) / sigma)``.

    With ``boundary_noise = 0`` the probability is the step ``s + b > 0`` times ``1 - miss_rate``.

    Returns:
        float64 ``[*spatial]`` in [0, 1].
    """
    shifted = lesion.distance + style.size_bias * lesion.radius
    if style.boundary_noise == 0:
        return np.where(shifted > 0, 1.0 - style.miss_rate, 0.0)
    z = shifted / (style.boundary_noise * lesion.fuzziness)
    return np.asarray((1.0 - style.miss_rate) * special.ndtr(z), dtype=np.float64)


def true_vote_probability(lesion: Lesion, styles: Sequence[RaterStyle]) -> NDArray[np.float32]:
    """Mean of :func:`vote_probability` over the raters: the expectation of votes / raters at each voxel."""
    if not styles:
        raise ValueError("true_vote_probability: 'styles' must name at least one rater, got none.")
    return np.mean([vote_probability(lesion, style) for style in styles], axis=0).astype(np.float32)


def draw_mask(lesion: Lesion, style: RaterStyle, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the mask of one rater; its expectation is :func:`vote_probability`.

    Returns:
        uint8 {0, 1} ``[*spatial]``; empty when the rater missed the lesion.
    """
    seen = generator.random() >= style.miss_rate
    lengths = [style.smoothness * lesion.radius / s for s in lesion.spacing]
    field = gaussian_field(lesion.distance.shape, lengths, generator)
    shifted = lesion.distance + style.size_bias * lesion.radius
    mask = shifted + style.boundary_noise * lesion.fuzziness * field > 0
    return (mask & seen).astype(np.uint8)
