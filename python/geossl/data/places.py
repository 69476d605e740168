"""Which images show one place: by their coordinates or by their footprints."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl.data.footprints import Footprints
from geossl.data.table import SCHEMA, is_remote
from geossl.errors import UsageError
from geossl.geo import link

Places = Literal["id", "radius", "footprint"]


def check_places(places: Places, radius_km: float | None) -> None:
    """Raise UsageError where the two options do not fit each other."""
    if (places == "radius") != (radius_km is not None):
        raise UsageError("--places radius and --radius-km: are for one another")
    if radius_km is not None and not (np.isfinite(radius_km) and radius_km >= 0):
        raise UsageError(f"--radius-km {radius_km:g}: kilometres, 0 or more")


def regrouped(table: pa.Table, *, places: Places, radius_km: float | None, threads: int) -> tuple[pa.Table, list[str]]:
    """The index's table with its places made anew, and the notes on it.

    radius: rows are one place that a chain of steps of at most `radius_km` joins. footprint: rows in order of their
    paths; each joins the first place whose founder's footprint it overlaps by half (intersection over union). A place
    is named after its founder, the first of its rows. Rows without coordinates (or footprint) keep their place.

    Raises UsageError if no row has coordinates (a footprint).
    """
    if places == "id":
        return table, []
    if places == "radius":
        lat, lon = (table[name].to_numpy(zero_copy_only=False) for name in ("lat", "lon"))
        rows = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon))
        founders = np.full(len(table), -1, np.int64)
        if len(rows):
            groups = link(lat[rows], lon[rows], radius_km=radius_km or 0.0, threads=threads)
            _, first = np.unique(groups, return_index=True)
            founders[rows] = rows[first[groups]]
        what = f"coordinates at most {radius_km:g} km apart"
        lack = "--places radius: no row has coordinates"
    else:
        order = pc.sort_indices(table["path"].combine_chunks()).to_numpy()
        founders = Footprints(table).founders(order)
        what = "footprints that overlap by half"
        lack = "--places footprint: no image has a footprint, which takes a geotransform and a CRS, as GeoTIFFs have"
    if (founders < 0).all():
        raise UsageError(lack)
    names = _names(table["path"].take(np.unique(founders[founders >= 0])).to_pylist())
    _, of = np.unique(founders, return_inverse=True)
    of -= int(founders.min() < 0)  # the first is "no founder"
    made = pa.array(names, pa.string()).take(pa.array(of, mask=of < 0))
    note = f"places are images with {what}"
    if without := int((founders < 0).sum()):
        note += f"; rows that have none keep their place: {without:,}"
    at = SCHEMA.get_field_index("location_id")
    return table.set_column(at, SCHEMA.field(at), pc.coalesce(made, table["location_id"].combine_chunks())), [note]


def _names(paths: list[str]) -> list[str]:
    """A name for each founder, by its path."""
    stems = [path if is_remote(path) else str(PurePosixPath(path).with_suffix("")) for path in paths]
    often, seen = Counter(stems), Counter[str]()
    out = []
    for path, stem in zip(paths, stems, strict=True):
        seen[path] += 1
        # Two boxes of one image may lie apart.
        name = stem if often[stem] == 1 else path
        out.append(name if seen[path] == 1 else f"{name}#{seen[path]}")
    return out
