"""The index's file: Parquet that pandas, polars and DuckDB read, whose columns are loaded when they are asked for."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl import __version__, _core
from geossl.data.table import SCHEMA, content_hash, is_remote
from geossl.errors import UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from typing import BinaryIO

SCHEMA_VERSION = 3
METADATA_KEY = b"geossl"
BODY_KEY = b"geossl_body"
"""Of the length and checksum of the bytes ahead of the footer; a program that writes the table anew loses it."""
STAMP = pa.field("stamp", pa.int64())
"""Column beside the schema's, which no reader but `--update` needs and the content hash leaves out: it changes once
the files of a row do."""


@dataclass(frozen=True, eq=False)
class Origin:
    """How an index was made, for the next one to read only what has changed."""

    made_by: dict[str, Any]
    """The options that the rows depend on."""
    stamps: np.ndarray
    """int64 [N]: another number once the files of a row change; 0 for those to be read again in any case."""
    content_hash: str
    """Of the index that this belongs to: it does not belong to one with other rows."""


class Index:
    """Images with what is known of each.

    Of an index that was read, columns are loaded when they are asked for.
    """

    root: Path
    """Absolute folder that `path` starts from."""
    content_hash: str
    """SHA-256 in hex of the table's content; where the files lie does not change it."""
    source: Path | None
    """The Parquet file that it was read from."""
    boxes: Literal["objects", "tiles"]
    """What the boxes are: objects with their surroundings, as fMoW's, or tiles of scenes, which have no context."""

    def __init__(
        self,
        table: pa.Table | IndexFile,
        root: Path,
        content_hash: str,
        *,
        source: Path | None = None,
        boxes: Literal["objects", "tiles"] = "objects",
        origin: Origin | None = None,
    ) -> None:
        self.root, self.content_hash, self.source, self.boxes = root, content_hash, source, boxes
        self._table = table
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._origin = table if isinstance(table, IndexFile) else origin

    def __len__(self) -> int:
        return self._table.rows if isinstance(self._table, IndexFile) else len(self._table)

    @property
    def table(self) -> pa.Table:
        """One row an image crop: the columns of `geossl.data.table.SCHEMA`."""
        if isinstance(self._table, IndexFile):
            self._table = self._table.load(SCHEMA.names)
        return self._table

    def column(self, name: str) -> pa.ChunkedArray:
        """A column, loaded alone if the table has not been."""
        if not isinstance(self._table, IndexFile):
            return self._table[name]
        if name not in self._columns:
            self._columns[name] = self._table.load([name])[name]
        return self._columns[name]

    @property
    def origin(self) -> Origin | None:
        """How it was made, for `geossl data index --update`; None where it does not say so."""
        if isinstance(self._origin, IndexFile):
            self._origin = self._origin.origin()
        return self._origin

    @classmethod
    def read(cls, path: Path, *, root: Path | None = None, images: bool = True) -> Index:
        """Read an index that `write` made; `root` takes the place of the folder that it names.

        The stored content hash is taken while the file's bytes are those that `write` wrote; if another program has
        rewritten them, the content is hashed anew.

        `images` looks whether its images are there, which they need not be where a pack is read.

        Raises UsageError if it is missing, not an index, of another schema version, or without its images.
        """
        file = IndexFile(Path(path))
        metadata = file.metadata
        folder = file.path.resolve().parent / metadata["root"] if root is None else Path(root).resolve()
        index = cls(file, folder, metadata["content_hash"], source=file.path, boxes=metadata["boxes"])
        ends = metadata["ends"]
        if not file.is_as_written():
            index.content_hash, ends = content_hash(index.table), _ends(index.table["path"])
        if images:
            _check_images(file.path, ends, folder)
        return index

    def write(self, path: Path) -> None:
        """Write the Parquet file, whole or not at all.

        The root is kept relative to the file's folder if it lies inside, so that both can be moved together.
        """
        path = Path(path)
        folder = path.resolve().parent
        if not folder.is_dir():
            raise UsageError(f"{path}: its folder does not exist")
        inside = self.root.is_relative_to(folder)
        origin = self.origin if self.origin is not None and self.origin.content_hash == self.content_hash else None
        table = self.table.replace_schema_metadata(None)
        if origin is not None:
            table = table.append_column(STAMP, pa.array(origin.stamps, pa.int64()))
        metadata: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "root": self.root.relative_to(folder).as_posix() if inside else str(self.root),
            "boxes": self.boxes,
            "content_hash": self.content_hash,
            "geossl_version": __version__,
            "ends": _ends(table["path"]),
            "made_by": None if origin is None else origin.made_by,
        }
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
        try:
            with replacing(path) as file:
                summed = _Summed(file)
                with pq.ParquetWriter(summed, table.schema, compression="zstd") as writer:
                    writer.write_table(table)
                    body = {"bytes": summed.bytes, "crc32": summed.crc32}
                    writer.add_key_value_metadata({BODY_KEY: json.dumps(body)})
        except OSError as e:
            raise UsageError(f"{path}: cannot be written: {e.strerror or e}") from e

    def full_path(self, path: str) -> str:
        """Where the image of a row's `path` is: below the root, or as it is for a URL or a /vsi path."""
        return path if is_remote(path) else str(self.root / path)

    def with_table(self, table: pa.Table) -> Index:
        """The index of these rows instead: some of its own, or with other values, of the same columns."""
        return Index(table=table, root=self.root, content_hash=content_hash(table), boxes=self.boxes)

    def parts(self, rows: np.ndarray, boxes: np.ndarray) -> Index:
        """An index of parts of its images, which have no context.

        Args:
            rows: the image of each part, int64 [N].
            boxes: int64 [N, 4]: left, top, width and height, pixels.

        """
        table = self.table.take(pa.array(rows))
        sides = {f"box_{side}": pa.array(boxes[:, i], pa.int32()) for i, side in enumerate("xywh")}
        made = self.with_table(pa.table([sides.get(name, table[name]) for name in SCHEMA.names], schema=SCHEMA))
        made.boxes = "tiles"
        return made

    def rows(self, *, split: str | None = None) -> np.ndarray:
        """Row numbers of that split, or of all, int64, ascending."""
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        chosen: np.ndarray = pc.equal(self.column("split"), split).fill_null(False).to_numpy()
        return np.flatnonzero(chosen).astype(np.int64)

    @cached_property
    def places(self) -> np.ndarray:
        """Code of each row's location_id, int32 [N], 0 to P - 1 in order of first appearance.

        A row without location_id is a place of its own.
        """
        codes, _ = _encode(self.column("location_id"))
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
        _, names = _encode(self.column("category"))
        return sorted(names)

    @cached_property
    def labels(self) -> np.ndarray:
        """Each row's position in `categories`, int64 [N]; -1 without category."""
        codes, names = _encode(self.column("category"))
        position = {name: i for i, name in enumerate(self.categories)}
        # The last entry is the one that -1 picks.
        labels: np.ndarray = np.array([*(position[name] for name in names), -1], np.int64)[codes]
        return labels


