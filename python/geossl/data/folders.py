"""Folders that the core reads, fMoW's and photos, and what of them has changed since their index was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl import _core
from geossl.data.headers import tiff_columns
from geossl.data.listing import fmow_band_names
from geossl.data.stored import STAMP, IndexFile
from geossl.data.summary import first_reasons
from geossl.data.table import SCHEMA, table_from_core
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

NOT_FMOW = "a name that is not fMoW's"
"""The core's reason for an image that it does not know by its name."""


@dataclass
class Known:
    """An index that was made before: its rows, and the states of their files."""

    table: pa.Table
    stamps: np.ndarray

    @classmethod
    def read(cls, path: Path, made_by: dict[str, Any]) -> Known | str:
        """The index at `path`; or why all is to be read anew.

        Raises UsageError if it is not an index, or one of another schema version.
        """
        if not path.exists():
            return f"{path} is new"
        file = IndexFile(path)
        before = file.metadata.get("made_by")
        if before is None or not file.has_stamps:
            return f"{path} does not know its files' states"
        if before != made_by:
            other = [name for name in made_by if before.get(name) != made_by[name]]
            return f"{path} was made with other options ({', '.join(other)})"
        if not file.is_as_written():
            return f"{path} was changed by another program"
        whole = file.load([*SCHEMA.names, STAMP.name])
        return cls(whole.select(SCHEMA.names), whole[STAMP.name].to_numpy())


@dataclass
class Scanned:
    """What a folder holds."""

    table: pa.Table
    stamps: np.ndarray
    layout: str
    rejected: list[tuple[str, str]]
    nulled: list[tuple[str, str]]
    notes: list[str]


def scan_folder(root: Path, *, src: Path, layout: str, images: str, known: Known | None, threads: int) -> Scanned:
    """The rows of a folder, sorted by path; those of `known` whose files have not changed are taken as they are.

    Raises UsageError if no image can be used.
    """
    stamps = np.zeros(0, np.int64) if known is None else known.stamps
    try:
        scan = _core.index_scan(
            root,
            layout=layout,
            kind=None if images == "auto" else images,
            known_paths=[] if known is None else known.table["path"].to_pylist(),
            known_stamps=stamps,
            threads=threads,
        )
    except (OSError, ValueError) as e:
        raise UsageError(str(e)) from e
    stamp = scan["columns"].pop("stamp")
    table = tiff_columns(table_from_core(scan["columns"]), root, threads=threads)
    if layout == "fmow":
        names = fmow_band_names(table["path"], table["bands"], table["band_names"])
        table = table.set_column(SCHEMA.get_field_index("band_names"), "band_names", names)
    notes = []
    if known is not None:
        notes.append(_what_changed(known.table["path"], table["path"], scan["kept"]))
        kept = known.table.filter(pa.array(scan["kept"]))
        table = pa.concat_tables([kept, table])
        stamp = np.concatenate([known.stamps[scan["kept"]], stamp])
        order = pc.sort_indices(table["path"].combine_chunks())  # stable: an image's boxes keep their order
        table, stamp = table.take(order).combine_chunks(), stamp[order.to_numpy()]
    if len(table) == 0:
        raise UsageError(_no_photos(src, scan) if layout == "photos" else _why_nothing(src, scan))
    found, kind = scan["found"], scan["kind"]
    others = [f"{n:,} {name}" for name, n in found.items() if n and name != kind]
    if layout == "fmow" and others:
        notes.append(f"left out: {', '.join(others)} images (--images takes them)")
    counts = [
        (scan["no_sidecar"], "images without a JSON sidecar, kept without coordinates, date and box"),
        (scan["size_mismatches"], "sidecars that claim another size than the image's own, which is taken"),
        (scan["duplicate_boxes"], "boxes that repeat another one of their image, left out"),
        (scan["tiny_boxes"], "boxes of 2 pixels a side or less, left out"),
    ]
    notes += [f"{text}: {count:,}" for count, text in counts if count]
    what = "photos" if layout == "photos" else f"fMoW, {kind} images"
    return Scanned(table, stamp, what, scan["rejected"], scan["nulled"], notes)


def _what_changed(before: pa.ChunkedArray, read: pa.ChunkedArray, kept: np.ndarray) -> str:
    """What an update did, in words; it counts images."""
    before_kept = pc.unique(before.filter(pa.array(kept)))
    old, new = pc.unique(before), pc.unique(read)
    again = int(pc.sum(pc.is_in(new, value_set=old)).as_py() or 0)
    gone = len(old) - len(before_kept) - again
    return f"update: {len(before_kept):,} kept, {again:,} read again, {len(new) - again:,} new, {gone:,} gone"


def _no_photos(src: Path, scan: dict[str, Any]) -> str:
    why = f": {first_reasons(scan['rejected'])}" if scan["rejected"] else ""
    return f"{src}: no photos (jpg, png or tif) that can be used{why}"


def _why_nothing(src: Path, scan: dict[str, Any]) -> str:
    """Why a scan has no row."""
    looked_for = "fMoW names such as airport/airport_0/airport_0_1_rgb.jpg"
    rejected, found, kind = scan["rejected"], scan["found"], scan["kind"]
    if kind is not None and found[kind]:
        of_kind = [fault for fault in rejected if fault[1] != NOT_FMOW]
        return f"{src}: none of its {found[kind]:,} {kind} images can be used: {first_reasons(of_kind)}"
    if any(found.values()):
        others = ", ".join(f"{n:,} {name}" for name, n in found.items() if n)
        return f"--images {kind}: {src} has no such images, but {others}"
    unnamed = [path for path, reason in rejected if reason == NOT_FMOW]
    if unnamed:
        tiffs = any(path.lower().endswith((".tif", ".tiff")) for path in unnamed)
        instead = "if they are GeoTIFFs, add --layout geotiff; else list" if tiffs else "list"
        return (
            f"{src}: none of its {len(unnamed):,} images has one of the {looked_for}, e.g. {unnamed[0]}; "
            f"{instead} them in a CSV with a path column"
        )
    why = f"; {first_reasons(rejected)}" if rejected else ""
    return f"{src}: no images found; looked for {looked_for} (jpg, png or tif){why}"
