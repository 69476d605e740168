"""Frames of places against rasterio's own coordinates."""

import numpy as np
import pyarrow as pa
import pytest
from rasterio.transform import Affine
from rasterio.warp import transform as warp

from geossl.data.ground import ground_frames
from geossl.data.table import SCHEMA

UTM14 = Affine(5, 0, 485900, 0, -5, 5209247)


def table(*rows: tuple[Affine | None, str | None]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "path": f"{i}.tif", "width": 900, "height": 700, "bands": 4, "dtype": "uint8", "crs": crs,
                "transform": None if transform is None else list(transform)[:6],
            }
            for i, (transform, crs) in enumerate(rows)
        ],
        schema=SCHEMA,
    )  # fmt: skip


def test_one_reference_system_is_taken_as_it_is() -> None:
    moved = UTM14 @ Affine.translation(0.4, -0.2)
    frames = ground_frames(table((UTM14, "EPSG:26914"), (moved, "EPSG:26914")), np.array([7, 7]))
    assert frames[0].tolist() == list(UTM14)[:6]
    assert frames[1].tolist() == list(moved)[:6]


def test_another_zone_is_fitted_into_the_places_first() -> None:
    # The same ground at the zones' border, which is at 96 degrees west.
    (x,), (y,) = warp("EPSG:4326", "EPSG:26915", [-96.05], [47.0])
    other = Affine(5, 0, x, 0, -5, y)
    rows = table((UTM14, "EPSG:26914"), (other, "EPSG:26915"), (other, "EPSG:26915"))
    frames = ground_frames(rows, np.array([0, 0, 1]))
    assert frames[2].tolist() == list(other)[:6], "a place of its own"
    a, b, c, d, e, f = frames[1]
    for px, py in [(0, 0), (900, 700), (450, 350), (900, 0)]:
        gx, gy = other @ (px, py)
        (want_x,), (want_y,) = warp("EPSG:26915", "EPSG:26914", [gx], [gy])
        assert (a * px + b * py + c, d * px + e * py + f) == pytest.approx((want_x, want_y), abs=0.5)
    assert abs(b) > 0.1, "the zones are turned against each other"


def test_without_georeference_there_is_no_frame() -> None:
    frames = ground_frames(table((None, None), (UTM14, None), (UTM14, "EPSG:26914")), np.array([0, 0, 0]))
    assert np.isnan(frames[:2]).all()
    assert not np.isnan(frames[2]).any()
    assert np.isnan(ground_frames(table((None, None)), np.array([0]))).all()
