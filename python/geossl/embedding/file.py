"""An embedding file, read piece by piece: no more than a few thousand rows of it are in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl.embedding.geoparquet import FORMAT, METADATA_KEY
from geossl.embedding.vectors import dequantize, vectors_of
from geossl.errors import GeosslError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

SCAN_ROWS = 4096
"""Rows that are read at a time."""
BUFFER_BYTES = 1 << 20
"""Of a column's bytes at a time: by default a row group's are read whole."""


class EmbeddingFile:
    """A file that `geossl embed` wrote: its rows are numbered from 0, which is their position.

    Raises UsageError, when made, if there is no such file, or it is another one.
    """

    path: Path
    rows: int
    """Number of rows."""
    schema: pa.Schema
    """The columns, of `geossl.embedding.geoparquet.make_schema`."""
    about: dict[str, Any]
    """What it says of itself: of `geossl.embedding.job.describe`, with `run`, `data`, `root`, `unreadable` and, of
    int8, `least_cosine`."""
    bbox: list[float] | None
    """West, south, east and north of its points, degrees; None if there are none."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(f"{path}: no such file; make it with: geossl embed RUN --data INDEX -o {path}")
        try:
            with pq.ParquetFile(self.path) as file:
                self.schema, self._groups = (
                    file.schema_arrow,
                    [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)],
                )
            metadata = self.schema.metadata or {}
            about = json.loads(metadata.get(METADATA_KEY, b"null"))
            geo = json.loads(metadata.get(b"geo", b"null"))
        except (OSError, ValueError, pa.ArrowException) as e:
            raise UsageError(f"{path}: not a Parquet file: {' '.join(str(e).split())}") from e
        if not isinstance(about, dict) or not isinstance(geo, dict):
            raise UsageError(f"{path}: a Parquet file, but not one of geossl embed")
        if about.get("format") != FORMAT:
            raise UsageError(
                f"{path}: embeddings of format {about.get('format')}, where this geossl reads {FORMAT}; "
                "make them again with geossl embed"
            )
        self.rows = sum(self._groups)
        self.about = about
        self.bbox = geo["columns"]["geometry"].get("bbox")

    @property
    def dimensions(self) -> int:
        """Components of an embedding."""
        return int(self.about["features"]["dimensions"])

    @property
    def root(self) -> Path:
        """Folder that its paths started from when it was made."""
        return self.path.resolve().parent / str(self.about["root"])

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """The columns of all rows, some at a time, with the position of the first of them."""
        yield from self._read(range(len(self._groups)), columns)

    def take(self, positions: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """The columns of the rows at `positions`, int64 [n], in that order."""
        groups = np.searchsorted(np.cumsum(self._groups), positions, side="right")
        found, at = [], []
        for group in np.unique(groups).tolist():
            last = positions[groups == group].max()
            for first, table in self._read([group], columns):
                mine = np.flatnonzero((positions >= first) & (positions < first + len(table)))
                if len(mine):
                    found.append(table.take(positions[mine] - first))
                    at.append(mine)
                if first + len(table) > last:
                    break
        if not found:
            return pa.table({name: pa.nulls(0, self.schema.field(name).type) for name in columns})
        return pa.concat_tables(found).take(np.argsort(np.concatenate(at)))

    def vectors(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings of the rows at `positions`, float32 [n, D]; of int8 what their scales make of them."""
        return embeddings(self.take(positions, self.vector_columns))

    @property
    def vector_columns(self) -> list[str]:
        """The columns that `embeddings` needs."""
        return ["embedding", "scale"] if "scale" in self.schema.names else ["embedding"]

    def dates(self) -> tuple[datetime, datetime] | None:
        """The first and the last date of the images; None if none has one."""
        least, most = [], []
        for _, table in self.scan(["timestamp"]):
            ends = pc.min_max(table["timestamp"])
            if ends["min"].is_valid:
                least.append(ends["min"].as_py())
                most.append(ends["max"].as_py())
        return (min(least), max(most)) if least else None

    def _read(self, groups: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        starts = np.concatenate([[0], np.cumsum(self._groups)])
        try:
            with pq.ParquetFile(self.path, buffer_size=BUFFER_BYTES) as file:
                for group in groups:
                    first = int(starts[group])
                    for batch in file.iter_batches(SCAN_ROWS, row_groups=[group], columns=list(columns)):
                        yield first, pa.Table.from_batches([batch])
                        first += len(batch)
        except (OSError, pa.ArrowException) as e:
            raise GeosslError(f"{self.path}: cannot be read: {' '.join(str(e).split())}") from e


def embeddings(table: pa.Table) -> NDArray[np.float32]:
    """The vectors of a table with the columns `embedding` and, of int8, `scale`: float32 [n, D]."""
    x = vectors_of(table["embedding"].combine_chunks())
    return dequantize(x, table["scale"].to_numpy()) if "scale" in table.column_names else x
