"""`geossl data naip`: Tile2Vec's land-cover tiles as GeoTIFFs and an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def naip(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    bands: str | None = None,
    labels: Path | None = None,
    splits: Path | None = None,
    threads: int = 0,
) -> None:
    """Make Tile2Vec's land-cover tiles of NAIP an index, with its images as GeoTIFFs in a folder beside it.

    SRC is a folder with 0tile.npy, 1tile.npy, ..., or with one folder of them; y.npy or y_*.npy has a label a tile,
    splits.npy 0 (train), 1 (val) or 2 (test). Axes, numbering, number of bands and coding of the labels are looked up
    in the files, and printed. CDL codes become the names of their classes; a mask in a fifth band is left out. Tiles
    that cannot be used are left out and named. An interrupted conversion goes on where it ended.

    Examples: `geossl data naip naip --bands red,green,blue -o naip.parquet`, then
    `geossl finetune runs/demo --data naip.parquet --split-test val,test`

    Parameters
    ----------
    src
        Folder of the tiles, or the one that it is in.
    out
        Index to write, NAME.parquet; the images go to NAME.images.
    bands
        Bands to write, with commas between, in that order: red,green,blue is what an RGB encoder reads, and what the
        paper used. By default all, with nir where the tiles have it.
    labels
        File of the labels, where it is not y.npy or the only y_*.npy.
    splits
        File of the splits, where it is not splits.npy.
    threads
        Threads that read and write; 0 is one for every core.
    """
    from geossl.transfer.naip import FAULTS, convert_naip

    chosen = None if bands is None else bands.split(",")
    made = convert_naip(src, out=out, bands=chosen, labels=labels, splits=splits, threads=threads)
    print(f"{made.title}: {', '.join(made.bands)} -> {made.folder}")
    for line in [*made.report.lines(), *(f"note: {note}" for note in made.notes)]:
        print(line)
    if (made.folder / FAULTS).exists():
        print(f"tiles with faults -> {made.folder / FAULTS}")
    print(f"-> {out}")
    tested = " --split-test val,test" if {"val", "test"} <= made.report.splits.keys() else ""
    print(f"next: geossl finetune RUN --data {out}{tested}")
