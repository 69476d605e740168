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
        batch: minibatch: places of a step, by default `BATCH`.
        radius_km: dbscan: how near neighbours are.
        min_places: dbscan: neighbours, itself among them, that make a place a cluster's core, 5 by default; h3: least
            places of a cell, else it is merged into another, 1 by default.
        resolution: h3: 0 (1,300 km across) to 15 (1 m).
        weights: whether each place counts once, or as often as it has images.
        seed: seed of k-means.
        n_init: k-means: runs from different starts, of which the best is kept.
        max_iter: k-means: most iterations of a run.
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
            levels = _h3(points, resolution=settings["resolution"], least=settings["min_places"])
        else:
            how = {"seed": seed, "n_init": n_init, "max_iter": max_iter}
            settings |= {"k": sizes, **how}
            if method == "minibatch":
                settings.setdefault("batch", BATCH)
            if method == "balanced":
                settings.setdefault("max_size", -(-len(points.lat) // sizes[-1]))
            extra = {option: settings[option] for option in ("batch", "max_size") if option in settings}
            levels = _kmeans(points, sizes, {**how, "threads": threads}, extra)
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
        if value is not None and name not in _OPTIONS[method]:
            of = [other for other, takes in _OPTIONS.items() if name in takes]
            raise UsageError(f"{option}: is for --method {' or '.join(of)}, not {method}")
        if value is None and name in _NEEDED and name in _OPTIONS[method]:
            raise UsageError(f"--method {method}: needs {option}")
        least = 0 if name in {"resolution", "radius_km"} else 1
        if name != "k" and value is not None and (value < least or (name == "radius_km" and not 0 < value < np.inf)):
            raise UsageError(f"{option} {value}: must be {'above 0' if name == 'radius_km' else f'at least {least}'}")
    k = options["k"]
    if k is None:
        return []
    sizes = sorted([k] if isinstance(k, int) else k)
    if not sizes or len(set(sizes)) < len(sizes):
        raise UsageError(f"-k {','.join(map(str, sizes))}: the levels must have different numbers of clusters")
    return sizes


def _kmeans(points: _Points, sizes: list[int], how: dict[str, Any], extra: dict[str, Any]) -> list[_Level]:
    found = _core.kmeans(points.lat, points.lon, k=sizes[-1], weights=points.weight, **how, **extra)
    finest = found["labels"]
    levels = [(finest, found["centroids"])]
    pull = np.linalg.norm(points.sums(finest), axis=1)
    lat, lon = np.ascontiguousarray(found["centroids"].T)
    for size in sizes[-2::-1]:
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


def _h3(points: _Points, *, resolution: int, least: int) -> list[_Level]:
    labels, _ = _core.h3_clusters(points.lat, points.lon, resolution=resolution, min_points=least)
    return [_with_means(points, labels)]


def _with_means(points: _Points, labels: np.ndarray) -> _Level:
    """The labels with where the weighted mean of each cluster's places points."""
    return labels, np.stack(lat_lon(points.sums(labels)), axis=1)
