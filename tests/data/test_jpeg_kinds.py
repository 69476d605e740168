"""JPEGs of every kind, against Pillow: orientation, colours, sampling, what follows the end; and `crop.decode`."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_images import index_of, smooth
from PIL import Image, ImageOps

from geossl import _core
from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.errors import UsageError

ORIENTATION = 0x0112


def views(index: Index, *, size: int, train: bool = False, count: int = 1, **crop: Any) -> torch.Tensor:
    """[n * count, C, size, size]: views of each image."""
    source = Loader(
        index,
        rows=np.arange(len(index)),
        batch=len(index),
        views=count,
        temporal=False,
        crop=CropConfig(**({"size": size, "context": False} | crop)),
        color=None,
        seed=1,
        train=train,
        loader=LoaderConfig(threads=1),
    )
    (images,) = [batch.images.clone().flatten(0, 1) for batch in source]
    return images


def pillow(path: Path) -> np.ndarray:
    """[3, H, W]: upright RGB."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)


def turned(path: Path, image: np.ndarray, orientation: int, **options: Any) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(image).save(path, quality=90, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 0}])
def test_images_and_boxes_are_upright(tmp_path: Path, orientation: int, options: dict[str, Any]) -> None:
    turned(tmp_path / "a.jpg", smooth(90, 130, 3, seed=1), orientation, **options)
    expected = pillow(tmp_path / "a.jpg")
    height, width = expected.shape[1:]
    assert (height, width) == ((90, 130) if orientation < 5 else (130, 90))
    [header] = _core.image_headers([str(tmp_path / "a.jpg")], threads=1)
    assert (header["width"], header["height"]) == (width, height)
    boxes: dict[str, list] = {"box_x": [33], "box_y": [17], "box_w": [48], "box_h": [48]}
    got = views(index_of(tmp_path, ["a.jpg"], ["p"], **boxes), size=48)[0]
    np.testing.assert_array_equal(got.numpy(), expected[:, 17:65, 33:81])


def test_a_broken_orientation_is_none(tmp_path: Path) -> None:
    turned(tmp_path / "a.jpg", smooth(64, 64, 3, seed=1), 6)
    plain = (tmp_path / "a.jpg").read_bytes()
    entry = plain.index(struct.pack("<HH", ORIENTATION, 3)) if b"II*" in plain else plain.index(b"\x01\x12\x00\x03")
    index = index_of(tmp_path, ["a.jpg"], ["p"])
    stored = np.asarray(Image.open(tmp_path / "a.jpg")).transpose(2, 0, 1)
    for value in (b"\x00\x00\x00\x00", b"\x09\x09\x09\x09"):
        (tmp_path / "a.jpg").write_bytes(plain[: entry + 8] + value + plain[entry + 12 :])
        np.testing.assert_array_equal(views(index, size=64)[0].numpy(), stored)


def without_segment(data: bytes, marker: int) -> bytes:
    at = data.index(bytes([0xFF, marker]))
    (length,) = struct.unpack(">H", data[at + 2 : at + 4])
    return data[:at] + data[at + 2 + length :]


