"""Splits keep groups whole, meet their shares, keep their distance, and what leaks between them is found."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_images import index_of

from geossl.cli import main
from geossl.data.leaks import find_leaks
from geossl.data.splits import blocks, split_index
from geossl.errors import UsageError
from geossl.geo import distance_km

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geossl.data.index import Index

SHARE = {"val": 0.1, "test": 0.2}


def planet(root: Path, *, places: int = 300, seed: int = 0, **columns: list[Any]) -> Index:
    """An index of places all over the globe, of 1 to 5 images a little apart; some lack coordinates or a country."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 6, places)
    of = np.repeat(np.arange(places), count)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, places)))[of] + rng.normal(0, 0.05, len(of))
    lon = (rng.uniform(-180, 180, places)[of] + rng.normal(0, 0.05, len(of)) + 180) % 360 - 180
    countries = [None, "FRA", "PER", "USA", "CHN", "KEN", "BRA", "AUS"]
    values: dict[str, list[Any]] = {
        "lat": [None if p % 25 == 0 else float(v) for p, v in zip(of, np.clip(lat, -90, 90), strict=True)],
        "lon": [None if p % 25 == 0 else float(v) for p, v in zip(of, lon, strict=True)],
        "country_code": [countries[p % 8] for p in of],
        "category": [f"class{p % 7}" for p in of],
    }
    names = [None if p % 50 == 1 else f"place{p}" for p in of]
    return index_of(root, [f"{i}.jpg" for i in range(len(of))], names, **(values | columns))


def split_of_paths(index: Index) -> dict[str, str | None]:
    return dict(zip(index.table["path"].to_pylist(), index.table["split"].to_pylist(), strict=True))


@pytest.mark.parametrize("by", ["place", "block", "country"])
def test_groups_stay_whole_and_shares_are_met(tmp_path: Path, by: Any) -> None:
    index = planet(tmp_path)
    made, report = split_index(index, by=by, share=SHARE, block_km=2000, seed=3)
    split = np.array(made.table["split"].fill_null("none").to_pylist())
    for place in range(index.places.max() + 1):
        assert len(set(split[index.places == place])) == 1
    lacking = {"place": [], "block": index.table["lat"].to_pylist(), "country": index.table["country_code"].to_pylist()}
    assert list(np.flatnonzero(split == "none")) == [i for i, value in enumerate(lacking[by]) if value is None]
    assert bool(report.left_out) == (by != "place")
    total = (split != "none").sum()
    tolerance = {"place": 0.01, "block": 0.02, "country": 0.1}[by]
    for name, share in SHARE.items():
        assert abs((split == name).sum() / total - share) < tolerance
    if by == "country":
        of = {(c, s) for c, s in zip(lacking[by], split, strict=True) if c is not None}
        assert len(of) == len({c for c, _ in of}) == report.groups == 7
    assert sum(part.images for part in report.parts.values()) == len(index)
    again, _ = split_index(index, by=by, share=SHARE, block_km=2000, seed=3)
    assert again.content_hash == made.content_hash
    other, _ = split_index(index, by=by, share=SHARE, block_km=2000, seed=4)
    assert other.content_hash != made.content_hash


@pytest.mark.parametrize("by", ["place", "block", "country"])
def test_the_order_of_the_rows_does_not_matter(tmp_path: Path, by: Any) -> None:
    index = planet(tmp_path)
    mixed = index.with_table(index.table.take(np.random.default_rng(1).permutation(len(index))))
    made, _ = split_index(index, by=by, share=SHARE, buffer_km=300)
    other, _ = split_index(mixed, by=by, share=SHARE, buffer_km=300)
    assert split_of_paths(made) == split_of_paths(other)


