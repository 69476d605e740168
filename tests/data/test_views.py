"""Pixels of the views, against torchvision, Pillow and rasterio."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from made_images import index_of, smooth
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader


def views(index: Index, *, size: int, train: bool = False, crop: dict[str, Any] | None = None) -> torch.Tensor:
    """[n, C, size, size]: one view of each image."""
    source = Loader(
        index,
        rows=np.arange(len(index)),
        batch=len(index),
        views=1,
        temporal=False,
        crop=CropConfig(size=size, flip=0, **(crop or {})),
        color=None,
        seed=1,
        train=train,
        loader=LoaderConfig(threads=1),
    )
    (images,) = [(b.images[0].clone(), b.rows[0]) for b in source]
    return images[0][images[1].argsort()]


def assert_close(got: torch.Tensor, expected: torch.Tensor, scale: float = 1) -> None:
    """Within 1/255 on average and 3/255 at most."""
    difference = (got.double() - expected.double()).abs() / scale
    assert difference.mean() <= 1
    assert difference.max() <= 3


def resize(image: torch.Tensor, size: list[int]) -> torch.Tensor:
    return tv.resize(image, size, interpolation=InterpolationMode.BILINEAR, antialias=True)


@pytest.mark.parametrize("shape", [(224, 224), (300, 500), (700, 431), (64, 90), (225, 1000)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_evaluation_is_torchvisions_resize_and_center_crop(tmp_path: Path, shape: tuple[int, int], name: str) -> None:
    Image.fromarray(smooth(*shape, 3, seed=1)).save(tmp_path / name)
    image = torch.from_numpy(np.asarray(Image.open(tmp_path / name)).copy()).permute(2, 0, 1)
    expected = tv.center_crop(resize(image, [224]), [224, 224])
    got = views(index_of(tmp_path, [name], ["p"]), size=224)[0]
    assert_close(got, expected)
    # Pillow, the paper's resampler, is what torchvision copies: nearly every value is the same.
    width, height = shape[1], shape[0]
    short = (224, int(224 * height / width)) if width <= height else (int(224 * width / height), 224)
    pillow = Image.open(tmp_path / name).resize(short, Image.Resampling.BILINEAR)
    pillow_view = tv.center_crop(torch.from_numpy(np.asarray(pillow).copy()).permute(2, 0, 1), [224, 224])
    assert_close(got, pillow_view)


def test_training_crops_are_torchvisions_crop_and_resize(tmp_path: Path) -> None:
    """Every crop the loader makes is found among torchvision's resized crops of the same image."""
    height, width = 13, 17
    Image.fromarray(smooth(height, width, 3, seed=2)).save(tmp_path / "a.png")
    image = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.png")).copy()).permute(2, 0, 1)
    candidates = [
        resize(image[:, y : y + h, x : x + w], [16, 16])
        for h in range(4, height + 1)
        for w in range(4, width + 1)
        for y in range(height - h + 1)
        for x in range(width - w + 1)
    ]
    every = torch.stack(candidates).double()
    index = index_of(tmp_path, ["a.png"] * 20, [None] * 20)
    for view in views(index, size=16, train=True, crop={"scale": (0.2, 1.0)}):
        difference = (every - view.double()).abs()
        best = difference.mean(dim=(1, 2, 3)).argmin()
        assert difference[best].mean() <= 0.5
        assert difference[best].max() <= 3


