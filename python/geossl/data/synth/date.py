"""How a place looks on a day: season, snow, sun and shadows, haze and clouds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geossl.data.synth.scene import CROPS, ROOFS, SUPERSAMPLING, Surface, fractal

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from geossl.data.synth.planet import Place
    from geossl.data.synth.scene import Scene

    Array = NDArray[Any]


class Day(NamedTuple):
    """A moment at a place. `season` runs 0..1 from the coldest day; angles in radians, degrees Celsius."""

    time: datetime
    season: float
    temperature: float
    sun_elevation: float
    sun_azimuth: float  # clockwise from north


def draw_days(place: Place, rng: Generator) -> list[Day]:
    """`place.views` distinct moments of 2012 to 2018, about half past ten, with the sun above 12 degrees."""
    days = np.arange(365)
    latitude = np.radians(place.lat)
    declination = np.radians(23.44) * np.sin(2 * np.pi * (days - 80) / 365)
    hour_angle = np.radians(15 * (10.5 - 12))
    rising = np.sin(latitude) * np.sin(declination)
    rising += np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    sun = np.arcsin(rising)
    light = np.flatnonzero(sun > np.radians(12))
    out = []
    for choice in rng.choice(7 * len(light), place.views, replace=False):  # days differ within a place
        year, day = 2012 + int(choice) // len(light), int(light[choice % len(light)])
        local = timedelta(days=day, hours=10.5, seconds=int(rng.integers(-1800, 1800)))
        time = datetime(year, 1, 1, tzinfo=UTC) + local - timedelta(seconds=round(240 * place.lon))
        if rng.random() < 0.1:
            time += timedelta(microseconds=int(rng.integers(1, 1_000_000)))
        season = ((day - 15) / 365 + (0.5 if place.lat < 0 else 0)) % 1
        swing = min(22.0, 0.42 * abs(place.lat))
        temperature = place.temperature - swing * np.cos(2 * np.pi * season) + rng.normal(0, 2)
        east = -np.cos(declination[day]) * np.sin(hour_angle)
        north = np.sin(declination[day]) * np.cos(latitude)
        north -= np.cos(declination[day]) * np.sin(latitude) * np.cos(hour_angle)
        azimuth = np.arctan2(east, north) % (2 * np.pi)
        out.append(Day(time, float(season), float(temperature), float(sun[day]), float(azimuth)))
    return out


def palette(place: Place, day: Day, rng: Generator) -> tuple[Array, Array]:
    """Reflectance [surfaces, 4] (R, G, B, near infrared) on a day, and the share that snow covers at most."""
    biome = place.biome
    warm = float(1 / (1 + np.exp(-(day.temperature - 6) / 2.5)))
    rain = 0.5 - 0.5 * float(np.cos(2 * np.pi * (day.season - 0.05)))
    green = warm * (1 - biome.dry * (1 - rain))
    autumn = float(np.exp(-(((day.season - 0.78) / 0.06) ** 2))) * (place.temperature < 14)
    soil, lush = np.array(biome.soil), np.array((0.055, 0.10, 0.035, 0.46))
    straw, bare = np.array((0.25, 0.21, 0.12, 0.32)), np.array((0.15, 0.12, 0.10, 0.22))
    leaves = biome.evergreen + (1 - biome.evergreen) * warm * (1 - 0.4 * biome.dry * (1 - rain))
    table = np.zeros((Surface.CROP + CROPS, 4))
    herbs = green * lush + (1 - green) * straw
    table[Surface.GROUND] = (1 - biome.herbs) * soil + biome.herbs * herbs
    table[Surface.TREE] = 0.62 * (leaves * lush + (1 - leaves) * bare)
    table[Surface.TREE] += autumn * (1 - biome.evergreen) * np.array((0.15, 0.04, -0.01, -0.05))
    silt = rng.uniform(0, 1)
    table[Surface.WATER] = np.array((0.03, 0.05, 0.07, 0.015)) + silt * np.array((0.09, 0.07, 0.03, 0.02))
    table[Surface.ASPHALT] = (0.11, 0.11, 0.115, 0.13)
    table[Surface.CONCRETE] = (0.31, 0.30, 0.28, 0.34)
    table[Surface.RED_ROOF] = (0.30, 0.14, 0.10, 0.32)
    table[Surface.GREY_ROOF] = (0.20, 0.20, 0.21, 0.24)
    table[Surface.WHITE_ROOF] = (0.55, 0.55, 0.54, 0.56)
    table[Surface.PANEL] = (0.045, 0.055, 0.10, 0.07)
    table[Surface.PALE_ROCK] = 0.45 * soil + 0.55 * np.array((0.36, 0.33, 0.29, 0.38))
    table[Surface.DARK_ROCK] = 0.45 * soil
    table[Surface.PAINT] = (0.6, 0.6, 0.58, 0.6)
    table[Surface.LAWN] = warm * lush * 1.15 + (1 - warm) * (0.5 * straw + 0.5 * bare)
    table[Surface.SAND] = 0.4 * soil + 0.6 * np.array((0.36, 0.30, 0.22, 0.40))
    for k in range(CROPS):  # crops rotate from year to year; after the harvest there is stubble, then soil
        peak = 0.38 + 0.06 * ((k + day.time.year) % CROPS)
        grown = float(np.exp(-(((day.season - peak) / 0.14) ** 2))) * warm
        stubble = float(np.exp(-(((day.season - peak - 0.22) / 0.13) ** 2)))
        earth = soil * (0.50, 0.80, 0.60, 0.88, 0.55, 0.70)[k]  # moist, so darker than around
        table[Surface.CROP + k] = grown * lush + (1 - grown) * (stubble * straw + (1 - stubble) * earth)
    snow = np.full(len(table), 0.95)
    snow[[Surface.TREE, Surface.ASPHALT, Surface.CONCRETE, Surface.PAINT]] = 0.35, 0.25, 0.3, 0.25
    snow[[*ROOFS, Surface.PANEL, Surface.DARK_ROCK]] = 0.6, 0.6, 0.6, 0.4, 0.4
    snow[Surface.CROP :] = 0.85, 0.55, 0.70, 0.85, 0.60, 0.75
    snow[Surface.SAND] = 0.6
    snow[Surface.WATER] = 0.7 * (day.temperature < -5)
    return table.clip(0.01).astype(np.float32), snow.astype(np.float32)


def light_scene(scene: Scene, day: Day, table: Array, snow: Array, window: tuple[slice, slice]) -> Array:
    """Reflectance [h, w, bands] of the scene on a day, before the air.

    table [surfaces, bands] and snow [surfaces] are the day's palette; `window` is in supersampled points.
    """
    surface = scene.surface[window]
    height, width = surface.shape[0] // SUPERSAMPLING, surface.shape[1] // SUPERSAMPLING
    bands = table.shape[1]
    shape = (height, SUPERSAMPLING, width, SUPERSAMPLING)
    sun = float(np.sin(day.sun_azimuth)), -float(np.cos(day.sun_azimuth))  # towards the sun: right, down
    steep = float(np.tan(day.sun_elevation))
    level = np.where(surface <= Surface.TREE, np.float32(0.5 / steep), np.float32(0.15 / steep))  # built on
    shade = 1 - (scene.slope[1][window] * sun[0] + scene.slope[0][window] * sun[1]) * level
    shade = shade.clip(0.5, 1.5) * (1 + scene.texture[window])
    shadow = np.zeros(surface.shape, dtype=bool)
    own = scene.height[window]
    step = max(1.0, scene.points * 0.05 / steep / 6)
    for k in range(1, 7):
        move = round(-k * step * sun[1]), round(-k * step * sun[0])
        tall = np.roll(scene.height, move, axis=(0, 1))[window]
        shadow |= tall > own + np.float32(k * step / scene.points * steep)
    shade[shadow] *= np.float32(0.45)
    cover = 1 / (1 + np.exp((day.temperature + 2.0) / 1.5))
    lying = np.float32(cover) * snow[surface]
    if cover > 0.02:  # thin snow is patchy
        lying *= (1 + np.float32(1 - cover) * scene.warp[window]).clip(0, 1)
    out = np.empty((height, width, bands), dtype=np.float32)
    for band, white in zip(range(bands), (0.80, 0.82, 0.84, 0.72), strict=False):
        ground = table[surface, band]
        if cover > 0.02:
            ground = ground + (np.float32(white) - ground) * lying
        out[..., band] = (ground * shade).reshape(shape).mean(axis=(1, 3))
    return out


def add_air(ground: Array, day: Day, rng: Generator) -> tuple[Array, int]:
    """The ground [h, w, bands] under the day's sun, through haze and clouds; and the cloud cover, percent."""
    height, width, bands = ground.shape
    light = (np.sin(day.sun_elevation) / np.sin(0.9)) ** 0.5 * rng.uniform(0.85, 1.18)
    warm = 1 + 0.10 * np.clip(0.7 - day.sun_elevation, 0, 0.7) * np.array((1.0, 0.0, -1.5, 0.5))
    sensor = warm * rng.uniform(0.95, 1.05, 4) * light
    out = ground * sensor[:bands].astype(np.float32)
    haze = rng.beta(1.2, 11) * np.array((0.8, 0.95, 1.2, 0.3))
    out = out * (1 - haze[:bands]).astype(np.float32) + (haze * 0.45)[:bands].astype(np.float32)
    cover = 0
    if rng.random() < 0.25:
        cloud = fractal(rng, max(height, width) + 1 & ~1, 1.9)[:height, :width]
        opacity = ((cloud - rng.uniform(0.8, 2.0)) * np.float32(0.8)).clip(0, 0.75)
        out += (np.float32(0.75 * light) - out) * opacity[..., None]
        cover = round(100 * float((opacity > 0.1).mean()))
    out += np.float32(0.004) * rng.standard_normal(out.shape, dtype=np.float32)
    return out.clip(0, None), cover
