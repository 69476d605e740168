"""Clusters of places by great-circle distance: what the geo head predicts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl import _core
from geossl.data.coordinates import place_names
from geossl.errors import UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from geossl.data.index import Index

Method = Literal["kmeans", "minibatch", "balanced", "dbscan", "h3"]
_FORMAT = 2
_QUERIES = 65_536
"""Points whose neighbours are looked up together: what bounds the memory that they take."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """A clustering of an index's places, of one level or of several that nest. No cluster is empty.

    Raises ValueError, when made, for a cluster without a place.
    """

    method: Method
    """How the clusters of the finest level were found."""
    settings: dict[str, Any]
    """What they were made with, by the names of `geossl.data.clustering.cluster_places`."""
    inertia: float
    """Sum over the clustered places of weight times squared chord to their finest centroid on the unit sphere."""
    levels: tuple[np.ndarray, ...]
    """float64 [K, 2] each, coarsest first: latitude and longitude of the clusters' centroids, degrees."""
    places: pa.Table
    """One row a place with coordinates: location_id (string), lat, lon, weight (float64), cluster (int32, of the
    finest level; -1: none, the noise of DBSCAN), and of each coarser level cluster_K (int32)."""
    index_hash: str
    """Content hash of the index whose places these are."""

    def __post_init__(self) -> None:
        for level, centroids in enumerate(self.levels):
            labels = self.place_labels(level)
            if not np.array_equal(np.unique(labels[labels >= 0]), np.arange(len(centroids))):
                raise ValueError(f"not every one of {len(centroids)} clusters has a place")

    @property
    def k(self) -> int:
        """Number of clusters of the finest level."""
        return len(self.centroids)

    @property
    def centroids(self) -> np.ndarray:
        """float64 [K, 2]: latitude and longitude of the finest level's centroids, degrees."""
        return self.levels[-1]

    @property
    def noise(self) -> int:
        """Number of places that are in no cluster."""
        return int((self.place_labels() < 0).sum())

    def place_labels(self, level: int = -1) -> np.ndarray:
        """Cluster of each of `places` at a level, int64 [P]; -1 where it has none."""
        finest = range(len(self.levels))[level] == len(self.levels) - 1
        name = "cluster" if finest else _column(len(self.levels[level]))
        labels: np.ndarray = self.places[name].to_numpy().astype(np.int64)
        return labels

    def labels(self, index: Index, *, level: int = -1) -> np.ndarray:
        """Cluster of each row of the index at a level, int64 [N]; -1 where the place has no coordinates, or no cluster.

        Raises:
            UsageError: If the clusters were made from another index.
        """
        if index.content_hash != self.index_hash:
            raise UsageError(
                f"the clusters were made from another index than {index.source or 'this one'}: "
                f"run `geossl data cluster {index.source or 'INDEX'}` again"
            )
        names = pa.array(place_names(index), pa.string())
        found = pc.index_in(names, value_set=self.places["location_id"].combine_chunks())
        # The last entry is the one that -1 picks.
        labels: np.ndarray = np.append(self.place_labels(level), -1)[found.fill_null(-1).to_numpy()][index.places]
        return labels

    def assign(self, lat: np.ndarray, lon: np.ndarray, *, level: int = -1, threads: int = 0) -> np.ndarray:
        """Cluster of other points, int64 [N]; -1 where a coordinate is not finite, or no cluster is at hand.

        k-means, mini-batch, balanced: that of the nearest centroid, whatever its size. H3: that of the places in the
        point's cell; in a cell without places, that of the nearest centroid. DBSCAN: the lowest of those that have a
        core place within the radius, which is the rule of DBSCAN itself; -1 where there is none. A coarser level is
        that of the finest cluster.

        Args:
            lat: latitudes in degrees, float64 [N].
            lon: longitudes in degrees, float64 [N].
            level: of `levels`; by default the finest.
            threads: 0 is all cores.

        """
        lat, lon = (np.ascontiguousarray(values, np.float64) for values in (lat, lon))
        known = np.isfinite(lat) & np.isfinite(lon)
        labels = np.full(len(lat), -1, np.int64)
        if self.method == "dbscan":
            labels[known] = self._by_core_places(lat[known], lon[known], threads)
        else:
            labels[known] = _core.assign_clusters(lat[known], lon[known], self.centroids, threads=threads)
        if self.method == "h3":
            labels[known] = self._by_cells(lat[known], lon[known], otherwise=labels[known])
        return np.append(self.parents(level), -1)[labels]

    def parents(self, level: int) -> np.ndarray:
        """Cluster at a level that each finest cluster lies in, int64 [k]."""
        finest = self.place_labels()
        first = np.unique(finest, return_index=True)[1][-self.k :]
        return self.place_labels(level)[first]

    def _by_cells(self, lat: np.ndarray, lon: np.ndarray, *, otherwise: np.ndarray) -> np.ndarray:
        there, first = np.unique(self._cells(*self._coordinates()), return_index=True)
        cells = self._cells(lat, lon)
        at = np.minimum(np.searchsorted(there, cells), len(there) - 1)
        return np.where(there[at] == cells, self.place_labels()[first][at], otherwise)

    def _cells(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """The H3 cell of each point, uint64 [N]."""
        cells: np.ndarray = _core.h3_clusters(lat, lon, resolution=self.settings["resolution"], min_points=1)[1]
        return cells

    def _by_core_places(self, lat: np.ndarray, lon: np.ndarray, threads: int) -> np.ndarray:
        radius, least = self.settings["radius_km"], self.settings["min_places"]
        places = self._coordinates()
        weight, labels = self.places["weight"].to_numpy(), self.place_labels()
        core = np.zeros(len(labels), bool)
        for part, offsets, near in _neighbours(places, places, radius, threads):
            core[part] = np.add.reduceat(weight[near], offsets[:-1]) >= least  # each has itself near it
        out = np.full(len(lat), -1, np.int64)
        cores = (places[0][core], places[1][core])
        for part, offsets, near in _neighbours(cores, (lat, lon), radius, threads):
            some = np.diff(offsets) > 0
            if some.any():
                out[part][some] = np.minimum.reduceat(labels[core][near], offsets[:-1][some])
        return out

    def _coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        return self.places["lat"].to_numpy(), self.places["lon"].to_numpy()

    def write(self, path: Path) -> None:
        """Write to a Parquet file, atomically."""
        meta = {
            "format": _FORMAT,
            "method": self.method,
            "settings": self.settings,
            "inertia": self.inertia,
            "levels": [{"k": len(centroids), "centroids": centroids.tolist()} for centroids in self.levels],
            "index_hash": self.index_hash,
        }
        table = self.places.replace_schema_metadata({"geossl.clusters": json.dumps(meta)})
        with replacing(path) as file:
            pq.write_table(table, file, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UsageError: If the file is missing or is not a clusters file.
        """
        wrong = UsageError(f"{path}: not a clusters file of `geossl data cluster`")
        try:
            table = pq.read_table(path)
            meta = json.loads((table.schema.metadata or {})[b"geossl.clusters"])
        except FileNotFoundError as e:
            raise UsageError(f"{path}: no such clusters file; make it with `geossl data cluster`") from e
        except (OSError, KeyError, ValueError) as e:
            raise wrong from e
        if meta.get("format") != _FORMAT:
            raise UsageError(
                f"{path}: clusters of format {meta.get('format')}, this version reads {_FORMAT}; "
                "make them again with `geossl data cluster`"
            )
        try:
            return cls(
                method=meta["method"],
                settings=meta["settings"],
                inertia=meta["inertia"],
                levels=tuple(np.array(level["centroids"], np.float64).reshape(-1, 2) for level in meta["levels"]),
                places=table.replace_schema_metadata(None),
                index_hash=meta["index_hash"],
            )
        except (KeyError, ValueError) as e:
            raise wrong from e


def default_path(index: Path) -> Path:
    """Where the clusters of an index file lie: planet.parquet has planet.clusters.parquet beside it."""
    return index.with_name(f"{index.stem}.clusters.parquet")


def places_table(
    *, names: list[str], lat: np.ndarray, lon: np.ndarray, weight: np.ndarray, labels: Sequence[np.ndarray]
) -> pa.Table:
    """The table `Clusters.places`, of each level's labels, coarsest first."""
    columns = {"location_id": pa.array(names, pa.string()), "lat": lat, "lon": lon, "weight": weight}
    columns["cluster"] = pa.array(labels[-1], pa.int32())
    columns |= {_column(int(level.max()) + 1): pa.array(level, pa.int32()) for level in labels[:-1]}
    return pa.table(columns)


def _column(k: int) -> str:
    return f"cluster_{k}"


def _neighbours(
    places: tuple[np.ndarray, np.ndarray], queries: tuple[np.ndarray, np.ndarray], radius_km: float, threads: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Of a part of the queries at a time: which, where the neighbours of each begin, and the neighbours' places."""
    lat, lon = queries
    for first in range(0, len(lat), _QUERIES):
        part = slice(first, first + _QUERIES)
        offsets, near, _ = _core.within(*places, lat[part], lon[part], radius_km=radius_km, threads=threads)
        yield part, offsets, near
