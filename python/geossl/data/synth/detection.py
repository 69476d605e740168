"""A made set in xView's layout, with its faults: objects seen from above, and labels in GeoJSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from PIL import Image, ImageDraw

from geossl.data.synth.folder import made_folder
from geossl.data.xview import IMAGES, LABELS
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

METRES = 0.3
"""Of a pixel, xView's."""
METRES_PER_DEGREE = 111_320.0
AIRCRAFT, CAR, BUILDING, TANK = 11, 18, 73, 86
"""Type ids of what is drawn."""
LOST = "1395.tif"
"""The image of which the release has labels, and no file."""
DOUBLE = 2
"""Drawn at twice the size, for smooth edges."""
GROUNDS = ((96, 104, 72), (150, 128, 96), (120, 120, 116), (80, 92, 58))
"""Colours of the ground: grass, sand, concrete, wood."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectionSummary:
    """What `make_detection` wrote: how many images and objects, and the folder."""

    images: int
    objects: int
    folder: Path


def make_detection(out: Path, *, images: int = 24, size: int = 640, seed: int = 0) -> DetectionSummary:
    """Write a made set to `out` in the layout of xView's release: train_images/*.tif and xView_train.geojson.

    Images are of about `size` pixels a side, RGB, uint8, and georeferenced. There are aircraft, cars, buildings and
    tanks; one image has none. The labels have the release's faults: boxes that reach beyond their image, lie outside
    or have no area, type ids that are no class, and objects of an image that is not there. The same arguments and
    library versions give the same bytes. Raises UsageError for a wrong argument or if `out` is not empty, and
    GeosslError if it cannot be written; either way nothing is left behind.
    """
    for name, value, good, wanted in (
        ("images", images, images >= 4, "4 or more"),
        ("size", size, 128 <= size <= 4096, "128 to 4096 pixels"),
        ("seed", seed, 0 <= seed < 2**63, "0 to 2^63 - 1"),
    ):
        if not good:
            raise UsageError(f"{name}: must be {wanted}, not {value}")
    out = out.absolute()
    with made_folder(out) as (partial, pool):
        (partial / IMAGES).mkdir()
        made = list(pool.map(lambda number: _write_image(partial, number, size=size, seed=seed), range(images)))
        features = [feature for one in made for feature in one]
        features += _faults(features, np.random.default_rng([seed, 1]), size)
        labels = {"type": "FeatureCollection", "features": features}
        (partial / LABELS).write_text(json.dumps(labels), encoding="utf-8")
    return DetectionSummary(images, sum(len(one) for one in made), out)


def _write_image(root: Path, number: int, *, size: int, seed: int) -> list[dict[str, Any]]:
    """Write an image; gives the features of its objects."""
    rng = np.random.default_rng([seed, 0, number])
    width, height = (int(size + rng.integers(-size // 8, size // 8 + 1)) for _ in range(2))
    ground = np.array(GROUNDS[int(rng.integers(len(GROUNDS)))], np.float64) * rng.uniform(0.8, 1.2)
    pixels = ground + 22 * _noise(rng, height, width)[..., None] + rng.normal(0, 5, (height, width, 3))
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    picture = picture.resize((DOUBLE * width, DOUBLE * height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    placed: list[Box] = []
    features = []
    transform = _transform(rng, number)
    crowd = 0 if number == 0 else int(width * height / 8_000 * rng.uniform(0.6, 1.4))
    for kind in rng.choice([AIRCRAFT, CAR, BUILDING, TANK], crowd, p=[0.2, 0.35, 0.2, 0.25]).tolist():
        box = _draw(draw, kind, rng, (width, height), placed)
        if box is not None:
            placed.append(box)
            features.append(_feature(f"{number + 1}.tif", kind, box, transform))
    final = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": height, "width": width, "photometric": "RGB"}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    file = root / IMAGES / f"{number + 1}.tif"
    with rasterio.open(file, "w", **profile, **layout, crs="EPSG:4326", transform=transform) as target:
        target.write(final.transpose(2, 0, 1))
    return features


def _transform(rng: Generator, number: int) -> rasterio.Affine:
    """A place on the globe, another for each image."""
    lat, lon = float(rng.uniform(-50, 60)), -170 + 37.0 * number % 340
    north, east = METRES / METRES_PER_DEGREE, METRES / METRES_PER_DEGREE / float(np.cos(np.radians(lat)))
    return rasterio.Affine(east, 0, lon, 0, -north, lat)


def _noise(rng: Generator, height: int, width: int) -> NDArray[np.float64]:
    """Smooth patches of unit size, float64 [height, width]."""
    out = np.zeros((height, width))
    for cell in (96, 32, 12):
        small = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        enlarged = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        out += np.asarray(enlarged) * cell**0.4 / 6
    return out


def _draw(draw: ImageDraw.ImageDraw, kind: int, rng: Generator, size: tuple[int, int], placed: list[Box]) -> Box | None:
    """Draw an object where there is room; gives its box, which may reach beyond the image; None where there is none."""
    width, height = size
    outline, colour = _shape(kind, rng)
    for _ in range(10):
        centre = rng.uniform([0, 0], [width, height])
        points = outline + centre
        (left, top), (right, bottom) = points.min(0), points.max(0)
        inside = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
        seen = inside[0] * inside[1] / ((right - left) * (bottom - top))
        apart = all(right < a - 3 or left > c + 3 or bottom < b - 3 or top > d + 3 for a, b, c, d in placed)
        if min(inside) > 4 and seen > 0.7 and apart:
            shadow = (points + 3.0) * DOUBLE
            draw.polygon([tuple(point) for point in shadow.tolist()], fill=(30, 32, 36))
            draw.polygon([tuple(point) for point in (points * DOUBLE).tolist()], fill=colour)
            return float(left), float(top), float(right), float(bottom)
    return None


def _shape(kind: int, rng: Generator) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The outline of an object around the origin, pixels, float64 [n, 2], and its colour."""
    angle = rng.uniform(0, 2 * np.pi)
    if kind == TANK:
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        shade = int(rng.integers(205, 245))
        return rng.uniform(12, 22) * np.stack([np.cos(turn), np.sin(turn)], 1), (shade, shade, shade)
    if kind == AIRCRAFT:
        half = rng.uniform(20, 30)
        right = [(1, 0), (0.8, 0.1), (0.25, 0.12), (-0.15, 0.95), (-0.3, 0.95), (-0.1, 0.12), (-0.7, 0.1)]
        right += [(-0.9, 0.35), (-1, 0.35), (-0.95, 0)]
        points = np.array([*right, *((x, -y) for x, y in reversed(right[1:-1]))]) * half
        colour = (235, 238, 242)
    elif kind == BUILDING:
        a, b = rng.uniform(18, 36, 2)
        points = np.array([(-a, -b), (a, -b), (a, b), (-a, b)])
        red = int(rng.integers(140, 190))
        colour = (red, int(0.55 * red), int(0.45 * red))
    else:
        points = np.array([(-9.0, -4.5), (9.0, -4.5), (9.0, 4.5), (-9.0, 4.5)]) * rng.uniform(0.9, 1.2)
        colours = [(200, 30, 30), (30, 60, 200), (240, 210, 40)]
        colour = colours[int(rng.integers(len(colours)))]
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turned.T, colour


