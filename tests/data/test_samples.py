"""Which bands views have, and their value without data."""

import math

import numpy as np
import pyarrow as pa
import pytest

from geossl.data.samples import choose_samples
from geossl.data.table import SCHEMA
from geossl.errors import UsageError

FOUR, EIGHT = "blue,green,red,nir", "coastal,blue,green,yellow,red,red_edge,nir,nir2"


def table(*rows: dict[str, object]) -> pa.Table:
    defaults = {"path": "a.tif", "width": 8, "height": 8, "bands": 4, "dtype": "uint16"}
    return pa.Table.from_pylist([defaults | row for row in rows], schema=SCHEMA)


def mixed() -> pa.Table:
    return table({"band_names": FOUR}, {"bands": 8, "band_names": EIGHT}, {"band_names": FOUR})


def test_all_bands_as_they_come() -> None:
    samples = choose_samples(table({"band_names": FOUR}, {"band_names": FOUR}), None)
    assert (samples.bands, samples.bits, samples.nodata) == (4, 16, None)
    assert samples.names == ("blue", "green", "red", "nir")
    assert (samples.kinds, samples.kind.tolist()) == ([(4, None)], [0, 0])
    assert choose_samples(table({}), None).names is None


def test_bands_by_name_are_found_wherever_they_lie() -> None:
    samples = choose_samples(mixed(), ["red", "nir", "yellow"])
    assert samples.names == ("red", "nir", "yellow")
    assert samples.kinds == [(4, [2, 3, None]), (8, [4, 6, 3])]
    assert samples.kind.tolist() == [0, 1, 0]
    assert samples.kind.dtype == np.uint16


def test_bands_by_number() -> None:
    samples = choose_samples(mixed(), ["5", "1"])
    assert samples.kinds == [(4, [None, 0]), (8, [4, 0])]
    assert samples.names == ("red", "blue")
    assert choose_samples(table({}), ["4", "1"]).names is None


@pytest.mark.parametrize(
    ("rows", "bands", "message"),
    [
        (mixed(), None, "different bands .*4: blue, green, red, nir; 8: coastal.*--loader.bands"),
        (mixed(), ["swir"], "have none of swir"),
        (mixed(), ["red", "swir"], "no image has the band swir; known are: blue, coastal"),
        (mixed(), ["red", "red"], "name each band once"),
        (mixed(), [], "name each band once"),
        (table({}), ["red"], "images of 4 bands have no names, so red is not known"),
        (mixed(), ["5"], "images of 4: blue, green, red, nir have none of 5"),
        (table({}, {"dtype": "uint8"}), None, "types uint16, uint8"),
    ],
)
def test_what_cannot_be_is_said(rows: pa.Table, bands: list[str] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_samples(rows, bands)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint16", [None, None], None),
        ("uint16", [65535.0, None], 65535.0),
        ("uint16", [0.0, 65535.0], 0.0),
        ("uint8", [math.nan, math.nan], 0.0),
        ("uint8", [255.0, math.nan], 0.0),
        ("uint8", [7.5, None], 0.0),
        ("int16", [None, None], math.nan),
    ],
)
def test_no_data(dtype: str, values: list[float | None], expected: float | None) -> None:
    nodata = choose_samples(table(*({"dtype": dtype, "nodata": value} for value in values)), None).nodata
    assert nodata == expected or (nodata is not None and expected is not None and math.isnan(nodata + expected))


def test_other_types_become_floats() -> None:
    samples = choose_samples(table({"dtype": "int16"}, {"dtype": "float64"}), None)
    assert samples.bits == 32
    assert samples.options()["nodata"] is None
