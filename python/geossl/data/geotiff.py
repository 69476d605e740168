"""Images with their places and dates from the files themselves: GeoTIFFs, and what else GDAL reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl import _core
from geossl.data.dates import dates_of_names, dates_of_tags, read_dates
from geossl.data.footprints import Footprints
from geossl.data.headers import read_headers
from geossl.data.listing import Listed, read_listing
from geossl.data.summary import first_reasons
from geossl.data.table import NO_INSTANT, SCHEMA, instants
from geossl.data.tiles import tile_table
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EXTENSIONS = ["tif", "tiff", "jp2", "j2k", "vrt", "img", "ntf", "nitf"]
"""Names that a folder is searched for; a list may have any."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class GeoOptions:
    """What the files do not say."""

    bands: Sequence[str] = ()
    """Names of the bands of images that have as many and do not name them."""
    dates: Path | None = None
    """CSV or Parquet table of paths or file names, and timestamps."""
    date_pattern: str | None = None
    """What a date looks like in the files' names, in strptime's directives; None for the known patterns."""
    tile: int | None = None
    """Cut images into tiles of this many pixels a side; None for whole images."""
    category_folders: bool = False
    """The folder that an image lies in is its category, and a first folder train, val or test its split; for a folder
    alone."""


def read_geotiffs(src: Path, *, root: Path, options: GeoOptions, threads: int) -> tuple[Listed, Counter[str]]:
    """The images of a folder, by path, or of a list, in its order; placed, dated, and cut into tiles if wanted.

    Returns:
        The rows, and the images by where their date is from.

    Raises:
        UsageError: no image can be used, or an option does not fit the images.

    """
    if options.category_folders and not src.is_dir():
        raise UsageError(f"--category-folders: is for a folder of GeoTIFFs; {src} has the column category for it")
    listed = _walked(root, threads=threads) if src.is_dir() else read_listing(src, root=root, threads=threads)
    if len(listed.table) == 0:
        number, why = len(listed.rejected), first_reasons(listed.rejected)
        what = f"none of its {number:,} images can be used: {why}" if number else "no images found"
        raise UsageError(f"{src}: {what}; looked for {', '.join(EXTENSIONS)}" if src.is_dir() else f"{src}: {what}")
    if options.category_folders:
        listed.table = _with_categories(src, root, listed.table)
    return listed, complete(listed, root=root, options=options)


def complete(listed: Listed, *, root: Path, options: GeoOptions) -> Counter[str]:
    """Fill in what a list does not have and its GeoTIFFs do: dates, places, coordinates, sizes of pixels; cut tiles.

    Returns:
        The images by where their date is from.

    Raises UsageError if an option does not fit the images.

    """
    if options.bands:
        listed.table = _with_band_names(listed.table, options.bands)
    dates_from = _date(listed, root, options)
    order = np.argsort(np.array(listed.table["path"].to_pylist(), dtype=object), kind="stable")
    footprints = Footprints(listed.table)
    _place(listed, footprints, order)
    if options.tile is not None:
        _tile(listed, footprints, order, options.tile)
    return dates_from


def _walked(root: Path, *, threads: int) -> Listed:
    paths, rejected = _core.index_walk(root, EXTENSIONS, threads=threads)
    headers = read_headers(root, paths, threads=threads)
    columns = {"path": pa.array(paths, pa.string()), **headers.columns}
    nothing = pa.nulls(len(paths))
    table = pa.table([columns.get(f.name, nothing.cast(f.type)) for f in SCHEMA], schema=SCHEMA)
    kept = np.ones(len(paths), bool)
    kept[list(headers.rejected)] = False
    rejected += [(paths[i], reason) for i, reason in headers.rejected.items()]
    return Listed("GeoTIFFs", table.filter(pa.array(kept)), headers, kept, rejected=sorted(rejected))


def _with_categories(src: Path, root: Path, table: pa.Table) -> pa.Table:
    """Categories and splits by the folders' names, as those of photos."""
    folders = [PurePosixPath(path).parent.parts for path in table["path"].to_pylist()]
    first = [parts[0] if parts and parts[0] in SPLITS else None for parts in folders]
    own = root.name if root.name in SPLITS else None
    # A folder that is a split says nothing of what its images show.
    categories = [
        parts[-1] if len(parts) > (split is not None) else None for parts, split in zip(folders, first, strict=True)
    ]
    if not any(categories):
        raise UsageError(
            f"{src}: --category-folders: no image lies in a folder of a category, such as {src / 'forest'}"
        )
    splits = [split or own for split in first]
    return _with(table, category=pa.array(categories, pa.string()), split=pa.array(splits, pa.string()))