def _feature(image: str, kind: int, box: Box, transform: rasterio.Affine | None) -> dict[str, Any]:
    sides = [round(side) for side in box]
    ring: list[list[float]] = []
    if transform is not None:
        left, top, right, bottom = sides
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        ring = [list(transform @ corner) for corner in corners]
    properties = {"bounds_imcoords": ",".join(map(str, sides)), "image_id": image, "type_id": kind}
    geometry = {"type": "Polygon", "coordinates": [ring]} if ring else None
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _faults(features: list[dict[str, Any]], rng: Generator, size: int) -> list[dict[str, Any]]:
    """Labels that are wrong, as the release's are."""
    there = features[int(rng.integers(len(features)))]["properties"]["image_id"]
    far: Box = (3.0 * size, 10.0, 3.0 * size + 20, 40.0)
    near: Box = (10.0, 10.0, 40.0, 40.0)
    empty = _feature(there, CAR, near, None)
    empty["properties"]["bounds_imcoords"] = ""
    return [
        _feature(there, 75, near, None),
        _feature(there, 82, near, None),
        _feature(LOST, CAR, near, None),
        _feature(there, CAR, far, None),
        _feature(there, CAR, (-60.0, 5.0, -20.0, 30.0), None),
        _feature(there, CAR, (50.0, 50.0, 50.0, 70.0), None),
        empty,
    ]
