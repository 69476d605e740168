"""Where photos were taken: a table of coordinates by photo id, by file name or by path."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from geossl.data.listing import read_columns, renamed
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path, PurePosixPath

FIELDS = ("id", "lat", "lon", "locality", "country", "region", "county")
"""Columns of a table without a header, as GeoImageNet's downloader writes it."""
KNOWN = ("path", "file", "id", "lat", "lon", "country")
"""Columns of a table with a header; the first of path, file and id that it has says which photo a row is of."""
NOTHING = ("-1000", "-1000.0")
"""What GeoImageNet's downloader writes for a coordinate that Flickr does not give."""
IMAGE_SUFFIX = r"(?i)\.(jpe?g|png)$"


@dataclass(frozen=True, kw_only=True)
class PhotoPlaces:
    """Rows of a table, one a photo; a photo that several rows are of has the first of them."""

    source: Path
    by: Literal["path", "file", "id"]
    """What `key` is: the path below the photos' folder, the file's name (both without .jpg), or the photo id."""
    key: pa.Array
    """Text, never null."""
    photo: pa.Array
    """Photo id, text; null where the table does not say it, which is then the file's name."""
    lat: pa.Array
    """Degrees, as given: text or numbers."""
    lon: pa.Array
    country: pa.Array
    """Name, text; null where there is none."""
    odd: list[tuple[int, int]] = field(default_factory=list)
    """(line, number of columns) of those that have not as many columns as they should."""

    @property
    def repeated(self) -> int:
        """Rows whose photo has an earlier one."""
        return len(self.key) - int(pc.count_distinct(self.key).as_py())

    def find(self, paths: Sequence[PurePosixPath]) -> pa.Array:
        """The row of each photo, by its path below the photos' folder; null where there is none."""
        names = [str(path.with_suffix("")) if self.by == "path" else path.stem for path in paths]
        return pc.index_in(pa.array(names, pa.string()), value_set=self.key)


def read_photo_places(source: Path, *, root: Path, renames: Mapping[str, str] | None = None) -> PhotoPlaces:
    """Read a table of coordinates.

    Args:
        source: .csv or .parquet with the columns lat, lon, one of path, file and id, and where known country; or a .csv
            without a header that has the seven columns of GeoImageNet's downloader.
        root: the photos' folder, which absolute paths of the table lie below.
        renames: the table's columns by the names that they have here, such as {"lat": "latitude"}.

    Raises UsageError if it cannot be read, or lacks a column.
    """
    if source.suffix.lower() not in {".csv", ".parquet"}:
        raise UsageError(f"{source}: a table of coordinates is a .csv or .parquet file")
    if source.suffix.lower() == ".csv" and _has_no_header(source):
        if renames:
            raise UsageError(f"--map: {source} has no header, and is read as the columns {', '.join(FIELDS)}")
        return read_metadata(source)
    columns = read_columns(source, what="a table of coordinates")
    names = ", ".join(columns)
    if renames:
        columns = renamed(source, columns, renames, known=KNOWN)
    by = next((name for name in ("path", "file", "id") if name in columns), None)
    lacking = [name for name in ("lat", "lon") if name not in columns]
    if by is None or lacking:
        what = " and ".join(lacking) if lacking else "path, file or id"
        example = lacking[0] if lacking else "id"
        raise UsageError(f"{source}: no column {what}; its columns are: {names}; name them with --map {example}=COLUMN")
    key = _ids(columns[by]) if by == "id" else _file_names(columns[by], root=root, folders=by == "path")
    known = key.is_valid()
    taken = {name: column.filter(known) for name, column in columns.items() if name in KNOWN}
    nothing = pa.nulls(len(key), pa.string()).filter(known)
    return PhotoPlaces(
        source=source,
        by=by,
        key=key.filter(known),
        photo=_ids(taken["id"]) if "id" in taken else nothing,
        lat=_given(taken["lat"]),
        lon=_given(taken["lon"]),
        country=taken["country"].cast(pa.string()) if "country" in taken else nothing,
    )


def read_metadata(source: Path) -> PhotoPlaces:
    """Read the table that GeoImageNet's downloader appends to, which has no header.

    Raises UsageError if it cannot be read.
    """
    rows: list[tuple[str, str, str, str]] = []
    odd = []
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if len(row) == len(FIELDS):
                    rows.append((row[0].strip(), row[1], row[2], row[4]))
                elif row:
                    odd.append((reader.line_num, len(row)))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"{source}: cannot be read: {' '.join(str(e).split())}") from e
    key, lat, lon, country = ([row[column] for row in rows] for column in range(4))
    return PhotoPlaces(
        source=source,
        by="id",
        key=pa.array(key, pa.string()),
        photo=pa.array(key, pa.string()),
        lat=_given(pa.array(lat, pa.string())),
        lon=_given(pa.array(lon, pa.string())),
        country=pa.array(country, pa.string()),
        odd=odd,
    )


def _has_no_header(source: Path) -> bool:
    """Whether the first line is a row: seven columns, numbers where the coordinates are."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
        return len(first) == len(FIELDS) and all(_is_number(cell) for cell in first[1:3])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # whoever reads it says why it cannot


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ids(column: pa.Array) -> pa.Array:
    """Photo ids as text. Whole numbers in a column of floats, which pandas makes where one is missing, are whole."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.equal(column, pc.round(column)), column, pa.scalar(None, column.type)).cast(pa.int64())
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _file_names(column: pa.Array, *, root: Path, folders: bool) -> pa.Array:
    """Paths below `root`, or the files' names, without an image's suffix."""
    text = pc.replace_substring_regex(_ids(column), IMAGE_SUFFIX, "")
    if not folders:
        return pc.replace_substring_regex(text, r"^.*/", "")
    below = f"{root}/"
    text = pc.if_else(pc.starts_with(text, below), pc.utf8_slice_codeunits(text, len(below)), text)
    return pc.replace_substring_regex(text, r"^\./", "")


def _given(column: pa.Array) -> pa.Array:
    """A coordinate, null where the downloader says that there is none."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    nothing = pc.is_in(text, value_set=pa.array(NOTHING))
    return pc.if_else(nothing, pa.scalar(None, column.type), column)
