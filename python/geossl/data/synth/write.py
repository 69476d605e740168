"""The planet's files: fMoW's folders, images and sidecars."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geossl.data.synth.date import add_air, draw_days, light_scene, palette
from geossl.data.synth.folder import made_folder
from geossl.data.synth.planet import Place, plan_places
from geossl.data.synth.scene import SUPERSAMPLING, Scene
from geossl.data.synth.structures import DRAW, draw_surroundings
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[Any]

METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class PlanetSummary:
    """What `make_planet` wrote: how many images, places and categories, and the folder."""

    images: int
    places: int
    categories: int
    folder: Path


def make_planet(
    out: Path,
    *,
    places: int = 400,
    views: float = 5.0,
    size: int = 96,
    bands: int = 3,
    seed: int = 0,
    val: float = 0.25,
    workers: int = 0,
) -> PlanetSummary:
    """Write a made planet to `out`, as `{train,val}/<category>/<category>_<loc>/<category>_<loc>_<view>_*`.

    `bands` 3 writes fMoW-rgb (`_rgb.jpg`, uint8, quality 90); 4 writes fMoW-full's naming (`_ms.tif`: R, G,
    B and near infrared, uint16 reflectance x 10,000, EPSG:4326), each image with its JSON sidecar.
    `views` is the mean number of dates a place (1 to 50), `size` the side of an image in pixels, `val` the
    share of the places that is held out, in whole blocks of 15 degrees. View numbers do not follow time.
    The same arguments and library versions give the same bytes, for any number of `workers` (threads; 0 is
    one for every core). Raises UsageError for a wrong argument or if `out` is not empty, and GeosslError if
    it cannot be written; either way nothing is left behind.
    """
    _check(places=places, views=views, size=size, bands=bands, seed=seed, val=val, workers=workers)
    out = out.absolute()
    jobs = plan_places(places=places, views=views, val=val, seed=seed)
    with made_folder(out, workers=workers) as (partial, pool):
        images = sum(pool.map(lambda place: _write_place(partial, place, size, bands, seed), jobs))
    return PlanetSummary(images, len(jobs), len({place.category for place in jobs}), out)


def _check(*, places: int, views: float, size: int, bands: int, seed: int, val: float, workers: int) -> None:
    for name, value, good, wanted in (
        ("places", places, places >= 10, "10 or more"),
        ("views", views, 1 <= views <= 50, "1 to 50"),
        ("size", size, 32 <= size <= 1024, "32 to 1024 pixels"),
        ("bands", bands, bands in {3, 4}, "3 (JPEG) or 4 (GeoTIFF)"),
        ("seed", seed, 0 <= seed < 2**63, "0 to 2^63 - 1"),
        ("val", val, 0 <= val <= 0.9, "0 to 0.9"),
        ("workers", workers, workers >= 0, "0 (one for every core) or more"),
    ):
        if not good:
            raise UsageError(f"{name}: must be {wanted}, not {value}")


def _write_place(root: Path, place: Place, size: int, bands: int, seed: int) -> int:
    """Write all images and sidecars of a place; returns how many images."""
    rng = np.random.default_rng([seed, 1, place.number])
    scene = Scene(place, rng, size=size)
    draw_surroundings(scene, place)
    DRAW[place.category](scene)
    extent = float(rng.uniform(800, 1300))  # metres that `size` pixels cover
    box_side = rng.uniform(0.62, 0.78, 2)
    folder = root / place.split / place.category / place.name
    folder.mkdir(parents=True)
    for view, day in enumerate(draw_days(place, rng)):
        odd = rng.integers(-3, 4, 2) if rng.random() < 0.15 else np.zeros(2, dtype=int)
        width, height = size + int(odd[0]), size + int(odd[1])
        reach = SUPERSAMPLING * max(1, size // 48)  # in half pixels: the image is never quite centred
        shift = rng.integers(-reach, reach + 1, 2)
        half = scene.surface.shape[0] // 2
        top, left = half - height + int(shift[1]), half - width + int(shift[0])
        window = slice(top, top + SUPERSAMPLING * height), slice(left, left + SUPERSAMPLING * width)
        table, snow = palette(place, day, rng)
        image, clouds = add_air(light_scene(scene, day, table[:, :bands], snow, window), day, rng)
        metres = extent / size
        centre = (half - top) / SUPERSAMPLING, (half - left) / SUPERSAMPLING  # where the structure is: y, x
        bounds = _bounds(place, metres, left=centre[1], top=centre[0], width=width, height=height)
        box_w, box_h = (max(3, round(size * float(side))) for side in box_side)
        box = max(0, round(centre[1] - box_w / 2)), max(0, round(centre[0] - box_h / 2)), box_w, box_h
        stem = f"{place.name}_{view}_{'rgb' if bands == 3 else 'ms'}"
        file = folder / (stem + (".jpg" if bands == 3 else ".tif"))
        _write_image(file, image, bounds)
        sidecar = {
            "img_filename": file.name,
            "gsd": metres,
            "img_width": width,
            "img_height": height,
            "cloud_cover": clouds,
            "country_code": place.country,
            "utm": f"{int((place.lon + 180) // 6) + 1:02d}{_utm_band(place.lat)}",
            "timestamp": day.time.isoformat().replace("+00:00", "Z"),
            "sensor_platform_name": f"PLANET{int(rng.integers(1, 5)):02d}",
            "sun_azimuth_dbl": float(np.degrees(day.sun_azimuth)),
            "sun_elevation_dbl": float(np.degrees(day.sun_elevation)),
            "off_nadir_angle_dbl": float(rng.uniform(0, 30)),
            "raw_location": _polygon(bounds),
            "bounding_boxes": _boxes(place, box, bounds, (width, height), rng),
        }
        file.with_suffix(".json").write_text(json.dumps(sidecar), encoding="utf-8")
    return place.views


def _bounds(
    place: Place, metres: float, *, left: float, top: float, width: int, height: int
) -> tuple[float, float, float, float]:
    """West, south, east, north of an image whose pixel (left, top) lies on the place."""
    per_lat = metres / METRES_PER_DEGREE
    per_lon = per_lat / float(np.cos(np.radians(place.lat)))
    west, north = place.lon - left * per_lon, place.lat + top * per_lat
    return west, north - height * per_lat, west + width * per_lon, north


def _polygon(bounds: tuple[float, float, float, float]) -> str:
    west, south, east, north = bounds
    ring = ((west, north), (east, north), (east, south), (west, south), (west, north))
    return f"POLYGON (({', '.join(f'{lon:.14f} {lat:.14f}' for lon, lat in ring)}))"


def _boxes(
    place: Place,
    box: tuple[int, int, int, int],
    bounds: tuple[float, float, float, float],
    shape: tuple[int, int],
    rng: Generator,
) -> list[dict[str, Any]] | dict[str, Any]:
    """The sidecar's boxes, in fMoW's three forms: a list, a list with a twin of ID -1, a bare dict."""
    entry = {"ID": int(rng.integers(0, 5000)), "category": place.category, "visible": True, "box": list(box)}
    form = rng.random()
    if form < 0.15:
        return entry
    if form > 0.4:
        return [entry]
    west, south, east, north = bounds
    per_x, per_y = (east - west) / shape[0], (north - south) / shape[1]
    x, y, w, h = box
    inner = west + x * per_x, north - (y + h) * per_y, west + (x + w) * per_x, north - y * per_y
    return [{**entry, "ID": -1, "raw_location": _polygon(inner)}, entry]


def _utm_band(lat: float) -> str:
    return "CDEFGHJKLMNPQRSTUVWX"[min(19, int((lat + 80) // 8))]


def _write_image(file: Path, reflectance: Array, bounds: tuple[float, float, float, float]) -> None:
    if file.suffix == ".jpg":  # 8 bits with a soft shoulder, so that snow keeps its shape
        shown = 255 * (1 - np.exp(-3.2 * reflectance)) ** 0.75
        Image.fromarray((shown + 0.5).astype(np.uint8)).save(file, quality=90)
        return
    import rasterio

    height, width, bands = reflectance.shape
    tile = 16 * max(1, min(16, min(height, width) // 32))
    profile = {"driver": "GTiff", "dtype": "uint16", "count": bands, "height": height, "width": width}
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile, "compress": "deflate"}
    west, south, east, north = bounds
    transform = rasterio.Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
    place = {"crs": "EPSG:4326", "transform": transform}
    samples = (10_000 * reflectance + 0.5).clip(0, 65_535).astype(np.uint16)
    with rasterio.open(file, "w", **profile, **layout, **place) as target:
        target.write(samples.transpose(2, 0, 1))
        # By its name it would be one of fMoW's, whose first band is blue.
        target.descriptions = ("red", "green", "blue", "nir")