class IndexFile:
    """The Parquet file of an index, whose columns have not been loaded."""

    def __init__(self, path: Path) -> None:
        """Read the footer. Raises UsageError as `Index.read` does."""
        self.path = path
        if not path.is_file():
            raise UsageError(f"{path}: no such index; make it with: geossl data index SRC -o {path}")
        try:
            with pq.ParquetFile(path) as file:
                schema, footer = file.schema_arrow, file.metadata
                self.rows: int = footer.num_rows
                self._footer_bytes: int = footer.serialized_size
                kept = footer.metadata or {}
        except (OSError, pa.ArrowException) as e:
            raise UsageError(f"{path}: not an index: {' '.join(str(e).split())}") from e
        self.metadata = _metadata(path, kept.get(METADATA_KEY, b"null"))
        self._body: dict[str, int] = json.loads(kept.get(BODY_KEY, b"{}"))
        self.has_stamps = STAMP.name in schema.names
        plain = pa.schema([f for f in schema if f.name != STAMP.name])
        if not plain.equals(SCHEMA):
            raise UsageError(f"{path}: its columns were changed; make it again with: geossl data index SRC -o {path}")

    def load(self, names: list[str]) -> pa.Table:
        """Those columns."""
        try:
            return pq.read_table(self.path, columns=names).replace_schema_metadata(None)
        except (OSError, pa.ArrowException) as e:
            raise UsageError(f"{self.path}: cannot be read: {' '.join(str(e).split())}") from e

    def origin(self) -> Origin | None:
        """How it was made, if it says so and nobody has changed it since."""
        made_by = self.metadata.get("made_by")
        if made_by is None or not self.has_stamps or not self.is_as_written():
            return None
        stamps: np.ndarray = self.load([STAMP.name])[STAMP.name].to_numpy()
        return Origin(made_by, stamps, self.metadata["content_hash"])

    def is_as_written(self) -> bool:
        """Whether all of its rows' bytes are still those that `Index.write` wrote.

        Other programs keep what they do not know of a Parquet file's metadata, the content hash too, when they change
        its rows.
        """
        length, crc32 = self._body.get("bytes"), self._body.get("crc32")
        tail = 8  # the footer's length and "PAR1"
        if length is None or crc32 is None or length + self._footer_bytes + tail != self.path.stat().st_size:
            return False
        return bool(_core.index_file_crc32(self.path, length) == crc32)


class _Summed:
    """A file that is written from start to end, with the checksum of its bytes so far."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.bytes = 0
        self.crc32 = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self.file.write(data)
        view = memoryview(data)
        self.crc32 = zlib.crc32(view, self.crc32)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _metadata(path: Path, text: bytes) -> dict[str, Any]:
    """What `write` left beside the columns, of the schema version that is read here."""
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


def _ends(paths: pa.ChunkedArray) -> list[str]:
    """The first, middle and last path."""
    rows = sorted({0, len(paths) // 2, len(paths) - 1}) if len(paths) else []
    return [paths[row].as_py() for row in rows]


def _check_images(path: Path, ends: list[str], root: Path) -> None:
    """Look for these images."""
    missing = [name for name in ends if not is_remote(name) and not (root / name).is_file()]
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
