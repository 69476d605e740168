"""Images listed in a CSV or Parquet file: the authors' csv, SatMAE's csv, or named columns.

Named columns: `path`, and any of location_id, lat, lon, timestamp, category, split, gsd, cloud_cover, sensor,
country_code, box_x, box_y, box_w, box_h. The csv of the authors' code (sustainlab-group/geography-aware-ssl)
is read by position: column 0 a label (a class, or a cluster), column 1 a path; SatMAE's has a timestamp in
column 2.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from geossl import _core
from geossl.data.bad_coordinates import checked
from geossl.data.headers import MEASURED, RGB, Headers, read_headers, relative_paths
from geossl.data.table import INSTANT, NO_INSTANT, SCHEMA, instants, texts_from_core
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

KNOWN = [name for name in SCHEMA.names if name not in MEASURED]
BOX = ["box_x", "box_y", "box_w", "box_h"]
MIN_BOX = 2
"""Boxes of this many pixels a side or less are rejected, as fMoW's baseline does."""
FMOW_MS = {4: "blue,green,red,nir", 8: "coastal,blue,green,yellow,red,red_edge,nir,nir2"}
"""Bands of fMoW's multispectral images, in DigitalGlobe's order, by their number."""
IMAGE_NAME = r"(?i)\.(jpe?g|png|tiff?)$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass
class Listed:
    """The rows of a list, and what was left out."""

    layout: str
    table: pa.Table
    headers: Headers
    """The headers of all that it lists, also of what was left out."""
    kept: np.ndarray
    """bool [listed]: which of them are the table's rows."""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    nulled: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_listing(src: Path, *, root: Path, renames: Mapping[str, str] | None = None, threads: int) -> Listed:
    """The usable rows of a list, in its order. Paths are relative to `root`, or absolute and below it, or URLs.

    Args:
        src: CSV or Parquet file.
        root: folder that paths start from.
        renames: the file's columns by the names that they have here.
        threads: 0 is all cores.

    Raises UsageError for a file that cannot be read, or without the columns of any known form.
    """
    columns = read_columns(src)
    names = list(columns)
    if renames:
        columns = renamed(src, columns, renames, known=KNOWN)
    elif _is_positional(columns):
        label = names[0]
        columns = dict(zip(["label", "path", "timestamp"], columns.values(), strict=False))
        return listed(src, columns, root=root, label=label, threads=threads)
    if "path" not in columns:
        raise UsageError(
            f"{src}: no column named path; its columns are: {', '.join(names) or 'none'}; "
            "name it with --map path=COLUMN"
        )
    return listed(src, columns, root=root, threads=threads)


def listed(src: Path, columns: dict[str, pa.Array], *, root: Path, label: str | None = None, threads: int) -> Listed:
    """As `read_listing`, from the columns; with `label`, these are a label of that name, a path and perhaps a date."""
    given = [name for name in BOX if name in columns]
    if given and len(given) < len(BOX):
        raise UsageError(f"{src}: a box is box_x, box_y, box_w and box_h together; it has only {', '.join(given)}")

    given_paths = _texts(columns["path"]).fill_null("").dictionary_encode()
    relative, unusable = relative_paths(root, given_paths.dictionary.to_pylist(), threads=threads)
    image = given_paths.indices.to_numpy().astype(np.int64)
    headers = read_headers(root, relative, threads=threads, skip=unusable).rows(image)
    paths = given_paths.dictionary_decode()
    rows = _Rows(headers.rejected)
    out: dict[str, Any] = {"path": pa.array(relative, pa.string()).take(pa.array(image)), **headers.columns}
    notes: list[str] = []
    for name in ("location_id", "category", "sensor", "country_code"):
        if name in columns:
            out[name] = _texts(columns[name])
    if "split" in columns:
        out["split"] = _split(rows, columns["split"])
    if "timestamp" in columns:
        out["timestamp"] = timestamps(src, columns["timestamp"], rows.null)
    for name, ok in (("gsd", lambda v: v > 0), ("cloud_cover", lambda v: (v >= 0) & (v <= 100))):
        if name in columns:
            value = _numbers(rows, name, columns[name], ok)
            out[name] = pa.array(value, pa.float32(), mask=np.isnan(value))
    if given:
        out |= _boxes(rows, columns, headers.columns["width"].to_numpy(), headers.columns["height"].to_numpy())
    if "lat" in columns and "lon" in columns:
        coordinates, notes = _coordinates(rows, columns, out.get("location_id"))
        out |= coordinates

    if label is not None:
        layout = "label, path, timestamp" if "timestamp" in columns else "label, path"
        notes += _from_names(root, out, _texts(columns["label"]), label)
    else:
        layout = f"columns {', '.join(name for name in KNOWN if name in columns)}"
        unknown = [name for name in columns if name not in KNOWN and name not in MEASURED]
        if unknown:
            notes.append(f"columns left out: {', '.join(unknown)} (known are: {', '.join(KNOWN)}; --map names them)")
    nothing = pa.nulls(len(paths))
    table = pa.table([out.get(f.name, nothing.cast(f.type)) for f in SCHEMA], schema=SCHEMA)
    keep = np.ones(len(paths), bool)
    keep[list(rows.rejected)] = False
    return Listed(
        layout=layout,
        table=table.filter(pa.array(keep)),
        headers=headers,
        kept=keep,
        rejected=[(paths[i].as_py(), reason) for i, reason in sorted(rows.rejected.items())],
        nulled=[(paths[i].as_py(), reason) for i, reason in sorted(rows.nulled)],
        notes=notes,
    )


