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
    "haversine_km",
    "image_headers",
    "index_fmow_names",
    "index_group_footprints",
    "index_parse_timestamps",
    "index_relative_paths",
    "index_scan_fmow",
    "index_walk",
    "kmeans",
    "pack_footer",
    "pack_verify",
    "pack_write",
    "read_image",
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
def haversine_km(a: tuple[float, float], b: tuple[float, float]) -> float: ...
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
def index_scan_fmow(root: str | PathLike[str], *, kind: str | None, threads: int) -> dict[str, Any]: ...
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
        places: NDArray[np.int32],
        views: int,
        temporal: bool,
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
