"""Clustering against scikit-learn and the formulas."""

from pathlib import Path

import numpy as np
import pytest
from globe_points import globe, unit
from made_images import index_of
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import haversine_distances

from geossl import _core
from geossl.data.clustering import cluster_places
from geossl.data.clusters import Clusters, default_path
from geossl.data.index import Index
from geossl.errors import UsageError


def kmeans(lat: np.ndarray, lon: np.ndarray, **over: int) -> dict:
    return _core.kmeans(lat, lon, **({"k": 20, "seed": 0, "n_init": 1, "max_iter": 300, "threads": 0} | over))


def test_each_point_has_its_nearest_centroid_by_great_circle() -> None:
    lat, lon = globe(3000, 2)
    found = kmeans(lat, lon)
    distance = haversine_distances(np.radians(np.stack([lat, lon], 1)), np.radians(found["centroids"]))
    assert found["converged"]
    np.testing.assert_array_equal(found["labels"], distance.argmin(axis=1))
    np.testing.assert_array_equal(_core.assign_clusters(lat, lon, found["centroids"], threads=2), found["labels"])


def test_centroids_are_normalised_means_and_inertia_is_the_squared_chord() -> None:
    lat, lon = globe(3000, 3)
    found = kmeans(lat, lon)
    points, centroids = unit(lat, lon), unit(*found["centroids"].T)
    means = np.stack([points[found["labels"] == c].mean(axis=0) for c in range(20)])
    np.testing.assert_allclose(centroids, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-9)
    assert found["inertia"] == pytest.approx(((points - centroids[found["labels"]]) ** 2).sum(), rel=1e-9)


def test_cost_is_as_low_as_scikit_learns() -> None:
    lat, lon = globe(4000, 4)
    points = unit(lat, lon)
    theirs = KMeans(20, n_init=4, random_state=0).fit(points)
    centroids = theirs.cluster_centers_ / np.linalg.norm(theirs.cluster_centers_, axis=1, keepdims=True)
    cost = (2 - 2 * (points @ centroids.T).max(axis=1)).sum()
    assert kmeans(lat, lon, n_init=4)["inertia"] < 1.01 * cost


def test_turning_the_globe_does_not_change_a_clear_clustering() -> None:
    rng = np.random.default_rng(5)
    centres = [(0, 0), (60, 90), (-60, -90), (0, 179), (80, 10)]
    lat = np.concatenate([c[0] + rng.normal(0, 1, 30) for c in centres])
    lon = np.concatenate([c[1] + rng.normal(0, 1, 30) for c in centres])
    first = kmeans(lat, lon, k=5, n_init=5)["labels"]
    turned = kmeans(lat, (lon + 77 + 180) % 360 - 180, k=5, n_init=5)["labels"]
    same = lambda labels: labels[:, None] == labels[None]  # noqa: E731
    np.testing.assert_array_equal(same(first), same(turned))


def make_index(folder: Path, lat: list[float | None], lon: list[float | None], place: list[str | None]) -> Index:
    paths = [f"{i}.jpg" for i in range(len(lat))]
    return index_of(folder, paths, place, lat=lat, lon=lon)


def test_labels_of_rows_follow_their_place(tmp_path: Path) -> None:
    index = make_index(
        tmp_path,
        lat=[10.0, 10.2, -40.0, None, 10.1, None],
        lon=[179.9, -179.9, 20.0, None, 180.0, None],
        place=["a", "a", "b", "c", None, "a"],
    )
    found = cluster_places(index, k=2)
    assert found.places["location_id"].to_pylist() == ["a", "b", "4.jpg"]
    # The mean of the two sides of the antimeridian lies on it, not at Greenwich.
    assert abs(found.places["lon"][0].as_py()) == pytest.approx(180)
    found.write(tmp_path / "c.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["c.parquet"]
    labels = Clusters.read(tmp_path / "c.parquet").labels(index)
    a, b = labels[0], labels[2]
    assert a != b
    assert labels.tolist() == [a, a, b, -1, a, a]


def test_wrong_input_is_named(tmp_path: Path) -> None:
    index = make_index(tmp_path, [1.0, 1.0, 3.0], [2.0, 2.0, 4.0], ["a", "b", "c"])
    with pytest.raises(UsageError, match="k = 3: the 3 points have 2 distinct coordinates; k must be from 1 to 2"):
        cluster_places(index, k=3)
    with pytest.raises(UsageError, match="no image has coordinates"):
        cluster_places(make_index(tmp_path, [None], [None], ["a"]), k=1)
    found = cluster_places(index, k=2)
    other = Index(table=index.table, root=tmp_path, content_hash="9999", source=Path("other.parquet"))
    with pytest.raises(UsageError, match=r"another index than other.parquet: run `geossl data cluster other.parquet`"):
        found.labels(other)
    with pytest.raises(UsageError, match="no such clusters file"):
        Clusters.read(default_path(tmp_path / "x.parquet"))
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(UsageError, match="not a clusters file"):
        Clusters.read(tmp_path / "bad.parquet")
