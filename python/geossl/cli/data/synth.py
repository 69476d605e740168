"""`geossl data synth`: a small planet to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def synth(
    out: Path,
    /,
    *,
    places: int = 400,
    views: float = 5.0,
    size: int = 96,
    bands: Literal[3, 4] = 3,
    seed: int = 0,
) -> None:
    """Make a small planet to try things on: places, seasons and objects, in fMoW's layout.

    Example: `geossl data synth planet`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    places
        Number of places.
    views
        Dates of a place, on average.
    size
        Side of an image, pixels.
    bands
        3: RGB as JPEG; 4: red, green, blue and near infrared as uint16 GeoTIFF.
    seed
        Seed; the same arguments give the same files.
    """
    from geossl.data.synth import make_planet

    made = make_planet(out, places=places, views=views, size=size, bands=bands, seed=seed)
    print(f"{made.images} images of {made.places} places in {made.categories} categories -> {made.folder}")
    print(f"next: geossl data index {out} -o {out}.parquet")
