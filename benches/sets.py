"""The image sets: JPEGs of several sizes, cut from real imagery where there is some, made once and kept."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from PIL import Image

from geossl.data.index import Index, build_index
from geossl.data.synth import make_planet

if TYPE_CHECKING:
    from collections.abc import Callable

DATES = 3
"""Images of a place."""
QUALITY = 90
MONTHS = ("01", "04", "07", "10")
LEAST_CONTRAST = 25
"""Standard deviation of a crop of the Blue Marble; ocean and ice have less."""


@dataclass(frozen=True)
class Shape:
    """What a set is made of."""

    size: tuple[int, int] | None
    """Width and height; None for a mixture."""
    images: int
    pairs: int
    """Pairs of a pass, so that a pass takes seconds and not minutes."""


SHAPES = {
    "224": Shape((224, 224), 300, 256),
    "400": Shape((400, 400), 300, 192),
    "900x700": Shape((900, 700), 210, 128),
    "2000x1500": Shape((2000, 1500), 102, 64),
    "mixed": Shape(None, 210, 96),
}
MEDIAN_AREA, SPREAD, SIDES = 900 * 700, 1.1, (64, 3000)
"""The mixture: areas are log-normal with this median and standard deviation of the logarithm, which is that of the
byte sizes of fMoW-rgb's JPEGs (1.1 over the 7,445 of the validation listing; their median is 151 kB)."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A set on disk."""

    name: str
    origin: str
    index: str
    """Our index of it."""
    files: list[str]
    places: list[int]
    pairs: int
    megapixels: float
    """Of all images."""
    mebibytes: float
    """Of all files."""


def make_set(name: str, *, work: Path, data: Path, images: int = 0, pairs: int = 0) -> ImageSet:
    """The set, from `work` if it is there already, with as many images and pairs as asked (0: as usual)."""
    shape = SHAPES[name]
    count = max((images or shape.images) // DATES, 2)
    real = (data / "naip").is_dir() and (data / "bmng").is_dir()
    folder = work / "sets" / f"{name}-{count}-{'real' if real else 'made'}"
    about = folder / "set.json"
    if not about.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pixels, origin = write(folder, shape, places=count, scenes=real_scenes(data) if real else made_scenes(work))
        index = build_index(folder / "images.csv")[0]
        index.write(folder / "index.parquet")
        about.write_text(json.dumps({"origin": origin, "megapixels": pixels / 1e6}))
    index = Index.read(folder / "index.parquet")
    files = [str(index.root / path) for path in index.table["path"].to_pylist()]
    return ImageSet(
        name=name,
        index=str(folder / "index.parquet"),
        files=files,
        places=index.places.tolist(),
        pairs=pairs or shape.pairs,
        mebibytes=round(sum(Path(file).stat().st_size for file in files) / 2**20, 2),
        **json.loads(about.read_text()),
    )


def describe(images: ImageSet) -> dict[str, object]:
    """The set as the results name it."""
    row = asdict(images) | {"images": len(images.files)}
    for key in ("files", "places", "index"):
        del row[key]
    return row


@dataclass(frozen=True)
class Scene:
    """The same ground on several dates, as large arrays."""

    name: str
    dates: list[np.ndarray]
    """uint8 [H, W, 3] each, all of one shape."""
    good: Callable[[np.ndarray], bool]
    """Whether a crop may be used."""


def real_scenes(data: Path) -> list[Scene]:
    """Farmland in NAIP's ten dates, and the land of four months of the Blue Marble."""
    naip = []
    for path in sorted((data / "naip").glob("*.tif")):
        with rasterio.open(path) as file:
            naip.append(np.ascontiguousarray(file.read([1, 2, 3]).transpose(1, 2, 0)))
    marble = [np.asarray(Image.open(data / "bmng" / f"bmng_2004-{month}.jpg")) for month in MONTHS]
    return [
        Scene("NAIP", alike(naip), lambda _: True),
        Scene("Blue Marble", marble, lambda crop: float(crop.std(axis=(0, 1)).mean()) > LEAST_CONTRAST),
    ]


def alike(dates: list[np.ndarray]) -> list[np.ndarray]:
    """Dates that differ by some rows or columns, cut to what they all have."""
    height, width = (min(image.shape[axis] for image in dates) for axis in (0, 1))
    return [image[:height, :width] for image in dates]


def made_scenes(work: Path) -> list[Scene]:
    """Places of a made planet, where there is no real imagery."""
    planet = work / "planet"
    if not planet.is_dir():
        make_planet(planet, places=10, views=4, size=320)
    folders: dict[Path, list[Path]] = {}
    for path in sorted(planet.rglob("*.jpg")):
        folders.setdefault(path.parent, []).append(path)
    return [
        Scene("made planet", alike([np.asarray(Image.open(path)) for path in paths]), lambda _: True)
        for paths in folders.values()
        if len(paths) >= DATES
    ]


def write(folder: Path, shape: Shape, *, places: int, scenes: list[Scene]) -> tuple[int, str]:
    """Write the images and a list of them; gives their pixels and where they are from."""
    rng = np.random.default_rng(0)
    rows, pixels = [], 0
    for place in range(places):
        scene = scenes[place % len(scenes)]
        width, height = shape.size or mixed_size(rng)
        dates = rng.choice(len(scene.dates), DATES, replace=False)
        for number, crop in enumerate(crops(scene, dates.tolist(), width, height, rng)):
            name = f"{place:04d}_{number}.jpg"
            Image.fromarray(crop).save(folder / name, quality=QUALITY, subsampling="4:2:0")
            rows.append([name, place])
            pixels += width * height
    with (folder / "images.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "location_id"])
        table.writerows(rows)
    return pixels, " and ".join(sorted({scene.name for scene in scenes}))


def mixed_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of an image of the mixture."""
    area = MEDIAN_AREA * np.exp(SPREAD * rng.standard_normal())
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = np.clip([np.sqrt(area * ratio), np.sqrt(area / ratio)], *SIDES).round().astype(int)
    return int(width), int(height)


def crops(scene: Scene, dates: list[int], width: int, height: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The same crop of each date. A crop larger than the scene goes on in its mirror image."""
    full_height, full_width = scene.dates[0].shape[:2]
    for _ in range(1000):
        rows = mirrored(int(rng.integers(full_height)), height, full_height)
        columns = mirrored(int(rng.integers(full_width)), width, full_width)
        made = [scene.dates[date][np.ix_(rows, columns)] for date in dates]
        if all(scene.good(crop) for crop in made):
            return made
    raise RuntimeError(f"{scene.name}: no crop of {width} x {height} pixels can be used")


def mirrored(start: int, count: int, size: int) -> np.ndarray:
    """Indices start, start + 1, ... of an axis that goes back and forth."""
    at = (start + np.arange(count)) % (2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)
