"""The loader's contract: order, pairs, resume, errors, threads."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geossl.config import ColorConfig, CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Batch, Loader
from geossl.errors import UsageError

Jpegs = Callable[..., Index]


def loader(index: Index, **over: Any) -> Loader:
    options: dict[str, Any] = {
        "rows": np.arange(len(index)),
        "batch": 4,
        "views": 2,
        "temporal": True,
        "crop": CropConfig(size=16),
        "color": ColorConfig(),
        "seed": 5,
        "train": True,
        "loader": LoaderConfig(threads=2),
    }
    return Loader(index, **(options | over))


def digest(batch: Batch) -> str:
    made = hashlib.sha256()
    for tensor in (batch.images, batch.rows, batch.color):
        made.update(tensor.contiguous().numpy().tobytes())
    return made.hexdigest()


def epoch(source: Loader, number: int = 0) -> list[str]:
    source.set_epoch(number)
    return [digest(batch) for batch in source]


def test_bytes_do_not_depend_on_threads_or_slots(jpegs: Jpegs) -> None:
    index = jpegs()
    first = epoch(loader(index, loader=LoaderConfig(threads=1)), 2)
    for config in (
        LoaderConfig(threads=2),
        LoaderConfig(threads=5, slots=2),
        LoaderConfig(threads=5, slots=7),
    ):
        assert epoch(loader(index, loader=config), 2) == first
    assert len(set(first)) == len(first) == 7


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_the_global_batch(jpegs: Jpegs, world: int) -> None:
    index = jpegs()
    whole = [b.images.clone() for b in loader(index, batch=12)]
    parts = [[b.images.clone() for b in loader(index, batch=12, rank=r, world=world)] for r in range(world)]
    for k, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[k] for part in parts], dim=1), batch)


def test_resume_at_every_batch_of_an_epoch(jpegs: Jpegs) -> None:
    index = jpegs()
    whole = epoch(loader(index), 3)
    for stop in range(len(whole) + 1):
        running = loader(index)
        running.set_epoch(3)
        for taken, _ in enumerate(running, start=1):
            if taken >= stop:
                break
        state = running.state_dict()
        if stop == 0:
            state |= {"batches": 0}
        fresh = loader(index, loader=LoaderConfig(threads=1))
        fresh.load_state_dict(state)
        rest = [digest(b) for b in fresh] if stop < len(whole) else []
        assert rest == whole[max(stop, 0) :]


def test_a_state_of_other_data_or_options_is_refused(jpegs: Jpegs) -> None:
    index = jpegs()
    state = loader(index).state_dict()
    for other in (loader(index, seed=6), loader(index, batch=5), loader(index, crop=CropConfig(size=17))):
        with pytest.raises(UsageError, match="of another"):
            other.load_state_dict(state)
    loader(index, loader=LoaderConfig(threads=5)).load_state_dict(state)


def test_an_epoch_has_every_image_once_and_orders_differ(jpegs: Jpegs) -> None:
    index = jpegs(28)
    source = loader(index, batch=7)
    orders = []
    for number in range(3):
        source.set_epoch(number)
        orders.append(torch.cat([b.rows[0] for b in source]).tolist())
    assert all(sorted(order) == list(range(28)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(28))


def test_partners_are_other_dates_of_the_place_and_singletons_their_own(jpegs: Jpegs) -> None:
    index = jpegs(31)  # the last image is the only one of its place
    seen: dict[int, set[int]] = {}
    source = loader(index, batch=1)
    for number in range(12):
        source.set_epoch(number)
        for b in source:
            seen.setdefault(int(b.rows[0, 0]), set()).add(int(b.rows[1, 0]))
    for row in range(30):
        assert seen[row] == set(range(row // 3 * 3, row // 3 * 3 + 3)) - {row}
    assert seen[30] == {30}


def test_rows_limit_what_is_read_and_who_is_a_partner(jpegs: Jpegs) -> None:
    index = jpegs()
    rows = np.array([3, 5, 20, 21])
    got = torch.cat([b.rows for b in loader(index, rows=rows, batch=2)], dim=1)
    assert sorted(got[0].tolist()) == rows.tolist()
    assert {(a, b) for a, b in got.T.tolist()} == {(3, 5), (5, 3), (20, 20), (21, 21)}


def test_two_views_of_one_image_differ_only_by_their_draws(jpegs: Jpegs) -> None:
    index = jpegs()
    for b in loader(index, temporal=False):
        assert torch.equal(b.rows[0], b.rows[1])
        assert not torch.equal(b.images[0], b.images[1])
        assert not torch.equal(b.color[0], b.color[1])
    # The first view of a temporal pair is the same as without pairs: draws are keyed by view, not by history.
    alone = [b.images[0].clone() for b in loader(index, temporal=False, views=1)]
    assert all(torch.equal(a, b.images[0]) for a, b in zip(alone, loader(index), strict=True))


def test_evaluation_comes_in_order_and_whole(jpegs: Jpegs) -> None:
    index = jpegs()
    batches = [(b.images.shape, b.rows.tolist(), b.color) for b in loader(index, train=False, views=1, batch=8)]
    assert [shape[1] for shape, _, _ in batches] == [8, 8, 8, 6]
    assert [row for _, rows, _ in batches for row in rows[0]] == list(range(30))
    unchanged = torch.tensor([-1.0, 1, 1, 1, 0, 0, 0])
    assert all(torch.equal(color, unchanged.expand_as(color)) for _, _, color in batches)


def test_batches_are_channels_last_uint8(jpegs: Jpegs) -> None:
    batch = next(iter(loader(jpegs())))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (2, 4, 3, 16, 16)
    assert batch.images[1].is_contiguous(memory_format=torch.channels_last)
    assert batch.rows.shape == (2, 4)
    assert batch.color.shape == (2, 4, 7)


def test_a_batch_stays_as_it_is_while_it_is_used(jpegs: Jpegs) -> None:
    index = jpegs()
    running = iter(loader(index, loader=LoaderConfig(threads=2, slots=3)))
    kept = next(running).images[0]  # a view of the slot is enough
    before = kept.clone()
    for _ in running:
        pass
    assert torch.equal(kept, before)


def test_holding_every_batch_is_an_error_not_a_hang(jpegs: Jpegs) -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match="all 3 slots are held"):
        list(loader(jpegs(), loader=LoaderConfig(slots=3)))
    assert time.monotonic() - started < 60


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
    "text": "not a JPEG, PNG or TIFF image",
    "empty": "the file is empty",
    "bands": "has 1 bands of 16 bits where the others have 3 of 8",
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


def test_a_substitute_leaves_the_other_positions_alone(jpegs: Jpegs) -> None:
    index = jpegs()
    whole = [(b.rows.clone(), b.images.clone()) for b in loader(index)]
    path = spoil(index, "cut")
    config = LoaderConfig(on_error="substitute", max_failures=0.1)
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
    source = loader(index, views=1, loader=LoaderConfig(on_error="skip", max_failures=0.1), batch=30)
    (batch,) = [(b.rows.clone(), b.images.shape) for b in source]
    assert batch[1][1] == 29
    assert sorted(batch[0][0].tolist()) == [r for r in range(30) if r != 7]


def test_too_many_unreadable_images_are_an_error(jpegs: Jpegs) -> None:
    index = jpegs()
    for i in range(3, 9):
        (index.root / f"{i:03}.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UsageError, match=r"of 30 images could not be read, more than the 3 that loader\.max_failures"):
        epoch(loader(index, loader=LoaderConfig(on_error="substitute", max_failures=0.1)))


def geossl_threads() -> int:
    return sum((task / "comm").read_text().startswith("geossl-") for task in Path("/proc/self/task").iterdir())


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads through /proc")
def test_leaving_early_ends_the_threads(jpegs: Jpegs) -> None:
    index = jpegs()
    source = loader(index)
    whole = epoch(source)
    source.set_epoch(0)
    for _ in source:
        break
    assert geossl_threads() == 0
    assert [digest(b) for b in source] == whole[1:], "the next iteration goes on where the last one left"

    def fail() -> None:
        for _ in loader(index):
            raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        fail()
    running = iter(loader(index))
    batch = next(running)
    del running
    assert geossl_threads() == 0
    assert batch.images.float().mean() > 0, "the batch outlives its loader"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads through /proc")
def test_a_lease_does_not_keep_the_threads(jpegs: Jpegs) -> None:
    core = loader(jpegs())._core
    core.start(0, 0)
    made = core.next()
    assert made is not None
    before = bytes(memoryview(made["lease"]))
    del core
    assert geossl_threads() == 0
    assert bytes(memoryview(made["lease"])) == before


def test_two_loaders_at_once_and_from_other_threads(jpegs: Jpegs) -> None:
    index = jpegs()
    expected = epoch(loader(index))
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(epoch(loader(index)))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [expected] * 4


SCRIPT = """
import os, signal, sys, threading, time
sys.path[:0] = {path!r}
from test_loader import *
from made_images import index_of
from pathlib import Path
root = Path({root!r})
paths = sorted(p.name for p in root.glob("*.jpg"))
source = loader(index_of(root, paths, ["p"] * len(paths)), loader=LoaderConfig(threads=2, slots=3))
"""


def run(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    head = SCRIPT.format(path=[str(Path(__file__).parent)], root=str(root))
    return subprocess.run(
        [sys.executable, "-c", head + script], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_forked_child_gets_an_error_and_ends(jpegs: Jpegs) -> None:
    index = jpegs()
    done = run(
        """
