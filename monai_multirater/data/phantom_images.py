# SPDX-License-Identifier: Apache-2.0
"""Images of phantom lesions: dermoscopy-like RGB in 2D, CT-like Hounsfield units in 3D."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage, special

from monai_multirater.data.phantom_shapes import FloatArray, Lesion, gaussian_field

_SKIN = np.array([[224, 176, 152], [236, 196, 176], [206, 152, 124], [232, 182, 170]], dtype=np.float64)
_LIGHT_PIGMENT = np.array([[172, 116, 84], [158, 98, 72], [182, 128, 100]], dtype=np.float64)
_DARK_PIGMENT = np.array([[96, 58, 44], [74, 46, 40], [112, 70, 52], [84, 62, 66]], dtype=np.float64)


def render_dermoscopy(lesion: Lesion, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Render a 2D lesion as a dermoscopy-like picture.

    The pigment fades over the lesion's own fuzziness, so that the edge is blurred where raters differ.
    Skin texture, uneven pigment with a network, hairs, vignetting and sensor noise lie over it.

    Args:
        lesion: 2D lesion.
        generator: source of randomness.

    Returns:
        uint8 RGB ``[H, W, 3]``.
    """
    shape = lesion.distance.shape
    unit = min(shape) / 128
    skin = _skin(shape, unit, generator)
    pigment = _pigment(lesion, unit, generator)
    opacity = special.ndtr(lesion.distance / (0.9 * lesion.fuzziness))[..., None]
    image = skin * (1 - opacity) + pigment * opacity
    image = _draw_hairs(image, unit, generator)
    image = ndimage.gaussian_filter(image, (0.45 * unit, 0.45 * unit, 0))
    image = image * _vignette(shape, generator)[..., None]
    image = image + generator.normal(0, 3.0, size=image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _skin(shape: tuple[int, ...], unit: float, generator: np.random.Generator) -> FloatArray:
    tone = _SKIN[generator.integers(len(_SKIN))] + generator.normal(0, 5, size=3)
    redness = gaussian_field(shape, [18 * unit] * 2, generator)[..., None] * np.array([2.0, -5.0, -5.0])
    shade = 5.0 * gaussian_field(shape, [30 * unit] * 2, generator) + 2.5 * gaussian_field(
        shape, [1.1 * unit] * 2, generator
    )
    lines = np.abs(gaussian_field(shape, [2.2 * unit, 3.2 * unit], generator))
    shade = shade - 7.0 * np.exp(-((lines / 0.22) ** 2))
    return np.asarray(tone + redness + shade[..., None])


def _pigment(lesion: Lesion, unit: float, generator: np.random.Generator) -> FloatArray:
    shape = lesion.distance.shape
    light = _LIGHT_PIGMENT[generator.integers(len(_LIGHT_PIGMENT))] + generator.normal(0, 6, size=3)
    dark = _DARK_PIGMENT[generator.integers(len(_DARK_PIGMENT))] + generator.normal(0, 6, size=3)
    depth = np.clip(lesion.distance / lesion.radius, -0.3, 1.0)
    blotches = gaussian_field(shape, [0.28 * lesion.radius] * 2, generator)
    mix = special.expit(2.2 * (1.1 * depth + 0.55 * blotches - generator.uniform(0.1, 0.6)))
    mesh = np.abs(gaussian_field(shape, [2.0 * unit] * 2, generator))
    network = generator.uniform(6, 20) * np.exp(-((mesh / 0.3) ** 2))
    dots = gaussian_field(shape, [1.3 * unit] * 2, generator) > generator.uniform(2.0, 2.8)
    spots = 28.0 * ndimage.gaussian_filter(dots.astype(np.float64), 0.6 * unit)
    color = light * (1 - mix[..., None]) + dark * mix[..., None]
    return np.asarray(color - (network + spots)[..., None] * np.array([1.0, 0.85, 0.75]))


def _draw_hairs(image: FloatArray, unit: float, generator: np.random.Generator) -> FloatArray:
    count = int(generator.choice([0, 0, 2, 4, 7, 11]))
    if count == 0:
        return image
    scale = 4
    height, width = image.shape[:2]
    layer = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(layer)
    t = np.linspace(0, 1, 40)[:, None]
    angle = generator.uniform(0, np.pi)
    for _ in range(count):
        turn = angle + generator.normal(0, 0.5)
        step = np.array([np.cos(turn), np.sin(turn)]) * generator.uniform(0.35, 0.9) * max(height, width)
        start = generator.uniform(-0.15, 0.95, size=2) * [width, height]
        bend = start + step / 2 + generator.normal(0, 0.10, size=2) * [width, height]
        curve = ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * (start + step)) * scale
        thickness = max(1, round(generator.uniform(0.6, 1.3) * unit * scale))
        pen.line([tuple(p) for p in curve.tolist()], fill=int(generator.integers(150, 245)), width=thickness)
    small = np.asarray(layer.resize((width, height), Image.Resampling.BOX), dtype=np.float64)
    alpha = small[..., None] / 255
    return np.asarray(image * (1 - alpha) + np.array([44.0, 32.0, 28.0]) * alpha)


