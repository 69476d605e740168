"""`geossl predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def predict(
    run: Path,
    source: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    score: float = 0.05,
    draw: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
) -> None:
    """Write what a network that `geossl transfer` has trained sees in images, in each image's CRS.

    A detector's boxes go to GeoJSON; a segmenter's classes to a GeoTIFF, and their outlines to GeoJSON.

    Images of any size are read by window. Each gets a file of its name in --out; what is there already is not made
    again, so that an interrupted call goes on where it ended.

    Example: `geossl predict runs/demo/detect scenes -o seen --draw`

    Parameters
    ----------
    run
        Folder that `geossl transfer` has left.
    source
        An image, a folder of images, or an index of whole images.
    out
        Folder to write to.
    score
        Least score of an object that is written, 0 to 1.
    draw
        Write a picture of each image, too.
    device
        auto, cpu, cuda or cuda:N.
    """
    from geossl.transfer.predict import predict as run_predict

    files = run_predict(run, source, out=out, least=score, draw=draw, device=device)
    print(f"-> {out}: {len(files):,} files, the first: {files[0]}")