class _Rows:
    """The fate of every row: rejected with a reason, or with values that became null."""

    def __init__(self, rejected: dict[int, str]) -> None:
        self.rejected = rejected
        self.nulled: list[tuple[int, str]] = []

    def reject(self, bad: np.ndarray, reason: Callable[[int], str]) -> None:
        for i in np.flatnonzero(bad).tolist():
            self.rejected.setdefault(i, reason(i))

    def null(self, bad: np.ndarray, reason: Callable[[int], str]) -> None:
        self.nulled += [(i, reason(i)) for i in np.flatnonzero(bad).tolist() if i not in self.rejected]


def read_columns(src: Path, *, what: str = "a list of images") -> dict[str, pa.Array]:
    """The columns by their names in small letters; those of a CSV are all text.

    Raises UsageError, which says `what` it should be, if it cannot be read, or has no rows.
    """
    try:
        if src.suffix.lower() == ".parquet":
            table = pq.read_table(src)
        else:
            with src.open(encoding="utf-8-sig", newline="") as file:
                names = next(csv.reader(file), [])
            if not names:
                raise UsageError(f"{src}: the file is empty")
            table = pacsv.read_csv(
                src,
                read_options=pacsv.ReadOptions(column_names=names, skip_rows=1),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            )
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as e:
        raise UsageError(f"{src}: cannot be read as {what}: {' '.join(str(e).split())}") from e
    names = [name.strip().lower() for name in table.column_names]
    if len(set(names)) < len(names):
        raise UsageError(f"{src}: two columns have the same name: {', '.join(names)}")
    if any(re.search(IMAGE_NAME, name) for name in names):
        raise UsageError(f"{src}: its first line names an image; put column names above it, such as label,path")
    columns = dict(zip(names, (_plain(c.combine_chunks()) for c in table.columns), strict=True))
    if len(table) == 0:
        raise UsageError(f"{src}: it lists no images; its columns are: {', '.join(names)}")
    return columns


def _plain(column: pa.Array) -> pa.Array:
    """The column with its text as string, however the file encodes it."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_large_string(column.type) else column


def _is_positional(columns: dict[str, pa.Array]) -> bool:
    """Whether the columns are a label, a path and perhaps a timestamp, whatever they are called."""
    names = list(columns)
    at_home = ["category", "path", "timestamp"]
    if not 2 <= len(names) <= 3 or any(n in KNOWN and n != h for n, h in zip(names, at_home, strict=False)):
        return False
    paths = columns[names[1]]
    if paths.type != pa.string() or not pc.any(pc.match_substring_regex(paths, IMAGE_NAME)).as_py():
        return False
    if len(names) == 2 or pa.types.is_temporal(columns[names[2]].type):
        return True
    text = _texts(columns[names[2]]).drop_null()[:1].to_pylist()
    return bool((_core.index_parse_timestamps(text) != NO_INSTANT).all())


def _from_names(root: Path, out: dict[str, Any], labels: pa.Array, label: str) -> list[str]:
    """Place, split and category by fMoW's names, where the paths have them. The notes on it."""
    found = _core.index_fmow_names(root, out["path"].to_pylist())
    location = texts_from_core(found["location_id"])
    category = texts_from_core(found["category"])
    out["category"] = pc.coalesce(category, labels)
    if location.null_count == len(location):
        return [f"the category is column 0 ({label})"]
    out["location_id"] = location
    out["band_names"] = fmow_band_names(out["path"], out["bands"], out["band_names"])
    out["split"] = texts_from_core(found["split"])
    note = "place, split and category are read from the images' fMoW names"
    if category.null_count:
        note += f"; where a name hides the category, it is column 0 ({label})"
    return [note, "coordinates are not in this list: make the index from the images' folder to have them"]


def fmow_band_names(paths: pa.Array, bands: pa.Array, known: pa.Array) -> pa.Array:
    """Band names; where a file of fMoW's names none, those of its kind of image and number of bands."""
    is_ms = pc.match_substring_regex(paths, r"(?i)_ms\.tiff?$")
    for count, names in FMOW_MS.items():
        known = pc.if_else(pc.and_(pc.and_(is_ms, pc.equal(bands, count)), known.is_null()), names, known)
    return pc.if_else(pc.and_(pc.and_(pc.invert(is_ms), pc.equal(bands, 3)), known.is_null()), RGB, known)


