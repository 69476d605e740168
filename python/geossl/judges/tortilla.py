"""Tortilla files, which hold other files and a table of them.

The format, as tacofoundation's pytortilla 0.5.1 writes it (pytortilla/create/main.py) and tacoreader 0.5.6 reads it
(tacoreader/loader_dataframe.py): two bytes `#y` (`WX` for a TACO, which also has a description), then little-endian
unsigned 64-bit numbers: the footer's offset and its length. The footer is a Parquet table, a row a file, whose columns
`tortilla:offset` and `tortilla:length` say where the file lies. A file may be a tortilla itself; offsets in it start at
its own first byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from geossl.errors import GeosslError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = {b"#y", b"WX"}
HEADER_BYTES = 18
NESTED = "TORTILLA"
"""The format, in `tortilla:file_format`, of a file that is a tortilla itself."""


def read_rows(file: Path, *, offset: int = 0) -> list[dict[str, Any]]:
    """The rows of a tortilla's table, with `tortilla:offset` counted from the start of `file`.

    Args:
        file: the file.
        offset: where the tortilla begins in it, bytes.

    Raises:
        GeosslError: it is no tortilla, or a damaged one.

    """
    try:
        with file.open("rb") as content:
            content.seek(offset)
            header = content.read(HEADER_BYTES)
            if header[:2] not in MAGIC:
                raise GeosslError(f"{file}: not a tortilla: it begins with {header[:2]!r} at byte {offset:,}")
            content.seek(offset + int.from_bytes(header[2:10], "little"))
            table = pq.read_table(pa.BufferReader(content.read(int.from_bytes(header[10:18], "little"))))
        rows: list[dict[str, Any]] = table.to_pylist()
        for row in rows:
            row["tortilla:offset"] = int(row["tortilla:offset"]) + offset
            row["tortilla:length"] = int(row["tortilla:length"])
    except (OSError, OverflowError, MemoryError, KeyError, TypeError, ValueError, pa.ArrowException) as e:
        raise GeosslError(f"{file}: a damaged tortilla ({type(e).__name__}: {' '.join(str(e).split())})") from e
    return rows


def inner_path(file: Path, row: dict[str, Any]) -> str:
    """Where GDAL finds the file of a row of `read_rows`."""
    return f"/vsisubfile/{row['tortilla:offset']}_{row['tortilla:length']},{file}"
