"""What image files say of themselves: size, bands, samples, and where they lie on the ground.

The core reads JPEG, PNG and TIFF. What it does not read, rasterio opens, if GDAL can: those images have "rasterio" as
their reader, which is slower.
"""

from __future__ import annotations

import html
import os
import re
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl import _core
from geossl.data.table import SCHEMA, is_remote, texts_from_core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MEASURED = ["width", "height", "bands", "dtype", "nodata", "band_names", "transform", "crs", "reader"]
"""Columns that are always read from the images."""
EMPTY: dict[str, Any] = dict.fromkeys(MEASURED) | {"width": 0, "height": 0, "bands": 0, "dtype": ""}
"""What stands for the header of an image that cannot be used."""
DTYPES = {"uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"}
CHUNK = 1 << 16
"""Headers held as dicts at a time."""
NOT_HERE = "not read here: "
"""How the core's reasons begin for a TIFF that GDAL may read."""
UNKNOWN = "not a JPEG, PNG or TIFF"
"""The core's reason for a format that GDAL may read."""
RGB = "red,green,blue"
RGB_PHOTOMETRICS = {2, 3, 6}
"""RGB, palettes and YCbCr, which are all read as RGB."""
FORMATS = {"JP2OpenJPEG": "JPEG 2000", "HFA": "Erdas Imagine"}
"""GDAL's names of formats, where people have another."""
TIFF_NAME = r"(?i)\.tiff?$"
ITEM = re.compile(r"<Item\s([^>]*)>([^<]*)</Item>")
ATTRIBUTE = re.compile(r'(\w+)\s*=\s*"([^"]*)"')
ACQUIRED = re.compile(r"(?i)acqui|sensing|sensed")
"""Names of metadata items that hold the time of acquisition."""


@dataclass
class Headers:
    """The headers of images, one entry an image, in order."""

    columns: dict[str, pa.Array]
    """The columns of `MEASURED`; zeros and nulls where the image cannot be used."""
    acquired: list[list[str]]
    """Texts of metadata items that may tell when each was taken, the best first."""
    rejected: dict[int, str]
    """Why images cannot be used."""
    fallbacks: Counter[str]
    """Why rasterio reads images, with their number."""
    alphas: int
    """Images with a band that is marked as alpha."""

    def rows(self, image: np.ndarray) -> Headers:
        """The headers of rows, whose images are those, int64 [rows]."""
        taken = pa.array(image)
        bad = np.zeros(len(self.acquired), bool)
        bad[list(self.rejected)] = True
        return replace(
            self,
            columns={name: column.take(taken) for name, column in self.columns.items()},
            acquired=[self.acquired[i] for i in image.tolist()],
            rejected={row: self.rejected[int(image[row])] for row in np.flatnonzero(bad[image]).tolist()},
        )

    @property
    def notes(self) -> list[str]:
        """What a user should know of them."""
        if not self.alphas:
            return []
        what = "it is read as a band; where --loader.bands leaves it out, it says which pixels have data"
        return [f"images with a band that is marked as alpha: {self.alphas:,}; {what}"]


def relative_paths(root: Path, paths: list[str], *, threads: int) -> tuple[list[str], dict[int, str]]:
    """Listed paths brought below `root`, and why some cannot be; URLs and /vsi paths stay as they are."""
    local = [i for i, path in enumerate(paths) if not is_remote(path)]
    found = _core.index_relative_paths(root, [paths[i] for i in local], threads=threads)
    out = list(paths)
    for i, path in zip(local, texts_from_core(found["path"]).to_pylist(), strict=True):
        out[i] = path or ""
    return out, {local[i]: reason for i, reason in found["rejected"]}


