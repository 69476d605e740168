"""TIFFs of every layout: the reader's values are rasterio's, whole and in windows."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from tiff_matrix import Spec, chosen, cut, kept, read, reference, same, samples, specs, write

from geossl import _core

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SPECS = specs()


def windows(spec: Spec, seed: int) -> list[tuple[int, int, int, int]]:
    """(x, y, w, h): corners, edges, single pixels, blocks' borders, and some at random."""
    width, height = spec.size
    block_w, block_h = spec.tile or (width, spec.rows)
    w, h = min(5, width), min(4, height)
    corners = [(x, y, w, h) for x in (0, width - w) for y in (0, height - h)]
    edges = [(0, 0, width, 1), (0, height - 1, width, 1), (0, 0, 1, height), (width - 1, 0, 1, height)]
    pixels = [(0, 0, 1, 1), (width - 1, height - 1, 1, 1), (width // 2, height // 3, 1, 1)]
    x, y = min(block_w, width) - 1, min(block_h, height) - 1
    across = [(x, y, min(2, width - x), min(2, height - y)), (0, y, width, min(2, height - y))]
    x, y = block_w % width, block_h % height  # starts on a border
    across += [(x, y, min(block_w, width - x), min(block_h, height - y))]
    rng = np.random.default_rng(seed)
    inner = []
    for _ in range(4):
        (x0, x1), (y0, y1) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in spec.size)
        inner.append((int(x0), int(y0), int(x1 - x0), int(y1 - y0)))
    return corners + edges + pixels + across + inner


def test_there_are_as_many_as_promised() -> None:
    assert len({str(spec) for spec in SPECS}) == len(SPECS) >= 300


@pytest.mark.parametrize("number", range(len(SPECS)), ids=[str(spec) for spec in SPECS])
def test_values_are_rasterios(tmp_path: Path, number: int) -> None:
    spec, path = SPECS[number], tmp_path / "a.tif"
    write(spec, path, number)
    expected = reference(path)
    if spec.codec != "jpeg":
        same(expected, kept(samples(spec, number)), "the file is what was to be written")
    same(read(path), expected, "whole")
    for window in windows(spec, number):
        got = _core.read_image(path, window=window)
        assert (got["rect"], got["shrink"]) == (window, 1)
        same(got["data"], cut(expected, window), window)
    window = windows(spec, number)[-1]
    orders: list[list[int | None]] = [[None, spec.bands - 1, 0, None], list(range(spec.bands))[::-1], [spec.bands // 2]]
    for bands in orders:
        same(read(path, bands=bands, window=window), cut(chosen(expected, bands), window), bands)


def test_headers_are_rasterios(tmp_path: Path) -> None:
    some = SPECS[:: max(1, len(SPECS) // 60)]
    paths = [tmp_path / f"{number}.tif" for number in range(len(some))]
    for spec, path in zip(some, paths, strict=True):
        write(spec, path, 1)
    for spec, path, header in zip(some, paths, _core.image_headers(paths, threads=2), strict=True):
        assert header["error"] is None, spec
        assert (header["width"], header["height"], header["bands"]) == (*spec.size, spec.bands), spec
        assert header["dtype"] == spec.dtype
        assert header["nodata"] is None
        assert header["overviews"] == []
        with rasterio.open(path) as file:
            transform = None if file.transform.is_identity else tuple(file.transform)[:6]
        assert header["transform"] == (None if transform is None else pytest.approx(transform, abs=0))
