"""Clusters of places by great-circle distance: the classes that the geo head predicts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl import _core
from geossl.errors import UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.data.index import Index

_FORMAT = 1


@dataclass(frozen=True)
class Clusters:
    """A clustering of an index's places."""

    k: int
    """Number of clusters; each has at least one place."""
    seed: int
    """Seed of the clustering."""
    inertia: float
    """Sum over places of the squared chord to their centroid on the unit sphere."""
    centroids: np.ndarray
    """float64 [k, 2]: latitude and longitude of the clusters' centroids, degrees."""
    places: pa.Table
    """One row a place: location_id (string), lat, lon (float64 degrees), cluster (int32)."""
    index_hash: str
    """Content hash of the index whose places these are."""

    def labels(self, index: Index) -> np.ndarray:
        """Cluster of each row of the index, int64 [n]; -1 where the place has no coordinates.

        Raises:
            UsageError: If the clusters were made from another index.
        """
        if index.content_hash != self.index_hash:
            raise UsageError(
                f"the clusters were made from another index than {index.source or 'this one'}: "
                f"run `geossl data cluster {index.source or 'INDEX'}` again"
            )
        _, first = np.unique(index.places, return_index=True)
        names = _place_names(index, first)
        known = dict(zip(self.places["location_id"].to_pylist(), self.places["cluster"].to_pylist(), strict=True))
        per_place = np.array([known.get(name, -1) for name in names], dtype=np.int64)
        labels: np.ndarray = per_place[index.places]
        return labels

    def write(self, path: Path) -> None:
        """Write to a Parquet file, atomically."""
        meta = {
            "format": _FORMAT,
            "k": self.k,
            "seed": self.seed,
            "inertia": self.inertia,
            "centroids": self.centroids.tolist(),
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
        try:
            table = pq.read_table(path)
            meta = json.loads((table.schema.metadata or {})[b"geossl.clusters"])
        except FileNotFoundError as e:
            raise UsageError(f"{path}: no such clusters file; make it with `geossl data cluster`") from e
        except (OSError, KeyError, ValueError) as e:
            raise UsageError(f"{path}: not a clusters file of `geossl data cluster`") from e
        if meta.get("format") != _FORMAT:
            raise UsageError(f"{path}: clusters of format {meta.get('format')}, this version reads {_FORMAT}")
        return cls(
            k=meta["k"],
            seed=meta["seed"],
            inertia=meta["inertia"],
            centroids=np.asarray(meta["centroids"], dtype=np.float64),
            places=table.replace_schema_metadata(None),
            index_hash=meta["index_hash"],
        )


def default_path(index: Path) -> Path:
    """Where the clusters of an index file lie: planet.parquet has planet.clusters.parquet beside it."""
    return index.with_name(f"{index.stem}.clusters.parquet")


def cluster_places(
    index: Index, *, k: int, seed: int = 0, n_init: int = 4, max_iter: int = 300, threads: int = 0
) -> Clusters:
    """Cluster the index's places by spherical k-means; a place stands where the mean of its images does.

    Great-circle assignment, normalised-mean centroids, k-means++ seeding; the best of `n_init` runs. The result is
    the same for any number of threads. Places without coordinates are left out.

    Raises:
        UsageError: If no place has coordinates, or `k` is not between 1 and the number of distinct ones.
    """
    lat, lon, first = _place_coordinates(index)
    known = np.isfinite(lat) & np.isfinite(lon)
    if not known.any():
        raise UsageError(f"{index.source or 'the index'}: no image has coordinates, so there is nothing to cluster")
    try:
        found = _core.kmeans(lat[known], lon[known], k=k, seed=seed, n_init=n_init, max_iter=max_iter, threads=threads)
    except ValueError as e:
        raise UsageError(f"{index.source or 'the index'}: {e}") from e
    places = pa.table(
        {
            "location_id": pa.array(_place_names(index, first[known]), pa.string()),
            "lat": lat[known],
            "lon": lon[known],
            "cluster": pa.array(found["labels"], pa.int32()),
        }
    )
    return Clusters(
        k=k,
        seed=seed,
        inertia=found["inertia"],
        centroids=found["centroids"],
        places=places,
        index_hash=index.content_hash,
    )


def _place_names(index: Index, first: np.ndarray) -> list[str]:
    """Each place's location_id; the path of its image where it has none."""
    named = pc.coalesce(index.table["location_id"].take(first), index.table["path"].take(first))
    names: list[str] = named.to_pylist()
    return names


def _place_coordinates(index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lat, lon, first row) of each place: the direction of the mean of its images' unit vectors, degrees."""
    _, first = np.unique(index.places, return_index=True)
    lat = np.radians(index.table["lat"].to_numpy().astype(np.float64))
    lon = np.radians(index.table["lon"].to_numpy().astype(np.float64))
    known = np.isfinite(lat) & np.isfinite(lon)
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)[known]
    sums = np.zeros((len(first), 3))
    np.add.at(sums, index.places[known], vectors)
    lengths = np.linalg.norm(sums, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / lengths[:, None]
        place_lat = np.degrees(np.arctan2(mean[:, 2], np.hypot(mean[:, 0], mean[:, 1])))
        place_lon = np.degrees(np.arctan2(mean[:, 1], mean[:, 0]))
    return place_lat, place_lon, first
