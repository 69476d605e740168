"""`geossl data naip`: Tile2Vec's land-cover tiles of NAIP as GeoTIFFs and an index, which everything else reads."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geossl.data.conversion import Converted, begin_conversion, images_folder, write_geotiff
from geossl.data.index import build_index
from geossl.data.summary import first_reasons
from geossl.errors import GeosslError, UsageError
from geossl.files import naming_full_disk, replacing
from geossl.judges.bands import band_name
from geossl.progress import counted
from geossl.tables import write_csv
from geossl.transfer.tile2vec import BadTileError, Tiles, find_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SETTINGS = "naip.json"
"""Name of the file, beside the images, of what their pixels depend on."""
FAULTS = "faults.csv"
"""Name of the file, beside the images, of every tile with a fault: `tile`, `fault`, and `left_out`, yes or no."""
CHUNK = 1024
"""Tiles that are handed to the threads at a time."""


def convert_naip(
    src: Path,
    *,
    out: Path,
    bands: Sequence[str] | None = None,
    labels: Path | None = None,
    splits: Path | None = None,
    threads: int = 0,
) -> Converted:
    """Write Tile2Vec's land-cover tiles as GeoTIFFs, and an index of them; `geossl.transfer.tile2vec` has the layout.

    The images lie in a folder beside the index, `<out's name>.images`; `7tile.npy` becomes `7tile.tif`, without a
    place, as the set has none. Tiles that cannot be used are left out; these, and tiles whose pixels are in several
    splits too, are named in `faults.csv` among the images. A conversion that was interrupted goes on where it ended.

    Args:
        src: folder with the tiles, or with one folder of them.
        out: the index to write.
        bands: names of the bands to write, in this order; by default all: red, green, blue and, of tiles that have it,
            nir.
        labels: file of the labels, where it is not `y.npy` or the only `y_*.npy`.
        splits: file of the splits, where it is not `splits.npy`.
        threads: threads that read and write; 0 is all cores.

    Raises:
        UsageError: `src` is no such set or has no such band, no tile can be used, or the folder of the images holds
            others.
        GeosslError: a file cannot be written.

    """
    folder = images_folder(out)
    found = find_tiles(src, labels=labels, splits=splits)
    names = _choose(found, bands)
    begin_conversion(folder / SETTINGS, {"source": str(src.resolve()), "bands": names, "first": found.first})

    numbers = range(found.first, found.first + len(found.codes))
    rejected, written = _without_labels(found), []
    convert = partial(_convert, found, folder=folder, bands=[found.bands.index(name) for name in names], names=names)
    with counted("tiles") as progress, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for start in range(0, len(numbers), CHUNK):
            for tile in pool.map(convert, numbers[start : start + CHUNK]):
                if tile.fault is None:
                    written.append(tile)
                else:
                    rejected.append((f"{tile.number}tile.npy", tile.fault))
                progress(tile.number - found.first + 1, len(numbers))
    rejected.sort(key=lambda fault: int(fault[0].removesuffix("tile.npy")))
    shared = _in_several_splits(found, written)
    _write_faults(folder / FAULTS, rejected, shared)
    if not written:
        raise UsageError(f"{src}: none of its {len(rejected):,} tiles can be used: {first_reasons(rejected)}")
    listing = folder / "tiles.parquet"
    with naming_full_disk(listing), replacing(listing) as target:
        pq.write_table(_listing(found, written), target)
    index, report = build_index(listing, layout="csv", threads=threads)
    if report.rejected:
        path, reason = report.rejected[0]
        raise GeosslError(f"{folder / path}: was written, and cannot be indexed: {reason}")
    index.write(out)
    report = replace(report, source=src, layout=found.described, rejected=rejected)
    notes = _notes(written, shared)
    return Converted(title="NAIP land cover", folder=folder, bands=tuple(names), report=report, notes=notes)


@dataclass(frozen=True, kw_only=True)
class _Tile:
    """What became of a tile."""

    number: int
    fault: str | None = None
    """Why it was left out."""
    digest: bytes = b""
    """Of its pixels."""
    agrees: bool | None = None
    """Whether its label is the most frequent class of its mask, where it has one and the label is a code."""


def _convert(found: Tiles, number: int, *, folder: Path, bands: list[int], names: list[str]) -> _Tile:
    at = number - found.first
    if at in found.faults:
        return _Tile(number=number, fault=found.faults[at])
    try:
        pixels, mask = found.read(number)
    except BadTileError as e:
        return _Tile(number=number, fault=str(e))
    file = folder / f"{number}tile.tif"
    if not file.exists():
        write_geotiff(file, pixels[bands], names=names)
    agrees = None
    if mask is not None and found.coding == "CDL codes":
        agrees = bool(np.bincount(mask.ravel()).argmax() == found.codes[at])
    return _Tile(number=number, digest=hashlib.blake2b(pixels.tobytes(), digest_size=16).digest(), agrees=agrees)


def _choose(found: Tiles, bands: Sequence[str] | None) -> list[str]:
    wanted = list(found.bands) if bands is None else [band_name(name) for name in bands]
    missing = [name for name in wanted if name not in found.bands]
    if missing:
        raise UsageError(f"--bands: the tiles have no {', '.join(missing)}; their bands are {', '.join(found.bands)}")
    if not wanted or len(set(wanted)) < len(wanted):
        raise UsageError(f"--bands {','.join(wanted)}: name each band once, and one at least")
    return wanted


def _without_labels(found: Tiles) -> list[tuple[str, str]]:
    """The tiles whose number is no label's."""
    last = found.first + len(found.codes) - 1
    beyond = [number for number in found.files if not found.first <= number <= last]
    return [(f"{n}tile.npy", f"no label: those are of the tiles {found.first} to {last:,}") for n in beyond]


