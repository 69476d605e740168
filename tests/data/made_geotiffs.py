"""Small GeoTIFFs for the tests of places, dates and tiles."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

NAIP = Path(__file__).resolve().parents[3] / "shared/data/naip"
needs_naip = pytest.mark.skipif(not NAIP.is_dir(), reason="the NAIP scenes are not beside the checkout")


def write_tiff(path: Path, *, crs, origin, size=(20, 16), pixel=10.0, bands=2, dtype="uint16", **more) -> Path:
    """An image of `size` (width, height) whose upper left corner is `origin`; `turn` turns it, in degrees."""
    tags, names, mask = more.pop("tags", {}), more.pop("names", ()), more.pop("mask", None)
    turn = np.radians(more.pop("turn", 0.0))
    along, across = pixel * np.cos(turn), pixel * np.sin(turn)
    transform = more.pop("transform", rasterio.Affine(along, across, origin[0], across, -along, origin[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"width": size[0], "height": size[1], "count": bands, "dtype": dtype, "driver": "GTiff"} | more
    if crs is not None:
        profile |= {"crs": crs, "transform": transform}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        out = rasterio.open(path, "w", **profile)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), out:
        out.write(np.arange(bands * size[0] * size[1]).reshape(bands, size[1], size[0]).astype(dtype))
        out.update_tags(**tags)
        for band, name in enumerate(names, 1):
            out.set_band_description(band, name)
        if mask is not None:
            out.write_mask(mask)
    return path
