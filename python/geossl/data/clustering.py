"""Finds clusters of an index's places: k-means in three forms, DBSCAN, and the cells of H3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from geossl import _core
from geossl.data.clusters import Clusters, places_table
from geossl.data.coordinates import lat_lon, place_coordinates, place_names, sum_by, unit_vectors
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geossl.data.clusters import Method
    from geossl.data.index import Index

_Level = tuple[np.ndarray, np.ndarray]
"""Labels of the places, int64 [P], and centroids, float64 [K, 2] degrees."""
BATCH = 10_000
"""Places that mini-batch k-means looks at in a step, where nothing is said."""
_OPTIONS = {
    "kmeans": {"k"},
    "minibatch": {"k", "batch"},
    "balanced": {"k", "max_size"},
    "dbscan": {"radius_km", "min_places"},
    "h3": {"resolution", "min_places"},
}
"""What each method is told; the others' options are refused."""
_NEEDED = {"k": "-k", "radius_km": "--radius-km", "resolution": "--resolution"}


def cluster_places(
    index: Index,
    *,
    method: Method = "kmeans",
    k: int | Sequence[int] | None = None,
    max_size: int | None = None,
    batch: int | None = None,
    radius_km: float | None = None,
    min_places: int | None = None,
    resolution: int | None = None,
    weights: Literal["places", "images"] = "places",
    seed: int = 0,
    n_init: int = 4,
    max_iter: int = 300,
    threads: int = 0,
) -> Clusters:
    """Cluster the index's places; a place stands where the mean of its images does.

    Several `k` give levels that nest. The finest is found as one level is; the clusters of each coarser one are
    groups of finest clusters, found by k-means of their centroids, each with the length of its places' vector sum as
    its weight. With that weight it is k-means of the places themselves, but that a finest cluster is not cut in two.

    The result is the same for any number of threads. Places without coordinates are left out.

    Args:
        index: whose places.
        method: `kmeans`, spherical k-means: great-circle assignment, normalised-mean centroids, k-means++; `minibatch`,
            the same from samples, for what is too much for that; `balanced`, k-means with no cluster above `max_size`;
            `dbscan`, groups of any shape and number, dense enough; `h3`, the cells of the H3 grid.
        k: number of clusters, or of each level in any order, for the three forms of k-means.
        max_size: balanced: most places of a cluster; by default places / k, rounded up.
        batch: minibatch: places of a step, by default `BATCH`; the last of a round of all places may have fewer.
        radius_km: dbscan: how near neighbours are.
        min_places: dbscan: neighbours, itself among them, that make a place a cluster's core, 5 by default; h3: least
            places of a cell, else it is merged into the one with the nearest centre, 1 by default.
        resolution: h3: 0 (1,300 km across) to 15 (1 m).
        weights: whether each place counts once, or as often as it has images (not balanced, whose sizes are places).
        seed: seed of the forms of k-means.
        n_init: kmeans, balanced: runs from different starts, of which the best is kept.
        max_iter: kmeans, balanced: most iterations of a run; minibatch: steps.
        threads: 0 is all cores.

    Raises:
        UsageError: no place has coordinates, an option is missing, impossible or another method's, `k` is more than
            the distinct coordinates, or DBSCAN finds no cluster.

    """
    options: dict[str, Any] = {
        "k": k,
        "max_size": max_size,
        "batch": batch,
        "radius_km": radius_km,
        "min_places": min_places,
        "resolution": resolution,
    }
    sizes = _check(method, options)
    for option, value, least in (("--seed", seed, 0), ("--n-init", n_init, 1), ("--max-iter", max_iter, 1)):
        if value < least:
            raise UsageError(f"{option} {value}: must be at least {least}")
    if method == "balanced" and weights == "images":
        raise UsageError("--weights images: not for --method balanced, whose sizes count places")
    if method == "minibatch" and batch is not None and batch < sizes[-1]:
        raise UsageError(f"--batch {batch}: must be at least -k {sizes[-1]}, as the first one starts every cluster")
    settings = {name: value for name, value in options.items() if value is not None}
    lat, lon, images = place_coordinates(index)
    known = np.isfinite(lat) & np.isfinite(lon)
    name = index.source or "the index"
    if not known.any():
        raise UsageError(f"{name}: no image has coordinates, so there is nothing to cluster")
    weight = images[known].astype(np.float64) if weights == "images" else np.ones(known.sum())
    points = _Points(lat[known], lon[known], weight)
    try:
        if method == "dbscan":
            settings = {"min_places": 5} | settings
            levels = _dbscan(points, radius_km=settings["radius_km"], least=settings["min_places"], threads=threads)
        elif method == "h3":
            settings = {"min_places": 1} | settings
            levels = _h3(points, resolution=settings["resolution"], least=settings["min_places"], threads=threads)
        else:
            how: dict[str, Any] = {"seed": seed, "n_init": n_init, "max_iter": max_iter}
            settings |= {"k": sizes, **how}
            how["threads"] = threads
            if method == "minibatch":
                settings = {"batch": max(BATCH, sizes[-1])} | settings
                finest = _minibatch(points, sizes[-1], settings["batch"], how)
            elif method == "balanced":
                settings = {"max_size": -(-len(points.lat) // sizes[-1])} | settings
                finest = _core.kmeans(points.lat, points.lon, k=sizes[-1], max_size=settings["max_size"], **how)
            else:
                finest = _core.kmeans(points.lat, points.lon, k=sizes[-1], weights=points.weight, **how)
            levels = _coarser(points, finest, sizes[:-1], how)
    except ValueError as e:
        raise UsageError(f"{name}: {e}") from e
    labels, centroids = zip(*levels, strict=True)
    return Clusters(
        method=method,
        settings=settings | {"weights": weights},
        inertia=points.inertia(labels[-1], centroids[-1]),
        levels=centroids,
        places=places_table(
            names=[place for place, there in zip(place_names(index), known, strict=True) if there],
            lat=points.lat,
            lon=points.lon,
            weight=weight,
            labels=labels,
        ),
        index_hash=index.content_hash,
    )


class _Points(NamedTuple):
    """The places with coordinates, float64 [P] each."""

    lat: np.ndarray
    lon: np.ndarray
    weight: np.ndarray

    def sums(self, labels: np.ndarray) -> np.ndarray:
        """float64 [K, 3]: the weighted sums of the clusters' unit vectors."""
        inside = labels >= 0
        vectors = unit_vectors(self.lat, self.lon) * self.weight[:, None]
        return sum_by(labels[inside], vectors[inside], int(labels.max()) + 1)

    def inertia(self, labels: np.ndarray, centroids: np.ndarray) -> float:
        """Sum of weight times squared chord to the cluster's centroid."""
        inside = labels >= 0
        chord = unit_vectors(self.lat, self.lon)[inside] - unit_vectors(*centroids.T)[labels[inside]]
        return float((self.weight[inside] * (chord**2).sum(axis=1)).sum())


def _check(method: Method, options: dict[str, Any]) -> list[int]:
    """The sizes of the levels, ascending, of the methods that have `k`. Raises UsageError for wrong options."""
    if method not in _OPTIONS:
        raise UsageError(f"--method {method}: must be one of {', '.join(_OPTIONS)}")
    for name, value in options.items():
        option = _NEEDED.get(name, "--" + name.replace("_", "-"))
        if value is None:
            if name in _NEEDED and name in _OPTIONS[method]:
                raise UsageError(f"--method {method}: needs {option}")
        elif name not in _OPTIONS[method]:
            of = [other for other, takes in _OPTIONS.items() if name in takes]
            raise UsageError(f"{option}: is for --method {' or '.join(of)}, not {method}")
        elif name == "radius_km" and not 0 < value < np.inf:
            raise UsageError(f"{option} {value:g}: must be above 0")
        elif name == "resolution" and not 0 <= value <= 15:
            raise UsageError(f"{option} {value}: must be from 0 to 15")
        elif name in {"max_size", "batch", "min_places"} and value < 1:
            raise UsageError(f"{option} {value}: must be at least 1")
    k = options["k"]
    if k is None:
        return []
    sizes = sorted([k] if isinstance(k, int) else k)
    if not sizes or len(set(sizes)) < len(sizes):
        raise UsageError(f"-k {','.join(map(str, sizes))}: the levels must have different numbers of clusters")
    if sizes[0] < 1:
        raise UsageError(f"-k {sizes[0]}: must be at least 1")
    return sizes


def _minibatch(points: _Points, k: int, batch: int, how: dict[str, Any]) -> dict[str, Any]:
    """`max_iter` batches drawn anew from all places, then one iteration over all, which leaves no cluster empty."""
    # The draws go by the sorted places, so that the order of the index does not matter.
    in_order = np.lexsort(points)
    lat, lon, weight = (column[in_order] for column in points)
    fit = _core.MiniBatchKMeans(k=k, seed=how["seed"], threads=how["threads"])
    draws = np.random.default_rng(how["seed"])
    coming = np.empty(0, np.int64)
    for _ in range(how["max_iter"]):
        if len(coming) == 0:
            coming = draws.permutation(len(lat))
        chosen, coming = coming[:batch], coming[batch:]
        fit.partial_fit(lat[chosen], lon[chosen], weights=weight[chosen])
    once = how | {"n_init": 1, "max_iter": 1}
    found: dict[str, Any] = _core.kmeans(
        points.lat, points.lon, k=k, weights=points.weight, start=fit.centroids, **once
    )
    return found


def _coarser(points: _Points, found: dict[str, Any], sizes: list[int], how: dict[str, Any]) -> list[_Level]:
    """The levels of these sizes over what k-means found, and that, coarsest first."""
    finest = found["labels"]
    pull = np.linalg.norm(points.sums(finest), axis=1)
    lat, lon = np.ascontiguousarray(found["centroids"].T)
    levels = [(finest, found["centroids"])]
    for size in reversed(sizes):
        coarse = _core.kmeans(lat, lon, k=size, weights=pull, **how)
        levels.insert(0, (coarse["labels"][finest], coarse["centroids"]))
    return levels


def _dbscan(points: _Points, *, radius_km: float, least: int, threads: int) -> list[_Level]:
    labels = _core.dbscan(
        points.lat, points.lon, radius_km=radius_km, min_points=least, weights=points.weight, threads=threads
    )
    if labels.max() < 0:
        raise UsageError(
            f"no place has {least} within {radius_km:g} km, itself among them, so there is no cluster; "
            "give more --radius-km or less --min-places"
        )
    return [_with_means(points, labels)]


def _h3(points: _Points, *, resolution: int, least: int, threads: int) -> list[_Level]:
    labels, _ = _core.h3_clusters(points.lat, points.lon, resolution=resolution, min_points=least, threads=threads)
    return [_with_means(points, labels)]


def _with_means(points: _Points, labels: np.ndarray) -> _Level:
    """The labels with where the weighted mean of each cluster's places points."""
    return labels, np.stack(lat_lon(points.sums(labels)), axis=1)
