"""Packs give the files' batches, go on after a kill, and say what is wrong."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loading
import numpy as np
import pyarrow as pa
import pytest
import rasterio
import torch
from made_images import index_of, smooth
from PIL import Image

from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.pack import Pack, make_pack, merge_pack, verify_pack
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from geossl.data.loader import Loader


@pytest.fixture
def mixed(tmp_path: Path) -> Index:
    """Images of 36 sizes: JPEGs of many kinds and all orientations, PNGs; three dates a place; half with a box."""
    paths = []
    for i in range(36):
        image = Image.fromarray(smooth(60 + 7 * i, 330 - 5 * i, 3, i))
        path = f"{i:03}.png" if i % 6 == 5 else f"{i:03}.jpg"
        kinds: list[dict[str, Any]] = [
            {"quality": 90},
            {"quality": 85, "subsampling": 0},
            {"quality": 92, "subsampling": 1},
            {"quality": 80, "progressive": True},
            {"quality": 75, "optimize": True},
        ]
        exif = Image.Exif()
        exif[0x0112] = 1 + i % 8  # the orientation
        options = {} if i % 6 == 5 else kinds[i % 5] | {"exif": exif}
        image.convert("L" if i % 7 == 6 else "RGB").save(tmp_path / path, **options)
        paths.append(path)
    boxes = {
        "box_x": [20 if i % 2 else None for i in range(36)],
        "box_y": [10 if i % 2 else None for i in range(36)],
        "box_w": [40 if i % 2 else None for i in range(36)],
        "box_h": [30 if i % 2 else None for i in range(36)],
    }
    return index_of(tmp_path, paths, [f"place{i // 3}" for i in range(36)], **boxes)


def loader(index: Index, pack: Path | None = None, **over: Any) -> Loader:
    """Temporal pairs of small crops."""
    own = LoaderConfig(**{"pack": pack, "threads": 2, **over.pop("loader", {})})
    return loading.loader(index, **({"batch": 12, "crop": CropConfig(size=32), "seed": 3, "loader": own} | over))


def hashes(source: Loader) -> list[str]:
    """One of each batch that is left of the epoch: pixels, rows and colours."""
    return [loading.digest(batch) for batch in source]


def test_the_contract_holds_for_files_and_a_lossless_pack(mixed: Index, tmp_path: Path) -> None:
    """Contract 1: any threads, any world, any restart, from either source, in two epochs."""
    pack = tmp_path / "pack"
    make_pack(mixed, pack, shard_bytes=200_000)
    whole = loader(mixed)
    wanted = [hashes(whole), hashes(whole)]
    assert len(set(wanted[0] + wanted[1])) == 6
    for source in (None, pack):
        for threads in (1, 2, 5):
            own = loader(mixed, source, loader={"threads": threads})
            assert [hashes(own), hashes(own)] == wanted
        state = {k: v for k, v in whole.state_dict().items() if k not in {"epoch", "batches"}}
        for epoch in (0, 1):
            for batches in range(4):  # the last one is the end of the epoch
                own = loader(mixed, source)
                own.load_state_dict({**state, "epoch": epoch, "batches": batches})
                if batches < 3:
                    assert hashes(own) == wanted[epoch][batches:]
        pixels = [batch.images.clone() for batch in loader(mixed)]
        for world in (1, 2, 3, 4):
            ranks = [
                [batch.images.clone() for batch in loader(mixed, source, rank=rank, world=world)]
                for rank in range(world)
            ]
            for k, batch in enumerate(pixels):
                assert torch.equal(torch.cat([rank[k] for rank in ranks], dim=1), batch)


@pytest.mark.parametrize("over", [{"scale": (0.9, 1.0), "decode": "scaled", "size": 16}, {"resize": 40}])
def test_other_crops_are_the_same(mixed: Index, tmp_path: Path, over: dict[str, Any]) -> None:
    make_pack(mixed, tmp_path / "pack")
    crop = CropConfig(**({"size": 32} | over))
    assert hashes(loader(mixed, tmp_path / "pack", crop=crop)) == hashes(loader(mixed, crop=crop))


@pytest.mark.parametrize("cut", ["center", "random"])
def test_other_cuts_are_the_same_too(mixed: Index, tmp_path: Path, cut: str) -> None:
    make_pack(mixed, tmp_path / "pack")
    over = {"train": False, "cut": cut, "views": 1, "temporal": False, "crop": CropConfig(size=64, resize=None)}
    assert hashes(loader(mixed, tmp_path / "pack", **over)) == hashes(loader(mixed, **over))


def test_other_images_are_kept_in_tiles(tmp_path: Path) -> None:
    paths = []
    for i in range(8):
        path, data = f"{i}.tif", smooth(150, 170, 4, i).astype(np.uint16) * 257 + i
        with rasterio.open(
            tmp_path / path, "w", driver="GTiff", width=170, height=150, count=4, dtype="uint16",
            transform=rasterio.Affine(10, 0, 500, 0, -10, 900),
        ) as file:  # fmt: skip
            file.write(data.transpose(2, 0, 1))
        paths.append(path)
    index = index_of(tmp_path, paths, ["a"] * 8, bands=[4] * 8, dtype=["uint16"] * 8)
    make_pack(index, tmp_path / "pack")
    wanted = hashes(loader(index, batch=4))
    assert hashes(loader(index, tmp_path / "pack", batch=4)) == wanted
    assert verify_pack(index, tmp_path / "pack") == ([], None)
    # Resized, they keep their kind.
    make_pack(index, tmp_path / "small", short_side=64)
    assert next(iter(loader(index, tmp_path / "small", batch=4))).images.dtype == torch.uint16


@pytest.mark.parametrize("kind", ["value", "mask", "floats"])
@pytest.mark.parametrize("bands", [None, ("4", "1")])
@pytest.mark.parametrize("reader", [None, "rasterio"])
def test_images_without_all_data_are_the_same(
    tmp_path: Path, kind: str, bands: tuple[str, ...] | None, reader: str | None
) -> None:
    """Samples without data, by the file's value, its mask or as NaN; all bands or some; by our reader or rasterio."""
    paths = []
    for i in range(6):
        data = (smooth(150, 170, 5, i).astype(np.float32) * 8.5).transpose(2, 0, 1)
        hole = np.zeros((150, 170), bool)
        hole[20 * i : 20 * i + 40, 30:110] = True
        profile = {"width": 170, "height": 150, "count": 5, "transform": rasterio.Affine(2, 0, 5, 0, -2, 5)}
        if kind == "floats":
            data[:, hole] = np.nan
        else:
            data = data.astype(np.uint16)
        if kind == "value":
            data[1:, hole] = 2000
            profile["nodata"] = 2000
        with rasterio.open(tmp_path / f"{i}.tif", "w", driver="GTiff", dtype=data.dtype.name, **profile) as file:
            file.write(data)
            if kind == "mask":
                file.write_mask(~hole)
        paths.append(f"{i}.tif")
    nodata = {"value": 2000.0, "mask": math.nan, "floats": None}[kind]
    columns = {
        "bands": [5] * 6,
        "dtype": ["float32" if kind == "floats" else "uint16"] * 6,
        "nodata": [nodata] * 6,
        "width": [170] * 6,
        "height": [150] * 6,
        "reader": [reader] * 6,
    }
    index = index_of(tmp_path, paths, [f"place{i // 3}" for i in range(6)], **columns)
    make_pack(index, tmp_path / "pack")
    assert verify_pack(index, tmp_path / "pack") == ([], None)
    own = {"batch": 3, "loader": {"bands": bands}}
    assert hashes(loader(index, tmp_path / "pack", **own)) == hashes(loader(index, **own))
    make_pack(index, tmp_path / "sized", short_side=100, raw=True)
    assert verify_pack(index, tmp_path / "sized") == ([], None)
    crop = CropConfig(size=32, resize=100)
    if kind != "value":  # of one value of its own the sized pack has another, 0
        assert hashes(loader(index, tmp_path / "sized", crop=crop, **own)) == hashes(loader(index, crop=crop, **own))


