"""Images that cannot be read: named, and the policy obeyed."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import epoch, loader, run
from PIL import Image

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.errors import UsageError

Jpegs = Callable[..., Index]


def spoil(index: Index, how: str) -> str:
    path = index.root / "007.jpg"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif how == "gone":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "text":
        path.write_text("not an image")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "corrupt":
        data = bytearray(path.read_bytes())
        at = data.index(b"\xff\xc4") + 5  # the lengths of a Huffman table's codes
        data[at : at + 16] = b"\xff" * 16
        path.write_bytes(bytes(data))
    elif how == "swapped":
        path.unlink()
        os.mkfifo(path)
    elif how == "loop":
        path.unlink()
        path.symlink_to(path)
    elif how == "bands":
        Image.fromarray(np.zeros((20, 20), np.uint16)).save(path.with_suffix(".tif"))
        path.with_suffix(".tif").rename(path)
    elif how == "huge":
        data = bytearray(path.read_bytes())
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = (65500).to_bytes(2, "big") * 2
        path.write_bytes(bytes(data))
    return str(path)


REASONS = {
    "cut": "the JPEG is cut short",
    "gone": "No such file",
    "folder": "not a regular file",
    "swapped": "not a regular file",
    "loop": "Too many levels of symbolic links",
    "corrupt": "Bogus Huffman table definition",
    "text": "not a JPEG, PNG or TIFF image",
    "empty": "the file is empty",
    "bands": "has 1 bands of 16 bits where the index says 3 of 8",
    "huge": "claims 65500 x 65500 pixels",
}


@pytest.mark.parametrize("how", REASONS)
def test_an_unreadable_image_ends_the_epoch_and_is_named(jpegs: Jpegs, how: str) -> None:
    index = jpegs()
    path = spoil(index, how)
    source = loader(index)
    with pytest.raises(UsageError) as caught:
        epoch(source)
    assert path in str(caught.value)
    assert REASONS[how] in str(caught.value)
    assert "--loader.on_error substitute" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", REASONS)
def test_the_policy_is_obeyed_whatever_is_wrong(jpegs: Jpegs, how: str) -> None:
    index = jpegs()
    path = spoil(index, how)
    for policy, images in (("substitute", 28), ("skip", 27)):
        source = loader(index, views=1, temporal=False, loader=LoaderConfig(on_error=policy), max_failures=0.1)
        source.set_epoch(1)  # in which row 7 comes
        rows = torch.cat([batch.rows[0] for batch in source]).tolist()
        assert len(rows) == images
        assert 7 not in rows
        ((name, reason),) = source.failures()
        assert name == path
        assert REASONS[how] in reason
        assert sum(source.stats().failures.values()) == 1


UNREADABLE = """
source = loader(source_index, batch=10, loader=LoaderConfig(threads=2, on_error="skip"))
list(source)  # loads whatever this needs while it may
(root / "007.jpg").chmod(0)
os.seteuid(65534)
for batch in source:
    pass
print(source.failures())
"""


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="has no owners of files")
def test_a_file_that_may_not_be_read_is_named(jpegs: Jpegs) -> None:
    if os.geteuid() == 0:
        # Root may read everything, so a child gives that up; pytest's folders are root's alone, so it uses another.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            index = jpegs()
            for file in index.root.glob("*.jpg"):
                shutil.copy(file, folder)
            done = run(UNREADABLE, folder)
        assert done.stdout.strip() == f"[('{folder}/007.jpg', 'Permission denied (os error 13)')]", done.stderr
        return
    index = jpegs()
    (index.root / "007.jpg").chmod(0)
    source = loader(index, batch=30, loader=LoaderConfig(on_error="skip"), max_failures=0.1)
    list(source)
    assert source.failures() == [(str(index.root / "007.jpg"), "Permission denied (os error 13)")]


def test_files_that_change_between_epochs_and_while_they_are_read(jpegs: Jpegs) -> None:
    index = jpegs()
    path = index.root / "007.jpg"
    whole = path.read_bytes()
    source = loader(index, temporal=False, batch=30, loader=LoaderConfig(threads=2, on_error="skip"), max_failures=0.1)
    (batch,) = source
    before = batch.images[:, batch.rows[0] == 7].clone()
    assert before.shape[1] == 1
    # Another size than the index knows: the file's own header counts.
    Image.open(path).resize((23, 31)).save(path)
    (batch,) = source
    assert (batch.rows[0] == 7).sum() == 1
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            path.write_bytes(whole[: len(whole) // 2])
            path.write_bytes(whole)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for number in range(2, 12):
            source.set_epoch(number)
            (batch,) = source
            assert len(batch.rows[0]) in {29, 30}
    finally:
        stop.set()
        changer.join()
    assert {name for name, _ in source.failures()} <= {str(path)}
    source.set_epoch(0)
    (batch,) = source
    assert torch.equal(batch.images[:, batch.rows[0] == 7], before), "once it is whole again, it is as it was"


def test_a_substitute_leaves_the_other_positions_alone(jpegs: Jpegs) -> None:
    index = jpegs()
    whole = [(b.rows.clone(), b.images.clone()) for b in loader(index)]
    path = spoil(index, "cut")
    config = LoaderConfig(on_error="substitute")
    source = loader(index, loader=config)
    replaced = 0
    for (rows, images), batch in zip(whole, source, strict=True):
        bad = (rows == 7).any(dim=0)
        replaced += int(bad.sum())
        assert not (batch.rows == 7).any()
        assert torch.equal(batch.rows[:, ~bad], rows[:, ~bad])
        assert torch.equal(batch.images[:, ~bad], images[:, ~bad])
    assert replaced > 0
    assert [(p, REASONS["cut"] in reason) for p, reason in source.failures()] == [(path, True)]
    again = loader(index, loader=config.model_copy(update={"threads": 5}))
    assert epoch(source) == epoch(again)


def test_skip_leaves_the_sample_out(jpegs: Jpegs) -> None:
    index = jpegs()
    spoil(index, "gone")
    source = loader(index, views=1, loader=LoaderConfig(on_error="skip"), max_failures=0.1, batch=30)
    (batch,) = [(b.rows.clone(), b.images.shape) for b in source]
    assert batch[1][1] == 29
    assert sorted(batch[0][0].tolist()) == [r for r in range(30) if r != 7]


def test_too_many_unreadable_images_are_an_error(jpegs: Jpegs) -> None:
    index = jpegs()
    for i in range(3, 9):
        (index.root / f"{i:03}.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UsageError, match=r"of 30 images could not be read, more than the 3 that"):
        epoch(loader(index, loader=LoaderConfig(on_error="substitute"), max_failures=0.1))