def test_blocks_are_of_equal_area_and_about_square() -> None:
    rng = np.random.default_rng(0)
    n = 400_000
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    number = blocks(lat, lon, km=1000)
    count = np.bincount(number)
    assert len(count) == 508
    assert count.min() / count.mean() > 0.7
    assert count.max() / count.mean() < 1.3
    # Neither reaches over much more than its diagonal.
    chosen = np.argsort(number, kind="stable")
    first, last = chosen[:-1], chosen[1:]
    same = number[first] == number[last]
    assert distance_km(lat[first[same]], lon[first[same]], lat[last[same]], lon[last[same]]).max() < 1700
    edge = blocks(np.array([90.0, -90.0, 10.0, 10.0]), np.array([180.0, -180.0, 180.0, -180.0]), km=1000)
    assert edge[0] == 508 - 3  # three around a pole; 180 east is 180 west
    assert edge[1] == 0
    assert edge[2] == edge[3]


def brute_force(index: Index, km: float) -> dict[tuple[str, str, int], float]:
    """By two splits and a place of the later one, its least distance to the earlier, if below `km`."""
    lat, lon = (np.array(index.table[name].to_pylist(), float) for name in ("lat", "lon"))
    split = index.table["split"].to_pylist()
    out: dict[tuple[str, str, int], float] = {}
    for a, b in combinations(("train", "val", "test"), 2):
        rows = [[i for i, s in enumerate(split) if s == name and np.isfinite(lat[i])] for name in (a, b)]
        shared = set(index.places[rows[0]]) & set(index.places[rows[1]])
        for i, j in product(*rows):
            place = int(index.places[j])
            apart = float(distance_km(lat[i], lon[i], lat[j], lon[j]))
            if place not in shared and apart < min(km, out.get((a, b, place), np.inf)):
                out[a, b, place] = apart
    return out


@pytest.mark.parametrize(("by", "km"), [("place", 700), ("block", 1500)])
def test_the_buffer_is_exact(tmp_path: Path, by: Any, km: float) -> None:
    index = planet(tmp_path, places=120)
    free, _ = split_index(index, by=by, share=SHARE, block_km=2000)
    made, report = split_index(index, by=by, share=SHARE, block_km=2000, buffer_km=km)
    assert brute_force(free, km)
    assert not brute_force(made, km)
    assert not report.leaks.near
    before, after = split_of_paths(free), split_of_paths(made)
    places = dict(zip(index.table["path"].to_pylist(), index.places.tolist(), strict=True))
    lat = dict(zip(index.table["path"].to_pylist(), index.table["lat"].to_pylist(), strict=True))
    kept = {path for path, split in after.items() if split is not None}
    assert all(before[path] == after[path] for path in kept)
    assert {path for path, split in before.items() if split == "test" and lat[path] is not None} <= kept
    # Each place that lost its split is too near to one that kept its.
    lost = {places[path] for path in after if after[path] is None and before[path] and lat[path] is not None}
    assert lost
    row = {place: np.flatnonzero(index.places == place) for place in range(index.places.max() + 1)}
    coords = np.array([index.table[name].to_pylist() for name in ("lat", "lon")], float).T
    rank = {"train": 0, "val": 1, "test": 2}
    names = index.table["path"].to_pylist()
    later = [(i, rank[after[name] or "train"]) for i, name in enumerate(names) if after[name]]
    for place in lost:
        own = rank[before[names[row[place][0]]] or "train"]
        others = [i for i, r in later if r > own and np.isfinite(coords[i, 0])]
        assert min(distance_km(*coords[i], *coords[others].T).min() for i in row[place]) < km


def test_mistakes(tmp_path: Path) -> None:
    index = planet(tmp_path, places=20)

    def fails(match: str, share: Mapping[str, float] = SHARE, **options: Any) -> None:
        with pytest.raises(UsageError, match=match):
            split_index(options.pop("index", index), **({"by": "place", "share": share} | options))

    fails("each has to be above 0", {"val": 0.5, "test": 0.5})
    fails("each has to be above 0", {"val": 0.0})
    fails("give val, test or both", {"train": 0.5})
    fails("give val, test or both", {})
    fails("--buffer-km -1: give kilometres", buffer_km=-1)
    fails("--block-km 0: give kilometres", by="block", block_km=0)
    fails("every block has more than twice", by="block", block_km=30_000)
    fails("has no image left", buffer_km=20_000)
    bare = index_of(tmp_path, ["a.jpg", "b.jpg"], [None, None])
    fails("no place has coordinates", by="block", index=bare)
    fails("no place has a country_code", by="country", index=bare)
    with pytest.raises(UsageError, match="0 splits have images"):
        find_leaks(bare)