def _vignette(shape: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
    rows, columns = (np.linspace(-1, 1, n) - generator.normal(0, 0.05) for n in shape)
    radius = np.hypot(rows[:, None], columns[None, :])
    shade = 1 - generator.uniform(0.05, 0.28) * np.clip(radius - 0.35, 0, None) ** 2
    if generator.random() < 0.35:
        shade = shade * special.expit((generator.uniform(1.12, 1.30) - radius) * 45)
    return np.asarray(shade)


def render_ct(lesion: Lesion, generator: np.random.Generator) -> NDArray[np.int16]:
    """Render a 3D lesion as a nodule in lung tissue, in Hounsfield units.

    Args:
        lesion: 3D lesion, spacing in millimeters.
        generator: source of randomness.

    Returns:
        int16 ``[X, Y, Z]`` Hounsfield units, air -1000, soft tissue about 40.
    """
    shape = lesion.distance.shape
    spacing = np.asarray(lesion.spacing)
    lung = generator.uniform(-880, -820) + 18 * gaussian_field(shape, 6.0 / spacing, generator)
    lung = lung + 22 * gaussian_field(shape, 1.2 / spacing, generator)
    vessels = _vessels(lesion, generator)
    volume = lung * (1 - vessels) + generator.uniform(10, 60) * vessels
    wall = _chest_wall(lesion, generator)
    volume = volume * (1 - wall) + (45 + 12 * gaussian_field(shape, 2.0 / spacing, generator)) * wall
    part_solid = generator.random() < 0.3
    density = generator.uniform(-480, -300) if part_solid else generator.uniform(-40, 60)
    texture = 25 * gaussian_field(shape, 1.5 / spacing, generator)
    tissue = np.full(shape, density) + texture
    if part_solid:
        core = special.ndtr((lesion.distance - 0.45 * lesion.radius) / (0.2 * lesion.radius))
        tissue = tissue * (1 - core) + generator.uniform(-20, 40) * core
    opacity = special.ndtr(lesion.distance / (0.9 * lesion.fuzziness))
    volume = np.maximum(volume, volume * (1 - opacity) + tissue * opacity)
    volume = ndimage.gaussian_filter(volume, 0.45 / spacing)
    volume = volume + generator.uniform(14, 30) * gaussian_field(shape, 0.45 / spacing, generator)
    return np.clip(np.rint(volume), -1024, 3071).astype(np.int16)


def _vessels(lesion: Lesion, generator: np.random.Generator) -> FloatArray:
    """Opacity of tapering tubes that cross the field of view; two of them start inside the nodule."""
    shape, spacing = lesion.distance.shape, np.array(lesion.spacing)
    extent = np.array(shape) * spacing
    inside = np.argwhere(lesion.distance > 0)
    gap = np.full(shape, 10.0)
    for index in range(int(generator.integers(6, 11))):
        start = generator.uniform(0, 1, size=3) * extent
        direction = generator.standard_normal(3)
        direction /= np.linalg.norm(direction)
        if index < 2:
            start = (inside[generator.integers(len(inside))] + 0.5) * spacing
        thickness = generator.uniform(0.5, 1.5)
        bend = generator.normal(0, 0.035, size=3)
        for t in np.arange(0, 1.2 * extent.max(), 0.8):
            point = start + direction * t + bend * t * t / 4
            if ((point < -3) | (point > extent + 3)).any():
                break
            _add_ball(gap, point, max(0.35, thickness * (1 - 0.6 * t / extent.max())), spacing)
    return np.asarray(special.ndtr(-gap / 0.45), dtype=np.float64)


def _add_ball(gap: FloatArray, center: FloatArray, radius: float, spacing: FloatArray) -> None:
    """Lower ``gap``, the distance to the nearest tube's surface, around one ball of a tube."""
    reach = radius + 1.5
    low = np.maximum(np.floor((center - reach) / spacing).astype(int), 0)
    high = np.minimum(np.ceil((center + reach) / spacing).astype(int) + 1, gap.shape)
    if (low >= high).any():
        return
    axes = [(np.arange(a, b) + 0.5) * s - c for a, b, s, c in zip(low, high, spacing, center, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    window = gap[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    np.minimum(window, np.sqrt(x * x + y * y + z * z) - radius, out=window)


def _chest_wall(lesion: Lesion, generator: np.random.Generator) -> FloatArray:
    """Opacity of soft tissue behind a curved pleura; absent in half of the cases, never inside the lesion."""
    shape, spacing = lesion.distance.shape, np.array(lesion.spacing)
    if generator.random() < 0.5:
        return np.zeros(shape)
    x, y, _ = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij")
    angle = generator.uniform(0, 2 * np.pi)
    across, along = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    side = float(shape[0] * spacing[0])
    depth = (across - generator.uniform(0.38, 0.46) + 0.5 * along**2) * side
    depth = np.minimum(depth, -lesion.distance - 2.0)
    return np.asarray(special.ndtr(depth / 0.7))