def _texts(column: pa.Array) -> pa.Array:
    """The column as text without spaces around; an empty text is null."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _numbers(
    rows: _Rows, name: str, column: pa.Array, ok: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """float64 [N], NaN where nothing is given; what is no number or not `ok` is named and becomes NaN."""
    given = column.is_valid()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.cast(pa.float64())
    else:
        column = _texts(column)
        given = column.is_valid()
        values = pc.if_else(pc.match_substring_regex(column, NUMBER), column, pa.scalar(None, pa.string()))
        values = values.cast(pa.float64())
    value: np.ndarray = values.to_numpy(zero_copy_only=False)
    finite = np.isfinite(value)
    good = finite if ok is None else finite & ok(np.where(finite, value, 0.0))
    rows.null(given.to_numpy(zero_copy_only=False) & ~good, lambda i: f"bad {name}: {column[i].as_py()}")
    return np.where(good, value, np.nan)


def _coordinates(
    rows: _Rows, columns: dict[str, pa.Array], location: pa.Array | None
) -> tuple[dict[str, pa.Array], list[str]]:
    """Coordinates, both or none, longitudes in -180 to 180; and the notes on them."""
    before = len(rows.nulled)
    lat, lon = (_numbers(rows, name, columns[name]) for name in ("lat", "lon"))
    # One that is no number says all there is to say of the two.
    said = np.zeros(len(lat), bool)
    said[[i for i, _ in rows.nulled[before:]]] = True
    lat, lon = (np.where(said, np.nan, v) for v in (lat, lon))
    places = None
    if location is not None:
        places = location.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    lat, lon, notes = checked(lat, lon, places=places, null=rows.null)
    missing = np.isnan(lat)
    return {"lat": pa.array(lat, mask=missing), "lon": pa.array(lon, mask=missing)}, notes


def renamed(
    src: Path, columns: dict[str, pa.Array], renames: Mapping[str, str], *, known: Sequence[str]
) -> dict[str, pa.Array]:
    """The columns under the names that they have here, of those that are known. Raises UsageError for others."""
    unknown = [name for name in renames if name not in known]
    if unknown:
        raise UsageError(f"--map {unknown[0]}={renames[unknown[0]]}: known columns are: {', '.join(known)}")
    sources = {target: source.strip().lower() for target, source in renames.items()}
    for target, source in sources.items():
        if source not in columns:
            raise UsageError(
                f"--map {target}={source}: {src} has no such column; its columns are: {', '.join(columns)}"
            )
    rest = {name: column for name, column in columns.items() if name not in sources and name not in sources.values()}
    return {target: columns[source] for target, source in sources.items()} | rest


def _split(rows: _Rows, column: pa.Array) -> pa.Array:
    text = _texts(column)
    known = pc.is_in(text, pa.array(["train", "val", "test"]))
    bad = pc.and_(text.is_valid(), pc.invert(known)).to_numpy(zero_copy_only=False)
    rows.null(bad, lambda i: f"bad split, not train, val or test: {text[i].as_py()}")
    return pc.if_else(known, text, pa.scalar(None, pa.string()))


def timestamps(src: Path, column: pa.Array, null: Callable[[np.ndarray, Callable[[int], str]], None]) -> pa.Array:
    """Instants; those without a zone are UTC. `null` is told which are bad, and why."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(INSTANT)
    if not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
        raise UsageError(f"{src}: timestamp has the type {column.type}; give ISO 8601 text or a timestamp type")
    text = _texts(column)
    out = instants(_core.index_parse_timestamps(text.fill_null("").to_pylist()))
    bad = pc.and_(text.is_valid(), out.is_null()).to_numpy(zero_copy_only=False)
    null(bad, lambda i: f"bad timestamp: {text[i].as_py()}")
    return out


def _boxes(rows: _Rows, columns: dict[str, pa.Array], width: np.ndarray, height: np.ndarray) -> dict[str, pa.Array]:
    """Boxes clipped to their images. A box that cannot be used rejects its row."""
    before = len(rows.nulled)
    given = [_numbers(rows, name, columns[name]) for name in BOX]
    rows.reject(
        np.isin(np.arange(len(width)), [i for i, _ in rows.nulled[before:]]),
        lambda _: "a box with bad numbers",
    )
    del rows.nulled[before:]
    missing = np.isnan(np.stack(given))
    none = missing.all(axis=0)
    rows.reject(missing.any(axis=0) & ~none, lambda _: "a box with missing numbers")
    x, y, w, h = (np.clip(np.rint(np.nan_to_num(v)), -1e9, 1e9).astype(np.int64) for v in given)
    x0, x1 = np.maximum(x, 0), np.minimum(x + w, width)
    y0, y1 = np.maximum(y, 0), np.minimum(y + h, height)
    rows.reject(~none & ((w <= MIN_BOX) | (h <= MIN_BOX)), lambda _: "a box of 2 pixels a side or less")
    rows.reject(
        ~none & ((x0 >= x1) | (y0 >= y1)),
        lambda i: f"a box lies outside the image: {[int(v[i]) for v in (x, y, w, h)]} in {width[i]} x {height[i]}",
    )
    rows.reject(~none & ((x1 - x0 <= MIN_BOX) | (y1 - y0 <= MIN_BOX)), lambda _: "a box of 2 pixels a side or less")
    clipped = zip(BOX, (x0, y0, x1 - x0, y1 - y0), strict=True)
    return {name: pa.array(value.astype(np.int32), mask=none) for name, value in clipped}