def leaky(root: Path) -> Index:
    """A planet whose splits leak in each way."""
    index = planet(root, places=60)
    rng = np.random.default_rng(5)
    split = rng.choice(np.array(["train", "val", "test", None], object), index.places.max() + 1)[index.places]
    rows = np.flatnonzero(index.places == np.argmax(np.bincount(index.places)))
    split[rows] = ["train", "test", "val", *["train"] * (len(rows) - 3)]
    index = planet(root, places=60, split=split.tolist())
    for i, path in enumerate(index.table["path"].to_pylist()):
        # Of one size each; every ninth image is one of two.
        (root / path).write_bytes(b"the same %d" % (i % 2) if i % 9 == 0 else b"image %5d" % i)
    return index


def test_leaks_are_those_of_brute_force(tmp_path: Path) -> None:
    index = leaky(tmp_path)
    split, names = index.table["split"].to_pylist(), index.table["path"].to_pylist()
    calls: list[tuple[int, int]] = []
    found = find_leaks(index, km=1500, progress=lambda done, total: calls.append((done, total)))
    of_place: dict[int, set[str]] = {}
    for place, name in zip(index.places.tolist(), split, strict=True):
        of_place.setdefault(place, set()).update({name} - {None})
    assert len(found.shared) == sum(len(splits) > 1 for splits in of_place.values()) == 1
    assert sum(found.shared[0].images.values()) == np.bincount(index.places).max()
    wanted = brute_force(index, 1500)
    assert [near.km for near in found.near] == pytest.approx(sorted(wanted.values()), rel=1e-9)
    assert {near.splits for near in found.near} == {(a, b) for a, b, _ in wanted}
    groups: dict[bytes, list[tuple[str, str]]] = {}
    for path, name in zip(names, split, strict=True):
        if name is not None:
            groups.setdefault((tmp_path / path).read_bytes(), []).append((name, path))
    assert {frozenset(same.images) for same in found.same} == {
        frozenset(group) for group in groups.values() if len({name for name, _ in group}) > 1
    }
    assert len(found.same) == 2
    assert len(found) == 1 + len(wanted) + 2
    assert calls[-1][0] == calls[-1][1]
    assert "without coordinates" in found.notes[0]
    assert find_leaks(index, km=1500, threads=1) == find_leaks(index, km=1500, threads=3) == found


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, out = tmp_path / "a.parquet", tmp_path / "b.parquet"
    leaky(tmp_path).write(index)
    assert main(["data", "leaks", str(index), "--km", "500"]) == 1
    said = capsys.readouterr()
    assert "leaks between train, val, test" in said.err
    assert "places in several splits: 1\n" in said.out
    assert "places less than 500 km from one of another split:" in said.out
    assert "images with the same bytes in several splits: 2\n" in said.out
    assert main(["data", "split", str(index), "-o", str(out), "--by", "block", "--buffer-km", "400"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("split")
    assert "in no split: 3 places" in said.out
    assert main(["data", "leaks", str(out), "--km", "400", "--no-content"]) == 0
    assert "image files in several splits: 0" in capsys.readouterr().out
    for words, message in (
        (["split", str(index), "-o", str(out), "--by", "place", "--share", "val"], "give it as val=0.1,test=0.1"),
        (["leaks", str(out), "--km", "0"], "--km 0.0: give kilometres"),
    ):
        assert main(["data", *words]) == 2
        assert message in capsys.readouterr().err
