"""k-means on the sphere beside scikit-learn and faiss: the same points, start and number of iterations."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from sklearn.cluster import KMeans

from geography_report import Comparison
from geography_work import cities, timed
from geossl import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_TIE = 1e-12
"""Squared chords that differ by less tie, in f64."""


def comparisons(quick: bool) -> Iterator[Comparison]:
    """k-means of the cities; of ten million points around them too if not `quick`."""
    lat, lon = cities()
    for k, target in ((100, 4.0), (1000, 5.0)):
        yield _cities_beside_peers(lat, lon, k, target, iterations=20, repetitions=3 if quick else 5)
    if not quick:
        yield _ten_million(lat, lon, k=1000, iterations=20, target=4.0)


def _unit(lat: Floats, lon: Floats) -> Floats:
    lat, lon = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _start(lat: Floats, lon: Floats, k: int) -> Floats:
    """Degrees of the same start for all: means after one iteration, so that none is without points or midway to tie."""
    found = _core.kmeans(lat, lon, k=k, seed=0, n_init=1, max_iter=1, threads=0)
    start: Floats = found["centroids"]
    return start


def _ours(lat: Floats, lon: Floats, start: Floats, iterations: int) -> dict[str, Any]:
    return _core.kmeans(lat, lon, k=len(start), start=start, seed=0, n_init=1, max_iter=iterations, threads=0)


def _scikit_learn(points: Floats, start: Floats, iterations: int, algorithm: str) -> Floats:
    # Without a tolerance it goes on for all iterations, as the others do.
    learner = KMeans(len(start), init=start, n_init=1, max_iter=iterations, tol=0, algorithm=algorithm)
    centres: Floats = learner.fit(points).cluster_centers_
    return centres


def _faiss(points: NDArray[np.float32], start: Floats, iterations: int) -> Any:
    """The run, all points in each iteration; it takes float32 and normalises the centroids as we do."""
    learner = faiss.Kmeans(
        3,
        len(start),
        niter=iterations,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
        seed=0,
    )
    learner.train(points, init_centroids=start.astype(np.float32))
    return learner


def _cities_beside_peers(
    lat: Floats, lon: Floats, k: int, target: float, *, iterations: int, repetitions: int
) -> Comparison:
    points, start = _unit(lat, lon), _start(lat, lon, k)
    single, at = points.astype(np.float32), _unit(*start.T)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: _ours(lat, lon, start, iterations),
        f"scikit-learn {version('scikit-learn')} KMeans (lloyd)": lambda: _scikit_learn(
            points, at, iterations, "lloyd"
        ),
        f"scikit-learn {version('scikit-learn')} KMeans (elkan)": lambda: _scikit_learn(
            points, at, iterations, "elkan"
        ),
        f"faiss {version('faiss-cpu')} Kmeans (spherical)": lambda: _faiss(single, at, iterations),
    }
    secs: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            secs[name].append(timed(work)[0])
    ours = secs.pop("ours")
    peer = min(secs, key=lambda name: float(np.median(secs[name])))
    same, agrees = _same_as_scikit_learn(lat, lon, start, iterations)
    return Comparison(
        what=f"k-means, {len(lat):,} cities, K = {k}, {iterations} iterations",
        peer=peer,
        ours=ours,
        theirs=secs[peer],
        target=target,
        same=same,
        agrees=agrees,
    )


def _same_as_scikit_learn(lat: Floats, lon: Floats, start: Floats, iterations: int) -> tuple[str, bool]:
    """Labels and inertia beside scikit-learn's Lloyd, an iteration at a time, its means normalised in between."""
    points, centres = _unit(lat, lon), _unit(*start.T)
    for _ in range(iterations):
        centres = _scikit_learn(points, centres, 1, "lloyd")
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    learner = KMeans(len(start), init=centres, n_init=1, max_iter=1).fit(centres)
    learner.cluster_centers_ = centres
    theirs = learner.predict(points)
    found = _ours(lat, lon, start, iterations)

    def chords(labels: NDArray[np.int64]) -> Floats:
        squares: Floats = ((points - centres[labels]) ** 2).sum(axis=1)
        return squares

    other = np.flatnonzero(found["labels"] != theirs)
    apart = np.abs(chords(found["labels"])[other] - chords(theirs)[other])
    ties = int((apart < _TIE).sum())
    inertia = float(chords(theirs).sum())
    off = abs(found["inertia"] / inertia - 1)
    same = (
        f"beside scikit-learn's lloyd with its means normalised after each iteration: {len(other)} labels differ, "
        f"{ties} of them ties; inertia apart by {off:.0e}"
    )
    return same, ties == len(other) and off < 1e-9


def _ten_million(lat: Floats, lon: Floats, *, k: int, iterations: int, target: float) -> Comparison:
    """Ten million points within some kilometres of the cities."""
    count = 10_000_000
    rng = np.random.default_rng(1)
    city = rng.integers(len(lat), size=count)
    lat = np.clip(lat[city] + rng.normal(0, 0.1, count), -90, 90)
    lon = lon[city] + rng.normal(0, 0.1, count)
    single, start = _unit(lat, lon).astype(np.float32), _start(lat[:100_000], lon[:100_000], k)
    our_secs, found = timed(lambda: _ours(lat, lon, start, iterations))
    their_secs, learner = timed(lambda: _faiss(single, _unit(*start.T), iterations))
    centres = learner.centroids.astype(np.float64)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    # Exact labels for its centroids, then the same measure for both.
    degrees = np.degrees(np.stack([np.arcsin(centres[:, 2]), np.arctan2(centres[:, 1], centres[:, 0])], axis=1))
    theirs = _core.assign_clusters(lat, lon, degrees, threads=0)
    inertia = sum(
        float(((_unit(lat[i : i + k * k], lon[i : i + k * k]) - centres[theirs[i : i + k * k]]) ** 2).sum())
        for i in range(0, count, k * k)
    )
    return Comparison(
        what=f"k-means, 10 million points around cities, K = {k}, {iterations} iterations",
        peer=f"faiss {version('faiss-cpu')} Kmeans (spherical, no subsampling)",
        ours=[our_secs],
        theirs=[their_secs],
        target=target,
        same=f"our inertia is {found['inertia'] / inertia:.9f} of faiss's (its centroids with exact labels)",
        agrees=found["inertia"] <= inertia * (1 + 1e-6),
    )
