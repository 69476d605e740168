"""What a clustering is like: how large its clusters are, how clear, and what they tell of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geossl import _core

if TYPE_CHECKING:
    from geossl.data.clusters import Clusters
    from geossl.data.index import Index

SAMPLE = 20_000
"""Places that the silhouette is measured on, where there are more."""
_TELLING = 5
"""Clusters that are named as those that tell most."""


@dataclass(frozen=True, kw_only=True)
class TellingCluster:
    """A cluster and the class that it tells."""

    cluster: int
    places: int
    lat: float
    lon: float
    category: str
    """The class that most of its places have."""
    share: float
    """Share of its places that have it."""
    overall: float
    """Share of all places that have it."""
    bits: float
    """Its part of the mutual information of clusters and classes, bits a place."""


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """How much the finest cluster of a place gives away its class, over the clustered places that have one."""

    places: int
    classes: int
    overall: float
    """Share of the places that have the most frequent class: what guessing it gets right."""
    majority: float
    """Share that guessing the most frequent class of each cluster gets right. Near 1 wherever clusters are small."""
    others: float
    """The same, guessed by the cluster's other places alone; of a cluster of one, by all places."""
    mutual: float
    """Adjusted mutual information of clusters and classes: 0 by chance, 1 where each tells the other."""
    telling: list[TellingCluster]
    """The clusters that tell most, by `bits`."""


@dataclass(frozen=True, kw_only=True)
class ClusterReport:
    """The figures of a clustering."""

    method: str
    places: int
    """Places with coordinates."""
    noise: int
    """Places that are in no cluster."""
    inertia: float
    sizes: list[np.ndarray]
    """int64 [K] each: places of each cluster, by level, coarsest first."""
    silhouette: float | None
    """Mean silhouette of the clustered places, or of a sample; None for a single cluster."""
    classes: ClassTable | None
    """None where fewer than two classes are known."""

    def lines(self) -> list[str]:
        """The report as text."""
        *coarser, finest = self.sizes
        noise = f", and {self.noise:,} in none (noise)" if self.noise else ""
        clear = "" if self.silhouette is None else f", silhouette {self.silhouette:.3f}"
        clustered = self.places - self.noise
        found = f"{self.method}: {_clusters(finest)} of {clustered:,} places{noise}"
        lines = [f"{found}: {_spread(finest)}, inertia {self.inertia:.6g}{clear}"]
        lines += [f"  level of {_clusters(sizes)}: {_spread(sizes)}" for sizes in coarser]
        return lines + (_class_lines(self.classes) if self.classes is not None else [])


def describe_clusters(clusters: Clusters, index: Index, *, seed: int = 0, threads: int = 0) -> ClusterReport:
    """The figures of a clustering of this index's places."""
    labels = clusters.place_labels()
    levels = [clusters.place_labels(level) for level in range(len(clusters.levels))]
    return ClusterReport(
        method=clusters.method,
        places=len(labels),
        noise=clusters.noise,
        inertia=clusters.inertia,
        sizes=[np.bincount(level[level >= 0]) for level in levels],
        silhouette=_silhouette(clusters, seed=seed, threads=threads),
        classes=_class_table(clusters, index),
    )


def _silhouette(clusters: Clusters, *, seed: int, threads: int) -> float | None:
    labels = clusters.place_labels()
    inside = labels >= 0
    if clusters.k < 2 or inside.sum() <= clusters.k:
        return None
    lat, lon = (clusters.places[name].to_numpy()[inside] for name in ("lat", "lon"))
    return float(np.mean(_core.silhouette(lat, lon, labels[inside], sample=SAMPLE, seed=seed, threads=threads)))


