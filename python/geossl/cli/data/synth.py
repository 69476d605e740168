"""`geossl data synth`: a small planet, or the made set of another task, to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

SIZES = {"planet": 96, "photos": 96, "landcover": 50, "segment": 96, "detect": 320}
"""Side of an image, pixels, if none is given."""
PLACES = {"planet": 400, "photos": 400, "landcover": 400, "segment": 400, "detect": 24}
"""Places, or images, if no number is given."""


def synth(
    out: Path,
    /,
    *,
    task: Literal["planet", "photos", "landcover", "segment", "detect"] = "planet",
    places: int | None = None,
    views: float = 5.0,
    size: int | None = None,
    bands: Literal[3, 4] = 3,
    seed: int = 0,
    faults: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make a small planet to try things on: places, seasons and objects, in fMoW's layout.

    Other tasks have sets of their own, in the layout of what their experiments are published on, and with its faults.

    Examples: `geossl data synth planet`, `geossl data synth town --task segment --places 200`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    task
        planet: pretraining and classification, in fMoW's layout. photos: geotagged photos of sights, as GeoImageNet's
        downloader leaves them. landcover: tiles of land cover, as Tile2Vec's. segment: towns with outlines of their
        buildings, as SpaceNet 1. detect: aircraft, cars, buildings and tanks with boxes, as xView.
    places
        Number of places, of sights (photos), of tiles (landcover) or of images; by default 400, detect 24.
    views
        planet: dates of a place, on average; photos: photos of a sight.
    size
        Side of an image, pixels; by default 96, landcover 50, detect about 320.
    bands
        planet: 3: RGB as JPEG; 4: red, green, blue and near infrared as uint16 GeoTIFF.
    seed
        Seed; the same arguments give the same files.
    faults
        landcover: also a tile with each fault that such a set may have. The other sets have theirs in any case.
    """
    from geossl.errors import UsageError

    if bands != 3 and task != "planet":
        raise UsageError(f"--bands {bands}: is for the planet")
    if faults and task != "landcover":
        raise UsageError("--faults: is for landcover")
    side = SIZES[task] if size is None else size
    count = PLACES[task] if places is None else places
    if task == "photos":
        from geossl.data.synth.photos import make_photos

        photos = make_photos(out, places=count, views=views, size=side, seed=seed)
        print(f"{photos.photos} photos in {photos.classes} classes, {photos.rows} rows of metadata -> {photos.folder}")
        print(f"next: geossl data geoimagenet {out} --test {photos.photos // 5} -o {out}.parquet")
    elif task == "landcover":
        from geossl.data.synth.landcover import make_landcover

        tiles = make_landcover(out, tiles=count, size=side, seed=seed, faults=faults)
        print(f"{tiles.tiles} tiles of {tiles.classes} classes -> {tiles.folder}")
        if tiles.faults:
            print(f"with faults: {', '.join(f'{n}tile.npy ({fault})' for fault, n in tiles.faults.items())}")
        print(f"next: geossl data naip {out} -o {out}.parquet")
    elif task == "segment":
        from geossl.data.synth.spacenet import make_spacenet

        town = make_spacenet(out, images=count, size=side, seed=seed)
        print(f"{town.images} images, {town.buildings:,} buildings -> {town.folder}")
        print(f"next: geossl data spacenet {out} -o {out}.parquet")
    elif task == "detect":
        from geossl.data.synth.detection import make_detection

        scenes = make_detection(out, images=count, size=side, seed=seed)
        print(f"{scenes.images} images, {scenes.objects:,} objects -> {scenes.folder}")
        print(f"next: geossl data xview {out} -o {out}.parquet")
    else:
        from geossl.data.synth import make_planet

        made = make_planet(out, places=count, views=views, size=side, bands=bands, seed=seed)
        print(f"{made.images} images of {made.places} places in {made.categories} categories -> {made.folder}")
        print(f"next: geossl data index {out} -o {out}.parquet")
