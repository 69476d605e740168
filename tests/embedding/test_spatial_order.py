"""The Hilbert curve is one, and rows follow it."""

import numpy as np
import pytest

from geossl.embedding.order import hilbert, spatial_order
from geossl.geo import distance_km


def by_the_definition(bits: int) -> list[tuple[int, int]]:
    """The cells in the curve's order: four curves of half the size, the outer ones turned."""
    if bits == 0:
        return [(0, 0)]
    half = 1 << (bits - 1)
    inner = by_the_definition(bits - 1)
    first = [(y, x) for x, y in inner]
    second = [(x, y + half) for x, y in inner]
    third = [(x + half, y + half) for x, y in inner]
    last = [(2 * half - 1 - y, half - 1 - x) for x, y in inner]
    return first + second + third + last


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_the_curve_is_hilberts(bits):
    x, y = (axis.ravel().astype(np.int64) for axis in np.mgrid[: 1 << bits, : 1 << bits])
    along = hilbert(x, y, bits=bits)
    order = np.argsort(along)
    assert along[order].tolist() == list(range(4**bits))
    assert list(zip(x[order].tolist(), y[order].tolist(), strict=True)) == by_the_definition(bits)


def test_rows_without_coordinates_end_and_equal_ones_keep_their_order():
    lat = np.array([np.nan, 10.0, 50.0, 10.0, 20.0, np.nan, 50.0])
    lon = np.array([3.0, 20.0, 5.0, 20.0, np.nan, np.nan, 5.0])
    order = spatial_order(lat, lon).tolist()
    assert order[-3:] == [0, 4, 5]
    assert sorted(order[:-3]) == [1, 2, 3, 6]
    assert order.index(1) + 1 == order.index(3)
    assert order.index(2) + 1 == order.index(6)


def test_the_order_is_the_points_alone():
    draw = np.random.default_rng(0)
    lat, lon = draw.uniform(-90, 90, 500), draw.uniform(-180, 180, 500)
    order = spatial_order(lat, lon)
    shuffled = draw.permutation(500)
    assert np.array_equal(lat[order], lat[shuffled][spatial_order(lat[shuffled], lon[shuffled])])
    steps = distance_km(lat[order][1:], lon[order][1:], lat[order][:-1], lon[order][:-1])
    assert np.median(steps) < 1000 < np.median(distance_km(lat[1:], lon[1:], lat[:-1], lon[:-1]))


def test_the_edges_of_the_globe_are_cells():
    order = spatial_order(np.array([90.0, -90.0, 90.0, -90.0]), np.array([180.0, 180.0, -180.0, -180.0]))
    assert order.tolist() == [3, 2, 0, 1]
    assert spatial_order(np.array([]), np.array([])).tolist() == []
