"""Band statistics are those of numpy, whatever the threads, and are kept apart by kind."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pytest
import rasterio
from made_images import index_of, smooth
from PIL import Image

from geossl.data.band_stats import PERCENTILES, BandStats, bin_edges, measure_index, stats_path
from geossl.data.index import Index
from geossl.data.samples import choose_samples
from geossl.errors import UsageError
from geossl.viz.bands import plot_bands

if TYPE_CHECKING:
    from pathlib import Path


def write_tiff(path: Path, data: np.ndarray, **options: Any) -> None:
    """[h, w, C] as a GeoTIFF."""
    profile = {"driver": "GTiff", "width": data.shape[1], "height": data.shape[0], "count": data.shape[2]}
    options = {"transform": rasterio.Affine(2, 0, 5, 0, -2, 5)} | options
    with rasterio.open(path, "w", **profile, dtype=data.dtype.name, **options) as file:
        file.write(data.transpose(2, 0, 1))


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Index, dict[str, np.ndarray]]:
    """An index of RGB JPEGs and PNGs, half of them with a box, and of GeoTIFFs of four bands; and the pixels."""
    paths: list[str] = []
    pixels: dict[str, list[np.ndarray]] = {"uint8": [], "uint16": []}
    rng = np.random.default_rng(0)
    for i in range(24):
        if i % 3 == 2:
            data = (smooth(30, 41, 4, i).astype(np.uint16) * 11) + rng.integers(0, 30, (30, 41, 4)).astype(np.uint16)
            write_tiff(tmp_path / f"{i}.tif", data)
            paths.append(f"{i}.tif")
        else:
            Image.fromarray(smooth(40, 50, 3, i)).save(tmp_path / f"{i}.png")
            data = smooth(40, 50, 3, i)
            paths.append(f"{i}.png")
        boxed = i % 2 == 1
        data = data[5:25, 10:37] if boxed else data
        pixels["uint16" if i % 3 == 2 else "uint8"].append(data.reshape(-1, data.shape[2]))
    tiff = [path.endswith("tif") for path in paths]
    columns = {
        "bands": [4 if t else 3 for t in tiff],
        "dtype": ["uint16" if t else "uint8" for t in tiff],
        "band_names": ["red,green,blue,nir" if t else None for t in tiff],
        "box_x": [10 if i % 2 else None for i in range(24)],
        "box_y": [5 if i % 2 else None for i in range(24)],
        "box_w": [27 if i % 2 else None for i in range(24)],
        "box_h": [20 if i % 2 else None for i in range(24)],
    }
    index = index_of(tmp_path, paths, [None] * 24, **columns)
    return index, {name: np.concatenate(values) for name, values in pixels.items()}


def test_statistics_are_numpys(mixed: tuple[Index, dict[str, np.ndarray]]) -> None:
    index, pixels = mixed
    stats = measure_index(index, sample=None)
    assert (stats.images, stats.total, stats.seed, stats.failures) == (24, 24, None, ())
    assert [(kind.dtype, kind.images, kind.names) for kind in stats.kinds] == [
        ("uint8", 16, None),
        ("uint16", 8, ("red", "green", "blue", "nir")),
    ]
    for kind in stats.kinds:
        values = pixels[kind.dtype]
        top = np.iinfo(values.dtype).max
        np.testing.assert_allclose(kind.mean, values.mean(0) / top, rtol=1e-12)
        np.testing.assert_allclose(kind.std, values.std(0) / top, rtol=1e-9)
        for k, band in enumerate(kind.bands):
            own = values[:, k]
            assert (band.count, band.nodata, band.min, band.max) == (len(own), 0, own.min(), own.max())
            np.testing.assert_array_equal(band.percentiles, np.percentile(own, PERCENTILES, method="inverted_cdf"))
            np.testing.assert_array_equal(band.histogram, np.bincount(own)[band.first :])


@pytest.mark.parametrize("reader", [None, "rasterio"])
def test_samples_without_data_are_left_out(tmp_path: Path, reader: str | None) -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 2000, (4, 20, 30, 2)).astype(np.uint16)
    floats = rng.normal(300, 90, (3, 20, 30, 2)).astype(np.float32)
    floats[rng.random(floats.shape) < 0.2] = np.nan
    for i, image in enumerate(data):
        write_tiff(tmp_path / f"{i}.tif", image, nodata=7 if i < 2 else None)
        if i >= 2:
            with rasterio.open(tmp_path / f"{i}.tif", "r+") as file:
                file.write_mask((image[..., 0] % 3 > 0) * np.uint8(255))
    for i, image in enumerate(floats):
        write_tiff(tmp_path / f"f{i}.tif", image)
    dtypes = ["uint16"] * 4 + ["float32"] * 3
    columns = {"bands": [2] * 7, "dtype": dtypes, "width": [30] * 7, "height": [20] * 7, "reader": [reader] * 7}
    paths = [f"{i}.tif" for i in range(4)] + [f"f{i}.tif" for i in range(3)]
    valid = np.concatenate([data[:2] != 7, np.repeat(data[2:, ..., :1] % 3 > 0, 2, axis=3)])
    stats = measure_index(index_of(tmp_path, paths, [None] * 7, **columns))
    for kind, values, there in zip(stats.kinds, (data, floats), (valid, np.isfinite(floats)), strict=True):
        for k, band in enumerate(kind.bands):
            own = values[..., k][there[..., k]].astype(np.float64)
            assert (band.count, band.nodata) == (own.size, values[..., k].size - own.size)
            np.testing.assert_allclose([band.mean, band.std], [own.mean(), own.std()], rtol=1e-6)
            assert (band.min, band.max) == (own.min(), own.max())
            np.testing.assert_allclose(
                band.percentiles, np.percentile(own, PERCENTILES, method="inverted_cdf"), rtol=0.01
            )
            assert f"{band.nodata_share:.2%}" in stats.lines()[stats.kinds.index(kind) * 4 + 2 + k]


def test_a_view_has_its_bands_statistics(mixed: tuple[Index, dict[str, np.ndarray]]) -> None:
    index, pixels = mixed
    stats = measure_index(index, sample=None)
    tiffs = index.table.filter(pc.equal(index.table["dtype"], "uint16"))
    mean, std = stats.scaled(choose_samples(tiffs, ["nir", "1"]))
    values = pixels["uint16"][:, [3, 0]] / 65535
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-9)
    np.testing.assert_allclose(std, values.std(0), rtol=1e-9)
    empty = replace(stats, kinds=stats.kinds[:1])
    with pytest.raises(UsageError, match="no values of nir"):
        empty.scaled(choose_samples(tiffs, ["nir"]))


def test_any_threads_give_the_same_file(mixed: tuple[Index, dict[str, np.ndarray]], tmp_path: Path) -> None:
    index, _ = mixed
    files = set()
    for threads in (1, 2, 5):
        measure_index(index, sample=10, seed=3, threads=threads).write(tmp_path / "stats.json")
        files.add((tmp_path / "stats.json").read_bytes())
    assert len(files) == 1
    measure_index(index, sample=10, seed=4).write(tmp_path / "stats.json")
    assert (tmp_path / "stats.json").read_bytes() not in files


def test_a_file_comes_back(mixed: tuple[Index, dict[str, np.ndarray]], tmp_path: Path) -> None:
    index, _ = mixed
    made = measure_index(index, sample=10, seed=3)
    made.write(tmp_path / "a.json")
    read = BandStats.read(tmp_path / "a.json")
    assert (read.seed, read.total, read.images) == (3, 24, 10)
    assert read.lines() == made.lines()
    read.write(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for text in ("{", "[]", '{"format": 1}', "\xff"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UsageError, match="not what geossl data stats writes"):
            BandStats.read(tmp_path / "a.json")
    with pytest.raises(UsageError, match="No such file"):
        BandStats.read(tmp_path / "none.json")


def test_statistics_of_another_index_are_refused(mixed: tuple[Index, dict[str, np.ndarray]], tmp_path: Path) -> None:
    index, _ = mixed
    path = tmp_path / "images.parquet"
    index.write(path)
    assert BandStats.find(path) is None
    measure_index(index, sample=5).write(stats_path(path))
    found = BandStats.find(path)
    assert found is not None
    assert found.images == 5
    Index(index.table, index.root, "other").write(path)
    with pytest.raises(UsageError, match="of another index than"):
        BandStats.find(path)


def test_unreadable_images_are_named(mixed: tuple[Index, dict[str, np.ndarray]]) -> None:
    index, _ = mixed
    (index.root / "3.png").write_bytes(b"\x89PNG broken")
    (index.root / "5.tif").unlink()
    stats = measure_index(index, sample=None)
    assert [path for path, _ in stats.failures] == ["3.png", "5.tif"]
    assert stats.images == 22
    with pytest.raises(UsageError, match=r"none of the 2 images can be read, such as 3\.png"):
        measure_index(index.with_table(index.table.take([3, 5])))
    with pytest.raises(UsageError, match="no images"):
        measure_index(index.with_table(index.table.slice(0, 0)))


def test_ctrl_c_ends_it(mixed: tuple[Index, dict[str, np.ndarray]]) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_index(mixed[0], progress=interrupt)


def test_bins_of_floats() -> None:
    values = np.array([-3e5, -1.0, -1e-3, 0.0, 1e-3, 1.0, 255.0, 3e5], np.float32)
    bits = values.view(np.uint32).astype(np.uint64)
    keys = np.where(values < 0, ~bits & 0xFFFFFFFF, bits | 1 << 31) >> 16
    low, high = bin_edges(keys), bin_edges(keys + 1)
    assert np.all(np.minimum(low, high) <= values)
    assert np.all(values <= np.maximum(low, high))
    assert np.all(np.abs(high - low)[values != 0] <= np.abs(values[values != 0]) / 100)


def test_a_picture(mixed: tuple[Index, dict[str, np.ndarray]], tmp_path: Path) -> None:
    stats = measure_index(mixed[0], sample=None)
    empty = replace(stats.kinds[1].bands[0], count=0, nodata=9, percentiles=(math.nan,) * len(PERCENTILES))
    stats = replace(stats, kinds=(stats.kinds[0], replace(stats.kinds[1], bands=(empty, *stats.kinds[1].bands[1:]))))
    with Image.open(plot_bands(tmp_path / "bands.png", stats)) as image:
        assert image.width > 1000
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
        assert (0x00, 0x72, 0xB2) in colours  # the middle half
