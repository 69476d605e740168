"""k-means beside scikit-learn and a plain Lloyd in numpy."""

from typing import Any

import numpy as np
import pytest
from globe_points import globe, unit
from sklearn.cluster import KMeans

from geossl import _core


def kmeans(lat: np.ndarray, lon: np.ndarray, **over: Any) -> dict[str, Any]:
    return _core.kmeans(lat, lon, **({"seed": 0, "n_init": 1, "max_iter": 300, "threads": 0} | over))


def given(lat: np.ndarray, lon: np.ndarray, k: int) -> np.ndarray:
    return np.stack([lat[:k], lon[:k]], axis=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn_with_normalised_means(weighted: bool) -> None:
    lat, lon = globe(5000, 1)
    weights = np.random.default_rng(2).integers(0, 9, 5000).astype(np.float64) if weighted else None
    points, centres = unit(lat, lon), unit(lat[:50], lon[:50])
    for _ in range(12):
        centres = (
            KMeans(50, init=centres, n_init=1, max_iter=1, tol=0).fit(points, sample_weight=weights).cluster_centers_
        )
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    learner = KMeans(50, init=centres, n_init=1, max_iter=1).fit(centres)
    learner.cluster_centers_ = centres
    labels = learner.predict(points)
    found = kmeans(lat, lon, k=50, start=given(lat, lon, 50), weights=weights, max_iter=12)
    np.testing.assert_array_equal(found["labels"], labels)
    np.testing.assert_allclose(unit(*found["centroids"].T), centres, atol=1e-12)
    inertia = ((points - centres[labels]) ** 2).sum(axis=1) @ (np.ones(5000) if weights is None else weights)
    assert found["inertia"] == pytest.approx(inertia, rel=1e-12)
    assert found["iterations"] == 12


def test_a_weight_counts_as_so_many_points() -> None:
    lat, lon = globe(400, 3)
    weights = np.random.default_rng(4).integers(1, 5, 400)
    start = given(lat, lon, 9)
    one = kmeans(lat, lon, k=9, start=start, weights=weights.astype(np.float64))
    many = kmeans(np.repeat(lat, weights), np.repeat(lon, weights), k=9, start=start)
    np.testing.assert_array_equal(np.repeat(one["labels"], weights), many["labels"])
    assert one["inertia"] == pytest.approx(many["inertia"], rel=1e-12)


def test_seeding_is_as_good_as_scikit_learns() -> None:
    lat, lon = globe(4000, 5)
    lat[:3000] = lat[:3000] / 10 + 40
    lon[:3000] /= 10
    theirs = np.mean([KMeans(60, n_init=1, random_state=seed).fit(unit(lat, lon)).inertia_ for seed in range(8)])
    ours = np.mean([kmeans(lat, lon, k=60, seed=seed)["inertia"] for seed in range(8)])
    assert ours < 1.05 * theirs


def test_labels_are_the_nearest_of_the_returned_centroids() -> None:
    lat, lon = globe(3000, 6)
    for max_iter in (1, 300):
        found = kmeans(lat, lon, k=200, max_iter=max_iter)
        assert len(np.unique(found["labels"])) == 200
        nearest = (unit(lat, lon) @ unit(*found["centroids"].T).T).argmax(axis=1)
        np.testing.assert_array_equal(found["labels"], nearest)
        np.testing.assert_array_equal(_core.assign_clusters(lat, lon, found["centroids"], threads=1), nearest)


@pytest.mark.parametrize("max_size", [100, 130, 5000])
def test_balanced_clusters_hold_the_cap_at_little_cost(max_size: int) -> None:
    lat, lon = globe(3000, 7)
    plain, found = kmeans(lat, lon, k=30), kmeans(lat, lon, k=30, max_size=max_size)
    sizes = np.bincount(found["labels"], minlength=30)
    assert sizes.min() >= 1
    assert sizes.max() <= max_size
    assert found["inertia"] < 1.1 * plain["inertia"]
    points, centres = unit(lat, lon), unit(*found["centroids"].T)
    assert found["inertia"] == pytest.approx(((points - centres[found["labels"]]) ** 2).sum(), rel=1e-9)


def test_mini_batches_learn_the_running_mean() -> None:
    lat, lon = globe(6000, 8)
    learner = _core.MiniBatchKMeans(k=5, seed=0, threads=0)
    assert learner.centroids.shape == (0, 2)
    learner.partial_fit(lat[:500], lon[:500])
    sums = None
    centres = unit(*learner.centroids.T)
    # From the second part on each centroid follows from the first one's sums, which are parallel to it.
    labels = (unit(lat[500:1000], lon[500:1000]) @ centres.T).argmax(axis=1)
    sums = np.stack([unit(lat[500:1000], lon[500:1000])[labels == c].sum(axis=0) for c in range(5)])
    learner.partial_fit(lat[500:1000], lon[500:1000], weights=np.full(500, 1e9))
    heavy = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(unit(*learner.centroids.T), heavy, atol=1e-5)


def test_wrong_input_is_named() -> None:
    lat, lon = globe(10, 9)
    for words, over in {
        "start has 2 centroids, k is 3": {"start": given(lat, lon, 2)},
        r"centroids have 2 columns \(lat, lon\), not 3": {"start": np.zeros((3, 3))},
        "a centroid at .* is not on the globe": {"start": np.full((3, 2), 91.0)},
        "2 weights for 10 points": {"weights": np.ones(2)},
        "it must be at least 4": {"max_size": 3},
        "max_size counts points": {"max_size": 4, "weights": np.ones(10)},
    }.items():
        with pytest.raises(ValueError, match=words):
            kmeans(lat, lon, k=3, **over)
    with pytest.raises(ValueError, match="k = 4: the 3 points have 3 distinct"):
        _core.MiniBatchKMeans(k=4, seed=0, threads=1).partial_fit(lat[:3], lon[:3])