def read_headers(root: Path, paths: Sequence[str], *, threads: int, skip: dict[int, str] | None = None) -> Headers:
    """The headers of images, by the core or, where it does not read them, by rasterio.

    Args:
        root: folder that local paths start from.
        paths: paths relative to `root`, URLs or /vsi paths.
        threads: 0 is all cores.
        skip: images that are rejected already, with the reasons.

    """
    rejected = dict(skip or {})
    values: dict[str, list[Any]] = {name: [empty] * len(paths) for name, empty in EMPTY.items()}
    acquired: list[list[str]] = [[]] * len(paths)
    local = [i for i, path in enumerate(paths) if i not in rejected and not is_remote(path)]
    others = {i: "URL" for i, path in enumerate(paths) if i not in rejected and is_remote(path)}
    no_code: list[int] = []
    alphas = 0
    for start in range(0, len(local), CHUNK):
        chosen = local[start : start + CHUNK]
        headers = _core.image_headers([str(root / paths[i]) for i in chosen], threads=threads)
        for i, header in zip(chosen, headers, strict=True):
            if (error := header["error"]) is not None:
                rejected[i] = error
                if error.startswith(NOT_HERE) or error == UNKNOWN:
                    others[i] = error.removeprefix(NOT_HERE)
                continue
            items = metadata_items(header["metadata"])
            for name, value in _from_core(header, items).items():
                values[name][i] = value
            acquired[i] = _dates(items, header["datetime"])
            alphas += header["alpha"] is not None
            if values["transform"][i] is not None and values["crs"][i] is None:
                no_code.append(i)
    full = [path if is_remote(path) else str(root / path) for path in paths] if others or no_code else []
    fallbacks: Counter[str] = Counter()
    for i, found in _opened(foreign_header, full, list(others), threads).items():
        why = others[i]
        if isinstance(found, str):
            # Where GDAL knows the file no better, the core's word on it stands.
            own = rejected.get(i)
            rejected[i] = found if own is None else own if own == UNKNOWN else f"{own}; nor by rasterio: {found}"
            continue
        row, driver, acquired[i] = found
        rejected.pop(i, None)
        fallbacks[FORMATS.get(driver, driver) if why == UNKNOWN else why] += 1
        for name, value in row.items():
            values[name][i] = value
    for i, crs in _opened(_crs, full, no_code, threads).items():
        values["crs"][i] = crs
    columns = {name: pa.array(column, SCHEMA.field(name).type) for name, column in values.items()}
    return Headers(columns, acquired, rejected, fallbacks, alphas)


def _from_core(header: dict[str, Any], items: list[tuple[dict[str, str], str]]) -> dict[str, Any]:
    bands, photometric = header["bands"], header.get("photometric")
    names = _described(items, bands)
    if names is None and bands == 3 and (photometric is None or photometric in RGB_PHOTOMETRICS):
        names = RGB  # JPEG and PNG are always read as RGB
    epsg = header.get("epsg")
    return {
        "width": header["width"],
        "height": header["height"],
        "bands": bands,
        "dtype": header["dtype"],
        "nodata": header["nodata"],
        "band_names": names,
        "transform": _usable(header.get("transform")),
        "crs": None if epsg is None else f"EPSG:{epsg}",
        "reader": None,
    }


def _usable(transform: Sequence[float] | None) -> list[float] | None:
    """The geotransform, if it is one that can be undone."""
    if transform is None or not np.isfinite(transform).all():
        return None
    a, b, _, d, e, _ = transform
    return list(transform) if a * e != b * d else None


def metadata_items(xml: str | None) -> list[tuple[dict[str, str], str]]:
    """The items of GDAL's metadata tag, as (attributes, text)."""
    if not xml:
        return []
    return [(dict(ATTRIBUTE.findall(head)), html.unescape(text).strip()) for head, text in ITEM.findall(xml)]


def _described(items: list[tuple[dict[str, str], str]], bands: int) -> str | None:
    """The bands' names, if the file names them all."""
    found = {
        int(head["sample"]): text
        for head, text in items
        if head.get("role") == "description" and text and head.get("sample", "").isdecimal()
    }
    return join_names([found.get(band) for band in range(bands)])


