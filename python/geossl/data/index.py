"""The index: one row an image crop, in a Parquet file that pandas, polars and DuckDB read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl import __version__, _core
from geossl.data.geotiff import GeoOptions, read_geotiffs
from geossl.data.headers import tiff_columns
from geossl.data.listing import fmow_band_names, read_listing
from geossl.data.summary import IndexReport, first_reasons, summarise
from geossl.data.table import SCHEMA, content_hash, is_remote, table_from_core
from geossl.errors import UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from collections import Counter

    from geossl.data.listing import Listed

__all__ = ["GeoOptions", "Index", "IndexReport", "build_index"]

SCHEMA_VERSION = 3
METADATA_KEY = b"geossl"
LISTS = {".csv", ".parquet"}
NOT_FMOW = "a name that is not fMoW's"
"""The core's reason for an image that it does not know by its name."""


@dataclass(frozen=True, eq=False)
class Index:
    """Images with what is known of each."""

    table: pa.Table
    """One row an image crop: the columns of `geossl.data.table.SCHEMA`."""
    root: Path
    """Absolute folder that `path` starts from."""
    content_hash: str
    """SHA-256 in hex of the table's content; where the files lie does not change it."""
    source: Path | None = None
    """The Parquet file that it was read from."""
    boxes: Literal["objects", "tiles"] = "objects"
    """What the boxes are: objects with their surroundings, as fMoW's, or tiles of scenes, which have no context."""

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def read(cls, path: Path, *, root: Path | None = None, images: bool = True) -> Index:
        """Read an index that `write` made; `root` takes the place of the folder that it names.

        `images` looks whether its images are there, which they need not be where a pack is read.

        Raises UsageError if it is missing, not an index, of another schema version, or without its images.
        """
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"{path}: no such index; make it with: geossl data index SRC -o {path}")
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as e:
            raise UsageError(f"{path}: not an index: {' '.join(str(e).split())}") from e
        metadata = _metadata(path, table)
        table = table.replace_schema_metadata(None)
        if not table.schema.equals(SCHEMA):
            raise UsageError(f"{path}: its columns were changed; make it again with: geossl data index SRC -o {path}")
        folder = path.resolve().parent / metadata["root"] if root is None else Path(root).resolve()
        if images:
            _check_images(path, table, folder)
        return cls(table=table, root=folder, content_hash=content_hash(table), source=path, boxes=metadata["boxes"])

    def write(self, path: Path) -> None:
        """Write the Parquet file, whole or not at all.

        The root is kept relative to the file's folder if it lies inside, so that both can be moved together.
        """
        path = Path(path)
        folder = path.resolve().parent
        if not folder.is_dir():
            raise UsageError(f"{path}: its folder does not exist")
        inside = self.root.is_relative_to(folder)
        metadata = {
            "schema_version": SCHEMA_VERSION,
            "root": self.root.relative_to(folder).as_posix() if inside else str(self.root),
            "boxes": self.boxes,
            "content_hash": self.content_hash,
            "geossl_version": __version__,
        }
        table = self.table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
        try:
            with replacing(path) as file:
                pq.write_table(table, file, compression="zstd")
        except OSError as e:
            raise UsageError(f"{path}: cannot be written: {e.strerror or e}") from e

    def full_path(self, path: str) -> str:
        """Where the image of a row's `path` is: below the root, or as it is for a URL or a /vsi path."""
        return path if is_remote(path) else str(self.root / path)

    def rows(self, *, split: str | None = None) -> np.ndarray:
        """Row numbers of that split, or of all, int64, ascending."""
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        chosen: np.ndarray = pc.equal(self.table["split"], split).fill_null(False).to_numpy()
        return np.flatnonzero(chosen).astype(np.int64)

    @cached_property
    def places(self) -> np.ndarray:
        """Code of each row's location_id, int32 [N], 0 to P - 1 in order of first appearance.

        A row without location_id is a place of its own.
        """
        codes, _ = _encode(self.table["location_id"])
        alone = codes < 0
        # The dictionary numbers by first appearance, so that a code above all before it is new.
        before = np.concatenate([[-1], np.maximum.accumulate(codes)[:-1]]) if len(codes) else codes
        new = alone | (codes > before)
        number = np.cumsum(new) - 1
        of_code = number[new & ~alone]
        out = number.copy()
        out[~alone] = of_code[codes[~alone]]
        return out.astype(np.int32)

    @cached_property
    def categories(self) -> list[str]:
        """Sorted distinct categories, without null."""
        _, names = _encode(self.table["category"])
        return sorted(names)

    @cached_property
    def labels(self) -> np.ndarray:
        """Each row's position in `categories`, int64 [N]; -1 without category."""
        codes, names = _encode(self.table["category"])
        position = {name: i for i, name in enumerate(self.categories)}
        # The last entry is the one that -1 picks.
        labels: np.ndarray = np.array([*(position[name] for name in names), -1], np.int64)[codes]
        return labels


