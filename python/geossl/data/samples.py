"""What a view has of its images' samples: which bands, of what type, and how it shows where there are no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

BITS = {"uint8": 8, "uint16": 16}
"""Bits of a view's sample by the images' type; every other type becomes float32."""
TOP = {8: 255.0, 16: 65535.0, 32: 1.0}
"""What a sample is divided by before it is normalised, by its bits: integers to 0..1, floats stay as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """What the views of an index's rows have of their images."""

    bands: int
    """Bands of a view."""
    names: tuple[str, ...] | None
    """Their names, where the index knows them."""
    bits: int
    """8 or 16, unsigned, or 32, a float."""
    nodata: float | None
    """Value of samples without data: an integer, NaN in floats; None where every sample has data."""
    kinds: list[tuple[int, list[int | None] | None]]
    """Of each kind of image: its bands, and for each band of a view that of the image, from 0; None in the list is a
    band that the image lacks, None for the list all bands as they come."""
    kind: np.ndarray
    """uint16 [N]: kind of each row."""

    def options(self) -> dict[str, Any]:
        """What the core's loader takes."""
        nodata = None if self.nodata is None or math.isnan(self.nodata) else int(self.nodata)
        return {"bands": self.bands, "bits": self.bits, "kinds": self.kinds, "kind": self.kind, "nodata": nodata}


def choose_samples(table: pa.Table, bands: Sequence[str] | None) -> Samples:
    """What views of these rows have.

    Args:
        table: Rows of an index, one or more.
        bands: The bands of a view, by name or by number from 1, in the order wanted; None is all of them as they
            come. An image without one of them has zeros in its place.

    Raises:
        UsageError: The images are of several types; they have different bands and none are chosen; a band is in no
            image; an image has none of them.

    """
    dtypes = sorted(table["dtype"].unique().to_pylist())
    bits = {BITS.get(dtype, 32) for dtype in dtypes}
    if len(bits) > 1:
        raise UsageError(
            f"the index mixes images of the types {', '.join(dtypes)}: make an index of each (a CSV with their paths)"
        )
    names = table["band_names"].fill_null("")
    # One text a kind, as Arrow has no dictionary of pairs.
    keys = pc.binary_join_element_wise(table["bands"].cast(pa.string()), names, "|").combine_chunks()
    encoded = keys.dictionary_encode()
    found = [_kind(key) for key in encoded.dictionary.to_pylist()]
    if bands is None:
        if len(found) > 1:
            kinds = "; ".join(sorted(_describe(count, named) for count, named in found))
            raise UsageError(
                f"the index mixes images of different bands ({kinds}): choose some with --loader.bands, "
                "by name or by number, or index each kind by itself (fMoW: --images rgb|msrgb|ms)"
            )
        count, named = found[0]
        maps: list[tuple[int, list[int | None] | None]] = [(count, None)]
        view_names = tuple(named) or None
    else:
        maps, view_names = _choose(found, list(bands))
    return Samples(
        bands=count if bands is None else len(bands),
        names=view_names,
        bits=bits.pop(),
        nodata=_nodata(table, dtypes),
        kinds=maps,
        kind=encoded.indices.to_numpy(zero_copy_only=False).astype(np.uint16),
    )


def foreign_rows(table: pa.Table) -> dict[str, Any] | None:
    """The rows of an index that are read through rasterio, as the core takes them; None if there are none."""
    rows = np.flatnonzero(np.asarray(table["reader"].is_valid()))
    if not len(rows):
        return None
    # Only where it is needed: rasterio takes a while to import.
    from geossl.data.fallback import read_window

    columns = [table[name].take(rows).to_numpy() for name in ("width", "height", "bands")]
    columns.append(np.array([BITS.get(dtype, 32) for dtype in table["dtype"].take(rows).to_pylist()]))
    return {"reader": read_window, "rows": rows, "sizes": np.ascontiguousarray(np.stack(columns, 1), np.int32)}


def _kind(key: str) -> tuple[int, list[str]]:
    count, _, names = key.partition("|")
    return int(count), names.split(",") if names else []


def _describe(count: int, names: list[str]) -> str:
    return f"{count}: {', '.join(names)}" if names else f"{count} without names"


def _choose(
    found: list[tuple[int, list[str]]], bands: list[str]
) -> tuple[list[tuple[int, list[int | None] | None]], tuple[str, ...] | None]:
    """The kinds as the core takes them, and the names of the chosen bands, where they are known."""
    if not bands or len(set(bands)) < len(bands):
        raise UsageError(f"loader.bands: {', '.join(bands) or 'nothing'}: name each band once, and one at least")
    kinds: list[tuple[int, list[int | None] | None]] = []
    view_names: list[str | None] = [None if band.isdecimal() else band for band in bands]
    for count, names in found:
        view: list[int | None] = []
        for k, band in enumerate(bands):
            if band.isdecimal():
                at = int(band) - 1
                there = 0 <= at < count
                if there and names and view_names[k] is None:
                    view_names[k] = names[at]
            else:
                if not names:
                    raise UsageError(
                        f"loader.bands: images of {count} bands have no names, so {band} is not known there: "
                        "name their bands when you index them (--bands), or give numbers"
                    )
                there = band in names
                at = names.index(band) if there else -1
            view.append(at if there else None)
        if all(at is None for at in view):
            raise UsageError(f"loader.bands: images of {_describe(count, names)} have none of {', '.join(bands)}")
        kinds.append((count, view))
    for k, band in enumerate(bands):
        if all(view is not None and view[k] is None for _, view in kinds):
            known = sorted({name for _, names in found for name in names})
            raise UsageError(f"loader.bands: no image has the band {band}; known are: {', '.join(known) or 'numbers'}")
    named = tuple(name for name in view_names if name is not None)
    return kinds, named if len(named) == len(bands) else None


def _nodata(table: pa.Table, dtypes: list[str]) -> float | None:
    """The value of views' samples without data.

    Where all images that have such a value agree on it, it is that one, and valid samples are what they are. Else it
    is 0, which the core keeps valid samples from.
    """
    if not set(dtypes) <= set(BITS):
        return math.nan
    values = table["nodata"].drop_null().unique().to_pylist()
    if not values:
        return None
    value = values[0]
    top = TOP[BITS[dtypes[0]]]
    return float(value) if len(values) == 1 and value == round(value, 0) and 0 <= value <= top else 0.0
