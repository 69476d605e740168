"""A small made SpaceNet 1: images of painted towns near Rio de Janeiro, their buildings' outlines, and its faults."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize, shapes
from shapely.geometry import mapping, shape

from geossl.data.fallback import quiet
from geossl.data.synth.date import add_air, draw_days, light_scene, palette
from geossl.data.synth.folder import made_folder
from geossl.data.synth.planet import BIOMES, Place
from geossl.data.synth.scene import ROOFS, SUPERSAMPLING, Scene, Surface
from geossl.data.synth.structures import DRAW, draw_surroundings
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]

LEAST_IMAGES = 30
WEST, NORTH = -43.7732462563, -22.9214851954
PIXEL = 4.489e-06, 4.486e-06
"""Degrees of longitude and latitude: half a metre, as in the release."""
COLUMNS = 20
"""Images beside one another."""
SHAPE = 406 / 438
"""Height over width of the release's images."""
COARSER = 4
"""Side of a pixel of the 8-band images, in pixels of the 3-band ones."""
SCRAP = 8
"""Square pixels of a 3-band image that a house has at least, but where the image's edge cuts it."""
EIGHT = np.array(
    [  # coastal, blue, green, yellow, red, red edge, nir, nir2 from red, green, blue, nir
        [0.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0],
        [0.9, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 0.95],
    ],
    np.float32,
)
EMPTY = ("no features", "no bytes")
FAULTS = (
    "crossed",
    "three points",
    "multipolygon",
    "collection",
    "beyond",
    "across the edge",
    "no geometry",
    "point",
    "bad json",
    "no footprints",
    "no image",
    "broken image",
)
"""What is wrong with the files of one scene each: the last scenes, in this order."""


@dataclass(frozen=True, kw_only=True)
class SpacenetSummary:
    """What `make_spacenet` wrote."""

    images: int
    """Scenes, with and without faults."""
    buildings: int
    """Buildings that were painted."""
    faults: dict[str, str]
    """Scene by what is wrong with it, such as AOI_1_RIO_img20: `EMPTY` and `FAULTS`."""
    folder: Path


