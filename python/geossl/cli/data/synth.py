"""`geossl data synth`: a small planet, or other made data, to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def synth(
    out: Path,
    /,
    *,
    task: Literal["planet", "landcover"] = "planet",
    places: int = 400,
    views: float = 5.0,
    size: int | None = None,
    bands: Literal[3, 4] = 3,
    seed: int = 0,
    faults: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make a small planet to try things on: places, seasons and objects, in fMoW's layout; or data of another task.

    Examples: `geossl data synth planet`, `geossl data synth tiles --task landcover`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    task
        planet: pretraining, in fMoW's layout. landcover: classification of land cover, in Tile2Vec's layout, four bands
        of 8 bits and a mask.
    places
        Number of places; landcover: of tiles.
    views
        planet: dates of a place, on average.
    size
        Side of an image, pixels; by default 96, landcover 50.
    bands
        planet: 3: RGB as JPEG; 4: red, green, blue and near infrared as uint16 GeoTIFF.
    seed
        Seed; the same arguments give the same files.
    faults
        landcover: also a tile with each fault that such a set may have.
    """
    if task == "landcover":
        from geossl.data.synth.landcover import make_landcover

        tiles = make_landcover(out, tiles=places, size=50 if size is None else size, seed=seed, faults=faults)
        print(f"{tiles.tiles} tiles of {tiles.classes} classes -> {tiles.folder}")
        if tiles.faults:
            print(f"with faults: {', '.join(f'{n}tile.npy ({fault})' for fault, n in tiles.faults.items())}")
        print(f"next: geossl data naip {out} -o {out}.parquet")
        return
    from geossl.data.synth import make_planet

    made = make_planet(out, places=places, views=views, size=96 if size is None else size, bands=bands, seed=seed)
    print(f"{made.images} images of {made.places} places in {made.categories} categories -> {made.folder}")
    print(f"next: geossl data index {out} -o {out}.parquet")