def test_published_crop_resizes_twice_as_torchvision_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scale of 1 and a ratio of 1 the published recipe has no freedom: resize, central square, resize."""
    Image.fromarray(smooth(500, 700, 3, seed=3)).save(tmp_path / "a.png")
    image = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.png")).copy()).permute(2, 0, 1)
    square = tv.center_crop(resize(image, [448]), [448, 448])
    monkeypatch.setattr("geossl.data.loader.RATIO", (1.0, 1.0))
    crop = {"resize": 448, "center": True, "scale": (1.0, 1.0)}
    got = views(index_of(tmp_path, ["a.png"], ["p"]), size=224, train=True, crop=crop)[0]
    assert_close(got, resize(square, [224, 224]))


def test_the_linear_protocols_crops_are_squares_of_the_resized_image(tmp_path: Path) -> None:
    Image.fromarray(smooth(60, 100, 3, seed=8)).save(tmp_path / "a.png")
    image = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.png")).copy()).permute(2, 0, 1)
    small = resize(image, [32])
    assert small.shape[1:] == (32, 53)
    squares = torch.stack([small[:, :, x : x + 32] for x in range(53 - 32 + 1)]).double()
    source = Loader(
        index_of(tmp_path, ["a.png"] * 40, [None] * 40),
        rows=np.arange(40),
        batch=40,
        views=1,
        temporal=False,
        crop=CropConfig(size=32),
        color=None,
        seed=3,
        train=False,
        cut="random",
        loader=LoaderConfig(threads=1),
    )
    found = []
    for epoch in range(2):
        source.set_epoch(epoch)
        (batch,) = [(b.images[0].clone(), b.rows[0].tolist()) for b in source]
        assert batch[1] == list(range(40)), "in order, so that the labels of the rows stand"
        difference = (squares[None] - batch[0][:, None].double()).abs().mean(dim=(2, 3, 4))
        assert difference.min(dim=1).values.max() <= 0.5
        found.append(difference.argmin(dim=1).tolist())
    assert found[0] != found[1]
    assert len(set(found[0] + found[1])) > 12, "all along the image"


def test_the_box_with_its_context_is_what_is_seen(tmp_path: Path) -> None:
    Image.fromarray(smooth(400, 400, 3, seed=4)).save(tmp_path / "a.png")
    image = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.png")).copy()).permute(2, 0, 1)
    boxes: dict[str, list] = {"box_x": [100], "box_y": [60], "box_w": [100], "box_h": [100]}
    index = index_of(tmp_path, ["a.png"], ["p"], **boxes)
    # A quarter of the side: half of the box is added, a quarter (25 px) on each side.
    assert_close(views(index, size=32)[0], resize(image[:, 35:185, 75:225], [32, 32]))
    plain = views(index, size=32, crop={"context": False})[0]
    assert_close(plain, resize(image[:, 60:160, 100:200], [32, 32]))


@pytest.mark.parametrize("bands", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planar"])
def test_tiffs_of_any_bands_are_rasterios_values(tmp_path: Path, bands: int, dtype: str, layout: str) -> None:
    rng = np.random.default_rng(bands)
    image = rng.integers(0, 255 if dtype == "uint8" else 10_000, (bands, 100, 130)).astype(dtype)
    profile = {
        "driver": "GTiff",
        "width": 130,
        "height": 100,
        "count": bands,
        "dtype": dtype,
        "compress": "deflate",
    }
    profile |= {"strips": {}, "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 48}, "planar": {}}[layout]
    profile |= {"interleave": "band" if layout == "planar" else "pixel"}
    profile |= {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-4, 0, 10, 0, -1e-4, 50)}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(image)
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), image)
    boxes: dict[str, list] = {"box_x": [35], "box_y": [10], "box_w": [64], "box_h": [64]}
    index = index_of(tmp_path, ["a.tif"], ["p"], bands=[bands], dtype=[dtype], **boxes)
    got = views(index, size=64, crop={"context": False})[0]
    np.testing.assert_array_equal(got.numpy(), image[:, 10:74, 35:99])
    if dtype == "uint8":
        small = views(index, size=32, crop={"context": False})[0]
        assert_close(small, resize(torch.from_numpy(image[:, 10:74, 35:99]), [32, 32]))
    else:
        small = views(index, size=32, crop={"context": False})[0]
        assert_close(small, resize(torch.from_numpy(image[:, 10:74, 35:99].astype(np.float32)), [32, 32]), 65535 / 255)


def test_big_endian_tiff(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 60_000, (40, 40, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=">", photometric="minisblack", planarconfig="contig")
    index = index_of(tmp_path, ["a.tif"], ["p"], bands=[4], dtype=["uint16"])
    np.testing.assert_array_equal(views(index, size=40)[0].permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16"])
def test_png_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(smooth(32, 32, 3, seed=5))
    if mode == "I;16":
        image = Image.fromarray(np.random.default_rng(1).integers(0, 60_000, (32, 32)).astype(np.uint16))
        expected = np.repeat(np.asarray(image)[None], 3, axis=0)
    else:
        image = source.convert(mode)
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    image.save(tmp_path / "a.png")
    dtype = "uint16" if mode == "I;16" else "uint8"
    got = views(index_of(tmp_path, ["a.png"], ["p"], dtype=[dtype]), size=32)[0]
    np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
def test_jpegs_are_pillows_pixels(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    Image.fromarray(smooth(64, 64, 3, seed=6)).convert(mode).save(tmp_path / "a.jpg", quality=90, **options)
    got = views(index_of(tmp_path, ["a.jpg"], ["p"]), size=64)[0]
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")).transpose(2, 0, 1)
    assert np.abs(got.numpy().astype(int) - expected).max() <= 1
