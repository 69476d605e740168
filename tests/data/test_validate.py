"""What is broken among an index's images is found, named as the loader names it, and left out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from made_images import index_of, smooth
from PIL import Image

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.validate import validate_index
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

REASONS = {
    "cut.jpg": "the JPEG is cut short",
    "cut.png": "the PNG is broken or cut short",
    "cut.tif": "",
    "empty.jpg": "the file is empty",
    "folder.jpg": "not a regular file",
    "gone.jpg": "No such file",
    "large.png": "over the limit of 1 MiB",
    "larger.png": "not what the index says: 41 x 30 pixels, 3 bands uint8, where it says 40 x 30 pixels, 3 bands uint8",
    "box.png": "box [50, 0, 5, 5] lies outside the 40 x 30 pixels",
    "text.jpg": "not a JPEG, PNG or TIFF image",
    "type.tif": "not what the index says: 40 x 30 pixels, 3 bands int16, where it says 40 x 30 pixels, 3 bands float32",
    "wrong.bmp": "rasterio: ",
    "size.bmp": "not what the index says: 40 x 29 pixels, 3 bands uint8, where it says 40 x 30 pixels, 3 bands uint8",
}
GOOD = ["a.jpg", "b.png", "c.tif", "d.bmp", "scene.tif"]


@pytest.fixture
def mixed(tmp_path: Path) -> Index:
    """An index with each kind of broken image, and some good ones."""
    image = Image.fromarray(smooth(30, 40, 3, 0))
    for name in ("a.jpg", "b.png", "d.bmp", "cut.jpg", "cut.png", "box.png", "wrong.bmp"):
        image.save(tmp_path / name)
    for name, kept in (("cut.jpg", 0.9), ("cut.png", 0.6), ("wrong.bmp", 0.001)):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    Image.fromarray(smooth(29, 40, 3, 0)).save(tmp_path / "size.bmp")
    Image.fromarray(smooth(30, 41, 3, 0)).save(tmp_path / "larger.png")
    Image.fromarray(np.zeros((900, 900, 3), np.uint8)).save(tmp_path / "large.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    place = {"transform": rasterio.Affine(2, 0, 5, 0, -2, 5)}
    # The scene is larger than the limit as a whole, but its tiles are not.
    for name, side, dtype in (
        ("c.tif", 30, "uint8"),
        ("cut.tif", 30, "uint8"),
        ("type.tif", 30, "int16"),
        ("scene.tif", 900, "uint8"),
    ):
        width = 40 if side == 30 else side
        options = {"driver": "GTiff", "width": width, "height": side, "count": 3, "dtype": dtype, "compress": "deflate"}
        with rasterio.open(tmp_path / name, "w", **options, **place) as file:
            file.write(smooth(side, width, 3, 1).transpose(2, 0, 1).astype(dtype))
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    names = sorted([*REASONS, *GOOD, "scene.tif"])
    size = {"large.png": (900, 900), "scene.tif": (900, 900)}
    boxes = {"box.png": (50, 0, 5, 5), "scene.tif": (10, 20, 100, 100)}
    columns = {f"box_{side}": [boxes[n][k] if n in boxes else None for n in names] for k, side in enumerate("xywh")}
    columns |= {
        "width": [size.get(n, (40, 30))[0] for n in names],
        "height": [size.get(n, (40, 30))[1] for n in names],
        "dtype": ["float32" if n == "type.tif" else "uint8" for n in names],
        "reader": ["rasterio" if n.endswith("bmp") else None for n in names],
    }
    return index_of(tmp_path, names, [None] * len(names), **columns)


def test_each_kind_of_broken_image_is_named(mixed: Index) -> None:
    calls = []
    found = validate_index(mixed, max_image_mib=1, progress=lambda done, total: calls.append((done, total)))
    reasons = dict(found.broken)
    assert list(reasons) == sorted(REASONS)
    for name, words in REASONS.items():
        assert words in reasons[name], (name, reasons[name])
    paths = np.array(mixed.table["path"].to_pylist())
    assert set(paths[found.good]) == set(GOOD)
    assert set(paths[~found.good]) == set(REASONS)
    assert found.images == len(REASONS) + len(GOOD)
    assert calls[0] == (0, found.images)
    assert calls[-1] == (found.images, found.images)
    for threads in (1, 3):
        assert validate_index(mixed, max_image_mib=1, threads=threads).broken == found.broken


def test_lines_group_the_reasons(mixed: Index) -> None:
    lines = validate_index(mixed, max_image_mib=1).lines()
    assert lines[0] == "18 images decoded; broken: 13 of 19 rows"
    assert any("1 x not a regular file, e.g. folder.jpg" in line for line in lines)
    # Two with numbers of their own are one kind.
    assert any("2 x not what the index says: N x N pixels, N bands uintN" in line for line in lines)


def test_the_command_lists_and_fixes(mixed: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, fixed, listed = tmp_path / "all.parquet", tmp_path / "good.parquet", tmp_path / "broken.csv"
    mixed.write(index)
    words = ["data", "validate", str(index), "--max-image-mib", "1"]
    assert main([*words, "--list", str(listed)]) == 1
    said = capsys.readouterr()
    assert "13 of its rows are broken" in said.err
    rows = listed.read_text().splitlines()
    assert rows[0] == "path,reason"
    assert [row.split(",")[0] for row in rows[1:]] == sorted(REASONS)
    assert main([*words, "--fix", str(fixed)]) == 0
    capsys.readouterr()
    assert main(["data", "validate", str(fixed), "--max-image-mib", "1"]) == 0
    assert "broken: none" in capsys.readouterr().out
    assert sorted(set(Index.read(fixed).table["path"].to_pylist())) == sorted(GOOD)
    assert main([*words, "--fix", str(index)]) == 0
    assert index.read_bytes() == fixed.read_bytes()
    assert main([*words, "--root", str(tmp_path / "elsewhere")]) == 2
    assert "none of the 5 images can be read" in capsys.readouterr().err


def test_ctrl_c_and_no_images(mixed: Index) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate_index(mixed, progress=interrupt)
    with pytest.raises(UsageError, match="no images"):
        validate_index(mixed.with_table(mixed.table.slice(0, 0)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs on this system")
def test_a_fifo_is_no_image_and_nobody_waits_for_it(mixed: Index) -> None:
    (mixed.root / "gone.jpg").unlink(missing_ok=True)
    os.mkfifo(mixed.root / "gone.jpg")
    assert dict(validate_index(mixed).broken)["gone.jpg"] == "not a regular file"
