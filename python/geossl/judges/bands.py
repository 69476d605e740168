"""One name for a band, whatever a benchmark calls it; and which bands an encoder reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geossl.models.weights import LoadedBackbone

RGB = ("red", "green", "blue")
_NAMES = {
    "b01": "coastal_aerosol",
    "b02": "blue",
    "b03": "green",
    "b04": "red",
    "b05": "red_edge_1",
    "b06": "red_edge_2",
    "b07": "red_edge_3",
    "b08": "nir",
    "b8a": "red_edge_4",
    "b09": "water_vapour",
    "b10": "swir_cirrus",
    "b11": "swir_1",
    "b12": "swir_2",
    "01 - coastal aerosol": "coastal_aerosol",
    "02 - blue": "blue",
    "03 - green": "green",
    "04 - red": "red",
    "05 - vegetation red edge": "red_edge_1",
    "06 - vegetation red edge": "red_edge_2",
    "07 - vegetation red edge": "red_edge_3",
    "08 - nir": "nir",
    "08a - vegetation red edge": "red_edge_4",
    "09 - water vapour": "water_vapour",
    "10 - swir - cirrus": "swir_cirrus",
    "11 - swir": "swir_1",
    "12 - swir": "swir_2",
    "05 - nir": "nir",
    "06 - swir1": "swir_1",
    "07 - swir2": "swir_2",
    "09 - cirrus": "swir_cirrus",
    "10 - tirs1": "thermal",
    "01 - vh.real": "vh_real",
    "02 - vh.imaginary": "vh_imag",
    "03 - vv.real": "vv_real",
    "04 - vv.imaginary": "vv_imag",
    "05 - vh.lee filtered": "vh_lee",
    "06 - vv.lee filtered": "vv_lee",
    "07 - vh.lee filtered.real": "vh_lee_real",
    "08 - vv.lee filtered.imaginary": "vv_lee_imag",
}
"""Sentinel-2's codes, and the bands of GEO-Bench 1 (Sentinel-2, Landsat 8, Sentinel-1) as its files call them; here
they have the names of torchgeo-bench 0.4.0 (src/torchgeo_bench/datasets/m_*.py)."""


def band_name(published: str) -> str:
    """The name of a band here: red of `04 - Red`, `B04` and `Red`."""
    plain = published.strip().lower()
    return _NAMES.get(plain) or re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


def bands_of(encoder: LoadedBackbone, given: Sequence[str] | None, *, option: str) -> list[str]:
    """Names of the bands that an encoder reads, in its order.

    They are those given, else those that its run chose by name; an encoder of three bands that says nothing of them
    reads red, green and blue.

    Args:
        encoder: the encoder.
        given: the names, or None.
        option: how they are given, for messages.

    Raises:
        UsageError: the number of names is not that of the encoder's bands, or nothing says which they are.

    """
    if given is not None:
        if len(given) != encoder.bands:
            raise UsageError(f"{option} {','.join(given)}: {len(given)} names; the encoder reads {encoder.bands} bands")
        return [band_name(name) for name in given]
    chosen = encoder.chosen_bands
    if chosen is not None and not any(name.isdecimal() for name in chosen):
        return [band_name(name) for name in chosen]
    if chosen is None and encoder.bands == len(RGB):
        return list(RGB)
    raise UsageError(f"the encoder does not name the {encoder.bands} bands that it reads: name them with {option}")
