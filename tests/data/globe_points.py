"""Points on the globe, for tests of clusters."""

import numpy as np


def globe(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of points spread evenly."""
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


def unit(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """[n, 3] unit vectors of degrees."""
    lat, lon = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
