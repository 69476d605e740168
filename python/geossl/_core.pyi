"""Types of the Rust extension. Checked against it by mypy.stubtest."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Lease",
    "Loader",
    "MiniBatchKMeans",
    "__version__",
    "assign_clusters",
    "band_stats",
    "check_images",
    "dbscan",
    "distance_km",
    "h3_clusters",
    "image_headers",
    "index_file_crc32",
    "index_fmow_names",
    "index_group_footprints",
    "index_parse_timestamps",
    "index_relative_paths",
    "index_scan",
    "index_walk",
    "kmeans",
    "link_places",
    "nearest",
    "pack_footer",
    "pack_verify",
    "pack_write",
    "pair_counts",
    "pair_gaps",
    "read_image",
    "same_bytes",
    "silhouette",
    "within",
]

__version__: str

def kmeans(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    *,
    k: int,
    weights: NDArray[np.float64] | None = None,
    start: NDArray[np.float64] | None = None,
    max_size: int | None = None,
    seed: int,
    n_init: int,
    max_iter: int,
    threads: int,
) -> dict[str, Any]: ...

@final
class MiniBatchKMeans:
    def __new__(cls, *, k: int, seed: int, threads: int) -> Self: ...
    def partial_fit(
        self, lat: NDArray[np.float64], lon: NDArray[np.float64], *, weights: NDArray[np.float64] | None = None
    ) -> None: ...
    @property
    def centroids(self) -> NDArray[np.float64]: ...

def assign_clusters(
    lat: NDArray[np.float64], lon: NDArray[np.float64], centroids: NDArray[np.float64], *, threads: int
) -> NDArray[np.int64]: ...
def band_stats(
    paths: Sequence[str],
    boxes: NDArray[np.int32],
    kind: NDArray[np.int64],
    *,
    kinds: Sequence[tuple[int, int]],
    foreign: dict[str, Any] | None,
    threads: int,
    max_image_bytes: int,
    progress: Callable[[int], object],
) -> dict[str, Any]: ...
def check_images(
    paths: Sequence[str],
    sizes: NDArray[np.int32],
    dtypes: Sequence[str],
    boxed: NDArray[np.bool_],
    *,
    foreign: dict[str, Any] | None,
    threads: int,
    max_image_bytes: int,
    progress: Callable[[int], object],
) -> list[tuple[int, str]]: ...
def same_bytes(
    paths: Sequence[str], *, threads: int, progress: Callable[[int, int], object]
) -> tuple[NDArray[np.int64], list[tuple[int, str]]]: ...
def distance_km(
    lat_a: NDArray[np.float64], lon_a: NDArray[np.float64], lat_b: NDArray[np.float64], lon_b: NDArray[np.float64]
) -> NDArray[np.float64]: ...
def nearest(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    query_lat: NDArray[np.float64],
    query_lon: NDArray[np.float64],
    *,
    k: int,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def within(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    query_lat: NDArray[np.float64],
    query_lon: NDArray[np.float64],
    *,
    radius_km: float,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]: ...
def link_places(
    lat: NDArray[np.float64], lon: NDArray[np.float64], *, radius_km: float, threads: int
) -> NDArray[np.int64]: ...
def dbscan(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    *,
    radius_km: float,
    min_points: int,
    threads: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]: ...
def h3_clusters(
    lat: NDArray[np.float64], lon: NDArray[np.float64], *, resolution: int, min_points: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]: ...
def silhouette(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    sample: int | None,
    seed: int,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def image_headers(paths: Sequence[str | PathLike[str]], *, threads: int) -> list[dict[str, Any]]: ...
def read_image(
    path: str | PathLike[str],
    *,
    window: tuple[int, int, int, int] | None = None,
    bands: Sequence[int | None] | None = None,
    shrink: int = 1,
    nodata: int | None = None,
    max_image_bytes: int = ...,
) -> dict[str, Any]: ...
def index_scan(
    root: str | PathLike[str],
    *,
    layout: str,
    kind: str | None,
    known_paths: list[str],
    known_stamps: NDArray[np.int64],
    threads: int,
) -> dict[str, Any]: ...
def index_file_crc32(path: str | PathLike[str], size: int) -> int | None: ...
def index_walk(
    root: str | PathLike[str], extensions: list[str], *, threads: int
) -> tuple[list[str], list[tuple[str, str]]]: ...
def index_relative_paths(root: str | PathLike[str], paths: list[str], *, threads: int) -> dict[str, Any]: ...
def index_group_footprints(corners: NDArray[np.float64]) -> NDArray[np.int64]: ...
def index_fmow_names(root: str | PathLike[str], paths: list[str]) -> dict[str, Any]: ...
def index_parse_timestamps(texts: list[str]) -> NDArray[np.int64]: ...
def pack_write(
    paths: Sequence[str],
    boxes: NDArray[np.int32],
    *,
    options: dict[str, Any],
    progress: Callable[[dict[str, Any]], object],
) -> dict[str, Any]: ...
def pack_verify(
    paths: Sequence[str],
    boxes: NDArray[np.int32],
    *,
    shards: Sequence[str],
    shard: NDArray[np.int32],
    offset: NDArray[np.int64],
    options: dict[str, Any],
    progress: Callable[[dict[str, Any]], object],
) -> tuple[dict[str, Any], list[tuple[int, str]]]: ...
def pair_counts(options: dict[str, Any], *, threads: int) -> tuple[NDArray[np.bool_], int]: ...
def pair_gaps(
    places: NDArray[np.int32], timestamps: NDArray[np.int64], edges: Sequence[int], *, threads: int
) -> NDArray[np.int64]: ...
def pack_footer(path: str | PathLike[str]) -> dict[str, Any]: ...

@final
class Loader:
    def __new__(
        cls,
        *,
        paths: Sequence[str],
        pack: dict[str, Any] | None,
        foreign: dict[str, Any] | None,
        boxes: NDArray[np.int32],
        pairs: dict[str, Any] | None,
        views: int,
        seed: int,
        shuffle: bool,
        cut: str,
        crop: dict[str, Any],
        color: dict[str, Any] | None,
        normalize: tuple[Sequence[float], Sequence[float]] | None,
        samples: dict[str, Any],
        align: dict[str, Any] | None,
        max_image_bytes: int,
        options: dict[str, Any],
        slots: Sequence[NDArray[np.uint8]],
        may_refill: Callable[[int], bool] | None = None,
    ) -> Loader: ...
    def __len__(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def thread_bytes(self) -> int: ...
    def start(self, epoch: int, first: int) -> None: ...
    def stop(self) -> None: ...
    def next(self, *, wait_secs: float, coming: bool) -> dict[str, Any] | None: ...
    def release(self, slot: int) -> None: ...
    def failures(self) -> list[tuple[str, str]]: ...
    def stats(self) -> dict[str, Any]: ...

@final
class Lease:
    """Supports the buffer protocol, which Python 3.11 has no method for."""