def build_index(
    src: Path,
    *,
    layout: Literal["auto", "fmow", "csv", "geotiff"] = "auto",
    images: Literal["auto", "rgb", "msrgb", "ms"] = "auto",
    root: Path | None = None,
    geo: GeoOptions | None = None,
    threads: int = 0,
) -> tuple[Index, IndexReport]:
    """Index a folder in fMoW's layout, a list of images (`geossl.data.listing`), or GeoTIFFs (`geossl.data.geotiff`).

    Args:
        src: fMoW-rgb, fMoW-full, one of their splits, or ready-made crops; a .csv or .parquet file; with the layout
            geotiff, a folder of GeoTIFFs or a list of them.
        layout: what `src` is; by default a folder is fMoW's and a file is a list.
        images: which of fMoW's images to take; by default the first of rgb, msrgb and ms that there is.
        root: folder that the paths of a list start from; by default the list's own.
        geo: what GeoTIFFs do not say; for the layout geotiff alone.
        threads: 0 is all cores; the result does not depend on it.

    Returns:
        The index, sorted by path for a folder and in the list's order else, and the report on it.

    Raises:
        UsageError: `src` is missing, has no images of the layout or no path column, or no image can be used.

    """
    src = Path(src)
    if not src.exists():
        raise UsageError(f"{src}: no such file or folder")
    if layout != "geotiff" and geo is not None and geo != GeoOptions():
        raise UsageError("--bands, --dates, --date-pattern and --tile: are for --layout geotiff")
    is_list = src.is_file() if layout in {"auto", "geotiff"} else layout == "csv"
    if not is_list:
        if root is not None:
            raise UsageError("--root: is for the paths of a CSV or Parquet list; a folder is its own root")
        if not src.is_dir():
            raise UsageError(f"{src}: a file, but the layout fmow is a folder")
        folder = src.resolve()
    elif src.is_dir() or src.suffix.lower() not in LISTS:
        raise UsageError(f"{src}: a list of images is a .csv or .parquet file")
    else:
        folder = (src.parent if root is None else Path(root)).resolve()
        if not folder.is_dir():
            raise UsageError(f"--root {folder}: no such folder")
    if images != "auto" and (is_list or layout == "geotiff"):
        raise UsageError("--images: is for folders in fMoW's layout")
    if layout == "geotiff":
        return _index_geotiff(src, folder, geo or GeoOptions(), threads)
    return _index_list(src, folder, threads) if is_list else _index_fmow(src, images, threads)


def _index_list(src: Path, folder: Path, threads: int) -> tuple[Index, IndexReport]:
    listed = read_listing(src, root=folder, threads=threads)
    if len(listed.table) == 0:
        why = first_reasons(listed.rejected)
        raise UsageError(
            f"{src}: none of its {len(listed.rejected):,} rows can be used: {why}; "
            f"paths start from {folder}: give another folder with --root"
        )
    return Index(listed.table, folder, content_hash(listed.table)), _report(listed, src)


