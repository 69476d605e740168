"""Pair policies, against their definition in plain Python over made places."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import epoch, loader
from made_images import index_of
from scipy.stats import chisquare

from geossl.config import LoaderConfig, PairsConfig, make_config
from geossl.data.index import Index
from geossl.data.pairs import GAPS, POLICIES, count_gaps, count_pairs, partnered, queries, views_of_places
from geossl.errors import UsageError

Jpegs = Callable[..., Index]
MORE = [
    PairsConfig(season="other", gap_days=(100, 900)),
    PairsConfig(season="same", sensor="other"),
    PairsConfig(season="other", sensor="same", max_cloud=60),
    PairsConfig(gap_days=(30, None), draw="clear", sensor="same"),
    PairsConfig(gap_days=(0, 200), draw="farthest"),
    PairsConfig(season="same", gap_days=(300, 500), draw="nearest"),
]


def made_index(root: Path, rows: int, seed: int = 0, places: int = 6) -> Index:
    """Places of a few dates, some of which are not known; two dates may be the same."""
    rng = np.random.default_rng(seed)
    start = datetime(2010, 1, 1, tzinfo=UTC)

    def some(values: list, share: float = 0.1) -> list:
        return [None if rng.random() < share else v for v in values]

    return index_of(
        root,
        [f"{i:04}.jpg" for i in range(rows)],
        some([f"p{p}" for p in rng.integers(0, places, rows)], 0.05),
        timestamp=some([start + timedelta(days=int(d), hours=5) for d in rng.integers(0, 1500, rows)]),
        cloud_cover=some([float(c) for c in rng.choice([0, 5, 10, 25, 50, 100], rows)]),
        sensor=some([str(s) for s in rng.choice(["A", "B", "C"], rows)]),
    )


def season(when: datetime) -> tuple[int, int]:
    """(Year that begins with March, season within it)."""
    month = (when.year * 12 + when.month - 3) // 3
    return month // 4, month % 4


def is_pair(a: dict[str, Any], b: dict[str, Any], policy: PairsConfig) -> bool:
    """The definition of a policy."""
    timed = policy.season != "any" or policy.gap_days != (0, None) or policy.draw in {"nearest", "farthest"}
    asked = {"timestamp": timed, "cloud_cover": policy.max_cloud is not None or policy.draw == "clear"}
    asked["sensor"] = policy.sensor != "any"
    if a["location_id"] is None or a["location_id"] != b["location_id"]:
        return False
    if any(asks and (a[name] is None or b[name] is None) for name, asks in asked.items()):
        return False
    if policy.max_cloud is not None and max(a["cloud_cover"], b["cloud_cover"]) > policy.max_cloud:
        return False
    if policy.draw == "clear" and max(a["cloud_cover"], b["cloud_cover"]) == 100:
        return False
    if policy.sensor != "any" and (a["sensor"] == b["sensor"]) != (policy.sensor == "same"):
        return False
    if timed:
        (year_a, of_a), (year_b, of_b) = season(a["timestamp"]), season(b["timestamp"])
        if policy.season == "other" and of_a == of_b:
            return False
        if policy.season == "same" and (of_a != of_b or year_a == year_b):
            return False
        least, most = policy.gap_days
        gap = abs(a["timestamp"] - b["timestamp"]) / timedelta(days=1)
        return gap >= least and (most is None or gap <= most)
    return True


def allowed(index: Index, policy: PairsConfig) -> list[list[int]]:
    """Each row's allowed partners, ascending."""
    rows = index.table.to_pylist()
    n = range(len(rows))
    return [[j for j in n if j != i and is_pair(rows[i], rows[j], policy)] for i in n]


@pytest.mark.parametrize("policy", [*POLICIES.values(), *MORE], ids=str)
@pytest.mark.parametrize(("rows", "places"), [(60, 9), (150, 1)])
def test_counts_are_those_of_the_definition(tmp_path, policy, rows, places):
    index = made_index(tmp_path, rows, places=places)
    want = allowed(index, policy)
    for threads in (1, 2):
        (got,) = count_pairs(index, {"it": policy}, threads=threads)
        assert got.images == sum(map(bool, want))
        assert got.pairs == sum(map(len, want)) // 2
        assert got.places == len({index.places[i] for i, others in enumerate(want) if others})
    assert partnered(index, np.arange(rows), policy).tolist() == [bool(others) for others in want]


