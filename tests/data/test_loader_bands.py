"""Batches of multispectral images: chosen bands, other types, no data, and formats that rasterio reads."""

from pathlib import Path
from typing import Any

import loading
import numpy as np
import pytest
import rasterio
import tifffile
import torch
from made_images import index_of, smooth

from geossl.augment import augment
from geossl.config import ColorConfig, CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.errors import UsageError

NAMES = {4: "blue,green,red,nir", 8: "coastal,blue,green,yellow,red,red_edge,nir,nir2"}
SIZE = 16


def image(bands: int, seed: int, dtype: str = "uint16") -> np.ndarray:
    """[SIZE, SIZE, bands], of values above 0."""
    made = np.concatenate([smooth(SIZE, SIZE, 6, 10 * seed + part) for part in range(bands // 6 + 1)], axis=2)
    return (made[..., :bands].astype(int) * 7 + 1).astype(dtype)


def index(folder: Path, images: list[np.ndarray], **columns: Any) -> Index:
    paths = [f"{i}.tif" for i in range(len(images))]
    for path, array in zip(paths, images, strict=True):
        tifffile.imwrite(folder / path, array, photometric="minisblack", planarconfig="contig")
    shapes = {"height": [len(a) for a in images], "width": [a.shape[1] for a in images]}
    kinds = {"bands": [a.shape[2] for a in images], "dtype": [a.dtype.name for a in images]}
    return index_of(folder, paths, [None] * len(paths), **(shapes | kinds | columns))


def in_order(source: Index, **over: Any) -> Loader:
    """The images as they are, one view, in order."""
    options: dict[str, Any] = {"train": False, "views": 1, "temporal": False, "color": None, "batch": 3}
    return loading.loader(source, **(options | {"crop": CropConfig(size=SIZE)} | over))


def mixed(folder: Path) -> tuple[Index, list[np.ndarray]]:
    images = [image(8 if i % 3 == 1 else 4, i) for i in range(6)]
    return index(folder, images, band_names=[NAMES[a.shape[2]] for a in images]), images


def test_a_batch_mixes_images_of_4_and_8_bands(tmp_path: Path) -> None:
    source, images = mixed(tmp_path)
    made = in_order(source, loader=LoaderConfig(bands=("nir", "yellow", "red"), threads=2))
    assert (made.bands, made.band_names, made.bits) == (3, ("nir", "yellow", "red"), 16)
    for k, batch in enumerate(made):
        assert batch.images.dtype == torch.uint16
        for i in range(3):
            whole = images[3 * k + i]
            four = whole.shape[2] == 4
            want = np.stack([whole[..., 3 if four else 6], 0 * whole[..., 0] if four else whole[..., 3],
                             whole[..., 2 if four else 4]])  # fmt: skip
            np.testing.assert_array_equal(batch.images[0, i].numpy(), want)
            assert batch.gains[0, i].tolist() == [1, 0 if four else 1, 1]


def test_a_band_that_is_not_there_is_the_mean(tmp_path: Path) -> None:
    source, _ = mixed(tmp_path)
    over: dict[str, Any] = {
        "train": True, "views": 2, "batch": 6, "color": ColorConfig(bands=(0.1, 0.3)),
        "loader": LoaderConfig(bands=("nir", "yellow", "red"), threads=2),
    }  # fmt: skip
    scale = ([0.02, 0.03, 0.04], [0.01, 0.02, 0.015])
    raw, made = in_order(source, **over), in_order(source, **over, normalize=scale)
    missing = 0
    for _ in range(3):
        for a, b in zip(raw, made, strict=True):
            mean, std = map(torch.tensor, scale)
            want = augment(
                a.images.flatten(0, 1), a.color.flatten(0, 1), mean=mean, std=std, gains=a.gains.flatten(0, 1)
            )
            assert ((b.images.flatten(0, 1) - want).abs() * std.view(-1, 1, 1)).max() < 0.1 / 255
            gone = b.gains == 0
            missing += int(gone.sum())
            assert (b.images[gone] == 0).all()
            assert gone.all(-1).sum() == 0, "a band at least stays"
            assert (b.gains[~gone] != 1).float().mean() < 0.1, "three bands have no factors of their own"
    assert missing > 20


def test_mixed_images_need_a_choice(tmp_path: Path) -> None:
    source, _ = mixed(tmp_path)
    with pytest.raises(UsageError, match=r"different bands.*--loader.bands"):
        in_order(source)


def test_another_number_of_bands_than_the_index_says(tmp_path: Path) -> None:
    source = index(tmp_path, [image(4, i) for i in range(3)])
    tifffile.imwrite(tmp_path / "1.tif", image(5, 1), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UsageError, match=r"1.tif: has 5 bands of 16 bits where the index says 4 of 16"):
        list(in_order(source))


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32"])
def test_other_types_are_floats(tmp_path: Path, dtype: str) -> None:
    images = [image(5, i, dtype) for i in range(3)]
    if dtype == "int16":
        images = [(a - 900).astype(dtype) for a in images]
    (batch,) = in_order(index(tmp_path, images))
    assert batch.images.dtype == torch.float32
    np.testing.assert_array_equal(batch.images[0].numpy(), np.stack(images).transpose(0, 3, 1, 2).astype(np.float32))


def half_empty(folder: Path, *, nodata: int, n: int = 6) -> Index:
    """Images of 64 pixels whose left half has no data."""
    folder.mkdir(exist_ok=True)
    columns: dict[str, Any] = {"bands": [2] * n, "dtype": ["uint16"] * n, "nodata": [float(nodata)] * n}
    columns |= {"width": [64] * n, "height": [64] * n}
    for i in range(n):
        made = np.random.default_rng(i).integers(1000, 1100, (2, 64, 64)).astype(np.uint16)
        made[:, :, :32] = nodata
        profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 2, "dtype": "uint16", "nodata": nodata}
        with rasterio.open(folder / f"{i}.tif", "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as out:
            out.write(made)
    return index_of(folder, [f"{i}.tif" for i in range(n)], [None] * n, **columns)


@pytest.mark.parametrize("nodata", [0, 65535])
def test_no_data_is_never_smeared(tmp_path: Path, nodata: int) -> None:
    source = half_empty(tmp_path, nodata=nodata)
    made = loading.loader(source, temporal=False, crop=CropConfig(size=24, min_valid=0), batch=6)
    assert made.nodata == nodata
    seen = set()
    for number in range(4):
        made.set_epoch(number)
        for batch in made:
            values = batch.images.numpy()
            data = values != nodata
            assert ((values[data] >= 1000) & (values[data] < 1100)).all()
            seen |= {data.all(), (~data).any()}
    assert True in seen


def test_crops_that_are_mostly_empty_are_drawn_again(tmp_path: Path) -> None:
    source = half_empty(tmp_path, nodata=0)

    def shares(min_valid: float, threads: int) -> np.ndarray:
        crop = CropConfig(size=24, scale=(0.1, 0.3), min_valid=min_valid)
        made = loading.loader(source, temporal=False, crop=crop, batch=6, loader=LoaderConfig(threads=threads))
        out = []
        for number in range(10):
            made.set_epoch(number)
            out += [(b.images != 0).any(2).float().mean((-1, -2)).flatten().numpy() for b in made]
        return np.concatenate(out)

    plain, chosen = shares(0, 1), shares(0.7, 1)
    assert (plain < 0.5).mean() > 0.2
    assert (chosen < 0.65).mean() < 0.02, "ten draws nearly always find one"
    np.testing.assert_array_equal(chosen, shares(0.7, 3))


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("uint16", 65535), ("int16", -9999), ("float32", -1.0)])
def test_no_data_is_augmented_alike_by_the_loader_and_on_the_device(tmp_path: Path, dtype: str, nodata: float) -> None:
    n, bands, rng = 12, 5, np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": 40, "height": 40, "count": bands, "dtype": dtype, "nodata": nodata}
    for i in range(n):
        made = (smooth(40, 40, 5, i).transpose(2, 0, 1) * 0.9 + 5).astype(dtype)
        made[:, rng.random((40, 40)) < 0.2] = nodata  # holes in all bands, and one band more here and there
        made[2, :10] = nodata
        with rasterio.open(tmp_path / f"{i}.tif", "w", **profile, transform=rasterio.Affine(9, 0, 5, 0, -9, 5)) as out:
            out.write(made)
    columns: dict[str, Any] = {"bands": [bands] * n, "dtype": [dtype] * n, "nodata": [float(nodata)] * n}
    source = index_of(tmp_path, [f"{i}.tif" for i in range(n)], [None] * n, **columns)
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    scale = ([100 / top] * bands, [60 / top] * bands)
    color = ColorConfig(jitter=(0.9, 0.4, 0.4, 0.4, 0.1), blur=(0.6, 1, 40), bands=(0.3, 0.2))
    over: dict[str, Any] = {"temporal": False, "crop": CropConfig(size=33), "color": color, "batch": 12}
    raw, made = loading.loader(source, **over), loading.loader(source, **over, normalize=scale)
    empty = 0
    for _ in range(3):
        for a, b in zip(raw, made, strict=True):
            mean, std = map(torch.tensor, scale)
            images, gains = a.images.flatten(0, 1), a.gains.flatten(0, 1)
            want = augment(images, a.color.flatten(0, 1), mean=mean, std=std, gains=gains, nodata=raw.nodata)
            assert want.isfinite().all()
            assert (b.images.flatten(0, 1) - want).abs().max() < 0.002
            empty += int((want == 0).sum())
            assert ((gains != 1) & (gains != 0)).any(), "bands have factors of their own"
    assert empty > 1000


def test_what_rasterio_reads_gives_the_same(tmp_path: Path) -> None:
    """A virtual data set of each image, which only rasterio opens, beside the image itself."""
    source = half_empty(tmp_path, nodata=0)
    for i in range(6):
        (tmp_path / f"{i}.vrt").write_text(
            '<VRTDataset rasterXSize="64" rasterYSize="64">'
            + "".join(
                f'<VRTRasterBand dataType="UInt16" band="{band}"><NoDataValue>0</NoDataValue><SimpleSource>'
                f'<SourceFilename relativeToVRT="1">{i}.tif</SourceFilename><SourceBand>{band}</SourceBand>'
                "</SimpleSource></VRTRasterBand>"
                for band in (1, 2)
            )
            + "</VRTDataset>"
        )
    columns = {name: source.table[name].to_pylist() for name in ("bands", "dtype", "nodata", "width", "height")}
    virtual = index_of(tmp_path, [f"{i}.vrt" for i in range(6)], [None] * 6, **columns, reader=["rasterio"] * 6)
    over: dict[str, Any] = {"temporal": False, "crop": CropConfig(size=24), "batch": 3}
    for bands in (None, ("2",)):
        over["loader"] = LoaderConfig(threads=2, bands=bands)
        for a, b in zip(loading.loader(source, **over), loading.loader(virtual, **over), strict=True):
            np.testing.assert_array_equal(a.images.numpy(), b.images.numpy())


def test_what_rasterio_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.vrt").write_text("<VRTDataset")
    columns: dict[str, Any] = {"bands": [2], "dtype": ["uint16"], "width": [64], "height": [64]}
    broken = index_of(tmp_path, ["0.vrt"], [None], **columns, reader=["rasterio"])
    with pytest.raises(UsageError, match=r"0.vrt: rasterio: "):
        list(in_order(broken, batch=1))


def test_images_that_lack_data_beside_images_that_do_not(tmp_path: Path) -> None:
    """The value that says so is kept off all other samples, of whatever format."""
    lacking = half_empty(tmp_path, nodata=7, n=2)
    full = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 20
    tifffile.imwrite(tmp_path / "full.tif", np.stack([full, full]), photometric="minisblack", planarconfig="separate")
    paths = [*lacking.table["path"].to_pylist(), "full.tif"]
    columns: dict[str, Any] = {"bands": [2] * 3, "dtype": ["uint16"] * 3, "nodata": [7.0, 7.0, None]}
    made = in_order(index_of(tmp_path, paths, [None] * 3, **columns), crop=CropConfig(size=64))
    (batch,) = made
    assert made.nodata == 7
    first, _, last = batch.images[0].numpy()
    assert (first[:, :, :32] == 7).all()
    assert (first[:, :, 32:] >= 1000).all()
    np.testing.assert_array_equal(last, np.where(full == 7, 8, full)[None].repeat(2, 0))