def test_a_raw_sized_pack_is_the_first_resize(mixed: Index, tmp_path: Path) -> None:
    """The paper's Resize(64) of the box, then RandomResizedCrop: what the pack did need not be done again."""
    make_pack(mixed, tmp_path / "pack", short_side=64, raw=True)
    crop = CropConfig(size=32, resize=64)
    for ours, files in zip(loader(mixed, tmp_path / "pack", crop=crop), loader(mixed, crop=crop), strict=True):
        assert torch.equal(ours.rows, files.rows)
        assert torch.equal(ours.images, files.images)


def test_a_sized_pack_says_what_it_loses(mixed: Index, tmp_path: Path) -> None:
    sizes = {}
    for quality in (50, 95):
        report = make_pack(mixed, tmp_path / f"{quality}", short_side=48, quality=quality)
        differ, psnr = verify_pack(mixed, tmp_path / f"{quality}")
        assert not differ
        assert report.psnr is not None
        assert psnr is not None
        sizes[quality] = (psnr, report.bytes_out)
    assert 20 < sizes[50][0] < sizes[95][0] < 60
    assert sizes[50][1] < sizes[95][1]
    near = next(iter(loader(mixed, tmp_path / "95", crop=CropConfig(size=32, resize=48))))
    files = next(iter(loader(mixed, crop=CropConfig(size=32, resize=48))))
    assert (near.images.float() - files.images.float()).abs().mean() < 5