running = iter(source)
next(running)
child = os.fork()
if child == 0:
    for attempt in (lambda: next(running), lambda: next(iter(source))):
        try:
            attempt()
        except UsageError as e:
            print("child:", "before a fork" in str(e), flush=True)
    del running, source
    sys.exit(0)
print("status", os.waitpid(child, 0)[1])
print("parent", sum(1 for _ in running))
""",
        index.root,
    )
    assert done.stdout.split("\n")[:4] == ["child: True", "child: True", "status 0", "parent 6"], done.stderr


def test_ctrl_c_interrupts_the_wait(jpegs: Jpegs) -> None:
    index = jpegs()
    done = run(
        """
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
held = []
started = time.monotonic()
try:
    for batch in source:
        held.append(batch)  # waits for a slot that never comes
except KeyboardInterrupt:
    print("interrupted", 0.3 < time.monotonic() - started < 4)
""",
        index.root,
    )
    assert done.stdout.strip() == "interrupted True", done.stderr


def test_statistics_count_what_was_done(jpegs: Jpegs) -> None:
    index = jpegs()
    source = loader(index, temporal=False)
    epoch(source)
    stats = source.stats()
    sizes = sum(f.stat().st_size for f in index.root.glob("*.jpg"))
    assert stats.batches == 7
    assert stats.images == 28, "two views of one image are one decode"
    assert sizes * 0.8 < stats.bytes_read < sizes
    assert stats.work_secs > 0
    # 4 slots of 2 x 4 views of 16 x 16 x 3, and for each of 2 threads a file of up to 1 GiB, as much
    # to decode it, and 64 MiB.
    assert source.memory_bound == 4 * 2 * 4 * 16 * 16 * 3 + 2 * (2 * 2**30 + 64 * 2**20)


def test_wrong_settings_are_named(jpegs: Jpegs) -> None:
    index = jpegs(6)
    with pytest.raises(UsageError, match="a batch of 8 is more than the 6 images; set --batch 6 or less"):
        loader(index, batch=8)
    with pytest.raises(UsageError, match="cannot be shared by 3 processes"):
        loader(index, batch=4, world=3)
    with pytest.raises(UsageError, match="no images are left"):
        loader(index, rows=np.array([], dtype=np.int64))