def make_spacenet(out: Path, *, images: int = 400, size: int = 96, seed: int = 0, workers: int = 0) -> SpacenetSummary:
    """Write a made SpaceNet 1 to `out`, in the release's layout, with each of its known faults once.

    `3band/3band_AOI_1_RIO_img<N>.tif` (uint8, red, green, blue), `8band/8band_AOI_1_RIO_img<N>.tif` (uint16, a fourth
    of the size) and `vectordata/geojson/Geo_AOI_1_RIO_img<N>.geojson` (longitude, latitude, height 0), EPSG:4326. The
    footprints are those of the roofs that were painted, to half a pixel. A tenth of the scenes has no buildings.

    Args:
        out: folder to make; it must not exist, or be empty.
        images: scenes, 30 or more.
        size: width of a 3-band image, pixels, 64 to 1024; some are a pixel wider or higher.
        seed: seed; the same arguments and library versions give the same files, for any number of `workers`.
        workers: threads; 0 is one for every core.

    Raises:
        UsageError: a wrong argument, or `out` is not empty.
        GeosslError: it cannot be written.

    """
    if images < LEAST_IMAGES or not 64 <= size <= 1024 or seed < 0:
        raise UsageError(
            f"a made SpaceNet has {LEAST_IMAGES} images or more (--places {images}) of 64 to 1024 pixels "
            f"(--size {size}) and a seed of 0 or more ({seed})"
        )
    out = out.absolute()
    wrong = dict(zip(range(images, images - len(FAULTS), -1), reversed(FAULTS), strict=True))
    wrong |= {number: EMPTY[number // 10 % 2] for number in range(5, images - len(FAULTS) + 1, 10)}
    with made_folder(out, workers=workers) as (partial, pool):
        for folder in ("3band", "8band", "vectordata/geojson"):
            (partial / folder).mkdir(parents=True)
        numbers = range(1, images + 1)
        buildings = sum(pool.map(lambda n: _write_scene(partial, n, size, seed, wrong.get(n)), numbers))
    faults = {fault: f"AOI_1_RIO_img{number}" for number, fault in sorted(wrong.items())}
    return SpacenetSummary(images=images, buildings=buildings, faults=faults, folder=out)


def _write_scene(root: Path, number: int, size: int, seed: int, fault: str | None) -> int:
    """Write a scene's three files; returns how many buildings were painted."""
    rng = np.random.default_rng([seed, 2, number])
    width, height = size + int(rng.integers(2)), round(size * SHAPE) + int(rng.integers(2))
    image, polygons = _paint(rng, width, height, size, built=fault not in EMPTY)
    row, column = divmod(number - 1, COLUMNS)
    corner = WEST + column * (size + 1) * PIXEL[0], NORTH - row * (size + 1) * PIXEL[1]
    geometries = _geometries(polygons, (width, height), fault, corner)
    name = f"AOI_1_RIO_img{number}"
    if fault != "no image":
        # 8 bits with a soft shoulder, as the planet's.
        shown = (255 * (1 - np.exp(-3.2 * image[..., :3])) ** 0.75 + 0.5).astype(np.uint8)
        _write_tiff(root / f"3band/3band_{name}.tif", shown, corner, PIXEL)
        rows, columns = height // COARSER, width // COARSER
        coarse = image[: rows * COARSER, : columns * COARSER].reshape(rows, COARSER, columns, COARSER, -1).mean((1, 3))
        dull = (10_000 * coarse @ EIGHT + 0.5).clip(0, 65_535).astype(np.uint16)
        degrees = PIXEL[0] * width / columns, PIXEL[1] * height / rows
        _write_tiff(root / f"8band/8band_{name}.tif", dull, corner, degrees)
    if fault == "broken image":
        for file in (root / f"3band/3band_{name}.tif", root / f"8band/8band_{name}.tif"):
            file.write_bytes(file.read_bytes()[:6])
    if fault != "no footprints":
        text = "" if fault == "no bytes" else _collection(geometries)
        cut = text[: len(text) // 2] if fault == "bad json" else text
        (root / f"vectordata/geojson/Geo_{name}.geojson").write_text(cut, encoding="utf-8")
    return len(polygons)


def _paint(rng: np.random.Generator, width: int, height: int, size: int, *, built: bool) -> tuple[Array, Array]:
    """Reflectance [height, width, 4] (R, G, B, near infrared), and outlines of the roofs in its pixels, object [N]."""
    biome = BIOMES[str(rng.choice(["savanna", "rainforest", "temperate"]))]
    place = Place(0, "residential", "rio", "train", -22.9, -43.7, biome, 23.0, float(rng.uniform(0, 0.6)), "BRA", 1)
    # Drawn at twice the size and cut, so that houses are as large as in the release: some twenty pixels of 438.
    scene = Scene(place, rng, size=2 * size)
    if built:
        draw_surroundings(scene, place)
        if rng.random() < 0.85:
            DRAW["residential"](scene)
    else:
        DRAW["crop_field"](scene)
    _clear_scraps(scene)
    spare = np.array(scene.surface.shape) - SUPERSAMPLING * np.array([height, width])
    middle, reach = spare // 2, SUPERSAMPLING * size // 3
    top, left = (int(at) for at in middle + rng.integers(-reach, reach + 1, 2))
    window = slice(top, top + SUPERSAMPLING * height), slice(left, left + SUPERSAMPLING * width)
    day = draw_days(place, rng)[0]
    image, _ = add_air(light_scene(scene, day, *palette(place, day, rng), window), day, rng)
    polygons = shapely.simplify(_roofs(scene.surface[window]), 1.0)  # of half a pixel
    return image, shapely.transform(polygons, lambda points: points / SUPERSAMPLING)


def _clear_scraps(scene: Scene) -> None:
    """Take away what streets and trees have left of houses, if it is no house any more."""
    roofs = _roofs(scene.surface)
    scraps = roofs[shapely.area(roofs) < SCRAP * SUPERSAMPLING**2].tolist()
    if scraps:
        with quiet():
            scene.paint(rasterize(scraps, out_shape=scene.surface.shape) > 0, Surface.GROUND)


def _roofs(surface: Array) -> Array:
    """The outlines of the roofs in a drawing, in its points, object [N]."""
    surface = np.ascontiguousarray(surface)
    with quiet():
        drawn = [shape(outline) for outline, _ in shapes(surface, mask=np.isin(surface, ROOFS))]
    return np.array(drawn, object)


def _geometries(polygons: Array, size: tuple[int, int], fault: str | None, corner: tuple[float, float]) -> list[Any]:
    """The scene's geometries for GeoJSON, in degrees, with what is wrong with it after them."""

    def degrees(geometry: Any) -> dict[str, Any]:
        def place(points: Array) -> Array:
            x, y = corner[0] + points[:, 0] * PIXEL[0], corner[1] - points[:, 1] * PIXEL[1]
            return np.stack([x, y], 1)

        placed: dict[str, Any] = mapping(shapely.force_3d(shapely.transform(geometry, place)))
        return placed

    out: list[Any] = [degrees(polygon) for polygon in polygons]
    width, height = size
    bow = shapely.Polygon([(4, 4), (16, 16), (16, 4), (4, 16)])
    near = [shapely.box(x, 4, x + 6, 10) for x in (4, 14)]
    if fault == "crossed":
        out.append(degrees(bow))
    elif fault == "three points":
        point = corner[0], corner[1], 0.0
        out.append({"type": "Polygon", "coordinates": [[point, (corner[0] + PIXEL[0], corner[1], 0.0), point]]})
    elif fault == "multipolygon":
        out.append(degrees(shapely.MultiPolygon(near)))
    elif fault == "collection":
        out.append(degrees(shapely.GeometryCollection([near[0], shapely.Point(5, 5)])))
    elif fault == "beyond":
        out.append(degrees(shapely.box(width + 5, 5, width + 15, 15)))
    elif fault == "across the edge":
        out.append(degrees(shapely.box(width - 6, height - 6, width + 9, height + 9)))
    elif fault == "no geometry":
        out.append(None)
    elif fault == "point":
        out.append(degrees(shapely.Point(5, 5)))
    return out


def _collection(geometries: list[Any]) -> str:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    features = [{"type": "Feature", "properties": {"partialDec": 1.0}, "geometry": each} for each in geometries]
    return json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})


def _write_tiff(file: Path, pixels: Array, corner: tuple[float, float], pixel: tuple[float, float]) -> None:
    height, width, bands = pixels.shape
    transform = rasterio.Affine(pixel[0], 0, corner[0], 0, -pixel[1], corner[1])
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": bands, "height": height, "width": width}
    look = {"photometric": "rgb" if bands == 3 else "minisblack", "compress": "lzw"}
    with rasterio.open(file, "w", crs="EPSG:4326", transform=transform, **profile, **look) as target:
        target.write(pixels.transpose(2, 0, 1))
