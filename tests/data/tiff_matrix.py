"""Small TIFFs of every layout, written by GDAL and by tifffile, and what rasterio and our reader make of a file."""

from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from affine import Affine

from geossl import _core

INTEGERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32")
FLOATS = ("float16", "float32", "float64")
CODECS = ("none", "packbits", "lzw", "deflate", "old-deflate", "zstd")
"""Lossless for every dtype, and the writers' names of them; old deflate is tag 32946."""
PREDICTED = ("lzw", "deflate", "old-deflate", "zstd")
OLD_DEFLATE = 32946
GROUND = Affine(0.6, 0, 631_000, 0, -0.6, 5_280_000)
"""A transform, as rasterio warns about files that have none."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A file of the matrix."""

    dtype: str
    codec: str
    predictor: int = 1
    planar: bool = False
    """Bands one after the other."""
    tile: tuple[int, int] | None = None
    """Width and height of a tile; None for strips."""
    rows: int = 16
    """Rows of a strip."""
    big_endian: bool = False
    bigtiff: bool = False
    bands: int = 3
    size: tuple[int, int] = (71, 53)
    """Width and height."""
    writer: str = "gdal"

    def __str__(self) -> str:
        blocks = f"tiles{self.tile[0]}x{self.tile[1]}" if self.tile else f"strips{self.rows}"
        kind = f"{'M' if self.big_endian else 'I'}{'8' if self.bigtiff else '4'}"
        return (
            f"{self.dtype}-{self.codec}-p{self.predictor}-{'planar' if self.planar else 'pixel'}-{blocks}-{kind}-"
            f"{self.size[0]}x{self.size[1]}x{self.bands}-{self.writer}"
        )


def specs() -> list[Spec]:
    """Dtype x codec x predictor x interleave x strips or tiles in full, the rest by turns; then what has rules of its
    own: tifffile's dtypes x codecs x interleave x byte order, JPEG.
    """
    kinds = cycle(product((False, True), (False, True)))
    tiles = cycle([(16, 16), (32, 48), (48, 16), (64, 32), (256, 256)])
    rows = cycle([1, 7, 16, 53, 5])
    bands = cycle([1, 3, 2, 4, 5, 8, 13])
    sizes = cycle([(71, 53), (37, 29), (150, 70), (64, 96), (33, 130), (48, 48)])

    def kind(planar: bool) -> dict[str, Any]:
        big_endian, bigtiff = next(kinds)
        count = next(bands)
        count = 6 if planar and count == 1 else count
        return {"big_endian": big_endian, "bigtiff": bigtiff, "size": next(sizes), "bands": count, "planar": planar}

    made = []
    for dtype, codec in product((*INTEGERS, *FLOATS), CODECS):
        predictors = (1, 2, 3) if dtype in FLOATS else (1, 2)
        for predictor in predictors if codec in PREDICTED else (1,):
            for planar, tiled in product((False, True), repeat=2):
                blocks = {"tile": next(tiles)} if tiled else {"rows": next(rows)}
                made.append(Spec(dtype=dtype, codec=codec, predictor=predictor, **blocks, **kind(planar)))
    for dtype, codec in product((*INTEGERS, *FLOATS), ("none", "deflate", "old-deflate")):
        for planar, big_endian, tiled in product((False, True), repeat=3):
            blocks = {"tile": next(tiles)} if tiled else {"rows": next(rows)}
            options = kind(planar) | {"big_endian": big_endian}
            made.append(Spec(dtype=dtype, codec=codec, **blocks, **options, writer="tifffile"))
    for predictor, dtype, planar in product((1, 2), ("uint8", "uint16", "float32"), (False, True)):
        options = {"planar": planar, "tile": (16, 16), "bands": 64, "size": (37, 29)}
        made.append(Spec(dtype=dtype, codec="zstd", predictor=predictor, **options))
    for (planar, bands), tile in product([(False, 1), (False, 3), (True, 2), (True, 5)], (None, (32, 48))):
        made.append(Spec(dtype="uint8", codec="jpeg", tile=tile, planar=planar, bands=bands))
    for size in ((1, 1), (1, 90), (90, 1)):
        for dtype, tile in product(("uint8", "uint16", "float32"), (None, (16, 16))):
            made.append(Spec(dtype=dtype, codec="deflate", predictor=2, size=size, tile=tile, bands=2))
    return made