def _index_geotiff(src: Path, folder: Path, options: GeoOptions, threads: int) -> tuple[Index, IndexReport]:
    listed, dates_from = read_geotiffs(src, root=folder, options=options, threads=threads)
    boxes: Literal["objects", "tiles"] = "objects" if options.tile is None else "tiles"
    return Index(listed.table, folder, content_hash(listed.table), boxes=boxes), _report(listed, src, dates_from)


def _report(listed: Listed, src: Path, dates_from: Counter[str] | None = None) -> IndexReport:
    return summarise(
        listed.table,
        source=src,
        layout=listed.layout,
        rejected=listed.rejected,
        nulled=listed.nulled,
        notes=listed.notes + listed.headers.notes,
        fallbacks=listed.headers.fallbacks,
        dates_from=dates_from,
    )


def _index_fmow(src: Path, images: str, threads: int) -> tuple[Index, IndexReport]:
    root = src.resolve()
    try:
        scan = _core.index_scan_fmow(root, kind=None if images == "auto" else images, threads=threads)
    except (OSError, ValueError) as e:
        raise UsageError(str(e)) from e
    table = table_from_core(scan["columns"])
    if len(table) == 0:
        raise UsageError(_why_nothing(src, scan))
    table = tiff_columns(table, root, threads=threads)
    names = fmow_band_names(table["path"], table["bands"], table["band_names"])
    table = table.set_column(SCHEMA.get_field_index("band_names"), "band_names", names)
    found, kind = scan["found"], scan["kind"]
    others = [f"{n:,} {name}" for name, n in found.items() if n and name != kind]
    counts = [
        (scan["no_sidecar"], "images without a JSON sidecar, kept without coordinates, date and box"),
        (scan["size_mismatches"], "sidecars that claim another size than the image's own, which is taken"),
        (scan["duplicate_boxes"], "boxes that repeat another one of their image, left out"),
        (scan["tiny_boxes"], "boxes of 2 pixels a side or less, left out"),
    ]
    notes = [f"left out: {', '.join(others)} images (--images takes them)"] if others else []
    notes += [f"{text}: {count:,}" for count, text in counts if count]
    report = summarise(
        table,
        source=src,
        layout=f"fMoW, {kind} images",
        rejected=scan["rejected"],
        nulled=scan["nulled"],
        notes=notes,
    )
    return Index(table, root, content_hash(table)), report


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


def _metadata(path: Path, table: pa.Table) -> dict[str, Any]:
    """What `write` left beside the columns, of the schema version that is read here."""
    text = (table.schema.metadata or {}).get(METADATA_KEY, b"null")
    try:
        metadata = json.loads(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or not {"schema_version", "root"} <= metadata.keys():
        raise UsageError(
            f"{path}: a Parquet file, but not an index; if it lists images, make an index of it with: "
            f"geossl data index {path} -o INDEX"
        )
    if metadata["schema_version"] != SCHEMA_VERSION:
        raise UsageError(
            f"{path}: an index of schema version {metadata['schema_version']}, where this geossl reads "
            f"{SCHEMA_VERSION}; make it again with: geossl data index SRC -o {path}"
        )
    return metadata


def _check_images(path: Path, table: pa.Table, root: Path) -> None:
    """Look for the first, middle and last image."""
    rows = sorted({0, len(table) // 2, len(table) - 1}) if len(table) else []
    names = [name for name in (table["path"][row].as_py() for row in rows) if not is_remote(name)]
    missing = [name for name in names if not (root / name).is_file()]
    if missing or not root.is_dir():
        what = f"missing, e.g. {missing[0]}" if root.is_dir() else "no such folder"
        raise UsageError(
            f"{path}: its images are not under {root} ({what}). "
            "If they moved, give their new folder with --loader.root (probe: --root)"
        )


def _encode(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Codes, int64 [N], -1 for null; and the values that they number, in order of first appearance."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: np.ndarray = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes, encoded.dictionary.to_pylist()
