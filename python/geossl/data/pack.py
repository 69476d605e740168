"""A pack: the images of an index in few large files, which the loader reads faster than the images themselves.

A lossless pack keeps the coefficients of JPEGs and the samples of all others, cut so that a crop reads and decodes
only what lies under it: its batches are those of the files, bit for bit. A sized pack keeps each box with its context,
resized, as a JPEG or as plain samples.

The folder of a pack holds `items.parquet`, the list of what is to be packed and how; for each part a folder of
shards; and, once all parts are whole, `pack.parquet`, which says where each image lies.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl import _core
from geossl.data.samples import foreign_rows
from geossl.data.table import image_boxes
from geossl.errors import UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from geossl.config import CropConfig
    from geossl.data.index import Index

VERSION = 2
"""Of the folder's layout; the shards have a version of their own."""
ITEMS, PLACES = "items.parquet", "pack.parquet"
METADATA_KEY = b"geossl_pack"
SHARD_BYTES = 512 << 20
"""A shard is closed when it is larger: large enough to be read in long runs, small enough that little is done twice
after a kill."""
QUALITY = 90
"""Of a sized pack's JPEGs, where none is asked for."""
BOX = ("box_x", "box_y", "box_w", "box_h")


@dataclass(frozen=True)
class PackForm:
    """What became of the images."""

    short_side: int | None
    """Pixels that the short side was reduced to; None: lossless."""
    quality: int | None
    """JPEG quality of a sized pack's 8-bit RGB, 1 to 100; None: samples as they are."""
    context: bool
    """Whether the boxes of a sized pack have fMoW's context around them."""


@dataclass(frozen=True)
class PackReport:
    """What was packed, by this call or an earlier one that was ended."""

    images: int
    """Images of the part, packed or not."""
    earlier: int
    """Of them, done by earlier calls."""
    failures: list[tuple[str, str]]
    """(path, reason) of those that could not be read."""
    bytes_in: int
    """Bytes of files read by this call."""
    bytes_out: int
    """Bytes written by this call."""
    psnr: float | None
    """Of a lossy pack: peak signal-to-noise ratio against the resized pixels, dB, over a sample of its images."""


@dataclass(frozen=True, eq=False)
class Pack:
    """A whole pack."""

    folder: Path
    form: PackForm
    table: pa.Table
    """path, box_x, box_y, box_w, box_h, shard (-1: not packed), offset, length, reason."""
    shards: list[Path]

    @classmethod
    def read(cls, folder: Path) -> Pack:
        """Read where the images of a pack lie.

        Raises UsageError if the folder is not a pack, or not a whole one.
        """
        folder = Path(folder)
        path = folder / PLACES
        if not path.is_file():
            how = f"its parts are not joined: geossl data merge {folder}" if (folder / ITEMS).is_file() else "no pack"
            raise UsageError(f"{folder}: {how}")
        table, settings = _read(path)
        shards = [folder / name for name in settings["shards"]]
        if missing := [shard for shard in shards if not shard.is_file()]:
            raise UsageError(f"{missing[0]}: this shard of the pack is missing")
        return cls(folder, PackForm(**settings["form"]), table, shards)

    def check(self, crop: CropConfig) -> None:
        """Raise UsageError where the settings ask for what the pack does not hold."""
        form = self.form
        if form.short_side is None:
            return
        if crop.context != form.context:
            has = "with" if form.context else "without"
            raise UsageError(f"crop.context: {self.folder} was packed {has} context; set crop.context: {form.context}")
        if crop.resize is not None and crop.resize > form.short_side:
            raise UsageError(
                f"crop.resize: {crop.resize} is more than the {form.short_side} pixels that {self.folder} kept"
            )

    def locate(self, paths: pa.ChunkedArray, boxes: np.ndarray) -> dict[str, Any]:
        """Where the images of an index's rows lie, for the core's loader.

        Args:
            paths: string [N], as in the index.
            boxes: int32 [N, 4] of x, y, width, height; width 0 for the whole image.

        Returns:
            shards (paths), shard int32 [N], offset int64 [N], length int64 [N].

        Raises:
            UsageError: a row is not in the pack.

        """
        own = image_boxes(self.table)
        if self.form.short_side is None:
            keys, wanted = self.table["path"], paths
        else:
            keys, wanted = _keys(self.table["path"], own), _keys(paths, boxes)
        row = pc.index_in(wanted, value_set=keys.combine_chunks())
        if row.null_count:
            first = paths.filter(row.is_null())[0].as_py()
            raise UsageError(
                f"{self.folder}: {row.null_count:,} images of the index are not in the pack, such as {first}: "
                "pack the index again, into another folder"
            )
        taken = self.table.take(row)
        return {
            "shards": [str(shard) for shard in self.shards],
            "shard": np.ascontiguousarray(taken["shard"].to_numpy(), np.int32),
            "offset": np.ascontiguousarray(taken["offset"].to_numpy(), np.int64),
            "length": np.ascontiguousarray(taken["length"].to_numpy(), np.int64),
        }