def samples(spec: Spec, seed: int) -> np.ndarray:
    """[bands, height, width] over the dtype's whole range: smooth, noisy, runs, and the extremes."""
    rng = np.random.default_rng(seed)
    shape = (spec.bands, spec.size[1], spec.size[0])
    y, x = np.mgrid[: shape[1], : shape[2]]
    waves = np.sin(x / 9 + np.arange(spec.bands)[:, None, None]) * np.cos(y / 7)
    waves = waves + 0.1 * rng.standard_normal(shape)
    waves[:, shape[1] // 3 : shape[1] // 2] = 0.25  # runs, which PackBits and LZW write in other ways
    if spec.dtype in INTEGERS:
        least, most = (float(limit) for limit in (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max))
        image = np.clip((waves + 1) / 2 * (most - least) + least, least, most).astype(spec.dtype)
        odd = [np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max, 1]
    else:
        image = (waves * 1000).astype(spec.dtype)
        limits = np.finfo(spec.dtype)
        odd = [limits.max, limits.min, limits.smallest_subnormal, np.nan, np.inf, -np.inf, -0.0]
    at = rng.integers(0, image.size, min(image.size, 40))
    image.flat[at] = np.resize(np.array(odd, spec.dtype), len(at))
    return image


def write(spec: Spec, path: Path, seed: int) -> None:
    """Write the file. What GDAL cannot write by itself is put into its tags afterwards."""
    image = samples(spec, seed)
    if spec.writer == "tifffile":
        write_tifffile(spec, path, image)
        return
    options: dict[str, Any] = {
        "photometric": "MINISBLACK",
        "interleave": "band" if spec.planar else "pixel",
        "endianness": "BIG" if spec.big_endian else "LITTLE",
        "bigtiff": "YES" if spec.bigtiff else "NO",
        "predictor": spec.predictor,
        "jpeg_quality": 90,
    }
    if spec.tile is None:
        options |= {"blockysize": spec.rows}
    else:
        options |= {"tiled": True, "blockxsize": spec.tile[0], "blockysize": spec.tile[1]}
    if spec.codec != "none":
        options["compress"] = spec.codec.removeprefix("old-")
    write_gdal(path, image, **options)
    if spec.codec == "old-deflate":
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["Compression"].overwrite(OLD_DEFLATE)


def write_gdal(path: Path, image: np.ndarray, **options: Any) -> None:
    """[bands, height, width], by rasterio. Float16 is what GDAL makes of 32 bits that are cut to 16."""
    if image.dtype == np.float16:
        image, options = image.astype(np.float32), options | {"nbits": 16}
    bands, height, width = image.shape
    options = {"driver": "GTiff", "transform": GROUND} | options
    with rasterio.open(path, "w", width=width, height=height, count=bands, dtype=image.dtype, **options) as file:
        file.write(image)


def write_tifffile(spec: Spec, path: Path, image: np.ndarray) -> None:
    """By tifffile, which writes layouts that GDAL does not."""
    tifffile.imwrite(
        path,
        image if spec.planar else np.ascontiguousarray(np.moveaxis(image, 0, -1)) if spec.bands > 1 else image[0],
        byteorder=">" if spec.big_endian else "<",
        bigtiff=spec.bigtiff,
        photometric="minisblack",
        planarconfig=None if spec.bands == 1 else "separate" if spec.planar else "contig",
        compression={"none": None, "deflate": "adobe_deflate", "old-deflate": "deflate"}[spec.codec],
        tile=None if spec.tile is None else spec.tile[::-1],
        rowsperstrip=None if spec.tile else spec.rows,
        metadata=None,
    )


def kept(image: np.ndarray) -> np.ndarray:
    """[h, w, bands] of rasterio's [bands, h, w]: uint8 and uint16 as they are, else float32."""
    image = image.transpose(1, 2, 0)
    if image.dtype in (np.uint8, np.uint16):
        return image
    with np.errstate(over="ignore"):  # float64 beyond float32 is infinite
        return image.astype(np.float32)


def reference(path: Path) -> np.ndarray:
    """[h, w, bands], all of it."""
    with rasterio.open(path) as file:
        return kept(file.read())


def read(path: Path, **options: Any) -> np.ndarray:
    """[h, w, bands] by our reader."""
    data: np.ndarray = _core.read_image(path, **options)["data"]
    return data


def same(got: np.ndarray, expected: np.ndarray, what: object) -> None:
    assert got.dtype == expected.dtype, what
    assert got.shape == expected.shape, what
    np.testing.assert_array_equal(got, expected, err_msg=str(what))


def cut(image: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    x, y, w, h = window
    return image[y : y + h, x : x + w]


def chosen(image: np.ndarray, bands: list[int | None]) -> np.ndarray:
    """The bands in this order; zeros for None."""
    return np.stack([np.zeros_like(image[..., 0]) if band is None else image[..., band] for band in bands], axis=-1)
