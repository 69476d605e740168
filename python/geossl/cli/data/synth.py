"""`geossl data synth`: a small planet to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def synth(
    out: Path,
    /,
    *,
    task: Literal["pretrain", "segment"] = "pretrain",
    places: int = 400,
    views: float = 5.0,
    size: int = 96,
    bands: Literal[3, 4] = 3,
    seed: int = 0,
) -> None:
    """Make a small planet to try things on: places, seasons and objects, in fMoW's layout.

    With --task segment it is a small SpaceNet 1 instead: images of towns with the outlines of their buildings, in the
    release's layout and with its known faults.

    Examples: `geossl data synth planet`, `geossl data synth spacenet --task segment --places 200`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    task
        pretrain: the planet; segment: SpaceNet 1.
    places
        Number of places; for segment each is one image.
    views
        Dates of a place, on average (pretrain).
    size
        Side of an image, pixels.
    bands
        3: RGB as JPEG; 4: red, green, blue and near infrared as uint16 GeoTIFF (pretrain).
    seed
        Seed; the same arguments give the same files.
    """
    if task == "segment":
        from geossl.data.synth.spacenet import make_spacenet

        town = make_spacenet(out, images=places, size=size, seed=seed)
        print(f"{town.images} images, {town.buildings:,} buildings -> {town.folder}")
        print(f"next: geossl data spacenet {out} -o {out}.parquet")
        return
    from geossl.data.synth import make_planet

    made = make_planet(out, places=places, views=views, size=size, bands=bands, seed=seed)
    print(f"{made.images} images of {made.places} places in {made.categories} categories -> {made.folder}")
    print(f"next: geossl data index {out} -o {out}.parquet")
