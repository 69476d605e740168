"""Neighbours on the globe beside scikit-learn: the same neighbours and clusters."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import sklearn
from sklearn.cluster import DBSCAN
from sklearn.neighbors import BallTree

from geography_report import Comparison
from geography_work import cities, timed
from geossl import _core, geo
from geossl.geo import EARTH_RADIUS_KM

if TYPE_CHECKING:
    from collections.abc import Iterator

_K = 8


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Each target about neighbours, measured; `quick` takes fewer points and repetitions."""
    repetitions = 2 if quick else 3
    yield from _nearest(100_000 if quick else 1_000_000, repetitions)
    lat, lon = (np.ascontiguousarray(column[:: 10 if quick else 1]) for column in cities())
    for radius_km, min_points in ((10.0, 5), (10.0, 20)):
        yield _dbscan(lat, lon, radius_km, min_points, repetitions)


def _nearest(n: int, repetitions: int) -> Iterator[Comparison]:
    """The nearest of all points, with the tree's making and without."""
    rng = np.random.default_rng(0)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    points = np.radians(np.stack([lat, lon], axis=1))
    ours, ours_make, theirs_make = [], [], []
    theirs: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repetitions):
        secs, found = timed(lambda: geo.nearest(lat, lon, k=_K))
        ours.append(secs)
        ours_make.append(timed(lambda: geo.nearest(lat, lon, lat[:1], lon[:1], k=_K))[0])
        secs, tree = timed(lambda: BallTree(points, metric="haversine"))
        theirs_make.append(secs)
        for breadth_first, times in theirs.items():
            secs, (km, index) = timed(partial(_query, tree, points, breadth_first=breadth_first))
            times.append(secs)
    km *= EARTH_RADIUS_KM
    breadth_first, queries = min(theirs.items(), key=lambda item: float(np.median(item[1])))
    swapped = int((index != found.rows).any(axis=1).sum())
    # Where the neighbours differ their distances must not: they are ties up to the rounding of the peer.
    apart = float(np.abs(km - found.km).max())
    what = f"{_K} nearest of {n:,} points, for each of them"
    peer = f"scikit-learn {sklearn.__version__} BallTree, haversine, {'breadth' if breadth_first else 'depth'} first"
    same = f"neighbours equal but for ties in {swapped:,} rows; distances apart by {apart:.0e} km at most"
    agrees = apart < 1e-6 and swapped <= n // 10_000
    yield Comparison(
        what=what,
        peer=peer,
        ours=ours,
        theirs=[a + b for a, b in zip(theirs_make, queries, strict=True)],
        target=30.0,
        same=same,
        agrees=agrees,
    )
    yield Comparison(
        what=f"{what}; without making the tree",
        peer=peer,
        ours=[a - b for a, b in zip(ours, ours_make, strict=True)],
        theirs=queries,
        target=30.0,
        same=same,
        agrees=agrees,
    )


def _query(tree: BallTree, points: np.ndarray, *, breadth_first: bool) -> tuple[np.ndarray, np.ndarray]:
    """The peer's faster ways: depth first it lets two threads work, breadth first it holds the GIL."""
    if breadth_first:
        km, index = tree.query(points, _K, breadth_first=True)
        return km, index
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        parts = list(pool.map(lambda part: tree.query(part, _K), np.array_split(points, cores)))
    return np.concatenate([km for km, _ in parts]), np.concatenate([index for _, index in parts])


def _dbscan(lat: np.ndarray, lon: np.ndarray, radius_km: float, min_points: int, repetitions: int) -> Comparison:
    points = np.radians(np.stack([lat, lon], axis=1))
    peer = DBSCAN(
        eps=radius_km / EARTH_RADIUS_KM, min_samples=min_points, metric="haversine", algorithm="ball_tree", n_jobs=-1
    )
    ours, theirs = [], []
    for _ in range(repetitions):
        secs, labels = timed(lambda: _core.dbscan(lat, lon, radius_km=radius_km, min_points=min_points, threads=0))
        ours.append(secs)
        secs, expected = timed(lambda: peer.fit(points).labels_)
        theirs.append(secs)
    differ = int((labels != expected).sum())
    return Comparison(
        what=f"DBSCAN, {len(lat):,} cities, {radius_km:g} km, {min_points} points",
        peer=f"scikit-learn {sklearn.__version__} DBSCAN, haversine, ball_tree",
        ours=ours,
        theirs=theirs,
        target=10.0,
        same=f"{labels.max() + 1:,} clusters, {int((labels < 0).sum()):,} points of noise; {differ} labels differ",
        agrees=differ == 0,
    )
