"""Fixtures of the loader's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_images import index_of, smooth
from PIL import Image

from geossl.data.index import Index


@pytest.fixture
def jpegs(tmp_path: Path) -> Callable[..., Index]:
    """Makes an index of `n` JPEGs, three dates a place."""

    def make(n: int = 30, size: tuple[int, int] = (40, 56)) -> Index:
        paths = [f"{i:03}.jpg" for i in range(n)]
        for i, path in enumerate(paths):
            Image.fromarray(smooth(*size, 3, i)).save(tmp_path / path, quality=90)
        return index_of(tmp_path, paths, [f"place{i // 3}" for i in range(n)])

    return make