def make_pack(
    index: Index,
    out: Path,
    *,
    short_side: int | None = None,
    quality: int | None = None,
    raw: bool = False,
    context: bool = True,
    part: tuple[int, int] = (1, 1),
    threads: int = 0,
    max_image_mib: int = 1024,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> PackReport:
    """Pack the images of an index, or one part of them, and go on where an earlier call was ended.

    The last step of a pack of one part joins its shards; of several parts, `merge_pack` does it.

    Args:
        index: The images.
        out: Folder of the pack.
        short_side: Reduce the short side to this, pixels; None packs losslessly.
        quality: JPEG quality of a sized pack, 1 to 100; by default 90.
        raw: Keep the samples of a sized pack as they are.
        context: Put fMoW's context around the boxes of a sized pack.
        part: (i, n): the i-th of n parts, counted from 1.
        threads: Threads; 0 is one for every core. The content is the same for any number.
        max_image_mib: Most memory that decoding an image may take, MiB, and the largest file.
        shard_bytes: A shard is closed when it is larger.
        progress: Called with the images done and their number, some times a second.

    Raises:
        UsageError: settings that do not fit each other, or the pack that the folder holds already.
        OSError: the disk is full, or the folder cannot be written to; what was packed is kept.

    """
    form = _form(short_side=short_side, quality=quality, raw=raw, context=context)
    number, parts = part
    if not 1 <= number <= parts:
        raise UsageError(f"--part {number}/{parts}: the number must be from 1 to the count")
    items = _items(index, form)
    _start(Path(out), items, {"version": VERSION, "form": asdict(form), "parts": parts})
    folder = Path(out) / _part_name(number, parts)
    folder.mkdir(exist_ok=True)
    first, end = _range(len(items), number, parts)
    options = _options(form, first, end, threads, max_image_mib) | {
        "folder": str(folder),
        "shard_bytes": shard_bytes,
        "foreign": _foreign(index, items),
    }
    try:
        if sum(_core.pack_footer(shard)["count"] for shard in _shards(folder)) < end - first:
            # Where the images lie is about to change.
            (Path(out) / PLACES).unlink(missing_ok=True)
        done = _core.pack_write(
            *_sources(index, items),
            options=options,
            progress=lambda state: progress(state["done"], end - first),
        )
    except ValueError as e:
        raise UsageError(str(e)) from e
    failures = [
        (items["path"][row].as_py(), reason)
        for shard in _shards(folder)
        for row, reason in _core.pack_footer(shard)["failures"]
    ]
    if parts == 1:
        merge_pack(out)
    return PackReport(
        images=done["done"],
        earlier=done["earlier"],
        failures=failures,
        bytes_in=done["bytes_in"],
        bytes_out=done["bytes_out"],
        psnr=_psnr(done),
    )


def merge_pack(out: Path) -> int:
    """Join the indexes of a pack's parts; nothing else is read or moved. Returns the number of images.

    Raises:
        UsageError: the folder is not a pack, or a part of it is not whole.

    """
    out = Path(out)
    if not (out / ITEMS).is_file():
        raise UsageError(f"{out}: no pack; make one with: geossl data pack INDEX -o {out}")
    items, settings = _read(out / ITEMS)
    parts = settings["parts"]
    n = len(items)
    shard, offset, length = np.full(n, -1, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int64)
    reason: list[str | None] = [None] * n
    shards: list[Path] = []
    for number in range(1, parts + 1):
        first, end = _range(n, number, parts)
        for path in _shards(out / _part_name(number, parts)):
            try:
                footer = _core.pack_footer(path)
            except ValueError as e:
                raise UsageError(f"{e}: delete it and pack this part again") from e
            rows = footer["number"]
            shard[rows], offset[rows], length[rows] = len(shards), footer["offset"], footer["length"]
            for row, why in footer["failures"]:
                reason[row] = why
            shards.append(path)
            first += footer["count"]
        if first != end:
            raise UsageError(
                f"{out}: part {number} of {parts} lacks {end - first:,} images: "
                f"go on with the same command and --part {number}/{parts}"
            )
    table = items.append_column("shard", pa.array(shard)).append_column("offset", pa.array(offset))
    table = table.append_column("length", pa.array(length)).append_column("reason", pa.array(reason, pa.string()))
    _write(out / PLACES, table, settings | {"shards": [path.relative_to(out).as_posix() for path in shards]})
    return n


def verify_pack(
    index: Index,
    out: Path,
    *,
    part: tuple[int, int] = (1, 1),
    threads: int = 0,
    max_image_mib: int = 1024,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> tuple[list[tuple[str, str]], float | None]:
    """Read every image of a part back, and compare it with its file.

    Returns:
        (path, reason) of the images that are damaged or differ, and the PSNR of a lossy pack, dB.

    Raises:
        UsageError: the folder is not a pack of this index.

    """
    out = Path(out)
    items, settings = _read(out / ITEMS)
    form = PackForm(**settings["form"])
    if _digest(items) != _digest(_items(index, form)):
        raise UsageError(f"{out}: a pack of another index")
    first, end = _range(len(items), *part)
    shard, offset = np.full(len(items), -1, np.int32), np.zeros(len(items), np.int64)
    shards = _shards(out / _part_name(*part))
    for i, path in enumerate(shards):
        footer = _core.pack_footer(path)
        shard[footer["number"]], offset[footer["number"]] = i, footer["offset"]
    options = _options(form, first, end, threads, max_image_mib) | {
        "folder": str(out),
        "shard_bytes": 0,
        "foreign": _foreign(index, items),
    }
    state, differ = _core.pack_verify(
        *_sources(index, items),
        shards=[str(path) for path in shards],
        shard=shard,
        offset=offset,
        options=options,
        progress=lambda state: progress(state["done"], end - first),
    )
    return [(items["path"][row].as_py(), reason) for row, reason in differ], _psnr(state)


def _form(*, short_side: int | None, quality: int | None, raw: bool, context: bool) -> PackForm:
    if short_side is None:
        for name, given in (("quality", quality is not None), ("raw", raw)):
            if given:
                raise UsageError(f"--{name}: is for a sized pack; give --short-side too")
        # Boxes are cut when a lossless pack is read.
        return PackForm(short_side=None, quality=None, context=True)
    if short_side < 16:
        raise UsageError(f"--short-side {short_side}: must be at least 16 pixels")
    if raw and quality is not None:
        raise UsageError("--raw: samples as they are have no quality; leave --quality out")
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"--quality {quality}: must be from 1 to 100")
    return PackForm(short_side=short_side, quality=None if raw else quality or QUALITY, context=context)


def _items(index: Index, form: PackForm) -> pa.Table:
    """What is to be packed, in the index's order: every file once; of a sized pack, every box of it."""
    table = index.table.select(["path", *BOX])
    if form.short_side is None:
        keys = table["path"]
        table = table.select(["path"]).append_column(BOX[0], pa.nulls(len(table), pa.int32()))
        for name in BOX[1:]:
            table = table.append_column(name, pa.nulls(len(table), pa.int32()))
    else:
        keys = _keys(table["path"], image_boxes(table))
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    # Codes count up in order of first appearance.
    fresh = np.flatnonzero(codes > np.concatenate([[-1], np.maximum.accumulate(codes)[:-1]])) if len(codes) else codes
    return table.take(fresh)


def _keys(paths: pa.ChunkedArray, boxes: np.ndarray) -> pa.ChunkedArray:
    """Path and box as one text."""
    sides = [pa.array(boxes[:, i]).cast(pa.string()) for i in range(4)]
    # No path holds this character on its own: NUL ends it.
    return pa.chunked_array([pc.binary_join_element_wise(paths.combine_chunks(), *sides, "\0")])


def _start(out: Path, items: pa.Table, settings: dict[str, Any]) -> None:
    """Write the list of items, or check that it is the one that the folder has."""
    if (out / ITEMS).exists():
        there, had = _read(out / ITEMS)
        if {name: had.get(name) for name in settings} != settings:
            raise UsageError(f"{out}: holds a pack made with other settings ({_words(had)}): give another folder")
        if _digest(there) != _digest(items):
            raise UsageError(f"{out}: holds a pack of another index: give another folder")
        return
    # Hidden files may be other parts' lists that are being written, or what a killed one left.
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise UsageError(f"{out}: exists and is no pack: give another folder")
    out.mkdir(parents=True, exist_ok=True)
    # Parts that start together each write the same list, under names of their own; the last one stays.
    with tempfile.TemporaryDirectory(dir=out, prefix=".items-") as folder:
        _write(Path(folder) / ITEMS, items, settings)
        (Path(folder) / ITEMS).replace(out / ITEMS)


def _words(settings: dict[str, Any]) -> str:
    form, parts = settings.get("form", {}), settings.get("parts")
    size = "lossless" if form.get("short_side") is None else ", ".join(f"{k} {v}" for k, v in form.items())
    return f"{size}; {parts} parts"


def _write(path: Path, table: pa.Table, settings: dict[str, Any]) -> None:
    with replacing(path) as file:
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(settings)}), file, compression="zstd")


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    try:
        table = pq.read_table(path)
        settings = json.loads((table.schema.metadata or {})[METADATA_KEY])
    except (OSError, KeyError, ValueError, pa.ArrowException) as e:
        raise UsageError(f"{path}: not a pack's: {' '.join(str(e).split())}") from e
    if settings.get("version") != VERSION:
        raise UsageError(
            f"{path}: a pack of version {settings.get('version')}, where this geossl reads {VERSION}: "
            "pack the images again, into another folder"
        )
    return table.replace_schema_metadata(None), settings


