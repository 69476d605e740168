"""Types of the Rust extension. Checked against it by mypy.stubtest."""

from collections.abc import Buffer, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__version__: str

def kmeans(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    *,
    k: int,
    seed: int,
    n_init: int,
    max_iter: int,
    threads: int,
) -> dict[str, Any]: ...
def assign_clusters(
    lat: NDArray[np.float64], lon: NDArray[np.float64], centroids: NDArray[np.float64], *, threads: int
) -> NDArray[np.int64]: ...
def haversine_km(a: tuple[float, float], b: tuple[float, float]) -> float: ...

@final
class Loader:
    def __new__(
        cls,
        *,
        paths: Sequence[str],
        boxes: NDArray[np.int32],
        places: NDArray[np.int32],
        views: int,
        temporal: bool,
        seed: int,
        train: bool,
        crop: dict[str, Any],
        color: dict[str, Any] | None,
        bands: int,
        bits: int,
        max_image_bytes: int,
        options: dict[str, Any],
        slots: Sequence[NDArray[np.uint8]],
    ) -> Loader: ...
    def __len__(self) -> int: ...
    @property
    def threads(self) -> int: ...
    def start(self, epoch: int, first: int) -> None: ...
    def stop(self) -> None: ...
    def next(self) -> dict[str, Any] | None: ...
    def failures(self) -> list[tuple[str, str]]: ...
    def stats(self) -> dict[str, Any]: ...

@final
class Lease(Buffer): ...