def test_gaps_and_views_are_those_of_the_definition(tmp_path):
    index = made_index(tmp_path, 80)
    rows = [row for row in index.table.to_pylist() if row["location_id"] and row["timestamp"]]
    apart = [
        abs(a["timestamp"] - b["timestamp"]) / timedelta(days=1)
        for a, b in combinations(rows, 2)
        if a["location_id"] == b["location_id"]
    ]
    edges = np.array(list(GAPS.values()))
    want, _ = np.histogram(apart, [*edges, np.inf])
    assert want.min() > 0 or want[-1] == 0
    for threads in (1, 2):
        assert count_gaps(index, edges, threads=threads).tolist() == want.tolist()
    views = Counter(name for name in index.table["location_id"].to_pylist() if name)
    assert sorted(views_of_places(index).tolist()) == sorted(views.values())


def drawn(index: Index, root: Path, jpegs: Index, epochs: int, **over: Any) -> dict[int, list[list[int]]]:
    """Partners that the loader drew for each query, over epochs. The images are those of `jpegs`, over and over."""
    images = jpegs.table["path"].to_pylist()
    names = [images[i % len(images)] for i in range(len(index))]
    table = index.table.set_column(0, index.table.schema.field("path"), [names])
    columns = {name: [24] * len(index) for name in ("width", "height")}
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), [np.array(values, np.int32)])
    source = loader(Index(table=table, root=jpegs.root, content_hash="x"), batch=1, **over)
    seen: dict[int, list[list[int]]] = {}
    for number in range(epochs):
        source.set_epoch(number)
        for batch in source:
            first, *others = batch.rows[:, 0].tolist()
            seen.setdefault(first, []).append(others)
    return seen


@pytest.mark.parametrize("policy", [*POLICIES.values(), *MORE], ids=str)
def test_every_drawn_partner_is_allowed(tmp_path, jpegs: Jpegs, policy):
    index = made_index(tmp_path, 40, seed=3, places=5)
    want = allowed(index, policy)
    rows = index.table.to_pylist()
    for first, draws in drawn(index, tmp_path, jpegs(), 6, pairs=policy).items():
        partners = {others[0] for others in draws}
        if not want[first]:
            assert partners == {first}
        elif policy.draw in {"nearest", "farthest"}:
            sign = 1 if policy.draw == "nearest" else -1
            at = rows[first]["timestamp"]
            assert partners == {min(want[first], key=lambda j: (sign * abs(rows[j]["timestamp"] - at), j))}
        else:
            assert partners <= set(want[first])


@pytest.mark.parametrize("draw", ["uniform", "clear"])
def test_partners_are_drawn_by_their_weights(tmp_path, jpegs: Jpegs, draw):
    clouds = [0.0, 0.0, 20.0, 50.0, 90.0]
    index = index_of(tmp_path, [f"{i}.jpg" for i in range(5)], ["p"] * 5, cloud_cover=clouds)
    counts = Counter(others[0] for others in drawn(index, tmp_path, jpegs(), 400, pairs=PairsConfig(draw=draw))[0])
    weights = np.array([1.0] * 4 if draw == "uniform" else [1, 0.8, 0.5, 0.1])
    assert set(counts) == {1, 2, 3, 4}
    assert chisquare([counts[i] for i in (1, 2, 3, 4)], 400 * weights / weights.sum()).pvalue > 1e-3


def test_several_partners_are_different_while_there_are_any(tmp_path, jpegs: Jpegs):
    dates = [datetime(2012, 1, day, tzinfo=UTC) for day in (1, 2, 4, 8)]
    index = index_of(tmp_path, [f"{i}.jpg" for i in range(4)], ["p"] * 4, timestamp=dates)
    for draws in drawn(index, tmp_path, jpegs(), 8, views=4).values():
        assert all(len(set(others)) == 3 for others in draws)
    for draws in drawn(index, tmp_path, jpegs(), 4, views=6).values():
        assert all(set(Counter(others).values()) == {1, 2} for others in draws)
    nearest = drawn(index, tmp_path, jpegs(), 1, views=5, pairs=PairsConfig(draw="nearest"))
    assert [nearest[i] for i in range(4)] == [[[1, 2, 3, 1]], [[0, 2, 3, 0]], [[1, 0, 3, 1]], [[2, 1, 0, 2]]]