def _digest(items: pa.Table) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in items["path"].to_pylist():
        digest.update(path.encode() + b"\0")
    digest.update(image_boxes(items).tobytes())
    return digest.hexdigest()


def _range(n: int, number: int, parts: int) -> tuple[int, int]:
    """First and end of a part's items."""
    return n * (number - 1) // parts, n * number // parts


def _part_name(number: int, parts: int) -> str:
    return f"part-{number:04}-of-{parts:04}"


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.shard"))


def _sources(index: Index, items: pa.Table) -> tuple[list[str], np.ndarray]:
    return [index.full_path(path) for path in items["path"].to_pylist()], image_boxes(items)


def _foreign(index: Index, items: pa.Table) -> dict[str, Any] | None:
    rows = pc.index_in(items["path"], value_set=index.table["path"].combine_chunks())
    return foreign_rows(index.table.take(rows))


def _options(form: PackForm, first: int, end: int, threads: int, max_image_mib: int) -> dict[str, Any]:
    return asdict(form) | {
        "first": first,
        "end": end,
        "threads": threads,
        "max_image_bytes": max_image_mib << 20,
    }


def _psnr(counters: dict[str, Any]) -> float | None:
    if not counters["samples"] or not counters["squared"]:
        return None
    return 10 * math.log10(255**2 * counters["samples"] / counters["squared"])