def _in_several_splits(found: Tiles, written: list[_Tile]) -> list[tuple[str, str]]:
    """The tiles whose pixels a tile of another split has too, as (tile, "what: which")."""
    splits = found.splits
    if splits is None:
        return []
    of_pixels: dict[bytes, list[int]] = {}
    for tile in written:
        of_pixels.setdefault(tile.digest, []).append(tile.number)
    out = []
    for same in of_pixels.values():
        named = {n: f"{n}tile.npy ({splits[n - found.first]})" for n in same}
        if len({splits[n - found.first] for n in same}) > 1:
            out += [(f"{n}tile.npy", f"in several splits: {', '.join(named.values())}") for n in same]
    return out


def _write_faults(file: Path, rejected: list[tuple[str, str]], shared: list[tuple[str, str]]) -> None:
    file.unlink(missing_ok=True)
    rows = [(*fault, "yes") for fault in rejected] + [(*fault, "no") for fault in shared]
    if rows:
        write_csv(file, ["tile", "fault", "left_out"], rows)


def _listing(found: Tiles, written: list[_Tile]) -> pa.Table:
    """What `geossl data index` reads of the images."""
    at = [tile.number - found.first for tile in written]
    return pa.table(
        {
            "path": pa.array([f"{tile.number}tile.tif" for tile in written], pa.string()),
            "category": pa.array([found.categories[i] for i in at], pa.string()),
            "split": pa.array([None if found.splits is None else found.splits[i] for i in at], pa.string()),
        }
    )


def _notes(written: list[_Tile], shared: list[tuple[str, str]]) -> list[str]:
    """What is odd about the set: tiles in several splits, and labels that are not the masks'."""
    notes = []
    if shared:
        example = shared[0][1].removeprefix("in several splits: ")
        notes.append(f"splits overlap: {len(shared):,} tiles with pixels of another split, which stay: e.g. {example}")
    judged = [tile.agrees for tile in written if tile.agrees is not None]
    if judged:
        agree = sum(judged)
        text = f"the label is the most frequent class of the tile's mask in {agree:,} of {len(judged):,} tiles"
        notes.append(text if 2 * agree > len(judged) else f"warning: {text}: do they belong together?")
    return notes
