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
    """Write what a network that `geossl transfer` or `geossl finetune` has trained sees in images.

    A detector's boxes go to GeoJSON; a segmenter's classes to a GeoTIFF, and their outlines to GeoJSON; all in each
    image's CRS. Images of any size are read by window. Each gets a file of its name in --out; what is there already is
    not made again, so that an interrupted call goes on where it ended.

    A classifier's likeliest category of each image goes to classes.csv, one row an image in the index's order, and, of
    the images that have coordinates, to classes.geojson, as points in longitude and latitude. The folder must not have
    these files yet.

    Example: `geossl predict runs/demo/detect scenes -o seen --draw`

    Example: `geossl predict runs/demo/finetune planet.parquet -o classes`

    Parameters
    ----------
    run
        Folder that `geossl transfer` or `geossl finetune` has left.
    source
        An image, a folder of images, or an index; of whole images for detectors and segmenters, of any rows for
        classifiers.
    out
        Folder to write to.
    score
        Least score of an object, or probability of an image's category, that is written, 0 to 1. The likeliest of C
        categories has at least 1/C.
    draw
        Write a picture of each image, too; of a classifier, one of the first 24 images, classes.png.
    device
        auto, cpu, cuda or cuda:N.
    """
    from geossl.predict import predict as run_predict

    files = run_predict(run, source, out=out, least=score, draw=draw, device=device)
    print(f"-> {out}: {len(files):,} files, the first: {files[0]}")