def join_names(names: Sequence[str | None]) -> str | None:
    """Band names as one text, or None if a band has none."""
    plain = [" ".join((name or "").replace(",", " ").split()) for name in names]
    return ",".join(plain) if plain and all(plain) else None


def _dates(items: list[tuple[dict[str, str], str]], written: str | None) -> list[str]:
    acquired = [text for head, text in items if ACQUIRED.search(head.get("name", "")) and text]
    return [*acquired, *([written] if written else [])]


def _opened(open_one: Callable[[str], Any], paths: list[str], chosen: list[int], threads: int) -> dict[int, Any]:
    """What rasterio says of the chosen paths."""
    if not chosen:
        return {}
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return dict(zip(chosen, pool.map(open_one, (paths[i] for i in chosen)), strict=True))


def _crs(path: str) -> str | None:
    import rasterio

    try:
        with rasterio.open(path) as file:
            return crs_name(file.crs)
    except rasterio.errors.RasterioError:
        return None


def crs_name(crs: Any) -> str | None:
    """EPSG:code of a CRS that is exactly that one, else its WKT; None for none."""
    if not crs:
        return None
    code = crs.to_epsg(confidence_threshold=100)
    return crs.to_wkt() if code is None else f"EPSG:{code}"


def foreign_header(path: str) -> tuple[dict[str, Any], str, list[str]] | str:
    """The measured columns of an image that rasterio reads, the format's name and texts of dates; or why not."""
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags

    try:
        with rasterio.open(path) as file:
            colors = file.colorinterp
            kinds = sorted(set(file.dtypes))
            if len(kinds) > 1 or kinds[0] not in DTYPES:
                return f"samples of a type that is not read: {', '.join(kinds) or 'none'}"
            palette = colors == (ColorInterp.palette,)
            nodata = file.nodata
            if nodata is None and any(MaskFlags.per_dataset in flags for flags in file.mask_flag_enums):
                nodata = np.nan
            names = join_names(file.descriptions)
            is_rgb = colors == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            tags = file.tags() | file.tags(ns="IMAGERY")
            items = [({"name": name}, text) for name, text in tags.items()]
            row = {
                "width": file.width,
                "height": file.height,
                "bands": 3 if palette else file.count,
                "dtype": kinds[0],
                "nodata": nodata,
                "band_names": names or (RGB if palette or is_rgb else None),
                "transform": None if file.transform.is_identity else _usable(file.transform[:6]),
                "crs": crs_name(file.crs),
                "reader": "rasterio",
            }
            return row, file.driver, _dates(items, tags.get("TIFFTAG_DATETIME"))
    except rasterio.errors.RasterioError as e:
        return f"cannot be opened by rasterio: {' '.join(str(e).split())}"


def tiff_columns(table: pa.Table, root: Path, *, threads: int) -> pa.Table:
    """The table with what its TIFFs say of themselves beyond their size; JPEG and PNG have red, green and blue."""
    paths = table["path"].combine_chunks()
    is_tiff = pc.match_substring_regex(paths, TIFF_NAME)
    tiffs = sorted(pc.unique(paths.filter(is_tiff)).to_pylist())
    if not tiffs:
        at = table.schema.get_field_index("band_names")
        return table.set_column(at, SCHEMA.field(at), pa.repeat(pa.scalar(RGB, pa.string()), len(table)))
    found = read_headers(root, tiffs, threads=threads)
    usable = pa.array([path if i not in found.rejected else None for i, path in enumerate(tiffs)], pa.string())
    taken = pc.index_in(paths, value_set=usable, skip_nulls=True)
    for name in ("dtype", "nodata", "band_names", "transform", "crs"):
        column = found.columns[name].take(taken)
        own = table[name].combine_chunks()
        if name == "band_names":
            own = pc.if_else(taken.is_null(), pa.scalar(RGB), own)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, SCHEMA.field(name), pc.if_else(taken.is_valid(), column, own))
    return table
