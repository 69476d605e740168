"""The image sets of the GeoTIFF bench: the same made images in each layout, and where their blocks lie."""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import tifffile
from affine import Affine
from PIL import Image

from geossl.data.index import Index, build_index

if TYPE_CHECKING:
    from pathlib import Path

TILES = {"tiled": True, "blockxsize": 256, "blockysize": 256}
APART = 100_000
"""Metres between two images, each of which shows other ground."""


@dataclass(frozen=True)
class Layout:
    """A way to write the images."""

    bands: int
    side: int
    options: dict[str, Any]
    """GDAL's creation options."""
    least: float
    """The target against rasterio."""


LAYOUTS = {
    "deflate": Layout(8, 512, {"compress": "deflate", "predictor": 2} | TILES, 1.4),
    "zstd": Layout(8, 512, {"compress": "zstd", "predictor": 2} | TILES, 1.5),
    "lzw": Layout(8, 512, {"compress": "lzw", "predictor": 2} | TILES, 1.2),
    "none, strips": Layout(8, 512, {}, 3),
    "none, tiles": Layout(8, 512, TILES, 3),
    "deflate, bands": Layout(8, 512, {"compress": "deflate", "predictor": 2, "interleave": "band"} | TILES, 1.4),
    "lzw, 12 bands": Layout(12, 256, {"compress": "lzw", "predictor": 2}, 1.2),
}
"""All with the predictor, without which such data hardly get smaller; strips are of the height that GDAL chooses."""
LEAST_PACK, LEAST_SHARE = 2.5, 0.85
"""Targets of each of them: from the lossless pack against rasterio, and from files against the codec alone."""


@dataclass(frozen=True, kw_only=True)
class TiffSet:
    """A set on disk."""

    name: str
    bands: int
    side: int
    files: list[str]
    index: str
    """Our index of it."""
    mebibytes: float
    ratio: float
    """Bytes of the samples for each byte of the files."""
    codec: str
    predictor: int
    planar: bool
    block: tuple[int, int]
    """Width and height of a strip or tile."""
    blocks: list[list[tuple[int, int]]]
    """Of each file: offset and length of each strip or tile."""


def make_set(name: str, *, work: Path, images: int) -> TiffSet:
    """The set, from `work` if it is there already."""
    layout = LAYOUTS[name]
    folder = work / "geotiff" / f"{name.replace(', ', '-').replace(' ', '-')}-{images}"
    if not (folder / "index.parquet").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with (folder / "images.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path"])
            for number in range(images):
                write(folder / f"{number:04d}.tif", layout, number)
                table.writerow([f"{number:04d}.tif"])
        index = build_index(folder / "images.csv")[0]
        index.write(folder / "index.parquet")
    index = Index.read(folder / "index.parquet")
    files = [index.root / path for path in index.table["path"].to_pylist()]
    blocks = []
    for path in files:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            blocks.append(list(zip(page.dataoffsets, page.databytecounts, strict=True)))
            tiled = page.is_tiled
            block = (page.tilewidth, page.tilelength) if tiled else (page.imagewidth, page.rowsperstrip)
            planar, predictor = page.planarconfig == 2, int(page.predictor)
    stored = sum(path.stat().st_size for path in files)
    return TiffSet(
        name=name,
        bands=layout.bands,
        side=layout.side,
        files=[str(path) for path in files],
        index=str(folder / "index.parquet"),
        mebibytes=round(stored / 2**20, 2),
        ratio=round(len(files) * layout.bands * layout.side**2 * 2 / stored, 2),
        codec=layout.options.get("compress", "none"),
        predictor=predictor,
        planar=planar,
        block=block,
        blocks=blocks,
    )


def describe(images: TiffSet) -> dict[str, Any]:
    """The set as the results name it."""
    row = asdict(images) | {"images": len(images.files)}
    for key in ("files", "index", "blocks"):
        del row[key]
    return row


def write(path: Path, layout: Layout, number: int) -> None:
    """One image, at a place of its own."""
    image = made_image(layout.bands, layout.side, number)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=layout.side,
        height=layout.side,
        count=layout.bands,
        dtype="uint16",
        crs="EPSG:32614",
        transform=Affine(10, 0, 300_000 + APART * number, 0, -10, 5_000_000),
        **layout.options,
    ) as file:
        file.write(image)


def made_image(bands: int, side: int, seed: int) -> np.ndarray:
    """uint16 [bands, side, side] of about twelve bits, as reflectances are: fields with edges, slopes, texture, noise.

    Bands differ in their gain, and by a slope of their own.
    """
    rng = np.random.default_rng(seed)

    def waves(knots: int) -> np.ndarray:
        coarse = Image.fromarray(rng.standard_normal((knots, knots)).astype(np.float32))
        return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))

    fields = np.floor(3 * waves(side // 40)) * 180  # constant inside, with edges
    texture = 40 * waves(side // 4) + 90 * waves(side // 16)
    image = np.empty((bands, side, side), np.uint16)
    for band in range(bands):
        gain = rng.uniform(0.5, 1.5)
        slope = 250 * waves(5) + 15 * waves(side // 2)
        noise = rng.normal(0, 8, (side, side))
        image[band] = np.clip(1400 * gain + gain * (fields + texture) + slope + noise, 1, 10_000)
    return image
