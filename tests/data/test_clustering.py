"""Clusters of an index by every method: what is kept, what new points get, and what the clusters tell of classes."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_images import index_of
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.metrics.pairwise import haversine_distances

from geossl.cli import main
from geossl.data.cluster_report import describe_clusters
from geossl.data.clustering import cluster_places
from geossl.data.clusters import Clusters
from geossl.data.coordinates import place_coordinates, unit_vectors
from geossl.data.index import Index
from geossl.errors import UsageError

METHODS = {
    "kmeans": {"k": 12},
    "minibatch": {"k": 12, "batch": 64},
    "balanced": {"k": 12, "max_size": 30},
    "dbscan": {"radius_km": 400, "min_places": 4},
    "h3": {"resolution": 1, "min_places": 3},
}


def make_index(folder: Path, places: int = 300, seed: int = 0, **columns: list) -> Index:
    """Places in 20 heaps over the globe, of one to three images each."""
    rng = np.random.default_rng(seed)
    centres = np.stack([np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, 20))), rng.uniform(-180, 180, 20)], 1)
    spots = centres[rng.integers(20, size=places)] + rng.normal(0, 3, (places, 2))
    of = np.repeat(np.arange(places), rng.integers(1, 4, places))
    rng.shuffle(of)
    lat, lon = np.clip(spots[of, 0], -90, 90), (spots[of, 1] + 180) % 360 - 180
    columns = {"lat": lat.tolist(), "lon": lon.tolist()} | columns
    return index_of(folder, [f"{i}.jpg" for i in range(len(of))], [f"p{i}" for i in of], **columns)


def random_points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(np.unique(np.stack([a, b]), axis=1).T) == len(np.unique(a)) == len(np.unique(b))


@pytest.mark.parametrize("method", METHODS)
def test_a_file_gives_back_what_was_found(tmp_path: Path, method: str) -> None:
    index = make_index(tmp_path)
    found = cluster_places(index, method=method, **METHODS[method])
    sizes = np.bincount(found.place_labels()[found.place_labels() >= 0], minlength=found.k)
    assert sizes.min() > 0
    found.write(tmp_path / "c.parquet")
    read = Clusters.read(tmp_path / "c.parquet")
    assert (read.method, read.settings, read.inertia) == (method, found.settings, found.inertia)
    assert read.settings.items() >= METHODS[method].items() - {("k", 12)}
    np.testing.assert_array_equal(read.centroids, found.centroids)
    assert read.places.equals(found.places)
    np.testing.assert_array_equal(read.labels(index), found.labels(index))
    # A place stands where the mean of its images does, and its images share its cluster.
    lat, lon, _ = place_coordinates(index)
    np.testing.assert_array_equal(found.places["lat"].to_numpy(), lat)
    np.testing.assert_array_equal(found.labels(index), found.place_labels()[index.places])
    inside = found.place_labels() >= 0
    chord = unit_vectors(lat, lon)[inside] - unit_vectors(*found.centroids.T)[found.place_labels()[inside]]
    assert found.inertia == pytest.approx((chord**2).sum(), rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_seeds(tmp_path: Path, method: str) -> None:
    index = make_index(tmp_path)
    one, two = (cluster_places(index, method=method, threads=n, **METHODS[method]) for n in (1, 2))
    assert one.places.equals(two.places)
    np.testing.assert_array_equal(one.centroids, two.centroids)


@pytest.mark.parametrize("method", ["kmeans", "minibatch", "balanced"])
def test_a_new_point_has_its_nearest_centroid(tmp_path: Path, method: str) -> None:
    found = cluster_places(make_index(tmp_path), method=method, **METHODS[method])
    lat, lon = random_points(500, 1)
    lat[3], lon[5] = np.nan, np.inf
    known = np.isfinite(lat) & np.isfinite(lon)
    km = haversine_distances(np.radians(np.stack([lat, lon], 1)[known]), np.radians(found.centroids))
    labels = found.assign(lat, lon)
    np.testing.assert_array_equal(labels[known], km.argmin(1))
    assert labels[3] == labels[5] == -1


def test_balanced_clusters_are_no_larger_than_asked(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    sizes = np.bincount(cluster_places(index, method="balanced", k=12, max_size=30).place_labels())
    assert sizes.max() <= 30
    assert np.bincount(cluster_places(index, method="balanced", k=12).place_labels()).tolist() == [25] * 12


def test_dbscan_is_scikit_learns_and_places_points_by_its_rule(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    radius, least = 400, 4
    found = cluster_places(index, method="dbscan", radius_km=radius, min_places=least)
    points = np.radians(np.stack([found.places["lat"], found.places["lon"]], 1))
    theirs = DBSCAN(eps=radius / 6371.0088, min_samples=least, metric="haversine", algorithm="ball_tree").fit(points)
    assert found.noise == (theirs.labels_ < 0).sum() > 0
    assert same_partition(found.place_labels(), theirs.labels_)
    # The places themselves get what they have, noise and borders among them.
    places = found.places["lat"].to_numpy(), found.places["lon"].to_numpy()
    np.testing.assert_array_equal(found.assign(*places), found.place_labels())
    lat, lon = random_points(2000, 2)
    core = theirs.core_sample_indices_
    near = haversine_distances(np.radians(np.stack([lat, lon], 1)), points[core]) * 6371.0088 <= radius
    expected = np.where(near, found.place_labels()[core], found.k).min(1)
    np.testing.assert_array_equal(found.assign(lat, lon), np.where(expected == found.k, -1, expected))


def test_dbscan_by_images_counts_images(tmp_path: Path) -> None:
    index = index_of(
        tmp_path, ["a", "b", "c", "d"], ["x", "x", "x", "y"], lat=[10.0, 10.0, 10.0, 40.0], lon=[0.0, 0.0, 0.0, 0.0]
    )
    found = cluster_places(index, method="dbscan", radius_km=10, min_places=3, weights="images")
    assert found.places["weight"].to_pylist() == [3, 1]
    assert found.place_labels().tolist() == [0, -1]
    assert found.assign(np.array([10.01, 40.0]), np.zeros(2)).tolist() == [0, -1]
    with pytest.raises(UsageError, match=r"no place has 3 within 10 km.*more --radius-km or less --min-places"):
        cluster_places(index, method="dbscan", radius_km=10, min_places=3)


def test_h3_gives_the_points_of_a_cell_its_cluster(tmp_path: Path) -> None:
    h3 = pytest.importorskip("h3", reason="parity with the H3 library needs it")
    found = cluster_places(make_index(tmp_path), method="h3", resolution=1, min_places=3)
    lat, lon = found.places["lat"].to_numpy(), found.places["lon"].to_numpy()
    labels = found.place_labels()
    cells = np.array([h3.latlng_to_cell(a, b, 1) for a, b in zip(lat, lon, strict=True)])
    kept = [cell for cell in np.unique(cells) if (cells == cell).sum() >= 3]
    assert 1 < len(kept) == found.k < len(np.unique(cells))
    assert all(len(np.unique(labels[cells == cell])) == 1 for cell in np.unique(cells))
    np.testing.assert_array_equal(found.assign(lat, lon), labels)
    # A little further in the same cell; and in a cell without places, the nearest centroid's.
    moved = found.assign(lat + 1e-4, lon)
    same = cells == [h3.latlng_to_cell(a + 1e-4, b, 1) for a, b in zip(lat, lon, strict=True)]
    np.testing.assert_array_equal(moved[same], labels[same])
    a, b = random_points(200, 3)
    new = ~np.isin([h3.latlng_to_cell(x, y, 1) for x, y in zip(a, b, strict=True)], cells)
    km = haversine_distances(np.radians(np.stack([a, b], 1)), np.radians(found.centroids))
    np.testing.assert_array_equal(found.assign(a, b)[new], km.argmin(1)[new])


@pytest.mark.parametrize("method", ["kmeans", "balanced"])
def test_levels_nest_and_are_k_means_of_whole_clusters(tmp_path: Path, method: str) -> None:
    index = make_index(tmp_path)
    weights = "images" if method == "kmeans" else "places"
    found = cluster_places(index, method=method, k=(40, 4, 12), weights=weights)
    assert [len(level) for level in found.levels] == [4, 12, 40]
    assert found.places.column_names[-3:] == ["cluster", "cluster_4", "cluster_12"]
    finest = found.place_labels()
    vectors = unit_vectors(found.places["lat"].to_numpy(), found.places["lon"].to_numpy())
    weight = found.places["weight"].to_numpy()
    assert weight.sum() == (len(index) if method == "kmeans" else len(weight))
    for level, centroids in enumerate(found.levels):
        labels = found.place_labels(level)
        assert set(labels) == set(range(len(centroids)))
        assert len(np.unique(np.stack([finest, labels]), axis=1).T) == 40, "a finest cluster lies in one of the level"
        means = np.stack([(vectors * weight[:, None])[labels == c].sum(0) for c in range(len(centroids))])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(unit_vectors(*centroids.T), means, atol=1e-7 if method == "kmeans" else 1e-3)
        lat, lon = random_points(100, 4)
        np.testing.assert_array_equal(found.assign(lat, lon, level=level), found.parents(level)[found.assign(lat, lon)])
        np.testing.assert_array_equal(found.labels(index, level=level), labels[index.places])
    one = cluster_places(index, method=method, k=40, weights=weights)
    np.testing.assert_array_equal(one.place_labels(), finest)
    found.write(tmp_path / "c.parquet")
    read = Clusters.read(tmp_path / "c.parquet")
    np.testing.assert_array_equal(read.place_labels(0), found.place_labels(0))
    np.testing.assert_array_equal(read.levels[1], found.levels[1])


def test_weights_by_images_pull_the_centroid(tmp_path: Path) -> None:
    index = index_of(tmp_path, list("abcd"), ["x", "x", "x", "y"], lat=[0.0] * 4, lon=[0.0, 0.0, 0.0, 40.0])
    by_place, by_image = (cluster_places(index, k=1, weights=w) for w in ("places", "images"))
    assert by_place.centroids[0, 1] == pytest.approx(20)
    angle = np.radians(40)
    assert by_image.centroids[0, 1] == pytest.approx(np.degrees(np.arctan2(np.sin(angle), 3 + np.cos(angle))))


def test_the_class_table_against_counting_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    images = len(make_index(tmp_path))
    categories = [None if rng.uniform() < 0.1 else f"class {rng.integers(4)}" for _ in range(images)]
    index = make_index(tmp_path, category=categories)
    found = cluster_places(index, k=60)
    table = describe_clusters(found, index).classes
    # A place's class is that of most of its images.
    of_place = {}
    for place, category in sorted(zip(index.places.tolist(), categories, strict=True), key=str):
        of_place.setdefault(place, []).append(category)
    classes = {
        place: max(sorted({c for c in seen if c}), key=seen.count)
        for place, seen in of_place.items()
        if any(c is not None for c in seen)
    }
    cluster = dict(enumerate(found.place_labels().tolist()))
    known = sorted(classes)
    everywhere = [classes[p] for p in known]
    ranked = sorted(set(everywhere), key=lambda c: (-everywhere.count(c), c))
    in_cluster = {c: [classes[p] for p in known if cluster[p] == c] for c in {cluster[p] for p in known}}
    assert table.places == len(known)
    assert table.overall == pytest.approx(everywhere.count(ranked[0]) / len(known))
    majority = sum(max(map(seen.count, set(seen))) for seen in in_cluster.values())
    assert table.majority == pytest.approx(majority / len(known))
    right = 0
    for place in known:
        others = list(in_cluster[cluster[place]])
        others.remove(classes[place])
        right += max(ranked, key=others.count) == classes[place]  # the first of equals, by how frequent it is at all
    assert table.others == pytest.approx(right / len(known))
    labels = [cluster[p] for p in known]
    assert table.mutual == pytest.approx(adjusted_mutual_info_score(everywhere, labels))
    bits = {
        c: sum(
            seen.count(k) / len(known) * np.log2(seen.count(k) / len(seen) / (everywhere.count(k) / len(known)))
            for k in set(seen)
        )
        for c, seen in in_cluster.items()
    }
    assert [one.bits for one in table.telling] == pytest.approx(sorted(bits.values(), reverse=True)[:5])
    for one in table.telling:
        seen = in_cluster[one.cluster]
        assert one.bits == pytest.approx(bits[one.cluster])
        assert (one.places, one.share) == (len(seen), seen.count(one.category) / len(seen))
        assert seen.count(one.category) == max(map(seen.count, set(seen)))
        assert one.overall == pytest.approx(everywhere.count(one.category) / len(known))


def test_clusters_that_are_the_classes_tell_everything(tmp_path: Path) -> None:
    n = 40
    lat, lon = [[-50.0, 50.0][i % 2] + i / 100 for i in range(n)], [float(i % 2) * 90 for i in range(n)]
    category = [["desert", "forest"][i % 2] for i in range(n)]
    index = index_of(
        tmp_path, [str(i) for i in range(n)], [str(i) for i in range(n)], lat=lat, lon=lon, category=category
    )
    report = describe_clusters(cluster_places(index, k=2), index)
    table = report.classes
    assert (table.overall, table.majority, table.others, table.mutual) == pytest.approx((0.5, 1, 1, 1))
    assert report.silhouette > 0.95
    text = "\n".join(report.lines())
    assert "2 clusters of 40 places: 20 to 20 places a cluster (median 20)" in text
    assert "right by the most frequent class 50.0%, by that of the cluster 100.0%" in text
    unlabelled = index_of(tmp_path, ["a", "b"], ["a", "b"], lat=[1.0, 2.0], lon=[1.0, 2.0])
    assert describe_clusters(cluster_places(unlabelled, k=1), unlabelled).classes is None


def test_the_silhouette_is_scikit_learns(tmp_path: Path) -> None:
    from sklearn.metrics import silhouette_score

    index = make_index(tmp_path)
    found = cluster_places(index, k=15)
    points = np.radians(np.stack([found.places["lat"], found.places["lon"]], 1))
    expected = silhouette_score(points, found.place_labels(), metric="haversine")
    assert describe_clusters(found, index).silhouette == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kmeans"}, "--method kmeans: needs -k"),
        ({"method": "dbscan"}, "--method dbscan: needs --radius-km"),
        ({"method": "h3"}, "--method h3: needs --resolution"),
        (
            {"method": "dbscan", "radius_km": 10, "k": 3},
            "-k: is for --method kmeans or minibatch or balanced, not dbscan",
        ),
        ({"k": 3, "radius_km": 10.0}, "--radius-km: is for --method dbscan, not kmeans"),
        ({"k": 3, "min_places": 2}, "--min-places: is for --method dbscan or h3, not kmeans"),
        ({"k": (3, 3)}, "-k 3,3: the levels must have different numbers"),
        ({"method": "dbscan", "radius_km": 0.0}, "--radius-km 0: must be above 0"),
        ({"method": "dbscan", "radius_km": 1.0, "min_places": 0}, "--min-places 0: must be at least 1"),
        ({"method": "h3", "resolution": 16}, "--resolution 16: must be from 0 to 15"),
        ({"method": "h3", "resolution": 1, "min_places": 500}, "no cell of resolution 1 has min_points = 500"),
        (
            {"method": "balanced", "k": 10, "max_size": 2},
            "max_size = 2: 10 clusters of that size do not hold 300 points",
        ),
        ({"method": "balanced", "k": 3, "weights": "images"}, "--weights images: not for --method balanced"),
        ({"method": "minibatch", "k": 30, "batch": 20}, "--batch 20: must be at least -k 30"),
        ({"k": (0, 3)}, "-k 0: must be at least 1"),
        ({"k": 3, "n_init": 0}, "--n-init 0: must be at least 1"),
        ({"k": 301}, "k = 301: the 300 points have 300 distinct coordinates"),
    ],
)
def test_impossible_options_are_named(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as e:
        cluster_places(make_index(tmp_path), **options)
    assert "\n" not in str(e.value)


def test_an_empty_cluster_is_refused(tmp_path: Path) -> None:
    found = cluster_places(make_index(tmp_path), k=4)
    with pytest.raises(ValueError, match="not every one of 5 clusters has a place"):
        Clusters(**{**vars(found), "levels": (np.zeros((5, 2)),)})
    found.write(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    pq.write_table(table.slice(0, 3), tmp_path / "short.parquet")
    with pytest.raises(UsageError, match="not a clusters file"):
        Clusters.read(tmp_path / "short.parquet")
    old = table.replace_schema_metadata({"geossl.clusters": '{"format": 1}'})
    pq.write_table(old, tmp_path / "old.parquet")
    with pytest.raises(UsageError, match="clusters of format 1, this version reads 2; make them again"):
        Clusters.read(tmp_path / "old.parquet")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-k", "3,8"], ["kmeans: 8 clusters of 60 places", "  level of 3 clusters: ", "--geo.target hierarchy"]),
        (["--method", "h3", "--resolution", "0"], ["h3: ", "what the cluster tells of the class ("]),
        (
            ["--method", "dbscan", "--radius-km", "1500", "--min-places", "4", "--threads", "1"],
            ["dbscan: ", "in none (noise)", "adjusted mutual information", "the clusters that tell most"],
        ),
        (["--method", "balanced", "-k", "6"], ["balanced: 6 clusters of 60 places: 10 to 10 places a cluster"]),
    ],
)
def test_the_command_tells_what_it_found(
    planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: list[str]
) -> None:
    out = tmp_path / "c.parquet"
    assert main(["data", "cluster", str(planet), "-o", str(out), *options]) == 0
    text = capsys.readouterr().out
    for words in said:
        assert words in text, text
    assert f"-> {out}" in text
    Clusters.read(out)


def test_the_command_refuses_words_for_numbers(planet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cluster", str(planet), "-k", "many"]) == 2
    assert "-k many: a number of clusters, or several with commas between" in capsys.readouterr().err
