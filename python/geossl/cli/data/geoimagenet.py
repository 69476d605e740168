"""`geossl data geoimagenet`: the photos of ImageNet that have a place, as an index with the paper's split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def geoimagenet(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    coordinates: Path | None = None,
    map_: Annotated[list[str] | None, Parameter(name="--map", negative="")] = None,
    exif: Annotated[bool, Parameter(negative="")] = False,
    min_photos: int = 1,
    test: int | None = None,
    seed: int = 0,
    split: Path | None = None,
    threads: int = 0,
) -> None:
    """Make an index of GeoImageNet: photos with a class and a place, split into train and test as the paper did.

    SRC is a folder that GeoImageNet's downloader left (imagenet_images and metadata.csv), or any folder of photos by
    class, such as ImageNet's: CLASS/PHOTO.JPEG, also below train and val. For the latter give a table of where they
    were taken with --coordinates: CSV or Parquet with the columns `lat` and `lon` and one of `id` (the photo id that
    the files are named after), `file` (names of files, such as n01440764_10026) and `path`; or the downloader's seven
    columns without a header.

    Nothing can be downloaded any more: the list of image URLs at image-net.org, which the downloader begins with, is
    gone. What to do instead is in docs/geoimagenet.md: you need the photos, and where they were taken.

    The split depends on the photos' ids and the seed alone, and is written beside the index as NAME.split.csv, which
    --split takes on another machine.

    Examples: `geossl data geoimagenet geoimagenet -o geoimagenet.parquet`,
    `geossl data geoimagenet ILSVRC/Data/CLS-LOC --coordinates flickr.csv --map file=image,lat=latitude,lon=longitude
    --test 20000 -o geoimagenet.parquet`

    Parameters
    ----------
    src
        Folder of photos.
    out
        Index to write; the split is written beside it.
    coordinates
        Table of where the photos were taken; by default SRC/metadata.csv.
    map_
        Columns of the table that have other names: lat=latitude,lon=longitude; may be repeated.
    exif
        Photos that the table gives no place take it from their EXIF; no table is needed then.
    min_photos
        Leave out classes with fewer photos.
    test
        Photos to test on; the rest trains. By default 100000, as in the paper.
    seed
        Seed of the draw. The order of the files does not matter.
    split
        Take the split of such a file instead; photos that it does not name are in no split.
    threads
        Threads that read; 0 is one for every core.
    """
    from geossl.cli.data.renames import read_renames
    from geossl.data.geoimagenet import index_geoimagenet

    made, report = index_geoimagenet(
        src,
        coordinates=coordinates,
        renames=read_renames(map_ or []),
        exif=exif,
        min_photos=min_photos,
        test=test,
        seed=seed,
        split=split,
        threads=threads,
    )
    made.write(out)
    if split is None:
        written = out.with_suffix(".split.csv")
        report.write(written)
    for line in report.lines():
        print(line)
    print(f"-> {out}" + (f", {written}" if split is None else ""))
    print(f"next: geossl data cluster {out} -k {min(100, max(2, len(made) // 8))}")
