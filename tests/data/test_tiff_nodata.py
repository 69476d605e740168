"""Samples without data, by GDAL's tag, masks, alpha and NaN: those that rasterio masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from tiff_matrix import GROUND, kept, read, write_gdal

from geossl import _core

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

VALUES = {"uint8": (0, 5, 255), "uint16": (0, 5, 65_535)}
"""What samples without data shall become; one of them the dtype's maximum."""


def masked(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """[h, w, bands] of samples, and where there is no data."""
    with rasterio.open(path, **options) as file:
        image = file.read(masked=True)
        return kept(image.data), np.ma.getmaskarray(image).transpose(1, 2, 0)


def without(image: np.ndarray, invalid: np.ndarray, value: int) -> np.ndarray:
    """What the reader makes of integers: invalid samples have the value, valid ones of that value the next one."""
    top = np.iinfo(image.dtype).max
    moved = np.where(image == value, value - 1 if value == top else value + 1, image)
    return np.where(invalid, value, moved).astype(image.dtype)


def check(path: Path, image: np.ndarray, invalid: np.ndarray) -> None:
    """The reader's samples with each value for no data, and without one."""
    if image.dtype == np.float32:
        for nodata in (None, 0, 5):
            got = _core.read_image(path, nodata=nodata)
            np.testing.assert_array_equal(got["data"], np.where(invalid, np.nan, image))
            assert np.isnan(got["nodata"])
        return
    np.testing.assert_array_equal(read(path), image)
    for value in VALUES[str(image.dtype)]:
        got = _core.read_image(path, nodata=value)
        # Valid samples move away from the value also where none can be without data: it is one for all images of a run.
        assert got["nodata"] in ((None, value) if not invalid.any() else (value,))
        expected = without(image, invalid, value)
        assert got["data"].dtype == image.dtype
        np.testing.assert_array_equal(got["data"], expected, err_msg=str(value))


def numbers(dtype: str, value: float, bands: int = 2) -> np.ndarray:
    """[bands, 40, 50] of a few values, many of them `value` and its neighbours."""
    rng = np.random.default_rng(3)
    if dtype.startswith("float"):
        few = [value, 0, 1, 7, -9999, np.nan, np.inf, -np.inf, np.finfo(dtype).min]
    else:
        limits = np.iinfo(dtype)
        near = [v for v in (value, value - 1, value + 1) if limits.min <= v <= limits.max]
        few = [*near, limits.min, limits.max, limits.max - 1, 0, 1, 4, 5, 6]
    with np.errstate(over="ignore"):
        return rng.choice(np.array(few, dtype), (bands, 40, 50))


TEXTS = [
    *[("uint8", text) for text in ("0", "255", "5", "1e2", " 7", "100.0", "-9999", "256", "nan", "")],
    *[("uint16", text) for text in ("0", "65535", "5", "-32768", "65536", "nan")],
    *[("int8", text) for text in ("-128", "127", "128")],
    *[("int16", text) for text in ("-9999", "-32768", "32767", "-9999.0", "40000")],
    *[("uint32", text) for text in ("0", "4294967295", "-1")],
    *[("int32", text) for text in ("-2147483648", "2147483647")],
    *[("float16", text) for text in ("nan", "-9999", "0")],
    *[("float32", text) for text in ("nan", "-9999", "0", "0.1", "inf", "-inf", "-3.4028234663852886e+38", "")],
    # As ESRI writes it, and beyond what float32 holds.
    *[("float32", text) for text in ("-3.40282e+38", "-1.7976931348623157e+308")],
    *[("float64", text) for text in ("nan", "-9999", "0.1", "-1.7976931348623157e+308", "inf")],
]


@pytest.mark.parametrize(("dtype", "text"), TEXTS)
def test_gdals_tag(tmp_path: Path, dtype: str, text: str) -> None:
    image = numbers(
        dtype, float(text or "nan") if dtype.startswith("float") else round(float(text.replace("nan", "") or 7))
    )
    path = tmp_path / "a.tif"
    tag = (42113, "s", 0, text, True)
    transform = [(33550, "d", 3, (0.6, 0.6, 0.0), True), (33922, "d", 6, (0, 0, 0, 1000.0, 2000.0, 0), True)]
    tifffile.imwrite(
        path, image, photometric="minisblack", planarconfig="separate", extratags=[tag, *transform], metadata=None
    )
    expected, invalid = masked(path)
    check(path, expected, invalid)
    with rasterio.open(path) as file:
        nodata = file.nodata
    (header,) = _core.image_headers([path], threads=1)
    if nodata is None or dtype.startswith("float"):
        assert header["nodata"] is None or dtype.startswith("float")
    else:
        assert header["nodata"] == nodata


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "lzw"}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_internal_masks(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    image = numbers(dtype, 5, bands=3)
    write_gdal(path, image, photometric="MINISBLACK", **options)
    valid = np.random.default_rng(1).random(image.shape[1:]) < 0.6
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(valid)
    assert sorted(tmp_path.iterdir()) == [path]
    expected, invalid = masked(path)
    np.testing.assert_array_equal(invalid | np.isnan(expected), ~valid[..., None] | np.isnan(expected))
    check(path, expected, invalid)
    for window in [(0, 0, 7, 3), (31, 15, 19, 25), (49, 39, 1, 1), (8, 0, 1, 40)]:
        x, y, w, h = window
        got = _core.read_image(path, window=window, nodata=5, bands=[2, 0])["data"]
        whole = _core.read_image(path, nodata=5)["data"]
        np.testing.assert_array_equal(got, whole[y : y + h, x : x + w][..., [2, 0]])
    (header,) = _core.image_headers([path], threads=1)
    assert np.isnan(header["nodata"])
    assert (header["bands"], header["overviews"]) == (3, [])


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 32, "interleave": "band"}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_is_a_mask(tmp_path: Path, bands: int, dtype: str, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    image = numbers(dtype, 5, bands=bands)
    photometric = "MINISBLACK" if bands == 2 else "RGB"
    write_gdal(path, image, photometric=photometric, alpha="YES", compress="deflate", predictor=2, **options)
    expected, invalid = masked(path)
    assert invalid.any()
    np.testing.assert_array_equal(invalid[..., 0], expected[..., -1] == 0)
    check_alpha(path, expected, bands - 1)


def check_alpha(path: Path, image: np.ndarray, alpha: int) -> None:
    """An alpha band is a band like others; where it is left out, it says which pixels have data."""
    bands = image.shape[2]
    (header,) = _core.image_headers([path], threads=1)
    assert (header["bands"], header["alpha"]) == (bands, alpha)
    assert np.isnan(header["nodata"])
    check(path, image, np.zeros_like(image, bool))
    colors = [band for band in range(bands) if band != alpha]
    invalid = np.repeat(image[..., [alpha]] == 0, bands, axis=2)
    for value in VALUES[str(image.dtype)]:
        got = _core.read_image(path, bands=colors, nodata=value)
        assert got["nodata"] == value
        np.testing.assert_array_equal(got["data"], without(image, invalid, value)[..., colors])
    got = _core.read_image(path, window=(15, 3, 20, 31), bands=[colors[-1], None, alpha], nodata=0)
    assert got["nodata"] is None
    moved = without(image, np.zeros_like(invalid), 0)[3:34, 15:35]
    np.testing.assert_array_equal(got["data"][..., [0, 2]], moved[..., [colors[-1], alpha]])
    assert not got["data"][..., 1].any()


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("planar", [False, True])
def test_alpha_among_other_bands(tmp_path: Path, kind: str, planar: bool) -> None:
    """Four colours and alpha, which GDAL takes as a mask only where there are one or three colours."""
    path = tmp_path / "a.tif"
    image = numbers("uint16", 5, bands=5)
    tifffile.imwrite(
        path,
        image if planar else np.ascontiguousarray(np.moveaxis(image, 0, -1)),
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        extrasamples=["unspecified", kind],
        rowsperstrip=9,
        metadata=None,
    )
    pixels = image.transpose(1, 2, 0)
    check_alpha(path, pixels, 4)


def test_missing_blocks(tmp_path: Path) -> None:
    """Tiles that were never written are zeros, or the nodata value where the file has one."""
    for name, nodata, dtype in (("a", None, "uint16"), ("b", 9, "uint8"), ("c", -9999, "int16"), ("d", 3, "float32")):
        for interleave in ("pixel", "band"):
            path = tmp_path / f"{name}{interleave}.tif"
            blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": interleave}
            kind = {"width": 70, "height": 50, "count": 2, "dtype": dtype, "transform": GROUND, "nodata": nodata}
            with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, compress="deflate", **blocks, **kind) as file:
                part = np.arange(1, 513).reshape(2, 16, 16).astype(dtype)
                file.write(part, window=rasterio.windows.Window(32, 16, 16, 16))
            assert path.stat().st_size < 3000
            check(path, *masked(path))


def test_missing_strips(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    kind = {"width": 70, "height": 50, "count": 3, "dtype": "uint16", "transform": GROUND, "blockysize": 8}
    with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, **kind) as file:
        file.write(np.full((3, 8, 70), 77, np.uint16), window=rasterio.windows.Window(0, 24, 70, 8))
    check(path, *masked(path))


def test_bands_that_are_not_there_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_gdal(path, numbers("uint8", 5), nodata=5)
    got = _core.read_image(path, bands=[None, 1, None], nodata=9)["data"]
    assert not got[..., 0].any()
    assert not got[..., 2].any()
    np.testing.assert_array_equal(got[..., 1], read(path, nodata=9)[..., 1])
