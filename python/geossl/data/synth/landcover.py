"""Made land-cover tiles in Tile2Vec's layout: what grows or stands on a piece of farmland, seen on one summer day.

`tiles/0tile.npy`, ...: uint8 [size, size, 5], red, green, blue, near infrared and the Cropland Data Layer (CDL);
`y.npy`: float64 [N], the CDL code that is the most frequent one of each tile; `splits.npy`: int64 [N], 0 train, 1 val,
2 test.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geossl.data.synth.date import Day, light_scene, palette
from geossl.data.synth.folder import made_folder
from geossl.data.synth.planet import BIOMES, Place
from geossl.data.synth.scene import SUPERSAMPLING, Scene, Surface
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[Any]

SPLIT_SHARES = (0.6, 0.2, 0.2)
"""Of train, val and test, in every class."""
PLACE = Place(0, "", "", "", 36.7, -119.9, BIOMES["steppe"], 17.0, 0.1, "USA", 1)
DAY = Day(datetime(2016, 6, 10, 18, 30, tzinfo=UTC), season=0.46, temperature=27.0, sun_elevation=1.1, sun_azimuth=2.3)
FAULTS = (
    "wrong shape",
    "NaN",
    "truncated",
    "pickle",
    "no file",
    "no label",
    "no split",
    "same pixels in train",
    "same pixels in test",
    "no number",
)
"""What `faults` adds, a tile each, in this order, after the good ones."""


class Cover(NamedTuple):
    """A class: its CDL code, how frequent it is beside the others, and how its ground is drawn."""

    code: int
    weight: float
    draw: Callable[[Scene], None]


@dataclass(frozen=True)
class LandcoverSummary:
    """What `make_landcover` wrote: how many tiles and classes, the folder, and the numbers of the tiles with faults."""

    tiles: int
    classes: int
    folder: Path
    faults: dict[str, int]


def make_landcover(
    out: Path, *, tiles: int = 600, size: int = 50, seed: int = 0, faults: bool = False, workers: int = 0
) -> LandcoverSummary:
    """Write made land-cover tiles to `out`; the same arguments and library versions give the same bytes.

    Args:
        out: folder to make; it must not exist, or be empty.
        tiles: how many good ones.
        size: side of a tile, pixels.
        seed: seed of all that is drawn.
        faults: also a tile with each of `FAULTS`: another shape; NaN in floats; a cut-off file; a pickle; a label
            without a file; NaN for a label; a split that is none; the pixels of one tile in train and in test; and, as
            the last, a tile whose number has no label.
        workers: threads; 0 is one for every core.

    Raises:
        UsageError: an argument is wrong, or `out` is not empty.
        GeosslError: it cannot be written. Either way nothing is left behind.

    """
    for name, value, good, wanted in (
        ("places", tiles, tiles >= 5 * len(COVERS), f"{5 * len(COVERS)} or more"),
        ("size", size, 32 <= size <= 256, "32 to 256 pixels"),
        ("seed", seed, 0 <= seed < 2**63, "0 to 2^63 - 1"),
    ):
        if not good:
            raise UsageError(f"{name}: must be {wanted}, not {value}")
    out = out.absolute()
    rng = np.random.default_rng([seed, 0])
    kinds = _kinds(rng, tiles)
    splits = _splits(rng, kinds)
    labels = np.array([COVERS[kind].code for kind in kinds], np.float64)
    with made_folder(out, workers=workers) as (partial, pool):
        (partial / "tiles").mkdir()

        def write(number: int) -> None:
            drawn = draw_tile(int(kinds[number]), np.random.default_rng([seed, 1, number]), size=size)
            np.save(partial / "tiles" / f"{number}tile.npy", drawn)

        for _ in pool.map(write, range(tiles)):
            pass
        numbers: dict[str, int] = {}
        if faults:
            labels, splits, numbers = _add_faults(partial / "tiles", labels, splits)
        np.save(partial / "y.npy", labels)
        np.save(partial / "splits.npy", splits)
    return LandcoverSummary(tiles, len(COVERS), out, numbers)


def draw_tile(kind: int, rng: Generator, *, size: int) -> NDArray[np.uint8]:
    """A tile of the class `COVERS[kind]`, uint8 [size, size, 5], of which another class covers less than half."""
    scene = Scene(PLACE, rng, size=size)
    COVERS[kind].draw(scene)
    mask = np.full(scene.surface.shape, COVERS[kind].code, np.uint8)
    if rng.random() < 0.6:  # the field beside it
        other = int(rng.integers(len(COVERS)))
        angle, at = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.4)
        beside = scene.x * np.float32(np.cos(angle)) + scene.y * np.float32(np.sin(angle)) > at
        field = Scene(PLACE, rng, size=size)
        COVERS[other].draw(field)
        scene.surface[beside], scene.height[beside] = field.surface[beside], field.height[beside]
        mask[beside] = COVERS[other].code
    start = (scene.surface.shape[0] - SUPERSAMPLING * size) // 2
    window = slice(start, start + SUPERSAMPLING * size)
    table, snow = palette(PLACE, DAY, rng)
    light = light_scene(scene, DAY, table, snow, (window, window)) * rng.uniform(0.85, 1.15, 4).astype(np.float32)
    light += np.float32(0.006) * rng.standard_normal(light.shape, dtype=np.float32)
    shown = 255 * (1 - np.exp(-3.2 * light.clip(0, None))) ** 0.75
    ground = mask[window, window][::SUPERSAMPLING, ::SUPERSAMPLING, None]
    return np.concatenate([(shown + 0.5).astype(np.uint8), ground], axis=2)


def _kinds(rng: Generator, tiles: int) -> NDArray[np.int64]:
    """A class for each tile, as unbalanced as their weights, but five of each at least."""
    weights = np.array([cover.weight for cover in COVERS])
    few = np.repeat(np.arange(len(COVERS)), 5)
    return rng.permutation(np.concatenate([few, rng.choice(len(COVERS), tiles - len(few), p=weights / weights.sum())]))


def _splits(rng: Generator, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1 or 2 for each tile, by `SPLIT_SHARES` in every class."""
    out = np.zeros(len(kinds), np.int64)
    for kind in range(len(COVERS)):
        those = rng.permutation(np.flatnonzero(kinds == kind))
        ends = np.round(np.cumsum(SPLIT_SHARES[:-1]) * len(those)).astype(int)
        for split, part in enumerate(np.split(those, ends)):
            out[part] = split
    return out