def _with_band_names(table: pa.Table, names: Sequence[str]) -> pa.Table:
    plain = [name.strip() for name in names]
    if not all(plain) or len(set(plain)) < len(plain):
        raise UsageError(f"--bands {','.join(names)}: give each band a name of its own")
    fitting = pc.equal(table["bands"], len(plain))
    if not pc.any(fitting).as_py():
        numbers = ", ".join(str(n) for n in sorted(table["bands"].unique().to_pylist()))
        raise UsageError(f"--bands: {len(plain)} names ({','.join(plain)}) for images of {numbers} bands")
    return _with(table, band_names=pc.coalesce(table["band_names"], pc.if_else(fitting, ",".join(plain), None)))


def _date(listed: Listed, root: Path, options: GeoOptions) -> Counter[str]:
    """Fill in the dates that a list does not have. The images by where their date is from."""
    paths = listed.table["path"].to_pylist()
    dates = listed.table["timestamp"].cast(pa.int64()).fill_null(NO_INSTANT).to_numpy().copy()
    count = Counter({"the list": int((dates != NO_INSTANT).sum())})

    def fill(source: str, found: np.ndarray) -> None:
        new = (dates == NO_INSTANT) & (found != NO_INSTANT)
        dates[new] = found[new]
        count[source] = int(new.sum())

    if options.dates is not None:
        table = read_dates(options.dates, listed.nulled)
        fill("--dates", table.of(paths, root))
    fill("file names", dates_of_names(paths, options.date_pattern))
    acquired = [texts for texts, kept in zip(listed.headers.acquired, listed.kept.tolist(), strict=True) if kept]
    fill("tags", dates_of_tags(acquired))
    listed.table = _with(listed.table, timestamp=instants(dates))
    return +count


def _place(listed: Listed, footprints: Footprints, order: np.ndarray) -> None:
    """Fill in the places, coordinates and sizes of pixels that a list does not have."""
    table = listed.table
    paths = table["path"].to_pylist()
    # A place has the name of the image that founds it, which is another for every founder.
    stems = [str(PurePosixPath(path).with_suffix("")) if path.count("://") == 0 else path for path in paths]
    often = Counter(stems)
    names = [path if often[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    known = pc.coalesce(table["location_id"], pa.array(names, pa.string()))
    founders = footprints.founders(order)
    joined = known.take(pa.array(founders, mask=founders < 0))
    lon, lat = footprints.centre.T
    missing = np.isnan(lat)
    listed.table = _with(
        table,
        location_id=pc.coalesce(table["location_id"], joined),
        lat=pc.coalesce(table["lat"], pa.array(lat, mask=missing)),
        lon=pc.coalesce(table["lon"], pa.array(lon, mask=missing)),
        gsd=pc.coalesce(table["gsd"], pa.array(footprints.gsd.astype(np.float32), mask=np.isnan(footprints.gsd))),
    )
    for row in np.flatnonzero(missing & table["crs"].is_valid().to_numpy() & table["transform"].is_valid().to_numpy()):
        listed.nulled.append((paths[row], f"a place that its CRS has no degrees for: {table['crs'][row]}"))


def _tile(listed: Listed, footprints: Footprints, order: np.ndarray, side: int) -> None:
    table = listed.table
    if side < 1:
        raise UsageError(f"--tile {side}: pixels of a tile's side, 1 or more")
    if table["box_x"].null_count < len(table):
        raise UsageError("--tile: the list has boxes of its own")
    placed = np.isfinite(footprints.corners).all(axis=(1, 2))
    paths = table["path"].to_pylist()
    reason = "nothing to lay tiles on: no geotransform, no CRS, or one without degrees"
    listed.rejected += [(paths[row], reason) for row in np.flatnonzero(~placed).tolist()]
    rows = order[placed[order]]
    codes = table["location_id"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()[rows]
    _, first, of = np.unique(codes, return_index=True, return_inverse=True)
    founders = np.full(len(table), -1, np.int64)
    founders[rows] = rows[first[of]]
    listed.table = tile_table(table, founders, side=side) if len(rows) else table.slice(0, 0)
    if len(listed.table) == 0:
        sizes = f"{pc.max(table['width']).as_py()} x {pc.max(table['height']).as_py()}"
        why = f"the largest is {sizes}" if len(rows) else "none has a geotransform and a CRS"
        raise UsageError(f"--tile {side}: no image holds a tile of {side} pixels a side; {why}")


def _with(table: pa.Table, **columns: pa.ChunkedArray | pa.Array) -> pa.Table:
    return pa.table([columns.get(name, table[name]) for name in SCHEMA.names], schema=SCHEMA)
