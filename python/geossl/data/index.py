"""The index: one row an image crop, with its place, date, box and category."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl.data.folders import Known, scan_folder
from geossl.data.geoimagenet import is_geoimagenet, read_geoimagenet
from geossl.data.geotiff import GeoOptions, read_geotiffs
from geossl.data.listing import read_listing
from geossl.data.places import Places, check_places, regrouped
from geossl.data.stored import Index, Origin
from geossl.data.summary import IndexReport, first_reasons, summarise
from geossl.data.table import content_hash
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa

    from geossl.data.listing import Listed

__all__ = ["GeoOptions", "Index", "IndexReport", "build_index"]

LISTS = {".csv", ".parquet"}

Layout = Literal["auto", "fmow", "csv", "geotiff", "photos", "geoimagenet"]


def build_index(
    src: Path,
    *,
    layout: Layout = "auto",
    images: Literal["auto", "rgb", "msrgb", "ms"] = "auto",
    root: Path | None = None,
    renames: Mapping[str, str] | None = None,
    geo: GeoOptions | None = None,
    places: Places = "id",
    radius_km: float | None = None,
    update: Path | None = None,
    threads: int = 0,
) -> tuple[Index, IndexReport]:
    """Index a folder (fMoW's layout, photos, GeoImageNet's, GeoTIFFs) or a list of images.

    Coordinates that cannot be a place on Earth become null, with a reason in the report: no numbers, one without the
    other, out of range, latitude and longitude swapped (told by their range or, in a list, by the other dates of the
    place), and 0, 0. Longitudes of 180 to 360 are brought to -180 to 180; the poles are places.

    Args:
        src: fMoW-rgb, fMoW-full, one of their splits, or ready-made crops; a folder of photos; one with
            `imagenet_images` and `metadata.csv`; a .csv or .parquet file; with the layout geotiff, a folder of GeoTIFFs
            or a list of them.
        layout: what `src` is; by default a folder is GeoImageNet's if it looks so, else fMoW's, and a file is a list.
        images: which of fMoW's images to take; by default the first of rgb, msrgb and ms that there is.
        root: folder that the paths of a list start from; by default the list's own.
        renames: a list's columns by the names that they have here, such as {"lat": "latitude"}.
        geo: what GeoTIFFs do not say; for the layout geotiff alone.
        places: what makes images views of one place: the ids that the layout has, coordinates within `radius_km` of one
            another (single link), or footprints that overlap by half.
        radius_km: kilometres, for places by radius.
        update: an index of `src` made before, from which what has not changed is taken; for fMoW's layout and photos.
        threads: 0 is all cores; the result does not depend on it.

    Returns:
        The index, sorted by path for a folder and in the list's order else, and the report on it.

    Raises:
        UsageError: `src` is missing, has no images of the layout or no path column, no image can be used, an option is
            for another layout, or `update` is not an index.

    """
    src = Path(src)
    kind, folder = _what(src, layout, root)
    if kind != "geotiff" and geo is not None and geo != GeoOptions():
        raise UsageError("--bands, --dates, --date-pattern, --tile and --category-folders: are for --layout geotiff")
    if images != "auto" and kind != "fmow":
        raise UsageError("--images: is for folders in fMoW's layout")
    is_list = src.is_file()
    if renames and (not is_list or kind == "geotiff"):
        raise UsageError("--map: is for the columns of a CSV or Parquet list")
    check_places(places, radius_km)
    made_by = {"layout": kind, "images": images, "places": places, "radius_km": radius_km}
    rows = _folder(src, folder, made_by, update=update, threads=threads) if kind in {"fmow", "photos"} else None
    if rows is None:
        rows = _listed(src, folder, kind, renames=renames, geo=geo or GeoOptions(), threads=threads)
        if update is not None and update.exists():
            rows.notes.append(f"update: all is read anew; only fMoW's layout and photos are updated, this is {kind}")
    table, notes = regrouped(rows.table, places=places, radius_km=radius_km, threads=threads)
    report = summarise(
        table,
        source=src,
        layout=rows.layout,
        rejected=rows.rejected,
        nulled=rows.nulled,
        notes=rows.notes + notes,
        fallbacks=rows.fallbacks,
        dates_from=rows.dates_from,
    )
    digest = content_hash(table)
    origin = None if rows.stamps is None else Origin(made_by, rows.stamps, digest)
    tiled = kind == "geotiff" and geo is not None and geo.tile is not None
    return Index(table, folder, digest, boxes="tiles" if tiled else "objects", origin=origin), report


@dataclass
class _Rows:
    """What a source gave, whatever its layout."""

    table: pa.Table
    layout: str
    rejected: list[tuple[str, str]]
    nulled: list[tuple[str, str]]
    notes: list[str]
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    dates_from: Counter[str] | None = None
    stamps: np.ndarray | None = None


def _what(src: Path, layout: Layout, root: Path | None) -> tuple[str, Path]:
    """The layout, and the folder that paths start from."""
    if not src.exists():
        raise UsageError(f"{src}: no such file or folder")
    is_list = src.is_file() if layout in {"auto", "geotiff"} else layout == "csv"
    if not is_list:
        if root is not None:
            raise UsageError("--root: is for the paths of a CSV or Parquet list; a folder is its own root")
        if not src.is_dir():
            raise UsageError(f"{src}: a file, but the layout {layout} is a folder")
        folder = src.resolve()
        return ("geoimagenet" if is_geoimagenet(folder) else "fmow") if layout == "auto" else layout, folder
    if src.is_dir() or src.suffix.lower() not in LISTS:
        raise UsageError(f"{src}: a list of images is a .csv or .parquet file")
    folder = (src.parent if root is None else Path(root)).resolve()
    if not folder.is_dir():
        raise UsageError(f"--root {folder}: no such folder")
    return "csv" if layout == "auto" else layout, folder


def _folder(src: Path, folder: Path, made_by: dict[str, Any], *, update: Path | None, threads: int) -> _Rows:
    known = None if update is None else Known.read(update, made_by)
    why = known if isinstance(known, str) else None
    before = known if isinstance(known, Known) else None
    layout, images = made_by["layout"], made_by["images"]
    found = scan_folder(folder, src=src, layout=layout, images=images, known=before, threads=threads)
    if why is not None:
        found.notes.insert(0, f"update: all is read: {why}")
    return _Rows(found.table, found.layout, found.rejected, found.nulled, found.notes, stamps=found.stamps)


def _listed(
    src: Path, folder: Path, layout: str, *, renames: Mapping[str, str] | None, geo: GeoOptions, threads: int
) -> _Rows:
    dates_from = None
    if layout == "geotiff":
        listed, dates_from = read_geotiffs(src, root=folder, options=geo, threads=threads)
    elif layout == "geoimagenet":
        listed = read_geoimagenet(folder, threads=threads)
    else:
        listed = read_listing(src, root=folder, renames=renames, threads=threads)
    if len(listed.table) == 0:
        raise UsageError(_why_no_rows(src, folder, layout, listed))
    headers = listed.headers
    return _Rows(
        listed.table,
        listed.layout,
        listed.rejected,
        listed.nulled,
        listed.notes + headers.notes,
        headers.fallbacks,
        dates_from,
    )


def _why_no_rows(src: Path, folder: Path, layout: str, listed: Listed) -> str:
    why = f"{src}: none of its {len(listed.rejected):,} rows can be used: {first_reasons(listed.rejected)}"
    return why if layout != "csv" else f"{why}; paths start from {folder}: give another folder with --root"
