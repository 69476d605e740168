"""What the images of a run are to predict: categories, or where their places are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from geossl import losses
from geossl.data.clusters import Clusters, default_path
from geossl.data.coordinates import place_coordinates, unit_vectors
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

    from geossl.config import GeoTarget, TrainConfig
    from geossl.data.index import Index


class Targets(NamedTuple):
    """What images are to predict, of a batch or of the whole index; None where the arm does not."""

    categories: Tensor | None = None
    """int64 [B]; -1 unknown."""
    clusters: Tensor | None = None
    """int64 [B, L], at each level that is predicted, coarsest first; -1 unknown."""
    points: Tensor | None = None
    """float32 [B, 3], the place as a unit vector; NaN unknown."""

    @property
    def known(self) -> Tensor | None:
        """Whether each has something to predict, bool [B]; None where the arm predicts nothing."""
        if self.points is not None:
            return self.points.isfinite().all(1)
        return None if self.categories is None else self.categories != losses.IGNORE

    def of(self, rows: Tensor, device: torch.device) -> Targets:
        """Those of the rows, int64 [B], on the device."""
        return Targets(*(None if part is None else part[rows].to(device, non_blocking=True) for part in self))

    def cut(self, part: slice) -> Targets:
        """Those of a part of the batch."""
        return Targets(*(None if values is None else values[part] for values in self))


@dataclass(frozen=True, kw_only=True, eq=False)
class GeoTargets:
    """Where the places of an index are, as the geo head learns it."""

    target: GeoTarget
    clusters: np.ndarray
    """int64 [N, L]: cluster of each row at each level that is predicted, coarsest first; -1 unknown."""
    points: np.ndarray
    """float32 [N, 3]: each row's place as a unit vector; NaN where it has no coordinates, or no cluster."""
    levels: tuple[np.ndarray, ...]
    """float64 [K, 2] each: latitude and longitude of the levels' centroids, degrees."""

    @property
    def known(self) -> np.ndarray:
        """Whether a row has something to predict, bool [N]."""
        known: np.ndarray = np.isfinite(self.points).all(axis=1)
        return known

    @property
    def hash(self) -> str:
        """Hex digest of what the index's content hash does not cover: the clusters, and for soft where they lie."""
        return digest(self.clusters, *(self.levels if self.target == "soft" else ()))


def level_vectors(levels: Iterable[np.ndarray]) -> list[Tensor]:
    """The centroids of levels, float64 [K, 2] degrees each, as unit vectors, float32 [K, 3]."""
    return [torch.from_numpy(unit_vectors(*centroids.T)).float() for centroids in levels]


def digest(*arrays: np.ndarray) -> str:
    """Hex digest of the arrays' bytes."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def clusters_file(config: TrainConfig) -> Path:
    """Where the run's clusters are. Raises UsageError if there are none."""
    path = config.loader.clusters or default_path(config.data)
    if not path.exists():
        how = f"geossl data cluster {config.data} -k {'10,100,1000' if config.geo.target == 'hierarchy' else '100'}"
        raise UsageError(f"{path}: no clusters, which the arm {config.arm} needs; make them: {how}")
    return path


def read_geo_targets(config: TrainConfig, index: Index) -> GeoTargets:
    """Where each row's place is, by the clusters of the run, or for the target vector by the index alone.

    Raises:
        UsageError: there are no clusters, they are another index's, or not what the target needs.

    """
    target = config.geo.target
    lat, lon, _ = place_coordinates(index)
    points = unit_vectors(lat, lon).astype(np.float32)[index.places]
    if target == "vector":
        return GeoTargets(target=target, clusters=np.empty((len(index), 0), np.int64), points=points, levels=())
    path = clusters_file(config)
    read = Clusters.read(path)
    if target == "hierarchy" and len(read.levels) < 2:
        how = f"geossl data cluster {config.data} -k 10,100,1000"
        raise UsageError(f"{path}: clusters of one level, and geo.target hierarchy needs several; make them: {how}")
    if target == "soft":
        (vectors,) = level_vectors([read.centroids])
        if len(vectors) < 2 or not losses.spacing(vectors) > 0:
            raise UsageError(f"{path}: geo.target soft needs clusters at different places, two at least")
    chosen = range(len(read.levels)) if target == "hierarchy" else [len(read.levels) - 1]
    clusters = np.stack([read.labels(index, level=level) for level in chosen], axis=1)
    # Noise of DBSCAN has coordinates, but no cluster: it takes no part. A place is known at every level, or not at all.
    unknown = (clusters < 0).any(axis=1) | ~np.isfinite(points).all(axis=1)
    clusters[unknown], points[unknown] = -1, np.nan
    levels = tuple(read.levels[level] for level in chosen)
    return GeoTargets(target=target, clusters=clusters, points=points, levels=levels)
