"""Colours changed by the loader's threads, against `geossl.augment` on the same batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import loading
import numpy as np
import pytest
import tifffile
import torch
from made_images import index_of, smooth

from geossl.augment import augment
from geossl.config import ColorConfig, CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Batch, Loader
from geossl.errors import UsageError

STRONG = ColorConfig(jitter=(0.9, 0.4, 0.4, 0.4, 0.5), gray_p=0.3, blur=(0.6, 0.7, 90))


def loader(index: Index, **over: Any) -> Loader:
    return loading.loader(
        index, **({"temporal": False, "crop": CropConfig(size=33), "color": STRONG, "seed": 3} | over)
    )


def scale(bands: int) -> tuple[list[float], list[float]]:
    return [0.3 + 0.05 * band for band in range(bands)], [0.2 + 0.03 * band for band in range(bands)]


def tiffs(folder: Path, *, bands: int, dtype: str, n: int = 12) -> Index:
    for i in range(n):
        image = np.concatenate([smooth(40, 40, 3, 10 * i + part) for part in range(3)], axis=2)[..., :bands]
        if dtype == "uint16":
            image = image.astype(np.uint16) * 200
        tifffile.imwrite(
            folder / f"{i}.tif", image, photometric="minisblack", planarconfig="contig" if bands > 1 else None
        )
    return index_of(folder, [f"{i}.tif" for i in range(n)], [None] * n, bands=[bands] * n, dtype=[dtype] * n)


def batches(source: Loader) -> list[Batch]:
    return [Batch(images=b.images.clone(), rows=b.rows, color=b.color, gains=b.gains) for b in source]


def assert_same(raw: Loader, made: Loader, *, mean: list[float], std: list[float]) -> torch.Tensor:
    """Compares every batch of an epoch on 0..1, ten times as closely as promised; gives the parameters seen."""
    colors = []
    for a, b in zip(batches(raw), batches(made), strict=True):
        assert torch.equal(a.rows, b.rows)
        assert torch.equal(a.color, b.color)
        assert b.images.dtype == torch.float32
        assert b.images.shape == a.images.shape
        assert b.images[0].is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(a.gains, b.gains)
        scaling: dict[str, Any] = {"mean": torch.tensor(mean), "std": torch.tensor(std), "nodata": raw.nodata}
        want = augment(a.images.flatten(0, 1), a.color.flatten(0, 1), gains=a.gains.flatten(0, 1), **scaling)
        difference = (b.images.flatten(0, 1) - want).abs() * torch.tensor(std).view(-1, 1, 1)
        assert difference.max() < 0.1 / 255
        colors.append(a.color.flatten(0, 1))
    return torch.cat(colors)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_any_bands_and_bits(tmp_path: Path, bands: int, dtype: str) -> None:
    index = tiffs(tmp_path, bands=bands, dtype=dtype)
    mean, std = scale(bands)
    assert_same(loader(index), loader(index, normalize=(mean, std)), mean=mean, std=std)


@pytest.mark.parametrize("size", [16, 32, 100])
def test_every_order_at_any_size(jpegs: Callable[..., Index], size: int) -> None:
    """Views may be smaller than the blur, and no multiple of what is worked on at a time."""
    index = jpegs(24)
    mean, std = scale(3)
    over: dict[str, Any] = {"crop": CropConfig(size=size), "batch": 24, "views": 6}
    color = assert_same(loader(index, **over), loader(index, **over, normalize=(mean, std)), mean=mean, std=std)
    assert set(color[:, 0].tolist()) == set(range(-1, 24))
    assert set(color[:, 5].tolist()) == {0, 1}
    assert (color[:, 6] == 0).any()


@pytest.mark.parametrize(
    "color",
    [
        ColorConfig(),
        ColorConfig(jitter=(0, 0, 0, 0, 0), gray_p=0, blur=(1, 4, 4)),
        ColorConfig(jitter=(1, 1, 1, 1, 0), gray_p=0, blur=(0, 0, 0)),
        None,
    ],
)
def test_recipes(jpegs: Callable[..., Index], color: ColorConfig | None) -> None:
    index = jpegs(12)
    mean, std = scale(3)
    assert_same(loader(index, color=color), loader(index, color=color, normalize=(mean, std)), mean=mean, std=std)


def test_evaluation_is_only_normalised(jpegs: Callable[..., Index]) -> None:
    index = jpegs(10)
    mean, std = scale(3)
    over: dict[str, Any] = {"train": False, "views": 1}
    color = assert_same(loader(index, **over), loader(index, **over, normalize=(mean, std)), mean=mean, std=std)
    assert torch.equal(color, torch.tensor([[-1.0, 1, 1, 1, 0, 0, 0]]).expand(10, -1))


def test_pixels_do_not_depend_on_threads_or_ranks(jpegs: Callable[..., Index]) -> None:
    index = jpegs(24)
    whole = batches(loader(index, batch=12, normalize=scale(3), loader=LoaderConfig(threads=1)))
    for world in (1, 3):
        parts = [
            batches(loader(index, batch=12, normalize=scale(3), rank=r, world=world, loader=LoaderConfig(threads=3)))
            for r in range(world)
        ]
        for k, batch in enumerate(whole):
            assert torch.equal(torch.cat([part[k].images for part in parts], dim=1), batch.images)


@pytest.mark.parametrize("on_error", ["substitute", "skip"])
def test_unreadable_images(jpegs: Callable[..., Index], on_error: str) -> None:
    index = jpegs(24)
    for i in (3, 17):
        (index.root / f"{i:03}.jpg").write_bytes(b"no image")
    mean, std = scale(3)
    over = {"loader": LoaderConfig(on_error=on_error, threads=2), "max_failures": 0.5, "batch": 6}
    raw, made = loader(index, **over), loader(index, **over, normalize=(mean, std))
    assert_same(raw, made, mean=mean, std=std)
    assert made.failures() == raw.failures() != []


def test_a_run_goes_on_where_the_device_normalises(jpegs: Callable[..., Index]) -> None:
    index = jpegs(12)
    source = loader(index)
    next(iter(source))
    made = loader(index, normalize=scale(3))
    made.load_state_dict(source.state_dict())
    assert len(list(made)) == len(source) - 1


def test_memory_bound_counts_floats(jpegs: Callable[..., Index]) -> None:
    index = jpegs(12)
    view = 33 * 33 * 3 * 4
    each = 2 * 2**30 + 2 * view + 64 * 2**20  # a thread: file, decoding, a view apart, small things
    assert loader(index, normalize=scale(3)).memory_bound == 4 * 2 * 4 * view + 2 * each


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        (([0.5], [0.2] * 3), "1 means and 3 deviations for images of 3 bands"),
        (([0.5] * 3, [0.2] * 4), "3 means and 4 deviations for images of 3 bands"),
        (([0.5] * 3, [0.2, 0.0, 0.2]), "must be above 0, not 0"),
    ],
)
def test_a_mean_that_does_not_fit_is_refused(
    jpegs: Callable[..., Index], normalize: tuple[list[float], list[float]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        loader(jpegs(4), normalize=normalize)
