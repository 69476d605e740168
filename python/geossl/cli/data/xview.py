"""`geossl data xview`: xView's release as an index and a file of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def xview(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    test: int | None = None,
    seed: int = 0,
    threads: int = 0,
) -> None:
    """Make xView's training images an index, and their objects a file beside it, for `geossl transfer detect`.

    SRC is the release's folder, with train_images and xView_train.geojson. Its known faults are named and left out:
    boxes outside their image or without an area, type ids that are no class, labels of images that are not there.

    Example: `geossl data xview xview -o xview.parquet`, then `geossl transfer detect runs/demo --data xview.parquet`

    Parameters
    ----------
    src
        Folder of the release.
    out
        Index to write, NAME.parquet; the objects go to NAME.objects.parquet.
    test
        Images to test on, drawn by their names; by default the paper's share, 146 of 846.
    seed
        Seed of the split.
    threads
        Threads that read the images' headers; 0 is one for every core.
    """
    from geossl.data.xview import read_xview

    made = read_xview(src, test=test, seed=seed, threads=threads)
    objects = made.write(out)
    for line in made.report.lines():
        print(line)
    for line in made.objects:
        print(f"{'objects':<12}{line}")
    print(f"-> {out}, {objects}")
    print(f"next: geossl transfer detect RUN --data {out}")
