"""Crops of two dates at the same ground."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import loading
import numpy as np
import pytest
import rasterio
import torch
from made_images import index_of
from rasterio.transform import Affine

from geossl.config import CropConfig, LoaderConfig, make_config
from geossl.data.index import Index, build_index
from geossl.errors import UsageError

if TYPE_CHECKING:
    from geossl.data.loader import Loader

NAIP = Path(__file__).parents[3] / "shared" / "data" / "naip"
GRIDS = [
    (Affine(10, 0, 5000, 0, -10, 9000), 90, 80),
    (Affine(10, 0, 5003, 0, -10, 9004), 91, 81),  # a third of a pixel off, a row and a column more
    (Affine(5, 0, 4980, 0, -5, 9010), 200, 170),  # twice as fine
    (Affine(15, 0, 4970, 0, -15, 9050), 70, 65),
]


def ground(folder: Path, *, crs: str | None = "EPSG:32614") -> Index:
    """Two dates of each pair of grids; a pixel's value is where it lies: metres east, and metres south."""
    pairs = [(a, b) for a in range(4) for b in range(a)]
    paths, places, grids = [], [], []
    for a, b in pairs:
        for grid in (a, b):
            transform, width, height = GRIDS[grid]
            x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
            east, north = transform @ (x, y)
            name = f"{a}{b}_{grid}.tif"
            profile = {"driver": "GTiff", "width": width, "height": height, "count": 2, "dtype": "uint16"}
            with rasterio.open(folder / name, "w", **profile, transform=transform, crs=crs) as out:
                out.write(np.stack([(east - 4900) * 30, (9100 - north) * 30]).astype(np.uint16))
            paths.append(name)
            places.append(f"{a}{b}")
            grids.append(GRIDS[grid])
    columns: dict[str, Any] = {"bands": [2] * len(paths), "dtype": ["uint16"] * len(paths), "crs": [crs] * len(paths)}
    columns |= {"width": [g[1] for g in grids], "height": [g[2] for g in grids]}
    columns |= {"transform": [None if crs is None else list(g[0])[:6] for g in grids]}
    return index_of(folder, paths, places, **columns)


def pairs(index: Index, epochs: int = 5, **crop: Any) -> np.ndarray:
    """[pairs, 2, bands, H, W] of metres."""
    spec = CropConfig(**({"size": 32, "flip": 0, "aligned": 0} | crop))
    made = loading.loader(index, crop=spec, color=None, batch=4)
    out = []
    for number in range(epochs):
        made.set_epoch(number)
        out += [batch.images.transpose(0, 1).to(torch.float32).numpy() / 30 for batch in made]
    return np.concatenate(out)


def test_both_dates_show_the_same_ground(tmp_path: Path) -> None:
    index = ground(tmp_path)
    found = pairs(index)
    # The border of an image is repeated where the resampling reaches over it.
    apart = (found[:, 0] - found[:, 1])[..., 4:-4, 4:-4]
    assert np.abs(apart.mean((2, 3))).max() < 0.2, "metres, where pixels have 5 to 15"
    # Antialiased resampling by a broken factor follows a slope to an eighth of a pixel.
    assert np.abs(apart).max() < 15 / 8
    spread = np.ptp(found[:, 0], axis=(2, 3)).max()
    assert spread > 500, "the crops are not points"
    plain = pairs(index, aligned=None)
    assert np.abs(plain[:, 0] - plain[:, 1]).mean() > 40


def test_the_jitter_is_bounded(tmp_path: Path) -> None:
    found = pairs(ground(tmp_path), aligned=0.2)
    extent = np.ptp(found[:, 0], axis=(2, 3)) * 32 / 31
    moved = np.abs((found[:, 0] - found[:, 1])[..., 8:-8, 8:-8].mean((2, 3))) / extent
    assert moved.max() < 0.22
    assert moved.max() > 0.1


def test_pixels_do_not_depend_on_threads(tmp_path: Path) -> None:
    index = ground(tmp_path)
    over: dict[str, Any] = {"crop": CropConfig(size=24, aligned=0.1), "color": None}
    one = loading.epoch(loading.loader(index, **over, loader=LoaderConfig(threads=1)))
    assert one == loading.epoch(loading.loader(index, **over, loader=LoaderConfig(threads=3)))


def test_one_date_alone_has_two_crops_of_it(tmp_path: Path) -> None:
    index = ground(tmp_path)
    alone = index_of(
        tmp_path, index.table["path"].to_pylist(), [None] * len(index),
        **{n: index.table[n].to_pylist() for n in ("bands", "dtype", "crs", "width", "height", "transform")},
    )  # fmt: skip
    found = pairs(alone)
    assert np.abs(found[:, 0] - found[:, 1]).mean() > 40


def test_images_without_georeference(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"crop.aligned: .* no georeference"):
        pairs(ground(tmp_path, crs=None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arm": "moco"}, "crop.aligned: for two dates of a place; the arm moco shows one"),
        ({"crop": {"aligned": 0.1, "resize": 64}}, "crop.aligned: crops the original pixels"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config({"data": "a", "out": "b", "crop": {"aligned": 0}}, settings)


@pytest.mark.skipif(not NAIP.is_dir(), reason="the NAIP scenes are not there")
def test_ten_dates_of_farmland() -> None:
    """Scenes on different grids, two of them a row taller: aligned crops are more alike than crops of their own."""
    index, _ = build_index(NAIP, layout="geotiff")

    def likeness(*, aligned: float | None) -> float:
        crop = CropConfig(size=64, flip=0, aligned=aligned)
        made: Loader = loading.loader(index, crop=crop, color=None, batch=10)
        values = []
        for number in range(4):
            made.set_epoch(number)
            for batch in made:
                one, other = batch.images.to(torch.float32).mean(2).flatten(2)
                values += [np.corrcoef(a, b)[0, 1] for a, b in zip(one.numpy(), other.numpy(), strict=True)]
        return float(np.mean(values))

    assert len(index) == 10
    assert index.places.max() == 0, "ten dates of one place"
    together, apart = likeness(aligned=0), likeness(aligned=None)
    assert together > 0.25 > abs(apart) + 0.1, (together, apart)
