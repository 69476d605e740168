"""The loader's contract: order, pairs, resume."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from loading import digest, epoch, loader

from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.errors import UsageError

Jpegs = Callable[..., Index]


def test_bytes_do_not_depend_on_threads_or_slots(jpegs: Jpegs) -> None:
    index = jpegs()
    first = epoch(loader(index, loader=LoaderConfig(threads=1)), 2)
    for threads, slots in ((2, 4), (5, 2), (5, 7)):
        assert epoch(loader(index, loader=LoaderConfig(threads=threads), slots=slots), 2) == first
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
    running = iter(loader(index, loader=LoaderConfig(threads=2), slots=3))
    kept = next(running).images[0]  # a view of the slot is enough
    before = kept.clone()
    for _ in running:
        pass
    assert torch.equal(kept, before)


def test_holding_every_batch_is_an_error_not_a_hang(jpegs: Jpegs) -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match="all 3 slots are held"):
        list(loader(jpegs(), slots=3))
    assert time.monotonic() - started < 60


def test_wrong_settings_are_named(jpegs: Jpegs) -> None:
    index = jpegs(6)
    with pytest.raises(UsageError, match="a batch of 8 is more than the 6 images; set --batch 6 or less"):
        loader(index, batch=8)
    with pytest.raises(UsageError, match="cannot be shared by 3 processes"):
        loader(index, batch=4, world=3)
    with pytest.raises(UsageError, match="no images are left"):
        loader(index, rows=np.array([], dtype=np.int64))
