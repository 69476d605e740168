"""What is built at a place: its surroundings, and a drawing for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geossl.data.synth.scene import CROPS, ROOFS, Scene, Surface

if TYPE_CHECKING:
    from collections.abc import Callable

    from geossl.data.synth.planet import Place


def draw_surroundings(s: Scene, place: Place) -> None:
    """What lies around any structure, so that no class has water, roads, fields or houses to itself."""
    rng = s.rng
    bend = np.float32(rng.uniform(0.02, 0.07)) * s.warp
    if place.biome.herbs > 0.5 and rng.random() < 0.45:
        half = rng.uniform(0.10, 0.3)
        column = np.floor((s.x + 0.3 * s.y) / half).astype(int)
        row = np.floor((s.y - 0.3 * s.x) / (0.7 * half)).astype(int)
        code = (column * 7 + row * 13 + int(rng.integers(100))) % 11
        farmed = (s.warp > rng.uniform(-0.3, 0.8)) & (code < CROPS)
        s.surface[farmed] = (Surface.CROP + code)[farmed]
        s.height[farmed] = 0
    if rng.random() < 0.3:
        at, half = rng.uniform(-0.5, 0.5), rng.uniform(0.015, 0.07)
        s.paint(np.abs(s.x - at + 3 * bend) < half, Surface.WATER)
    if rng.random() < 0.3:
        pond = np.hypot(s.x - rng.uniform(-0.5, 0.5), s.y - rng.uniform(-0.5, 0.5)) + bend
        s.paint(pond < rng.uniform(0.06, 0.16), Surface.WATER)
    for _ in range(int(rng.integers(3))):
        angle, at = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4)
        across = s.x * np.float32(np.cos(angle)) + s.y * np.float32(np.sin(angle)) - at + bend
        s.paint(np.abs(across) < rng.uniform(0.006, 0.018), Surface.ASPHALT)
    for _ in range(int(rng.integers(12))):
        at_x, at_y, half = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.008, 0.03)
        house = (np.abs(s.x - at_x) < half) & (np.abs(s.y - at_y) < 0.7 * half)
        s.paint(house & (s.surface != Surface.WATER), s.roof(), 0.012)


def _airport(s: Scene) -> None:
    s.paint(s.box(0, 0.04, 0.46, 0.24), Surface.GROUND)
    cover = int(s.rng.choice([Surface.ASPHALT, Surface.CONCRETE]))
    side = float(s.rng.uniform(0.10, 0.14))
    runways = [(0.0, -0.08)] + [(float(s.rng.uniform(-0.5, 0.5)), -0.2)] * bool(s.rng.random() < 0.5)
    for angle, at in runways:
        along = s.u * np.float32(np.cos(angle)) + s.v * np.float32(np.sin(angle))
        across = s.v * np.float32(np.cos(angle)) - s.u * np.float32(np.sin(angle)) - np.float32(at)
        s.paint((np.abs(across) < 0.026) & (np.abs(along) < 0.45), cover)
        s.paint((np.abs(across) < 0.005) & (np.abs(along) < 0.42) & (along * 12 % 1 < 0.5), Surface.PAINT)
        s.paint((np.abs(across) < 0.020) & (np.abs(np.abs(along) - 0.42) < 0.012), Surface.PAINT)
    s.paint(s.box(0, side - 0.08, 0.4, 0.011), cover)
    for at in (-0.39, float(s.rng.uniform(-0.15, 0.15)), 0.39):
        s.paint(s.box(at, (side - 0.16) / 2, 0.011, side / 2), cover)
    middle = float(s.rng.uniform(-0.1, 0.1))
    s.paint(s.box(middle, side, 0.2, 0.08), Surface.CONCRETE)
    s.paint(s.box(middle, side + 0.06, 0.14, 0.022), s.roof(), 0.025)
    for at in np.arange(middle - 0.13, middle + 0.14, 0.065):
        if s.rng.random() < 0.75:
            plane = s.box(at, side - 0.005, 0.006, 0.022) | s.box(at, side, 0.02, 0.006)
            s.paint(plane, Surface.WHITE_ROOF, 0.01)


def _circular_irrigation(s: Scene) -> None:
    count = int(s.rng.integers(1, 4))
    pitch = 0.86 / count
    for i in range(count):
        for j in range(count):
            if count > 1 and s.rng.random() < 0.2:
                continue
            u, v = (i - (count - 1) / 2) * pitch, (j - (count - 1) / 2) * pitch
            disc = s.disc(u, v, 0.47 * pitch)
            s.paint(disc, s.crop())
            s.paint(s.ring(u, v, 0.47 * pitch, 0.006), Surface.SAND)
            turn = np.arctan2(s.v - v, s.u - u)
            start, width = s.rng.uniform(-np.pi, np.pi), s.rng.uniform(0.5, 3)
            s.paint(disc & ((turn - start) % (2 * np.pi) < width), s.crop())
            arm = np.abs(np.sin(turn - start)) * np.hypot(s.u - u, s.v - v) < 0.005
            s.paint(disc & arm & (np.cos(turn - start) > 0), Surface.GREY_ROOF)


def _crop_field(s: Scene) -> None:
    limit = float(s.rng.uniform(0.12, 0.3))
    border = int(s.rng.choice([Surface.TREE, Surface.SAND, Surface.GROUND]))
    parcels = [(-0.45, -0.45, 0.45, 0.45)]
    while parcels:
        u0, v0, u1, v1 = parcels.pop()
        wide = u1 - u0 > v1 - v0
        if max(u1 - u0, v1 - v0) > limit * s.rng.uniform(1, 1.8):
            share = float(s.rng.uniform(0.35, 0.65))
            cut = u0 + share * (u1 - u0) if wide else v0 + share * (v1 - v0)
            halves = ((u0, v0, cut, v1), (cut, v0, u1, v1)), ((u0, v0, u1, cut), (u0, cut, u1, v1))
            parcels += halves[0] if wide else halves[1]
            continue
        u, v, half_u, half_v = (u0 + u1) / 2, (v0 + v1) / 2, (u1 - u0) / 2, (v1 - v0) / 2
        s.paint(s.box(u, v, half_u, half_v), border, 0.006 if border == Surface.TREE else 0)
        inner = s.box(u, v, half_u - 0.007, half_v - 0.007)
        s.paint(inner, s.crop())
        rows = np.sin((s.v if wide else s.u) * np.float32(2 * np.pi / 0.028))
        s.texture += np.float32(0.07) * rows * inner


def _dam(s: Scene) -> None:
    wall = float(s.rng.uniform(0.10, 0.24))
    up = s.v + wall
    arms = np.float32(0.05) * s.warp + np.float32(0.04) * np.sin(up * np.float32(s.rng.uniform(18, 30)))
    lake = (np.abs(s.u + arms) < 0.13 + 0.45 * up * (0.62 - up)) & (up > 0) & (up < 0.62 + arms)
    s.paint(lake, Surface.WATER)
    river = np.abs(s.u + np.float32(0.04) * np.sin(s.v * 14) + np.float32(0.02) * s.warp) < 0.014
    s.paint(river & (up < 0), Surface.WATER)
    curve = up + np.float32(s.rng.uniform(0, 1.2)) * s.u**2
    s.paint((np.abs(curve) < 0.024) & (np.abs(s.u) < 0.23), Surface.CONCRETE, 0.03)
    s.paint((np.abs(curve) < 0.005) & (np.abs(s.u) < 0.42), Surface.ASPHALT, 0.03)
    s.paint(s.box(0.05, -wall - 0.05, 0.035, 0.018), s.roof(), 0.02)


def _open_pit_mine(s: Scene) -> None:
    stretch = float(s.rng.uniform(0.75, 1.2))
    radius = np.hypot(s.u * stretch, s.v / stretch) + np.float32(0.03) * s.warp
    s.paint(radius < 0.42, Surface.PALE_ROCK)
    step = float(s.rng.uniform(0.045, 0.07))
    depth = np.floor((0.40 - radius) / np.float32(step))
    pit = depth >= 0
    s.surface[pit & (radius / np.float32(step) % 1 < 0.4)] = Surface.DARK_ROCK
    s.height[pit] = (-0.022 * depth)[pit]
    spiral = (np.arctan2(s.v, s.u * stretch) / np.float32(2 * np.pi) + radius / np.float32(2 * step)) % 1
    s.paint(pit & (radius > step) & (np.abs(spiral - 0.5) < 0.05), Surface.SAND, -0.05)
    if s.rng.random() < 0.5:
        s.paint(radius < step * 1.2, Surface.WATER, -0.1)
    for at in s.rng.uniform(-0.3, 0.3, 3):
        s.paint(s.box(float(at), 0.44, 0.035, 0.016), s.roof(), 0.015)


def _port(s: Scene) -> None:
    shore = s.v + np.float32(0.025) * s.warp * (np.abs(s.u) > 0.36)
    s.paint(shore > 0.0, Surface.WATER)
    s.paint((np.abs(s.u) < 0.42) & (s.v < 0.01) & (s.v > -0.22), Surface.CONCRETE)
    count = int(s.rng.integers(3, 6))
    for at in np.linspace(-0.34, 0.34, count):
        length, half = float(s.rng.uniform(0.10, 0.17)), float(s.rng.uniform(0.016, 0.03))
        s.paint(s.box(at, length, half, length), Surface.CONCRETE)
        for side in (-1, 1):
            if s.rng.random() < 0.6:
                hull = ((s.u - at - side * (half + 0.02)) / 0.016) ** 2 + ((s.v - length) / 0.09) ** 4
                s.paint(hull < 1, s.roof(), 0.015)
    stacks = s.box(0, -0.155, 0.38, 0.045) & (s.u * 22 % 1 < 0.7) & (s.v * 40 % 1 < 0.65)
    code = np.floor(s.u * 22).astype(int) * 5 + np.floor(s.v * 40).astype(int) * 3
    for k, roof in enumerate(ROOFS):
        s.paint(stacks & (code % 4 == k), roof, 0.012)
    s.paint(s.box(float(s.rng.uniform(-0.2, 0.2)), -0.055, 0.12, 0.03), s.roof(), 0.02)


def _residential(s: Scene) -> None:
    town = np.hypot(s.u, s.v) + np.float32(0.05) * s.warp < s.rng.uniform(0.38, 0.48)
    along, across = float(s.rng.uniform(0.16, 0.24)), float(s.rng.uniform(0.11, 0.15))
    green = int(s.rng.choice([Surface.LAWN, Surface.GROUND, Surface.SAND]))
    s.paint(town & (s.surface != Surface.TREE), green)
    pitch = across / 2
    column, row = np.floor(s.u / np.float32(pitch * 0.8)), np.floor(s.v / np.float32(pitch))
    in_u, in_v = s.u / np.float32(pitch * 0.8) - column, s.v / np.float32(pitch) - row
    code = s.rng.integers(0, 12, (64, 64))[column.astype(int) % 64, row.astype(int) % 64]
    house = town & (np.abs(in_u - 0.5) < 0.33) & (np.abs(in_v - 0.5) < 0.28)
    for k, roof in enumerate(s.rng.choice(ROOFS, 9)):
        s.paint(house & (code == k), int(roof), 0.012)
    s.paint(house & (code == 9), Surface.TREE, 0.012)
    streets = (np.abs(s.u % along - along / 2) < 0.010) | (np.abs(s.v % across - across / 2) < 0.009)
    s.paint(town & streets, Surface.ASPHALT)


def _road_interchange(s: Scene) -> None:
    road = float(s.rng.uniform(0.024, 0.034))
    loop = float(s.rng.uniform(0.075, 0.1))
    lane = 0.010
    corners = [(i, j) for i in (-1, 1) for j in (-1, 1)]
    for i, j in corners if s.rng.random() < 0.6 else corners[:: int(s.rng.choice([2, 3]))]:
        s.paint(s.ring(i * (loop + 0.02), j * (loop + 0.02), loop, lane), Surface.ASPHALT)
    for i, j in corners:
        far = 0.40
        arc = s.ring(i * far, j * far, far - 0.03, lane) & (i * s.u < far) & (j * s.v < far)
        s.paint(arc, Surface.ASPHALT)
    long = 0.75
    s.paint(s.box(0, 0, long, road), Surface.ASPHALT)
    s.paint(s.box(0, 0, long, 0.005), Surface.GROUND)
    s.paint(s.box(0, 0, road, long), Surface.CONCRETE if s.rng.random() < 0.4 else Surface.ASPHALT, 0.01)
    s.paint(s.box(0, 0, 0.005, long), Surface.GROUND, 0.01)


def _solar_farm(s: Scene) -> None:
    ground = int(s.rng.choice([Surface.SAND, Surface.GROUND, Surface.LAWN]))
    columns, rows = int(s.rng.integers(1, 4)), int(s.rng.integers(1, 4))
    s.paint(s.box(0, 0, 0.44, 0.40), ground)
    pitch = float(s.rng.uniform(0.045, 0.06))
    for i in range(columns):
        for j in range(rows):
            if columns * rows > 2 and s.rng.random() < 0.15:
                continue
            half_u, half_v = 0.43 / columns, 0.39 / rows
            u, v = (2 * i + 1) * half_u - 0.43, (2 * j + 1) * half_v - 0.39
            block = s.box(u, v, half_u - 0.012, half_v - 0.012)
            s.paint(block & (s.v % pitch < 0.58 * pitch), Surface.PANEL, 0.004)
    s.paint(s.box(0.0, 0.41, 0.45, 0.008), Surface.ASPHALT)
    s.paint(s.box(float(s.rng.uniform(-0.3, 0.3)), 0.44, 0.03, 0.018), Surface.WHITE_ROOF, 0.01)


def _stadium(s: Scene) -> None:
    long = float(s.rng.uniform(1.15, 1.45))
    oval = (np.abs(s.u / long) ** 2.6 + np.abs(s.v) ** 2.6) ** np.float32(1 / 2.6)
    lots = s.box(0, 0, 0.44, 0.38)
    s.paint(lots, Surface.ASPHALT if s.rng.random() < 0.6 else Surface.CONCRETE)
    cars = lots & (s.u * 45 % 1 < 0.5) & (s.v * 16 % 1 < 0.55) & (s.texture > 0.03)
    s.paint(cars, s.roof())
    s.paint(oval < 0.28, Surface.CONCRETE)
    outer = float(s.rng.uniform(0.24, 0.27))
    s.paint(oval < outer, s.roof(), 0.05)
    s.paint(oval < 0.175, int(s.rng.choice([Surface.RED_ROOF, Surface.SAND, Surface.ASPHALT])))
    s.paint(oval < 0.14, Surface.LAWN)
    s.paint((oval < 0.14) & (np.abs(s.u) < 0.004), Surface.PAINT)


DRAW: dict[str, Callable[[Scene], None]] = {
    "airport": _airport,
    "circular_irrigation": _circular_irrigation,
    "crop_field": _crop_field,
    "dam": _dam,
    "open_pit_mine": _open_pit_mine,
    "port": _port,
    "residential": _residential,
    "road_interchange": _road_interchange,
    "solar_farm": _solar_farm,
    "stadium": _stadium,
}