def test_settings_must_fit_a_sized_pack(mixed: Index, tmp_path: Path) -> None:
    make_pack(mixed, tmp_path / "pack", short_side=48)
    with pytest.raises(UsageError, match=r"crop.context: .* was packed with context"):
        loader(mixed, tmp_path / "pack", crop=CropConfig(size=32, context=False))
    with pytest.raises(UsageError, match=r"crop.resize: 64 is more than the 48 pixels"):
        loader(mixed, tmp_path / "pack", crop=CropConfig(size=32, resize=64))
    state = loader(mixed, tmp_path / "pack").state_dict()
    with pytest.raises(UsageError, match="another options"):
        loader(mixed).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": 80}, "--quality: is for a sized pack"),
        ({"raw": True}, "--raw: is for a sized pack"),
        ({"short_side": 8}, "--short-side 8: must be at least 16"),
        ({"short_side": 64, "quality": 0}, "--quality 0: must be from 1 to 100"),
        ({"short_side": 64, "quality": 80, "raw": True}, "--raw: samples as they are"),
        ({"part": (3, 2)}, "--part 3/2"),
    ],
)
def test_wrong_settings(mixed: Index, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_pack(mixed, tmp_path / "pack", **options)


def test_a_folder_keeps_to_one_pack(mixed: Index, tmp_path: Path) -> None:
    make_pack(mixed, tmp_path / "pack")
    again = make_pack(mixed, tmp_path / "pack")
    assert (again.images, again.earlier, again.bytes_out) == (36, 36, 0)
    with pytest.raises(UsageError, match=r"other settings .lossless"):
        make_pack(mixed, tmp_path / "pack", short_side=48)
    part = Index(mixed.table.slice(0, 30), mixed.root, "x")
    with pytest.raises(UsageError, match="of another index"):
        make_pack(part, tmp_path / "pack")
    with pytest.raises(UsageError, match="exists and is no pack"):
        make_pack(mixed, tmp_path)
    assert len(loader(part, tmp_path / "pack")) == 2
    make_pack(part, tmp_path / "less")
    with pytest.raises(UsageError, match=r"6 images of the index are not in the pack, such as 030.jpg"):
        loader(mixed, tmp_path / "less")


def test_parts_are_joined(mixed: Index, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    for number in (3, 1):
        make_pack(mixed, pack, part=(number, 3), shard_bytes=100_000)
    with pytest.raises(UsageError, match="its parts are not joined: geossl data merge"):
        Pack.read(pack)
    with pytest.raises(UsageError, match="part 2 of 3 lacks 12 images"):
        merge_pack(pack)
    make_pack(mixed, pack, part=(2, 3))
    before = {path: path.stat().st_mtime_ns for path in pack.glob("part-*/*")}
    assert merge_pack(pack) == 36
    assert before == {path: path.stat().st_mtime_ns for path in pack.glob("part-*/*")}
    assert hashes(loader(mixed, pack)) == hashes(loader(mixed))


def test_the_files_may_be_gone(jpegs: Callable[..., Index], tmp_path: Path) -> None:
    index = jpegs(12)
    wanted = hashes(loader(index))
    make_pack(index, tmp_path / "pack")
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    assert hashes(loader(index, tmp_path / "pack")) == wanted


def test_unreadable_images_are_named_and_replaced_alike(jpegs: Callable[..., Index], tmp_path: Path) -> None:
    index = jpegs(24)
    (tmp_path / "003.jpg").unlink()
    (tmp_path / "010.jpg").write_bytes((tmp_path / "010.jpg").read_bytes()[:900])
    (tmp_path / "017.jpg").write_bytes(b"not an image")
    report = make_pack(index, tmp_path / "pack")
    assert [path for path, _ in report.failures] == ["003.jpg", "010.jpg", "017.jpg"]
    assert "cut short" in report.failures[1][1]
    policy = {"loader": {"on_error": "substitute"}, "max_failures": 0.5}
    files, packed = loader(index, **policy), loader(index, tmp_path / "pack", **policy)
    assert hashes(files) == hashes(packed)
    assert [p for p, _ in files.failures()] == [p for p, _ in packed.failures()]
    assert all("could not be packed" in reason for _, reason in packed.failures())


def test_a_flipped_bit_is_found(jpegs: Callable[..., Index], tmp_path: Path) -> None:
    index = jpegs(12)
    make_pack(index, tmp_path / "pack")
    table = Pack.read(tmp_path / "pack").table
    shard = next(tmp_path.glob("pack/part-*/*.shard"))
    data = bytearray(shard.read_bytes())
    data[table["offset"][5].as_py() + table["length"][5].as_py() // 2] ^= 16
    shard.write_bytes(data)
    with pytest.raises(UsageError, match=r"005.jpg: .* in the pack .*damaged .checksum., 00000.shard at byte \d+"):
        hashes(loader(index, tmp_path / "pack"))
    left_out = loader(index, tmp_path / "pack", loader={"on_error": "skip"}, max_failures=0.5)
    rows = torch.cat([batch.rows for batch in left_out], dim=1)
    assert 5 not in rows
    assert [Path(path).name for path, _ in left_out.failures()] == ["005.jpg"]
    differ, _ = verify_pack(index, tmp_path / "pack")
    assert [path for path, _ in differ] == ["005.jpg"]


def test_damaged_and_missing_shards(jpegs: Callable[..., Index], tmp_path: Path) -> None:
    index = jpegs(12)
    make_pack(index, tmp_path / "pack")
    shard = next(tmp_path.glob("pack/part-*/*.shard"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-5])
    with pytest.raises(UsageError, match="not a whole shard"):
        make_pack(index, tmp_path / "pack")
    shard.unlink()
    with pytest.raises(UsageError, match="this shard of the pack is missing"):
        loader(index, tmp_path / "pack")


KILLED = """
import signal, sys
from pathlib import Path
from geossl.data.index import Index
from geossl.data.pack import make_pack
# Started by a job in the background, a process ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
make_pack(Index.read(Path(sys.argv[1])), Path(sys.argv[2]), threads=2, shard_bytes=30_000)
"""


def test_a_killed_or_interrupted_pack_goes_on(jpegs: Callable[..., Index], tmp_path: Path) -> None:
    made = jpegs(120, (300, 300))
    table = made.table
    for name in ("width", "height"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array([300] * 120, pa.int32()))
    Index(table, made.root, "x").write(tmp_path / "index.parquet")
    index, pack = Index.read(tmp_path / "index.parquet"), tmp_path / "pack"
    for shards, ending in ((1, signal.SIGKILL), (3, signal.SIGINT)):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "index.parquet"), str(pack)]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while len(list(pack.glob("part-*/*.shard"))) < shards and child.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        child.send_signal(ending)
        child.wait()
    report = make_pack(index, pack, shard_bytes=30_000)
    assert report.images == 120
    assert report.earlier > 0
    assert not list(pack.rglob("*.part"))
    assert verify_pack(index, pack) == ([], None)
    assert hashes(loader(index, pack)) == hashes(loader(index))


def test_a_folder_that_cannot_be_made(jpegs: Callable[..., Index], tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"000.jpg"):
        make_pack(jpegs(6), tmp_path / "000.jpg/pack")