def _add_faults(folder: Path, labels: Array, splits: Array) -> tuple[Array, Array, dict[str, int]]:
    """Write a tile with each fault after the good ones; the labels and splits with theirs, and the tiles' numbers."""
    good = np.load(folder / "0tile.npy")
    count = len(labels)
    numbers = {fault: count + k for k, fault in enumerate(FAULTS)}
    files = {fault: folder / f"{number}tile.npy" for fault, number in numbers.items()}
    spoilt = good.astype(np.float32)
    spoilt[3, 4, 1] = np.nan
    np.save(files["wrong shape"], good[:, :-1])
    np.save(files["NaN"], spoilt)
    files["truncated"].write_bytes((folder / "0tile.npy").read_bytes()[:-100])
    np.save(files["pickle"], np.array([None, good], dtype=object))
    for fault in ("no label", "no split", "no number"):
        np.save(files[fault], good)
    shared = good[::-1]
    np.save(files["same pixels in train"], shared)
    np.save(files["same pixels in test"], shared)
    more = len(FAULTS) - 1  # the last has no label
    labels = np.concatenate([labels, np.full(more, labels[0])])
    splits = np.concatenate([splits, np.zeros(more, np.int64)])
    labels[numbers["no label"]] = np.nan
    splits[numbers["no split"]] = 7
    splits[numbers["same pixels in test"]] = 2
    return labels, splits, numbers


def _plain(surface: int, *, height: float = 0.0) -> Callable[[Scene], None]:
    def draw(s: Scene) -> None:
        s.paint(np.ones_like(s.surface, bool), surface, height)

    return draw


