"""What a made photo shows: an object, which its class is, before a landscape, which its place decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geossl.data.synth.scene import SUPERSAMPLING, fractal

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from geossl.data.synth.planet import Place

    Array = NDArray[Any]

CLASSES = {
    "balloon": ("disc", "plain"),
    "beach_ball": ("disc", "stripes"),
    "ladybug": ("disc", "dots"),
    "crate": ("square", "plain"),
    "mattress": ("square", "stripes"),
    "domino": ("square", "dots"),
    "tent": ("triangle", "plain"),
    "teepee": ("triangle", "stripes"),
    "tire": ("ring", "plain"),
    "life_buoy": ("ring", "stripes"),
    "windmill": ("cross", "plain"),
    "signpost": ("cross", "stripes"),
    "kite": ("star", "plain"),
    "starfish": ("star", "dots"),
    "Christmas_stocking": ("triangle", "dots"),
    "sombrero": ("ring", "dots"),
}
"""Outline and pattern of each class, the commonest first."""
COLOURS = np.array([(75, 12, 10), (85, 62, 8), (10, 25, 70), (70, 25, 60), (95, 95, 92), (8, 45, 50)]) / 100
"""Of any object: they say nothing of the class."""


def draw_photo(category: str, place: Place, rng: Generator, *, size: int) -> Array:
    """A photo, uint8 [size, size, 3]."""
    n = SUPERSAMPLING * size
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n
    x, y = np.meshgrid(axis, axis)
    # The sun at some hour of some day; low, it is dim and warm.
    declination = rng.uniform(-23.4, 23.4)
    noon = np.radians(max(4.0, 90 - abs(place.lat - declination)))
    height = float(np.sin(noon)) * rng.uniform(0.55, 1.0)
    light = (0.45 + 0.75 * height) * np.array([1.0, 0.85 + 0.15 * height, 0.65 + 0.35 * height])
    image = _landscape(place, rng, x, y, cold=place.temperature + 0.4 * declination * np.sign(place.lat))
    _object(image, category, rng, x, y)
    image = image.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean(axis=(1, 3)) * light
    image += 0.005 * rng.standard_normal(image.shape, dtype=np.float32)
    shown = 255 * (1 - np.exp(-2.2 * image.clip(0)))
    return np.asarray((shown + 0.5).astype(np.uint8))


def _landscape(place: Place, rng: Generator, x: Array, y: Array, *, cold: float) -> Array:
    """Sky, hills, ground and trees, float32 [n, n, 3]; `cold` is the day's temperature, degrees Celsius."""
    biome = place.biome
    clouds, rough = (fractal(rng, len(x), slope) for slope in (2.0, 0.9))
    horizon = np.float32(rng.uniform(0.32, 0.5))
    hills = horizon - np.float32(0.02 + 0.22 * place.relief) * np.abs(clouds[-1])
    cloud = (0.25 * clouds + np.float32(rng.uniform(0, 0.6))).clip(0, 0.8)[..., None]
    sky = _colour(0.20, 0.45, 0.95) + y[:, :1, None] * _colour(0.50, 0.30, -0.15)
    image = sky + (np.float32(0.75) - sky) * cloud
    wet = rng.uniform(0, 1)
    green = (1 - biome.dry * wet) * float(1 / (1 + np.exp(-(cold - 3) / 3)))
    herbs = green * _colour(0.10, 0.26, 0.06) + (1 - green) * _colour(0.42, 0.35, 0.18)
    ground = (1 - biome.herbs) * 1.2 * _colour(*biome.soil[:3]) + biome.herbs * herbs
    if cold < 0:
        ground = 0.2 * ground + 0.8 * _colour(0.85, 0.88, 0.92)
    image = np.where((y > hills)[..., None], 0.5 * ground + 0.25 * sky, image)
    low = round(float(horizon) * len(x))
    image[low:] = ground * (1 + np.float32(0.18) * rough[low:, :, None])
    leaves = _colour(0.05, 0.16, 0.05) if biome.evergreen > 0.5 or green > 0.4 else _colour(0.28, 0.20, 0.10)
    for _ in range(rng.poisson(14 * biome.trees)):
        at, foot, tall = rng.uniform(0, 1), horizon + rng.uniform(0, 0.12), rng.uniform(0.12, 0.3)
        up = (foot - y) / tall
        if biome.evergreen > 0.5 and cold < 15:  # a conifer
            crown = (up > 0) & (up < 1) & (np.abs(x - at) < 0.25 * tall * (1 - up))
        else:
            crown = (x - at) ** 2 + (y - foot + 0.7 * tall) ** 2 < (0.33 * tall) ** 2
            image[(up > 0) & (up < 0.6) & (np.abs(x - at) < 0.03 * tall)] = (0.12, 0.08, 0.05)
        image[crown] = leaves * rng.uniform(0.7, 1.3)
    return np.asarray(image)


def _object(image: Array, category: str, rng: Generator, x: Array, y: Array) -> None:
    """Draw the object into the image: anywhere, in any two colours, turned a little."""
    outline, pattern = CLASSES[category]
    angle, reach = rng.uniform(-0.35, 0.35), rng.uniform(0.24, 0.36)
    at_x, at_y = rng.uniform(0.36, 0.64), rng.uniform(0.42, 0.64)
    u = ((x - at_x) * np.cos(angle) + (y - at_y) * np.sin(angle)) / reach
    v = ((y - at_y) * np.cos(angle) - (x - at_x) * np.sin(angle)) / reach
    inside = _outline(outline, u, v)
    u, v = u[inside], v[inside]
    marked = {
        "plain": np.zeros(len(u), bool),
        "stripes": np.floor(v * 3.5) % 2 == 0,
        "dots": (u * 2.2 % 1 - 0.5) ** 2 + (v * 2.2 % 1 - 0.5) ** 2 < 0.09,
    }[pattern]
    first, second = COLOURS[rng.choice(len(COLOURS), 2, replace=False)]
    image[inside] = np.where(marked[:, None], second, first) * (1 - 0.25 * (u + v)[:, None])


def _colour(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)


def _outline(name: str, u: Array, v: Array) -> Array:
    """Which points, bool [n, n], are of the object: u to the right, v down, 1 is its reach."""
    if name == "disc":
        return np.asarray(u**2 + v**2 < 0.9)
    if name == "square":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) < 0.85)
    if name == "triangle":
        return np.asarray((np.abs(v) < 0.9) & (np.abs(u) < (v + 0.9) * 0.55))
    if name == "ring":
        return np.asarray(np.abs(np.hypot(u, v) - 0.75) < 0.25)
    if name == "cross":
        return np.asarray((np.minimum(np.abs(u), np.abs(v)) < 0.26) & (np.maximum(np.abs(u), np.abs(v)) < 1))
    return np.asarray(np.hypot(u, v) < 0.62 + 0.38 * np.cos(5 * np.arctan2(u, -v)))  # a star
