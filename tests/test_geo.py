"""Distances and neighbours on the globe against geographiclib, scikit-learn, H3 and all pairs."""

import h3
import numpy as np
import pytest
from geographiclib.geodesic import Geodesic
from sklearn.cluster import DBSCAN
from sklearn.metrics import silhouette_samples
from sklearn.metrics.pairwise import haversine_distances

from geossl import _core, geo
from geossl.errors import UsageError

RADIUS = 6371.0088
Points = tuple[np.ndarray, np.ndarray]


def globe(n: int, seed: int) -> Points:
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


def towns(n: int, seed: int) -> Points:
    """Crowds of all sizes, over the antimeridian and a pole too, with points that stand twice and lone ones."""
    rng = np.random.default_rng(seed)
    lat, lon = globe(n, seed + 1)
    homes = rng.integers(0, 12, n)
    home_lat, home_lon = np.append(globe(10, seed + 2), [[-17.0, 89.9], [180.0, 30.0]], axis=1)
    crowd = rng.random(n) < 0.8
    spread = 10.0 ** rng.uniform(-3, 0.5, 12)
    lat = np.where(crowd, np.clip(home_lat[homes] + rng.normal(0, 1, n) * spread[homes], -90, 90), lat)
    lon = np.where(crowd, home_lon[homes] + rng.normal(0, 1, n) * spread[homes], lon)
    again = rng.integers(0, n, n // 5)
    lat[: n // 5], lon[: n // 5] = lat[again], lon[again]
    return lat, lon


def radians(points: Points) -> np.ndarray:
    return np.radians(np.stack(points, axis=1))


def turned(points: Points, seed: int) -> Points:
    """The points after a rotation of the globe."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    lat, lon = np.radians(points)
    x, y, z = turn @ np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def by_pairs(points: Points, queries: Points) -> np.ndarray:
    """All distances, [m, n]."""
    return geo.distance_km(*points, queries[0][:, None], queries[1][:, None])


def by_first(labels: np.ndarray) -> np.ndarray:
    """Labels numbered anew by first appearance; -1 stays."""
    names = {-1: -1}
    return np.array([names.setdefault(label, len(names) - 1) for label in labels.tolist()])


def link_by_pairs(points: Points, radius: float) -> np.ndarray:
    close = by_pairs(points, points) <= radius
    labels = np.full(len(close), -1)
    for start in range(len(close)):
        front = np.array([start]) if labels[start] < 0 else np.array([], int)
        number = labels.max() + 1
        while len(front):
            labels[front] = number
            front = np.flatnonzero(close[front].any(axis=0) & (labels < 0))
    return labels


# Distances


def test_distances_equal_a_geodesic_library_on_the_sphere() -> None:
    sphere = Geodesic(RADIUS * 1000, 0)
    rng = np.random.default_rng(1)
    (lat_a, lon_a), (lat_b, lon_b) = globe(1500, 2), globe(1500, 3)
    near, far = slice(300, 900), slice(900, 1200)
    apart = 10.0 ** rng.uniform(-5, 1, 600)  # degrees; 1e-5 is a metre
    lat_b[near] = np.clip(lat_a[near] + rng.normal(0, apart), -90, 90)
    lon_b[near] = lon_a[near] + rng.normal(0, apart)
    lat_b[far], lon_b[far] = -lat_a[far] + rng.normal(0, 1e-4, 300), lon_a[far] + 180 + rng.normal(0, 1e-4, 300)
    lat_b = np.clip(lat_b, -90, 90)
    for (a, b), i in zip(
        [
            ((0, 0), (0, 180)),
            ((30, 10), (-30, -170)),
            ((90, 5), (-90, 120)),
            ((90, 5), (90, 120)),
            ((89.99999, 0), (89.99999, 180)),
            ((-89.999999, 33), (-89.999998, -140)),
            ((10, 179.999995), (10, -179.999995)),
            ((10, 180), (10, -180)),
            ((45.0, 7.0), (45.00001, 7.0)),
            ((45.0, 7.0), (45.0, 7.0)),
            ((45.0, 367.0), (45.0, -353.0)),
            ((0, 179.5), (0, -179.7)),
        ],
        range(1200, 1500),
        strict=False,
    ):
        (lat_a[i], lon_a[i]), (lat_b[i], lon_b[i]) = a, b
    expected = [
        sphere.Inverse(*row, Geodesic.DISTANCE)["s12"] / 1000
        for row in np.stack([lat_a, lon_a, lat_b, lon_b], axis=1).tolist()
    ]
    got = geo.distance_km(lat_a, lon_a, lat_b, lon_b)
    # The library itself is good to a nanometre, which is more than 1e-9 of distances under a metre.
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)

    # The same formula in longer floats tells how exact short distances are.
    a, la, b, lb = (x[near].astype(np.longdouble) for x in (lat_a, lon_a, lat_b, lon_b))
    degree = np.arctan(np.longdouble(1)) / 45
    cosines = np.cos(a * degree) * np.cos(b * degree)
    h = np.sin((b - a) * degree / 2) ** 2 + cosines * np.sin((lb - la) * degree / 2) ** 2
    np.testing.assert_allclose(got[near], (2 * RADIUS * np.arcsin(np.sqrt(h))).astype(float), rtol=1e-15)


def test_distances_equal_scikit_learns_and_broadcast() -> None:
    points = globe(200, 4)
    km = by_pairs(points, points)
    np.testing.assert_allclose(km, haversine_distances(radians(points)) * RADIUS, rtol=1e-9, atol=1e-9)
    assert km.shape == (200, 200)
    assert geo.distance_km(0, 0, 0, 90).shape == ()
    assert (km == km.T).all()


def test_distances_stay_when_the_globe_turns() -> None:
    points = globe(300, 5)
    np.testing.assert_allclose(
        by_pairs(points, points), by_pairs(turned(points, 6), turned(points, 6)), rtol=1e-11, atol=1e-9
    )


# Nearest and within


@pytest.mark.parametrize("k", [1, 8, 60, 700])
@pytest.mark.parametrize("make", [globe, towns])
def test_nearest_equals_all_pairs(make, k: int) -> None:
    points, queries = make(700, 7), make(150, 8)
    for asked in (points, queries):
        km = by_pairs(points, asked)
        order = np.lexsort((np.broadcast_to(np.arange(700), km.shape), km), axis=1)[:, :k]
        for threads in (1, 3):
            found = geo.nearest(*points, *asked, k=k, threads=threads)
            np.testing.assert_array_equal(found.rows, order)
            np.testing.assert_array_equal(found.km, np.take_along_axis(km, order, 1))


def test_nearest_settles_ties_by_index() -> None:
    # A grid of whole degrees has many equal distances, and equal ones that the chord cannot tell from unequal ones.
    lat, lon = (side.ravel().astype(float) for side in np.meshgrid(np.arange(-90, 91, 10), np.arange(-180, 181, 10)))
    order = np.random.default_rng(9).permutation(len(lat))
    points = lat[order], lon[order]
    km = by_pairs(points, points)
    expected = np.lexsort((np.broadcast_to(np.arange(len(lat)), km.shape), km), axis=1)
    for k in (1, 2, 5, 9, 40):
        np.testing.assert_array_equal(geo.nearest(*points, k=k).rows, expected[:, :k])


@pytest.mark.parametrize("radius", [0.0, 1e-3, 20.0, 1500.0, 12000.0, 20016.0, np.inf])
def test_within_equals_all_pairs(radius: float) -> None:
    points, queries = towns(600, 10), towns(90, 11)
    km = by_pairs(points, queries)
    for threads in (1, 3):
        found = geo.within(*points, *queries, radius_km=radius, threads=threads)
        for i, row in enumerate(km):
            near = np.flatnonzero(row <= radius)
            near = near[np.lexsort((near, row[near]))]
            own = slice(found.offsets[i], found.offsets[i + 1])
            np.testing.assert_array_equal(found.rows[own], near)
            np.testing.assert_array_equal(found.km[own], row[near])
        assert found.offsets[-1] == len(found.rows) == len(found.km) == (km <= radius).sum()


def test_within_decides_at_the_limit_by_the_haversine_distance() -> None:
    points = globe(400, 12)
    km = by_pairs(points, points)
    for i, j in np.random.default_rng(13).integers(0, 400, (300, 2)):
        radius = km[i, j]
        for limit, inside in ((radius, True), (np.nextafter(radius, -1), False)):
            found = geo.within(*points, points[0][[i]], points[1][[i]], radius_km=max(limit, 0.0))
            assert (j in found.rows) == (inside or limit < 0)


def test_neighbours_do_not_depend_on_the_order_of_the_input() -> None:
    points = towns(500, 14)
    order = np.random.default_rng(15).permutation(500)
    mixed = points[0][order], points[1][order]
    a = geo.within(*points, radius_km=300.0)
    b = geo.within(*mixed, radius_km=300.0)
    pairs = set(zip(np.repeat(np.arange(500), np.diff(a.offsets)).tolist(), a.rows.tolist(), strict=True))
    assert pairs == set(
        zip(order[np.repeat(np.arange(500), np.diff(b.offsets))].tolist(), order[b.rows].tolist(), strict=True)
    )
    np.testing.assert_array_equal(geo.nearest(*points, k=5).km[order], geo.nearest(*mixed, k=5).km)


# Single link


@pytest.mark.parametrize("radius", [0.0, 0.5, 30.0, 900.0, 21000.0])
def test_link_equals_all_pairs(radius: float) -> None:
    for points in (towns(800, 16), globe(500, 17)):
        expected = link_by_pairs(points, radius)
        for threads in (1, 3):
            np.testing.assert_array_equal(geo.link(*points, radius_km=radius, threads=threads), expected)


def test_link_stays_under_order_and_rotation() -> None:
    points = towns(3000, 18)
    labels = geo.link(*points, radius_km=25.0)
    order = np.random.default_rng(19).permutation(3000)
    mixed = geo.link(points[0][order], points[1][order], radius_km=25.0)
    np.testing.assert_array_equal(mixed, by_first(labels[order]))
    np.testing.assert_array_equal(geo.link(*turned(points, 20), radius_km=25.0), labels)


def test_link_follows_chains_over_the_antimeridian_and_the_pole() -> None:
    lon = np.arange(170, 191, 0.1)
    assert geo.link(np.zeros_like(lon), lon, radius_km=12.0).max() == 0
    assert geo.link([89.99, 89.99, 89.99], [0, 120, 240], radius_km=2.0).tolist() == [0, 0, 0]
    assert geo.link([0, 0, 0, 0], [0, 5, 0.001, 5], radius_km=1.0).tolist() == [0, 1, 0, 1]


def test_crowds_cost_no_more_than_others() -> None:
    # All pairs of 200,000 points would take hours; the test's timeout is the check.
    rng = np.random.default_rng(21)
    for spread in (0.0, 1e-9, 1e-2):
        lat, lon = 45 + rng.normal(0, 1, (2, 200_000)) * spread
        assert geo.link(lat, lon, radius_km=10.0).max() == 0
        assert _core.dbscan(lat, lon, radius_km=10.0, min_points=50, threads=0).max() == 0
        geo.nearest(lat, lon, lat[:10], lon[:10], k=8)


# DBSCAN


def dbscan(points: Points, **over) -> np.ndarray:
    return _core.dbscan(*points, **({"radius_km": 20.0, "min_points": 5, "threads": 0} | over))


def sklearn_dbscan(points: Points, radius: float, min_points: int, weights: np.ndarray | None = None) -> np.ndarray:
    model = DBSCAN(eps=radius / RADIUS, min_samples=min_points, metric="haversine", algorithm="ball_tree")
    return model.fit(radians(points), sample_weight=weights).labels_


@pytest.mark.parametrize("radius", [0.7, 20.0, 400.0])
@pytest.mark.parametrize("min_points", [1, 2, 5, 20])
def test_dbscan_equals_scikit_learn(radius: float, min_points: int) -> None:
    points = towns(2500, 22)
    expected = sklearn_dbscan(points, radius, min_points)
    for threads in (1, 3):
        got = dbscan(points, radius_km=radius, min_points=min_points, threads=threads)
        np.testing.assert_array_equal(got, expected)


def test_dbscan_with_weights_equals_scikit_learn() -> None:
    points = towns(1500, 23)
    weights = np.random.default_rng(24).integers(0, 4, 1500).astype(float)
    got = dbscan(points, min_points=9, weights=weights)
    np.testing.assert_array_equal(got, sklearn_dbscan(points, 20.0, 9, weights))
    assert got.max() > 3
    assert got.min() == -1
    assert (got != dbscan(points, min_points=9)).any()


def test_dbscan_shares_border_points_by_number() -> None:
    # The point in the middle is within 10 km of a core point of both rows, and is no core point itself.
    steps = np.arange(5) * 0.02
    lon = np.concatenate([0.05 + 0.08 + steps, [0.05], 0.05 - 0.08 - steps])
    points = np.zeros(11), lon
    labels = dbscan(points, radius_km=9.5, min_points=5)
    np.testing.assert_array_equal(labels, sklearn_dbscan(points, 9.5, 5))
    assert labels.tolist() == [0] * 6 + [1] * 5


def test_dbscan_stays_when_the_globe_turns() -> None:
    points = towns(2500, 25)
    np.testing.assert_array_equal(dbscan(turned(points, 26)), dbscan(points))


# H3


@pytest.mark.parametrize("resolution", [0, 3, 7, 15])
def test_cells_equal_h3(resolution: int) -> None:
    lat, lon = towns(1500, 27)
    lat, lon = np.append(lat, [90.0, -90.0]), np.append(lon, [0.0, 0.0])
    labels, cells = _core.h3_clusters(lat, lon, resolution=resolution, min_points=1, threads=2)
    expected = [h3.str_to_int(h3.latlng_to_cell(a, b, resolution)) for a, b in zip(lat, lon, strict=True)]
    assert cells.dtype == np.uint64
    np.testing.assert_array_equal(cells, np.array(expected, dtype=np.uint64))
    np.testing.assert_array_equal(labels, np.unique(cells, return_inverse=True)[1])


def test_small_cells_go_to_the_nearest_kept_one() -> None:
    points = towns(1500, 28)
    _, own = _core.h3_clusters(*points, resolution=3, min_points=1, threads=1)
    cells, inverse, counts = np.unique(own, return_inverse=True, return_counts=True)
    centres = np.array([h3.cell_to_latlng(h3.int_to_str(int(cell))) for cell in cells]).T
    kept = np.flatnonzero(counts >= 20)
    nearest = by_pairs((centres[0][kept], centres[1][kept]), (centres[0], centres[1])).argmin(axis=1)
    for threads in (1, 3):
        labels, merged = _core.h3_clusters(*points, resolution=3, min_points=20, threads=threads)
        np.testing.assert_array_equal(labels, nearest[inverse])
        np.testing.assert_array_equal(merged, cells[kept][labels])
    assert 1 < len(kept) < len(cells)
    assert np.bincount(labels).min() >= 20


def test_cells_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"resolution = 16: H3 has 0 to 15"):
        _core.h3_clusters(np.zeros(1), np.zeros(1), resolution=16, min_points=1, threads=1)
    with pytest.raises(ValueError, match=r"no cell of resolution 5 has min_points = 3 points, the fullest has 2"):
        _core.h3_clusters(np.zeros(2), np.zeros(2), resolution=5, min_points=3, threads=1)


# Silhouette


def test_silhouettes_equal_scikit_learn() -> None:
    points = towns(400, 29)
    labels = _core.kmeans(*points, k=7, seed=0, n_init=1, max_iter=20, threads=1)["labels"]
    labels[:3] = [50, 60, 60]  # a cluster of one point, and one that is spread
    expected = silhouette_samples(radians(points), labels, metric="haversine")
    rows, scores = _core.silhouette(*points, labels, sample=None, seed=0, threads=2)
    np.testing.assert_array_equal(rows, np.arange(400))
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    sample = _core.silhouette(*points, labels, sample=90, seed=3, threads=1)
    np.testing.assert_array_equal(sample[1], scores[sample[0]])
    assert len(np.unique(sample[0])) == 90
    assert (sample[0] != _core.silhouette(*points, labels, sample=90, seed=4, threads=1)[0]).any()


def test_silhouettes_leave_noise_out() -> None:
    points = towns(300, 30)
    labels = np.arange(300) % 4 - 1
    known = labels >= 0
    rows, scores = _core.silhouette(*points, labels, sample=None, seed=0, threads=1)
    np.testing.assert_array_equal(rows, np.flatnonzero(known))
    expected = silhouette_samples(radians(points)[known], labels[known], metric="haversine")
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    with pytest.raises(ValueError, match="two clusters or more, there are 1"):
        _core.silhouette(*points, np.minimum(labels, 0), sample=None, seed=0, threads=1)


# Errors


def test_what_is_not_on_the_globe_is_named() -> None:
    fine, bad = [0.0, 1.0, 2.0], [0.0, np.nan, 90.5]
    for call in (
        lambda: geo.nearest(bad, fine, k=1),
        lambda: geo.within(bad, fine, radius_km=1),
        lambda: geo.link(bad, fine, radius_km=1),
    ):
        with pytest.raises(UsageError, match=r"^point 1: \(lat NaN, lon 1\) is not on the globe$"):
            call()
    with pytest.raises(UsageError, match="query 1"):
        geo.nearest(fine, fine, bad, fine, k=1)
    with pytest.raises(UsageError, match="point b 2"):
        geo.distance_km(fine, fine, [0, 1, -91], fine)
    with pytest.raises(UsageError, match="point 0"):
        geo.link([0], [np.inf], radius_km=1)


def test_wrong_arguments_are_named() -> None:
    column = np.zeros(3)
    for k in (0, 4, -1):
        with pytest.raises(UsageError, match=f"k = {k}: it must be from 1 to the number of points, 3"):
            geo.nearest(column, column, k=k)
    for radius in (-1.0, np.nan):
        with pytest.raises(UsageError, match="it must be 0 or more"):
            geo.within(column, column, radius_km=radius)
    with pytest.raises(UsageError, match="3 latitudes and 2 longitudes"):
        geo.link(column, column[:2], radius_km=1)
    with pytest.raises(UsageError, match="one dimension"):
        geo.link([[0.0]], [[0.0]], radius_km=1)
    with pytest.raises(UsageError, match="both query_lat and query_lon"):
        geo.within(column, column, column, radius_km=1)
    with pytest.raises(ValueError, match="weight 1: -1"):
        dbscan((column, column), weights=np.array([1.0, -1.0, 1.0]))


def test_no_points_have_no_neighbours() -> None:
    assert geo.link([], [], radius_km=1).shape == (0,)
    assert geo.distance_km([], [], [], []).shape == (0,)
    assert geo.within([], [], [1.0], [2.0], radius_km=1).offsets.tolist() == [0, 0]
    assert geo.nearest([1.0], [2.0], [], [], k=1).rows.shape == (0, 1)
    assert dbscan((np.zeros(0), np.zeros(0))).shape == (0,)