def _rows(surface: int, between: int, *, pitch: float, share: float, height: float) -> Callable[[Scene], None]:
    """Rows of a crop, a `pitch` apart (image sides), which covers that share of it."""

    def draw(s: Scene) -> None:
        _plain(between)(s)
        s.paint((s.v / np.float32(pitch)) % 1 < share, surface, height)

    return draw


def _orchard(pitch: float, radius: float) -> Callable[[Scene], None]:
    """Trees on a square grid."""

    def draw(s: Scene) -> None:
        _plain(Surface.SAND)(s)
        u, v = (((axis / np.float32(pitch)) % 1 - 0.5) * np.float32(pitch) for axis in (s.u, s.v))
        s.paint(u**2 + v**2 < radius**2, Surface.TREE, 0.03)

    return draw


def _clumps(surface: int, share: float, height: float) -> Callable[[Scene], None]:
    """Natural ground with that share of it covered in clumps."""

    def draw(s: Scene) -> None:
        _plain(Surface.GROUND)(s)
        clumps = s.warp + 6 * s.texture
        s.paint(clumps > np.quantile(clumps, 1 - share), surface, height)

    return draw


def _town(block: float, built: float, ground: int) -> Callable[[Scene], None]:
    """Streets a `block` apart, and roofs on that share of what is between."""

    def draw(s: Scene) -> None:
        _plain(ground)(s)
        column, row = np.floor(s.u / np.float32(block)).astype(int), np.floor(s.v / np.float32(block)).astype(int)
        in_u, in_v = s.u / np.float32(block) - column, s.v / np.float32(block) - row
        side = built**0.5 / 2
        house = (np.abs(in_u - 0.5) < side) & (np.abs(in_v - 0.5) < side)
        roofs = s.rng.integers(0, 3, (64, 64))[column % 64, row % 64]
        for k, roof in enumerate((Surface.RED_ROOF, Surface.GREY_ROOF, Surface.WHITE_ROOF)):
            s.paint(house & (roofs == k), roof, 0.02)
        s.paint((in_u < 0.12) | (in_v < 0.12), Surface.ASPHALT)

    return draw


def _alfalfa(s: Scene) -> None:
    """A mown field: strips of cut and standing green."""
    _plain(Surface.LAWN)(s)
    s.paint((s.u * 5) % 1 < 0.3, Surface.CROP + 4)


def _shore(s: Scene) -> None:
    """Marsh: water between clumps of reed."""
    _plain(Surface.LAWN)(s)
    s.paint(s.warp > 0.15, Surface.WATER)


COVERS = (
    Cover(1, 3.0, _rows(Surface.CROP, Surface.SAND, pitch=0.06, share=0.7, height=0.01)),
    Cover(2, 3.0, _rows(Surface.CROP + 1, Surface.GROUND, pitch=0.10, share=0.5, height=0.005)),
    Cover(24, 2.0, _plain(Surface.CROP + 5)),
    Cover(36, 2.5, _alfalfa),
    Cover(54, 2.0, _rows(Surface.CROP + 3, Surface.GROUND, pitch=0.16, share=0.6, height=0.0)),
    Cover(61, 2.0, _plain(Surface.SAND)),
    Cover(69, 4.0, _rows(Surface.TREE, Surface.SAND, pitch=0.07, share=0.35, height=0.015)),
    Cover(75, 5.0, _orchard(0.12, 0.05)),
    Cover(204, 1.5, _orchard(0.24, 0.085)),
    Cover(111, 1.0, _plain(Surface.WATER)),
    Cover(121, 1.0, _town(0.5, 0.08, Surface.LAWN)),
    Cover(123, 1.0, _town(0.22, 0.4, Surface.GROUND)),
    Cover(124, 0.6, _town(0.45, 0.65, Surface.CONCRETE)),
    Cover(131, 0.6, _plain(Surface.PALE_ROCK)),
    Cover(141, 0.8, _clumps(Surface.TREE, 0.95, 0.04)),
    Cover(152, 1.0, _clumps(Surface.TREE, 0.3, 0.01)),
    Cover(176, 3.0, _plain(Surface.GROUND)),
    Cover(195, 0.5, _shore),
)
"""Crops, orchards, towns and wild land of a valley, by their CDL codes."""
