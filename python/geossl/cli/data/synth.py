"""`geossl data synth`: a small planet, or another made set, to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def synth(
    out: Path,
    /,
    *,
    task: Literal["planet", "photos"] = "planet",
    places: int = 400,
    views: float = 5.0,
    size: int = 96,
    bands: Literal[3, 4] = 3,
    seed: int = 0,
) -> None:
    """Make a small planet to try things on: places, seasons and objects, in fMoW's layout.

    Other tasks have sets of their own: photos is a GeoImageNet, as its downloader leaves it, whose places are sights.

    Examples: `geossl data synth planet`, `geossl data synth --task photos sights`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    task
        What it is for: planet (pretraining and classification) or photos (objects by class, with places).
    places
        Number of places.
    views
        Dates of a place, on average; photos of a sight.
    size
        Side of an image, pixels.
    bands
        3: RGB as JPEG; 4 (the planet alone): red, green, blue and near infrared as uint16 GeoTIFF.
    seed
        Seed; the same arguments give the same files.
    """
    if task == "photos":
        _photos(out, places=places, views=views, size=size, bands=bands, seed=seed)
        return
    from geossl.data.synth import make_planet

    made = make_planet(out, places=places, views=views, size=size, bands=bands, seed=seed)
    print(f"{made.images} images of {made.places} places in {made.categories} categories -> {made.folder}")
    print(f"next: geossl data index {out} -o {out}.parquet")


def _photos(out: Path, *, places: int, views: float, size: int, bands: int, seed: int) -> None:
    from geossl.data.synth.photos import make_photos
    from geossl.errors import UsageError

    if bands != 3:
        raise UsageError(f"--bands {bands}: photos have 3")
    made = make_photos(out, places=places, views=views, size=size, seed=seed)
    print(f"{made.photos} photos in {made.classes} classes, {made.rows} rows of metadata -> {made.folder}")
    print(f"next: geossl data geoimagenet {out} --test {made.photos // 5} -o {out}.parquet")
