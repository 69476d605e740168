"""TIFFs beyond plain samples: palettes, JPEG, overviews, COGs, other writers, real scenes, what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from made_images import smooth
from PIL import Image
from rasterio.enums import Resampling
from test_tiff_nodata import check, check_alpha, masked, without
from tiff_matrix import GROUND, cut, kept, read, reference, same, write_gdal

from geossl import _core

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SCENES = sorted((Path(__file__).parents[3] / "shared" / "data" / "naip").glob("*.tif"))
needs_scenes = pytest.mark.skipif(not SCENES, reason="the NAIP scenes are not beside the checkout")
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 48}


def bands_first(height: int, width: int, bands: int, seed: int = 1) -> np.ndarray:
    return np.ascontiguousarray(smooth(height, width, bands, seed).transpose(2, 0, 1))


def windowed(path: Path, expected: np.ndarray, seed: int = 0) -> None:
    """The whole image, and parts of it."""
    same(read(path), expected, "whole")
    rng = np.random.default_rng(seed)
    for _ in range(8):
        (y0, y1), (x0, x1) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in expected.shape[:2])
        window = (int(x0), int(y0), int(x1 - x0), int(y1 - y0))
        same(read(path, window=window), cut(expected, window), window)


@pytest.mark.parametrize("options", [{}, TILES, {"compress": "packbits"}, {"compress": "lzw", "bigtiff": "YES"}])
def test_palettes_become_rgb(tmp_path: Path, options: dict[str, Any]) -> None:
    path, rng = tmp_path / "a.tif", np.random.default_rng(2)
    numbers = rng.integers(0, 256, (1, 83, 97)).astype(np.uint8)
    colors = {i: (*(int(c) for c in rng.integers(0, 256, 3)), 255) for i in range(256)}
    write_gdal(path, numbers, photometric="PALETTE", **options)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, colors)
    with rasterio.open(path) as file:
        table = np.array([file.colormap(1)[i][:3] for i in range(256)], np.uint8)
        expected = table[file.read(1)]
    windowed(path, expected)
    np.testing.assert_array_equal(read(path, bands=[2, None, 0])[..., [0, 2]], expected[..., [2, 0]])
    (header,) = _core.image_headers([path], threads=1)
    assert (header["bands"], header["dtype"]) == (3, "uint8")


def test_a_palettes_nodata_is_a_number_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    numbers = np.random.default_rng(2).integers(0, 6, (1, 20, 30)).astype(np.uint8)
    write_gdal(path, numbers, photometric="PALETTE", nodata=3)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {i: (i * 50, 3 if i == 4 else 0, 255 - i, 255) for i in range(6)})
    with rasterio.open(path) as file:
        table = np.array([file.colormap(1)[i][:3] for i in range(6)], np.uint8)
    check(path, table[numbers[0]], np.repeat(numbers[0][..., None] == 3, 3, axis=2))


@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE"])
def test_gray_is_what_is_stored(tmp_path: Path, photometric: str) -> None:
    path = tmp_path / "a.tif"
    write_gdal(path, bands_first(60, 70, 1), photometric=photometric)
    windowed(path, reference(path))


@pytest.mark.parametrize("blocks", [{}, TILES, {"blockysize": 16}])
@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize(
    ("bands", "options"),
    [
        (1, {}),
        (3, {"photometric": "RGB"}),
        (3, {"photometric": "RGB", "jpegtablesmode": 0}),
        (3, {"photometric": "RGB", "jpegtablesmode": 3, "endianness": "BIG", "bigtiff": "YES"}),
        (3, {"photometric": "MINISBLACK"}),
        (3, {"photometric": "RGB", "interleave": "band"}),
        (2, {"photometric": "MINISBLACK", "interleave": "band"}),
        (6, {"photometric": "MINISBLACK", "interleave": "band"}),
    ],
)
def test_jpegs_in_tiffs_are_gdals_pixels(
    tmp_path: Path, bands: int, options: dict[str, Any], quality: int, blocks: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    write_gdal(path, bands_first(109, 147, bands), compress="jpeg", jpeg_quality=quality, **options, **blocks)
    windowed(path, reference(path))


def pillows(path: Path) -> np.ndarray:
    """[h, w, 3] of a TIFF's JPEGs, decoded by Pillow, which has libjpeg-turbo."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
        blocks = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        shape, tables = page.shape, page.jpegtables
    across = -(-shape[1] // width)
    data, image = path.read_bytes(), np.zeros((2000, 2000, 3), np.uint8)
    for number, (start, length) in enumerate(blocks):
        block = data[start : start + length]
        y, x = number // across * height, number % across * width
        if tables:
            block = block[:2] + tables[2:-2] + block[2:]
        pixels = np.asarray(Image.open(io.BytesIO(block)).convert("RGB"))
        image[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return image[: shape[0], : shape[1]]


@pytest.mark.parametrize(
    "blocks", [{}, TILES, {"blockysize": 32}, {"jpegtablesmode": 0} | TILES, {"endianness": "BIG"}]
)
@pytest.mark.parametrize("quality", [50, 95])
def test_jpegs_with_fewer_colours_than_pixels(tmp_path: Path, quality: int, blocks: dict[str, Any]) -> None:
    """YCbCr of 4:2:0: libjpeg-turbo's pixels. IJG's libjpeg 9, in rasterio's wheels, enlarges colours another way."""
    path = tmp_path / "a.tif"
    options = {"compress": "jpeg", "photometric": "YCBCR", "jpeg_quality": quality}
    write_gdal(path, bands_first(109, 147, 3), **options, **blocks)
    expected = pillows(path)
    windowed(path, expected)
    difference = np.abs(expected.astype(int) - reference(path))
    assert difference.mean() < 1.5
    assert difference.max() < 40


def overviews_of(path: Path) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Factor, samples, and where there is no data, of each overview."""
    with rasterio.open(path) as file:
        factors = file.overviews(1)
    return [(factor, *masked(path, overview_level=level)) for level, factor in enumerate(factors)]


def check_overviews(path: Path) -> None:
    """For each allowed factor: the largest overview within it, whole and in windows, with and without nodata."""
    whole, invalid = masked(path)
    height, width = whole.shape[:2]
    levels = [(1, whole, invalid)]
    # The COG driver rounds an overview's sides down: then a pixel of it does not stand for whole ones, and is not used.
    levels += [
        (factor, level, gone)
        for factor, level, gone in overviews_of(path)
        if level.shape[:2] == (-(-height // factor), -(-width // factor))
    ]
    rng = np.random.default_rng(5)
    for shrink in range(1, 2 * levels[-1][0]):
        factor, level, gone = max((level for level in levels if level[0] <= shrink), key=lambda level: level[0])
        for window in [None, (0, 0, 1, 1), (width - 1, height - 1, 1, 1)] + [
            (int(x0), int(y0), int(x1 - x0), int(y1 - y0))
            for (x0, x1), (y0, y1) in (
                (np.sort(rng.choice(side + 1, 2, replace=False)) for side in (width, height)) for _ in range(6)
            )
        ]:
            got = _core.read_image(path, window=window, shrink=shrink)
            assert got["shrink"] == factor
            x, y, w, h = got["rect"]
            assert x % factor == y % factor == 0
            wanted = window or (0, 0, width, height)
            assert x <= wanted[0]
            assert y <= wanted[1]
            assert x + w >= wanted[0] + wanted[2]
            assert y + h >= wanted[1] + wanted[3]
            part = (slice(y // factor, -(-(y + h) // factor)), slice(x // factor, -(-(x + w) // factor)))
            expected = level[part] if level.dtype != np.float32 else np.where(gone[part], np.nan, level[part])
            same(got["data"], expected, (shrink, window))
            if level.dtype != np.float32 and gone.any():
                got = _core.read_image(path, window=window, shrink=shrink, nodata=7)["data"]
                same(got, without(level[part], gone[part], 7), (shrink, window, "nodata"))


@pytest.mark.parametrize("size", [(201, 133), (256, 128), (257, 65)])
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "uint8"},
        {"dtype": "uint16", "compress": "deflate", "predictor": 2, "interleave": "band"},
        {"dtype": "float32", "compress": "zstd", "predictor": 3, "nodata": 9.0},
        {"dtype": "uint8", "compress": "lzw", "nodata": 7},
        {"dtype": "uint16", "endianness": "BIG", "bigtiff": "YES", "nodata": 0},
    ],
)
def test_overviews(tmp_path: Path, size: tuple[int, int], options: dict[str, Any]) -> None:
    path, options = tmp_path / "a.tif", dict(options)
    image = bands_first(size[1], size[0], 3).astype(options.pop("dtype"))
    image[:, 20:50, 33:80] = options.get("nodata", 0)
    write_gdal(path, image, photometric="MINISBLACK", **TILES, **options)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    check_overviews(path)
    (header,) = _core.image_headers([path], threads=1)
    sizes = [(-(-size[0] // factor), -(-size[1] // factor)) for factor in (2, 4, 8)]
    assert [tuple(size) for size in header["overviews"]] == sizes


def test_overviews_with_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_gdal(path, bands_first(133, 201, 3), photometric="RGB", compress="deflate", **TILES)
    valid = np.ones((133, 201), np.uint8)
    valid[30:90, 50:120] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(valid.astype(bool))
        file.build_overviews([2, 4], Resampling.nearest)
    check_overviews(path)


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "DEFLATE", "predictor": "YES"},
        {"compress": "ZSTD", "predictor": "YES", "dtype": "uint16", "nodata": 7},
        {"compress": "JPEG", "quality": 80, "bands": 1},
        {"compress": "JPEG", "mask": True, "bands": 1},
        {"compress": "LZW", "mask": True, "interleave": "band"},
        {"compress": "NONE", "dtype": "float32", "sparse_ok": True},
    ],
)
@pytest.mark.parametrize("size", [(388, 300), (389, 301)])
def test_cogs(tmp_path: Path, size: tuple[int, int], options: dict[str, Any]) -> None:
    path, plain, options = tmp_path / "cog.tif", tmp_path / "plain.tif", dict(options)
    kind, mask, bands = options.pop("dtype", "uint8"), options.pop("mask", False), options.pop("bands", 3)
    width, height = size
    image = bands_first(height, width, bands).astype(kind)
    image[:, 128:256, :128] = 0
    write_gdal(plain, image, photometric="RGB" if bands == 3 else "MINISBLACK")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(plain, "r+") as file:
        if mask:
            file.write_mask(np.linspace(0, 2, width * height).reshape(height, width) % 0.7 > 0.1)
    if "nodata" in options:
        with rasterio.open(plain, "r+") as file:
            file.nodata = options.pop("nodata")
    from rasterio.shutil import copy

    copy(plain, path, driver="COG", blocksize=128, overview_count=2, **options)
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4]
    check(path, *masked(path))
    check_overviews(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I", "F", "P", "RGBA", "LA"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_pillows_files(tmp_path: Path, mode: str, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    image = Image.fromarray(smooth(61, 75, 3, seed=4))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
    elif mode == "P":
        image = image.quantize(200)
    else:
        image = image.convert(mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.fromarray(smooth(61, 75, 1, seed=5)[..., 0] // 64 * 64))
    image.save(path, compression=compression)
    with rasterio.open(path) as file:
        expected = kept(file.read())
        if mode == "P":
            expected = np.array([file.colormap(1)[i][:3] for i in range(256)], np.uint8)[expected[..., 0]]
    if mode in ("RGBA", "LA"):
        check_alpha(path, expected, expected.shape[2] - 1)
    else:
        windowed(path, expected)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {"compress": "ccittfax4", "nbits": 1, "bands": 1}),
        ("uint8", {"nbits": 1, "bands": 1}),
        ("uint8", {"nbits": 7}),
        ("uint16", {"nbits": 12}),
        ("uint16", {"compress": "jpeg", "nbits": 12, "bands": 1}),
        ("float32", {"compress": "lerc"}),
        ("float32", {"compress": "lerc_zstd"}),
        ("uint16", {"compress": "lzma"}),
        ("uint8", {"compress": "webp"}),
        ("uint64", {}),
        ("int64", {}),
        ("complex64", {}),
    ],
)
def test_what_is_not_read_says_so(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    path, options = tmp_path / "odd one.tif", dict(options)
    bands = options.pop("bands", 3)
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=30, count=bands, dtype=dtype, transform=GROUND, **options
    ) as file:
        file.write(np.zeros((bands, 30, 40), dtype))
    with pytest.raises(Exception, match=r"odd one\.tif: not read here: "):
        _core.read_image(path)
    (header,) = _core.image_headers([path], threads=1)
    assert "not read here: " in header["error"]


@pytest.mark.parametrize(
    ("bands", "options"),
    [
        (4, {"photometric": "CMYK"}),
        (3, {"photometric": "CIELAB"}),
        (2, {"photometric": "MINISBLACK", "compress": "jpeg"}),
        (4, {"photometric": "MINISBLACK", "compress": "jpeg"}),
    ],
)
def test_rare_ones_are_rasterios_or_not_read(tmp_path: Path, bands: int, options: dict[str, Any]) -> None:
    """Colours that rasterio turns into RGB and alpha, and JPEGs of two and four bands."""
    path = tmp_path / "a.tif"
    write_gdal(path, bands_first(40, 50, bands), **options)
    (header,) = _core.image_headers([path], threads=1)
    if header["error"]:
        assert "not read here: " in header["error"]
    else:
        kept = 3 if options["photometric"] in ("CMYK", "CIELAB") else bands
        same(read(path), reference(path)[..., :kept], options)


def test_many_strips(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image = np.arange(5000 * 3, dtype=np.uint16).reshape(1, 5000, 3)
    write_gdal(path, image, blockysize=1, compress="deflate")
    windowed(path, reference(path))


@needs_scenes
@pytest.mark.parametrize("path", SCENES[::3] or [Path("none")], ids=lambda path: path.stem)
def test_real_scenes(path: Path) -> None:
    expected, invalid = masked(path)
    windowed(path, expected)
    check(path, expected, invalid)
    check_overviews(path)
