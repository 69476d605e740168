"""`geossl data geobench`: a data set of GEO-Bench as GeoTIFFs and an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def geobench(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    run: Path | None = None,
    bands: str | None = None,
    partition: str = "default",
    backbone: str | None = None,
    threads: int = 0,
) -> None:
    """Make a classification set of GEO-Bench 1 or 2 an index, with its images as GeoTIFFs in a folder beside it.

    SRC is a folder of GEO-Bench 1, such as classification_v1.0/m-eurosat (it takes the extra geossl[geobench]), or a
    file of GEO-Bench 2, such as geobench_so2sat.tortilla. Sets of one class an image are read. Categories, splits and,
    where the benchmark knows them, places and dates come along. Bands are called red, green, blue, nir, swir_1, ...

    Images are as published, unless --run names an encoder: then they have the bands that it reads, each standardised by
    the training images, as GEO-Bench does, in the form that this encoder takes. An interrupted conversion goes on where
    it ended.

    Examples: `geossl data geobench classification_v1.0/m-eurosat --run runs/demo -o m-eurosat.parquet`, then
    `geossl probe runs/demo --data m-eurosat.parquet --split-test test`

    Parameters
    ----------
    src
        Folder of GEO-Bench 1, or tortilla of GEO-Bench 2 (or the folder of its parts).
    out
        Index to write, NAME.parquet; the images go to NAME.images.
    run
        Write the images for the encoder of this run, checkpoint or file of weights.
    bands
        Names of the bands to write, with commas between, in that order; by default all, with --run those that its
        encoder reads: they are needed where it does not name them, and are not red, green and blue.
    partition
        GEO-Bench 1: which of its training sets; 0.01x_train is one with 1 % of the images.
    backbone
        The model, for weights of --run that do not name it.
    threads
        Threads that read the images' headers; 0 is one for every core.
    """
    from geossl.judges.geobench import convert_geobench

    chosen = None if bands is None else bands.split(",")
    made = convert_geobench(
        src, out=out, partition=partition, bands=chosen, run=run, backbone=backbone, threads=threads
    )
    print(f"{made.title}: {', '.join(made.bands)} -> {made.folder}")
    for line in [*made.report.lines(), *made.notes]:
        print(line)
    print(f"-> {out}")
    print(f"next: geossl probe {run or 'RUN'} --data {out} --split-test test")