def encoded(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def test_all_kinds_are_pillows_pixels(tmp_path: Path) -> None:
    """Identical, inks too: both decoders are libjpeg-turbo with its defaults, and inks become light by one formula."""
    rgb = Image.fromarray(smooth(64, 64, 3, seed=2))
    inks = Image.fromarray(np.concatenate([smooth(64, 64, 3, seed=3), smooth(64, 64, 1, seed=4)], axis=2), "CMYK")
    kinds = {
        "444": encoded(rgb, subsampling="4:4:4"),
        "422": encoded(rgb, subsampling="4:2:2"),
        "420": encoded(rgb, subsampling="4:2:0"),
        "411": encoded(rgb, subsampling="4:1:1"),
        "rgb": encoded(rgb, keep_rgb=True),
        "gray": encoded(rgb.convert("L")),
        "progressive": encoded(rgb, progressive=True),
        "progressive gray": encoded(rgb.convert("L"), progressive=True),
        "restart blocks": encoded(rgb, restart_marker_blocks=2),
        "restart rows": encoded(rgb, restart_marker_rows=1, progressive=True),
        "cmyk": encoded(inks),
        "cmyk 420": encoded(inks, subsampling="4:2:0"),
        "cmyk without adobe": without_segment(encoded(inks), 0xEE),
        "trailing bytes": encoded(rgb) + bytes(range(256)) * 300,
    }
    assert b"Adobe" in kinds["cmyk"]
    assert b"Adobe" not in kinds["cmyk without adobe"]
    for name, data in kinds.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    (tmp_path / "film.mpo").write_bytes(b"")
    rgb.save(tmp_path / "film.mpo", "MPO", save_all=True, append_images=[rgb.rotate(90)], quality=90)
    paths = [f"{name}.jpg" for name in kinds] + ["film.mpo"]
    for path, got in zip(paths, views(index_of(tmp_path, paths, [None] * len(paths)), size=64), strict=True):
        np.testing.assert_array_equal(got.numpy(), pillow(tmp_path / path), err_msg=path)


def test_a_cut_file_says_so(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(smooth(64, 64, 3, seed=5)))
    (tmp_path / "a.jpg").write_bytes(data[:-300])
    with pytest.raises(UsageError, match=r"a\.jpg: the JPEG is cut short"):
        views(index_of(tmp_path, ["a.jpg"], ["p"]), size=64)


def gradient(height: int, width: int) -> np.ndarray:
    """Slopes and a slow wave, different in each band: a shift of one pixel of a view changes it by 1 to 3 levels."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    wave = 0.5 + 0.4 * np.sin(9 * x + 5 * y)
    return (255 * np.stack([x, y, wave], axis=2)).astype(np.uint8)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("crop", [{}, {"resize": 100, "center": True}, {"resize": 60}])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_scaled_views_are_nearly_the_exact_ones(
    tmp_path: Path, subsampling: str, crop: dict[str, Any], orientation: int
) -> None:
    paths = ["a.jpg", "b.jpg", "c.jpg"]
    for path, (height, width) in zip(paths, [(517, 733), (900, 611), (411, 401)], strict=True):
        turned(tmp_path / path, gradient(height, width), orientation, subsampling=subsampling)
    index = index_of(tmp_path, paths * 8, [None] * 24)
    for train, cut in ((True, crop), (False, {})):
        exact, scaled, again = (
            views(index, size=48, train=train, count=2, decode=decode, **cut).double()
            for decode in ("exact", "scaled", "scaled")
        )
        assert torch.equal(scaled, again)
        assert not torch.equal(scaled, exact)
        difference = scaled - exact
        assert difference.abs().mean(dim=(1, 2, 3)).max() < 0.7
        assert difference.mean(dim=(2, 3)).abs().max() < 0.5, "nothing is moved"
        assert difference.abs().max() <= 6


def test_scaled_is_exact_where_nothing_is_twice_as_large(tmp_path: Path) -> None:
    Image.fromarray(smooth(95, 140, 3, seed=6)).save(tmp_path / "a.jpg", quality=90)
    Image.fromarray(smooth(400, 400, 3, seed=7)).save(tmp_path / "b.png")
    index = index_of(tmp_path, ["a.jpg", "b.png"] * 5, [None] * 10)
    exact, scaled = (views(index, size=48, train=True, count=2, decode=decode) for decode in ("exact", "scaled"))
    assert torch.equal(exact, scaled)


def test_views_of_one_image_are_shrunk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller view decides: with a crop of less than twice the size among the two, both are exact."""
    Image.fromarray(smooth(150, 150, 3, seed=8)).save(tmp_path / "a.jpg", quality=90)
    index = index_of(tmp_path, ["a.jpg"] * 40, [None] * 40)
    monkeypatch.setattr("geossl.data.loader.RATIO", (1.0, 1.0))
    exact, scaled = (
        views(index, size=50, train=True, count=2, decode=decode, scale=(0.3, 1.0)) for decode in ("exact", "scaled")
    )
    same = (exact == scaled).flatten(1).all(dim=1).view(2, 40)
    assert torch.equal(same[0], same[1])
    assert 5 < same[0].sum() < 35
