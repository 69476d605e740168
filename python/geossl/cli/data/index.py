"""`geossl data index`: places, dates, boxes and categories of images in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def index(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    layout: Literal["auto", "fmow", "csv", "geotiff", "photos", "geoimagenet"] = "auto",
    images: Literal["auto", "rgb", "msrgb", "ms"] = "auto",
    root: Path | None = None,
    map_: Annotated[list[str] | None, Parameter(name="--map", negative="")] = None,
    places: Literal["id", "radius", "footprint"] = "id",
    radius_km: float | None = None,
    update: Annotated[bool, Parameter(negative="")] = False,
    bands: str | None = None,
    dates: Path | None = None,
    date_pattern: str | None = None,
    tile: int | None = None,
    category_folders: Annotated[bool, Parameter(negative="")] = False,
    threads: int = 0,
) -> None:
    """Read the places, dates, boxes and categories of images into one Parquet file.

    SRC is a folder in fMoW's layout (fMoW-rgb, fMoW-full or ready-made crops) or GeoImageNet's, or a CSV or Parquet
    file: the paper's (label, path), SatMAE's (label, path, timestamp), or any with a column `path` and, where known,
    `lat`, `lon`, `timestamp`, `location_id`, `category`; --map takes them from columns of other names. With --layout
    photos it is a folder of photos: place and date are EXIF's (a time without an offset counts as UTC), the category
    is the name of the folder that a photo lies in. With --layout geotiff it is any folder of GeoTIFFs (and of what else
    GDAL reads), or a list of their paths and URLs: places and dates are read from the files, and images that show the
    same ground are views of one place; with --category-folders their folders' names are their categories. A list has
    the column `category`.

    Coordinates that cannot be a place become null, and the report names them: no numbers, out of range, latitude and
    longitude swapped, and 0, 0. Longitudes up to 360 are taken; the antimeridian and the poles are places.

    Examples: `geossl data index planet -o planet.parquet`, `geossl data index planet -o planet.parquet --update`,
    `geossl data index photos.csv --map lat=latitude,lon=longitude -o photos.parquet`,
    `geossl data index naip --layout geotiff --bands red,green,blue,nir --tile 256 -o naip.parquet`

    Parameters
    ----------
    src
        Folder or file.
    out
        Index to write.
    layout
        auto: geoimagenet for a folder with imagenet_images and metadata.csv, fmow for any other, csv for a file.
    images
        Which of fMoW's images: rgb, msrgb or ms; auto takes the first of these that is there.
    root
        Folder that a CSV's relative paths start from; by default the CSV's own.
    map_
        Columns of a list that have other names: lat=latitude,lon=longitude; may be repeated.
    places
        What makes images views of one place: id (what the names, the list or the GeoTIFFs' footprints say), radius
        (chains of coordinates at most --radius-km apart) or footprint (geotransforms that overlap by half).
    radius_km
        Kilometres, for --places radius.
    update
        Read again only what has changed since --out was made (size or time of an image or its sidecar; new and removed
        files; what could not be read), for fMoW's layout and photos; other layouts are read anew.
    bands
        geotiff: names of the bands, with commas between, of images that have as many and do not name them.
    dates
        geotiff: CSV or Parquet file with the columns path (or file name) and timestamp; by default the dates are read
        from the files' names, else from their tags.
    date_pattern
        geotiff: what the dates in the files' or folders' names look like, such as %Y%j for 2017006; by default
        20170106, 2017-01-06, 20170106T101031 and the forms of Sentinel, Landsat, MODIS, PlanetScope and NAIP are known.
    tile
        geotiff: cut scenes into tiles of this many pixels a side, on a grid on the ground that the dates of a place
        share; by default an image is one view.
    category_folders
        geotiff: of a folder, CATEGORY/*.tif or SPLIT/CATEGORY/*.tif: the name of the folder that an image lies in is
        its category, and that of a first folder train, val or test its split.
    threads
        Threads that read; 0 is one for every core.
    """
    from geossl.cli.data.renames import read_renames
    from geossl.data.index import GeoOptions, build_index

    geo = GeoOptions(
        bands=bands.split(",") if bands else (),
        dates=dates,
        date_pattern=date_pattern,
        tile=tile,
        category_folders=category_folders,
    )
    made, report = build_index(
        src,
        layout=layout,
        images=images,
        root=root,
        renames=read_renames(map_ or []),
        geo=geo,
        places=places,
        radius_km=radius_km,
        update=out if update else None,
        threads=threads,
    )
    made.write(out)
    for line in report.lines():
        print(line)
    print(f"-> {out}")
    # The paper has 100 clusters; a small set gets eight places a cluster.
    print(f"next: geossl data cluster {out} -k {min(100, max(2, report.places // 8))}")
