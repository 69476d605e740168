"""A place drawn from above: what each point of its ground is made of, the same at all dates."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from geossl.data.synth.planet import Place

    Array = NDArray[Any]

SUPERSAMPLING = 2  # scenes are drawn at twice the resolution and averaged: antialiasing and half-pixel shifts


class Surface(IntEnum):
    """What a point of the ground is made of; the date decides the colour."""

    GROUND = 0
    TREE = 1
    WATER = 2
    ASPHALT = 3
    CONCRETE = 4
    RED_ROOF = 5
    GREY_ROOF = 6
    WHITE_ROOF = 7
    PANEL = 8
    PALE_ROCK = 9
    DARK_ROCK = 10
    PAINT = 11
    LAWN = 12
    SAND = 13
    CROP = 14  # and the five after it: crops with other growing seasons


CROPS = 6
ROOFS = (Surface.RED_ROOF, Surface.GREY_ROOF, Surface.WHITE_ROOF)


class Scene:
    """A drawing of a place in units of the image's side, the origin in the image's centre.

    u, v [n, n]: coordinates in the structure's own frame (turned, mirrored, scaled); surface uint8 [n, n];
    height [n, n] (image sides) casts the shadows; texture [n, n] modulates brightness; warp [n, n] is a
    smooth field of unit variance, for outlines that nature drew; slope [2, n, n] the terrain's.
    """

    def __init__(self, place: Place, rng: Generator, *, size: int) -> None:
        n = SUPERSAMPLING * (size + 2 * margin(size))
        self.points = SUPERSAMPLING * size  # of an image's side
        axis = (np.arange(n, dtype=np.float32) + 0.5 - n / 2) / self.points
        self.x, self.y = np.meshgrid(axis, axis)
        angle, scale, mirror = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.15), rng.choice([-1, 1])
        turn = (float(np.cos(angle) / scale), float(np.sin(angle) / scale))
        self.u = self.x * turn[0] + self.y * turn[1]
        self.v = (self.y * turn[0] - self.x * turn[1]) * np.float32(mirror)
        self.warp = fractal(rng, n, 2.4)
        terrain = fractal(rng, n, 2.2)
        self.slope = np.array(np.gradient(terrain), dtype=np.float32)
        self.slope *= np.float32((0.1 + 0.5 * place.relief) / self.slope.std())
        fine = fractal(rng, n, 0.8)
        self.texture = np.float32(0.10) * fine
        self.surface = np.full((n, n), Surface.GROUND, dtype=np.uint8)
        self.height = np.zeros((n, n), dtype=np.float32)
        self.rng = rng
        clumps = 0.8 * terrain + 0.6 * fine
        share = place.biome.trees * rng.uniform(0.3, 1.6)
        self.paint(clumps > np.quantile(clumps, 1 - min(share, 0.9)), Surface.TREE, 0.012)

    def paint(self, where: Array, surface: int, height: float = 0.0) -> None:
        """Cover the points `where` (bool [n, n]) with a surface that stands `height` above the ground."""
        self.surface[where] = surface
        self.height[where] = height

    def box(self, u: float, v: float, half_u: float, half_v: float) -> Array:
        """Points of a rectangle around (u, v)."""
        return np.asarray((np.abs(self.u - u) < half_u) & (np.abs(self.v - v) < half_v))

    def disc(self, u: float, v: float, radius: float) -> Array:
        """Points of a disc around (u, v)."""
        return np.asarray((self.u - u) ** 2 + (self.v - v) ** 2 < radius**2)

    def ring(self, u: float, v: float, radius: float, half_width: float) -> Array:
        """Points of a ring around (u, v)."""
        return np.asarray(np.abs(np.hypot(self.u - u, self.v - v) - radius) < half_width)

    def roof(self) -> int:
        """A random roof."""
        return int(self.rng.choice(ROOFS))

    def crop(self) -> int:
        """A random crop."""
        return Surface.CROP + int(self.rng.integers(CROPS))


def margin(size: int) -> int:
    """Pixels drawn beyond each edge: room for shifts, odd sizes and the ends of shadows."""
    return 4 + size // 20


def fractal(rng: Generator, n: int, slope: float) -> Array:
    """Noise [n, n] float32 of unit variance whose amplitude falls with frequency to the power `slope`."""
    spectrum = np.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None]) * n
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(spectrum * (frequency + 1.0) ** -slope, s=(n, n)).astype(np.float32)
    return np.asarray(field / field.std())