def _class_table(clusters: Clusters, index: Index) -> ClassTable | None:
    from sklearn.metrics import adjusted_mutual_info_score

    place_class = _place_classes(index)
    place_cluster = np.full(len(place_class), -1, np.int64)
    place_cluster[index.places] = clusters.labels(index)
    known = (place_class >= 0) & (place_cluster >= 0)
    labels, classes = place_cluster[known], place_class[known]
    if len(np.unique(classes)) < 2:
        return None
    overall = np.bincount(classes, minlength=len(index.categories))
    # Classes by their rank, the most frequent first, so that ties go to the more frequent one.
    order = np.argsort(-overall, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    cells, count = np.unique(np.stack([labels, rank[classes]]), axis=1, return_counts=True)
    cluster, code = cells
    best, runner = _two_best(cluster, count)
    first = best[cluster]
    # What the other places of a cluster would guess for one of a cell: the cell's class has one place less.
    mine, rival = count - 1, np.where(first == np.arange(len(count)), runner[cluster], first)
    rivals = np.where(rival >= 0, count[rival], 0)
    rival_code = np.where(rival >= 0, code[rival], 0)
    right = (mine > rivals) | ((mine == rivals) & (code <= rival_code))
    total = len(labels)
    size = np.bincount(cluster, weights=count)
    share = count / size[cluster]
    bits = np.bincount(cluster, weights=count * np.log2(share * total / overall[order][code])) / total
    telling = [
        TellingCluster(
            cluster=int(c),
            places=int(size[c]),
            lat=float(clusters.centroids[c, 0]),
            lon=float(clusters.centroids[c, 1]),
            category=index.categories[order[code[best[c]]]],
            share=float(share[best[c]]),
            overall=float(overall[order][code[best[c]]] / total),
            bits=float(bits[c]),
        )
        for c in np.argsort(-bits, kind="stable")[:_TELLING]
        if bits[c] > 0
    ]
    return ClassTable(
        places=total,
        classes=len(np.unique(classes)),
        overall=float(overall.max() / total),
        majority=float(count[best[best >= 0]].sum() / total),
        others=float(count[right].sum() / total),
        mutual=float(adjusted_mutual_info_score(classes, labels)),
        telling=telling,
    )


def _place_classes(index: Index) -> np.ndarray:
    """The most frequent class of each place's images, int64 [P]; -1 where none has one, ties to the first by name."""
    places = int(index.places.max()) + 1
    out = np.full(places, -1, np.int64)
    known = index.labels >= 0
    if known.any():
        cells, count = np.unique(np.stack([index.places[known], index.labels[known]]), axis=1, return_counts=True)
        best, _ = _two_best(cells[0], count)
        out[: len(best)] = np.where(best >= 0, cells[1][best], -1)
    return out


def _two_best(group: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells with the largest and the second largest count of each group, int64 each; -1 where there is none.

    `group`, int64, is ascending; of equal counts the earlier cell is the larger.
    """
    order = np.lexsort((np.arange(len(group)), -count, group))
    groups, start, cells = np.unique(group, return_index=True, return_counts=True)
    best, runner = np.full((2, int(groups.max()) + 1), -1, np.int64)
    best[groups] = order[start]
    several = cells > 1
    runner[groups[several]] = order[start[several] + 1]
    return best, runner


def _clusters(sizes: np.ndarray) -> str:
    return f"{len(sizes):,} cluster{'s' if len(sizes) > 1 else ''}"


def _spread(sizes: np.ndarray) -> str:
    return f"{sizes.min():,} to {sizes.max():,} places a cluster (median {np.median(sizes):,.0f})"


def _class_lines(table: ClassTable) -> list[str]:
    right = (
        f"right by the most frequent class {table.overall:.1%}, by that of the cluster {table.majority:.1%}, "
        f"by that of the cluster's other places {table.others:.1%}"
    )
    lines = [
        f"what the cluster tells of the class ({table.classes} classes, {table.places:,} places):",
        f"  {right}",
        f"  adjusted mutual information {table.mutual:.3f} (0 by chance, 1 where each tells the other)",
    ]
    if table.telling:
        width = max(len("class"), *(len(one.category) for one in table.telling))
        lines.append(f"  the clusters that tell most:  places  {'class':{width}}  share  overall  centre")
        for one in table.telling:
            where = f"{abs(one.lat):.1f} {'NS'[one.lat < 0]} {abs(one.lon):.1f} {'EW'[one.lon < 0]}"
            lines.append(
                f"  {one.cluster:>27}  {one.places:7,}  {one.category:{width}}  {one.share:5.0%}  "
                f"{one.overall:7.0%}  {where}"
            )
    return lines
