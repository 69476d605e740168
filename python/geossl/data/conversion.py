"""Data sets of other forms as GeoTIFFs and an index of them: a folder that a conversion fills, and goes on in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geossl.data.headers import DTYPES
from geossl.errors import GeosslError, UsageError
from geossl.files import naming_full_disk, remove_temporary, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.data.index import IndexReport


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A data set that was made an index."""

    title: str
    """What it is, for people."""
    folder: Path
    """Where its images are."""
    bands: tuple[str, ...]
    """Names of their bands."""
    report: IndexReport
    notes: list[str]
    """What is odd about the set."""


def images_folder(out: Path) -> Path:
    """Where the images of the index `out` go. Raises UsageError if it is no .parquet file."""
    if out.suffix != ".parquet":
        raise UsageError(f"{out}: the index is a .parquet file")
    return out.with_suffix(".images")


def begin_conversion(file: Path, settings: dict[str, Any]) -> None:
    """Make the folder of the images, or go on in it.

    Args:
        file: where, in that folder, it stands what the images' pixels depend on.
        settings: what they depend on, for JSON.

    Raises UsageError if the folder holds something else.
    """
    folder = file.parent
    if folder.exists() and any(folder.iterdir()):
        try:
            before = json.loads(file.read_bytes())
        except (OSError, ValueError):
            before = {}
        if before != settings:
            what = "images of another conversion" if before else "other files"
            raise UsageError(f"{folder}: holds {what}; give another name with -o, or remove it")
        remove_temporary(folder)
        return
    with naming_full_disk(file), replacing(file) as target:
        target.write(json.dumps(settings, indent=2).encode())


def write_geotiff(
    file: Path,
    pixels: NDArray[Any],
    *,
    names: Sequence[str],
    transform: Sequence[float] | None = None,
    crs: Any = None,
) -> None:
    """Write a GeoTIFF, whole or not at all; the same pixels give the same bytes.

    Args:
        file: where.
        pixels: [bands, height, width], of a type of `geossl.data.headers.DTYPES`.
        names: of the bands.
        transform: a, b, c, d, e, f of the georeference; None, as `crs`, where there is none.
        crs: what `transform` leads to: a text, or what rasterio has for it.

    Raises GeosslError: the type is another, or the file cannot be written.

    """
    from rasterio import Affine
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    from geossl.data.fallback import quiet

    if pixels.dtype.name not in DTYPES:
        raise GeosslError(f"{file.stem}: its samples are of the type {pixels.dtype.name}, which is not read")
    count, height, width = pixels.shape
    profile = {
        "driver": "GTiff",
        "dtype": pixels.dtype.name,
        "count": count,
        "height": height,
        "width": width,
        "compress": "zstd",
        "photometric": "minisblack",  # four bands of 8 bits would be RGB and alpha
    }
    if transform is not None and crs is not None:
        profile |= {"transform": Affine(*transform), "crs": crs}
    try:
        with quiet(), MemoryFile() as memory:
            with memory.open(**profile) as image:
                image.write(pixels)
                image.descriptions = tuple(names)
            data = memory.read()
    except RasterioError as e:
        raise GeosslError(f"{file.stem}: cannot be written as a GeoTIFF: {' '.join(str(e).split())}") from e
    with naming_full_disk(file), replacing(file) as target:
        target.write(data)
