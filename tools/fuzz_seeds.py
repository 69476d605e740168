"""Writes the small TIFFs that fuzzing starts from: python tools/fuzz_seeds.py."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.enums import Resampling

FOLDER = Path(__file__).parents[1] / "rust/geossl-core/fuzz/seeds/tiff"


def pixels(bands: int, dtype: str, side: int = 20) -> np.ndarray:
    """[bands, side, side], smooth with some noise."""
    noise = np.random.default_rng(bands).integers(0, 5, (bands, side, side))
    return (np.add.outer(np.arange(bands) * 9, np.add.outer(np.arange(side) * 3, np.arange(side))) + noise).astype(
        dtype
    )


def gdal(name: str, data: np.ndarray, *, mask: bool = False, overviews: bool = False, **profile: object) -> None:
    """One file of GDAL's."""
    bands, height, width = data.shape
    path = FOLDER / f"{name}.tif"
    profile = {"photometric": "minisblack", "alpha": "no", **profile}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=data.dtype, **profile
        ) as out,
    ):
        out.write(data)
        if mask:
            out.write_mask(np.eye(height, width, dtype=bool))
    if overviews:
        small = {"GDAL_TIFF_INTERNAL_MASK": True, "GDAL_TIFF_OVR_BLOCKSIZE": 64}
        with rasterio.Env(**small), rasterio.open(path, "r+") as out:
            out.build_overviews([2, 4], Resampling.nearest)


def main() -> None:
    """Writes all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    tiles: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    for compress in ("none", "packbits", "lzw", "deflate", "zstd"):
        gdal(f"strips_{compress}", pixels(3, "uint16"), compress=compress, blockysize=7)
        gdal(f"tiles_{compress}", pixels(2, "uint8"), compress=compress, interleave="band", **tiles)
    gdal("predicted", pixels(8, "uint16"), compress="deflate", predictor=2, **tiles)
    gdal("predicted_big_endian", pixels(2, "int32"), compress="lzw", predictor=2, ENDIANNESS="BIG", BIGTIFF="YES")
    gdal("floats", pixels(2, "float32"), compress="zstd", predictor=3, nodata=float("nan"), **tiles)
    gdal("doubles", pixels(1, "float64"), compress="deflate", predictor=3, nodata=9)
    gdal("small_ints", pixels(3, "int8"), nodata=-1, crs="EPSG:32614", transform=rasterio.Affine(5, 0, 7, 0, -5, 9))
    gdal("mask", pixels(3, "uint8"), compress="deflate", mask=True, overviews=True, **tiles)
    gdal("alpha", pixels(4, "uint8"), photometric="rgb", alpha="yes", overviews=True)
    gdal("jpeg", pixels(3, "uint8"), compress="jpeg", photometric="ycbcr", **tiles)
    gdal("jpeg_gray", pixels(1, "uint8"), compress="jpeg", blockysize=16)
    gdal("sparse", np.zeros((2, 40, 40), "uint16"), compress="deflate", SPARSE_OK=True, nodata=0, **tiles)
    tifffile.imwrite(FOLDER / "halves.tif", pixels(2, "float16"), photometric="minisblack", planarconfig="separate")
    colors = np.arange(768).reshape(3, 256).astype(np.uint16) * 85
    tifffile.imwrite(FOLDER / "palette.tif", pixels(1, "uint8")[0], photometric="palette", colormap=colors)
    tifffile.imwrite(FOLDER / "pages.tif", pixels(3, "uint16"), photometric="minisblack", byteorder=">", bigtiff=True)


if __name__ == "__main__":
    main()