def test_images_without_a_partner_are_left_out(tmp_path, jpegs: Jpegs):
    index = made_index(tmp_path, 40, seed=3, places=5)
    policy = PairsConfig(season="other", max_cloud=30, alone="leave_out")
    want = allowed(index, policy)
    keep = [i for i, others in enumerate(want) if others]
    assert 0 < len(keep) < 40
    seen = drawn(index, tmp_path, jpegs(), 1, pairs=policy)
    assert sorted(seen) == keep
    # Nobody's partners change by it, as those left out are nobody's: leaving out again leaves out nothing.
    assert queries(index, np.array(keep), policy).tolist() == keep
    itself = queries(index, np.arange(40), policy.model_copy(update={"alone": "itself"}))
    assert itself.tolist() == list(range(40))
    with pytest.raises(UsageError, match="no images are left"):
        loader(index, pairs=PairsConfig(gap_days=(9999, None), alone="leave_out"))


def test_batches_do_not_depend_on_threads_or_ranks_and_states_know_the_policy(jpegs: Jpegs):
    index = jpegs()
    # Without dates or clouds, all are alone; with sensors there are pairs.
    sensors = ["AB"[i % 2] for i in range(len(index))]
    at = index.table.schema.get_field_index("sensor")
    table = index.table.set_column(at, index.table.schema.field("sensor"), [sensors])
    index = Index(table=table, root=index.root, content_hash="x")
    policy = PairsConfig(sensor="other")
    want = epoch(loader(index, pairs=policy))
    for threads in (1, 3):
        assert epoch(loader(index, pairs=policy, loader=LoaderConfig(threads=threads))) == want
    whole = [batch.rows for batch in loader(index, pairs=policy)]
    parts = [[batch.rows for batch in loader(index, pairs=policy, rank=rank, world=2)] for rank in (0, 1)]
    assert all(torch.equal(torch.cat(two, dim=1), rows) for *two, rows in zip(*parts, whole, strict=True))
    state = loader(index, pairs=policy).state_dict()
    loader(index, pairs=policy).load_state_dict(state)
    for other in (None, PairsConfig(sensor="same"), PairsConfig(sensor="other", alone="leave_out")):
        with pytest.raises(UsageError, match="another options"):
            loader(index, pairs=other).load_state_dict(state)


def test_settings_that_cannot_be(tmp_path):
    base = {"data": tmp_path / "i.parquet", "out": tmp_path / "run", "arm": "tp"}
    assert make_config(base, {"pairs": {"gap_days": [30, None]}}).pairs.gap_days == (30, None)
    for pairs, words in [
        ({"gap_days": [30, 10]}, r"pairs.gap_days: 0 <= least <= most must hold, not \(30.0, 10.0\)"),
        ({"gap_days": [-1, None]}, "pairs.gap_days: 0 <= least"),
        ({"gap_days": [float("nan"), None]}, "pairs.gap_days"),
        ({"max_cloud": 101}, "pairs.max_cloud"),
        ({"seasons": "other"}, "pairs.seasons: no such setting; did you mean pairs.season"),
    ]:
        with pytest.raises(UsageError, match=words):
            make_config(base, {"pairs": pairs})
    with pytest.raises(UsageError) as caught:
        make_config(base, {"arm": "moco", "pairs": {"season": "other", "alone": "leave_out"}})
    assert str(caught.value) == "; ".join(
        f"pairs.{name}: for two dates of a place; the arm moco shows one (use tp or geo_tp)"
        for name in ("season", "alone")
    )
    for color, name in [((0.8, 0.4, 0.4, 0.4, 0.6), "color.jitter.4"), ((0.8, -1, 0, 0, 0), "color.jitter.1")]:
        with pytest.raises(UsageError, match=name):
            make_config(base, {"color": {"jitter": color}})
