"""The globe on paper: projections, and the land under the maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from geossl.geo import EARTH_RADIUS_KM
from geossl.viz.summary import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KM_A_DEGREE = EARTH_RADIUS_KM * np.pi / 180
LAND, SEA, LINES = "#e9e7e2", "#ffffff", "#c9ccd1"
REGION = 60.0
"""Degrees: points that span less, on both axes, are shown by themselves."""
POLAR = 75.0
"""Degrees: beyond this latitude a region is not, as its meridians are far from parallel."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """From degrees to kilometres on the map: Equal Earth for the globe, which keeps areas; for a region, degrees scaled
    as in its middle, which nearly does.
    """

    middle: tuple[float, float] | None
    """Latitude and longitude of a region's middle, degrees; None: the globe."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom and top of the map, kilometres."""

    def __call__(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X and y of points, kilometres."""
        if self.middle is None:
            return equal_earth(lat, lon)
        lat0, lon0 = self.middle
        around = (np.asarray(lon) - lon0 + 180) % 360 - 180
        return around * KM_A_DEGREE * np.cos(np.radians(lat0)), (np.asarray(lat) - lat0) * KM_A_DEGREE

    @classmethod
    def of(cls, lat: np.ndarray, lon: np.ndarray) -> Projection:
        """The globe, or the region of these points, with a margin, where they are near together."""
        # The longitudes lie in the circle without the widest gap between two that follow each other.
        around = np.sort(lon % 360)
        gaps = np.diff(np.append(around, around[0] + 360))
        widest = int(np.argmax(gaps))
        wide, high = 360 - gaps[widest], np.ptp(lat)
        lat0 = (lat.min() + lat.max()) / 2
        if max(wide, high) >= REGION or abs(lat0) > POLAR:
            right, _ = equal_earth(np.zeros(1), np.full(1, 180.0))
            _, top = equal_earth(np.full(1, 90.0), np.zeros(1))
            return cls(middle=None, extent=(-right[0], right[0], -top[0], top[0]))
        lon0 = (around[(widest + 1) % len(around)] + wide / 2 + 180) % 360 - 180
        # A tenth more on each side, half a degree at least, and not too narrow a strip.
        across, up = wide * np.cos(np.radians(lat0)), high
        side = max(across, up)
        half = [max(0.6 * length, 0.35 * side, 0.5) * KM_A_DEGREE for length in (across, up)]
        return cls(middle=(float(lat0), float(lon0)), extent=(-half[0], half[0], -half[1], half[1]))


def equal_earth(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X and y in kilometres of points in degrees, by the Equal Earth projection: areas are those of the sphere.

    Šavrič, Patterson and Jenny: The Equal Earth map projection, 2018 (doi 10.1080/13658816.2018.1504949).
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    t = np.arcsin(np.sqrt(3) / 2 * np.sin(np.radians(lat)))
    t2 = t * t
    t6 = t2**3
    slope = a1 + 3 * a2 * t2 + t6 * (7 * a3 + 9 * a4 * t2)
    x = 2 * np.sqrt(3) / 3 * np.radians(lon) * np.cos(t) / slope
    y = t * (a1 + a2 * t2 + t6 * (a3 + a4 * t2))
    return EARTH_RADIUS_KM * x, EARTH_RADIUS_KM * y


def draw_land(axes: Axes, projection: Projection) -> None:
    """Set the axes up for a map: its extent, the land, and lines of latitude and longitude."""
    left, right, bottom, top = projection.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set(xticks=[], yticks=[])
    land = {"facecolor": LAND, "edgecolor": "none", "zorder": 0.5}
    if projection.middle is None:
        edge = np.linspace(-90, 90, 181)
        border = np.column_stack(equal_earth(np.r_[edge, edge[::-1]], np.repeat([180.0, -180.0], 181)))
        rim = PathPatch(Outline(border, closed=True), facecolor=SEA, edgecolor=LINES, linewidth=0.8, zorder=0.4)
        axes.add_patch(rim)
        for lon in range(-120, 121, 60):
            axes.plot(*equal_earth(edge, np.full(181, lon)), color=LINES, linewidth=0.4, zorder=0.6)
        for lat in range(-60, 61, 30):
            axes.plot(*equal_earth(np.full(2, lat), np.array([-180, 180])), color=LINES, linewidth=0.4, zorder=0.6)
        outline = _outline([np.column_stack(equal_earth(ring[:, 1], ring[:, 0])) for ring in _land()])
        axes.add_patch(PathPatch(outline, **land)).set_clip_path(rim)
        return
    lat0, lon0 = projection.middle
    scale = KM_A_DEGREE * np.array([np.cos(np.radians(lat0)), 1.0])
    for turn in (-360, 0, 360):
        axes.add_patch(PathPatch(_outline([(ring - [lon0 + turn, lat0]) * scale for ring in _land()]), **land))
    for side in axes.spines.values():
        side.set(visible=True, color=LINES)
    for axis, middle, unit, ends in ((axes.xaxis, lon0, scale[0], "EW"), (axes.yaxis, lat0, scale[1], "NS")):
        low, high = axis.get_view_interval() / unit + middle
        at = [value for value in MaxNLocator(6).tick_values(low, high) if low <= value <= high]
        axis.set_ticks([(value - middle) * unit for value in at], [_degrees(value, ends) for value in at])
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(color=LINES, linewidth=0.4, zorder=0.6)


def _degrees(value: float, ends: str) -> str:
    if ends == "EW":
        value = (value + 180) % 360 - 180
    return f"{abs(value):.6g}°{'' if value in {0, -180} else ends[0] if value > 0 else ends[1]}"


@cache
def _land() -> list[np.ndarray]:
    """Rings of the land's outline, float64 [n, 2] of longitude and latitude, no two points far apart."""
    with files("geossl.viz").joinpath("land.npz").open("rb") as file, np.load(file) as read:
        rings = np.split(read["points"].astype(np.float64), read["starts"][1:-1])
    return [_dense(ring) for ring in rings]


def _dense(ring: np.ndarray, degrees: float = 2.0) -> np.ndarray:
    """The ring with points on its long edges: what is straight in degrees is bent on a map."""
    steps = np.maximum(1, np.ceil(np.abs(np.diff(ring, axis=0)).max(axis=1) / degrees)).astype(int)
    starts = np.concatenate([[0], np.cumsum(steps)])
    at = np.arange(starts[-1] + 1)
    return np.column_stack([np.interp(at, starts, ring[:, axis]) for axis in (0, 1)])


def _outline(rings: list[np.ndarray]) -> Outline:
    codes = [np.r_[Outline.MOVETO, np.full(len(ring) - 2, Outline.LINETO), Outline.CLOSEPOLY] for ring in rings]
    return Outline(np.concatenate(rings), np.concatenate(codes))
