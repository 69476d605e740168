"""What one split of an index knows of another: shared places, places nearby, images with the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from geossl import _core
from geossl.data.coordinates import place_names
from geossl.data.table import is_remote
from geossl.errors import UsageError
from geossl.geo import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from geossl.data.index import Index

SPLITS = ("train", "val", "test")
"""In the order in which they are named; others come after them."""
EXAMPLES = 5
"""Offenders named of each kind, the worst first."""


@dataclass(frozen=True, kw_only=True)
class SharedPlace:
    """A place with images in several splits."""

    place: str
    """Its location_id; the image's path where it has none."""
    images: dict[str, int]
    """Its images in each of these splits."""


@dataclass(frozen=True, kw_only=True)
class NearPlaces:
    """A place of one split, and the place of another that is nearest to it."""

    km: float
    """Of their nearest images."""
    splits: tuple[str, str]
    places: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class SameImages:
    """Images with the same bytes, or one image, in several splits."""

    images: tuple[tuple[str, str], ...]
    """(split, path), sorted."""


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """What was found, the worst first. `lines` prints it."""

    splits: tuple[str, ...]
    km: float | None
    """Places are near that are less than this apart, kilometres; None: not looked at."""
    content: bool
    """Whether the files were compared; else only their paths."""
    shared: tuple[SharedPlace, ...]
    near: tuple[NearPlaces, ...]
    """Of each two splits, one for every place of the later one that is near to one of the earlier; places that the
    two share are not among them."""
    same: tuple[SameImages, ...]
    notes: tuple[str, ...]
    """What could not be looked at."""

    def __len__(self) -> int:
        return len(self.shared) + len(self.near) + len(self.same)

    def lines(self) -> list[str]:
        """A count of each kind, with the worst below it."""

        def listed(what: str, found: list[str]) -> list[str]:
            more = [f"  {len(found) - EXAMPLES:,} more"] if len(found) > EXAMPLES else []
            return [f"{what}: {len(found):,}", *(f"  {text}" for text in found[:EXAMPLES]), *more]

        out = listed(
            "places in several splits",
            [
                f"{shared.place}: " + ", ".join(f"{split} {n:,}" for split, n in shared.images.items())
                for shared in self.shared
            ],
        )
        if self.km is not None:
            out += listed(
                f"places less than {self.km:g} km from one of another split",
                [
                    f"{near.km:.3g} km: {near.splits[0]} {near.places[0]}, {near.splits[1]} {near.places[1]}"
                    for near in self.near
                ],
            )
        what = "images with the same bytes in several splits" if self.content else "image files in several splits"
        out += listed(what, [", ".join(" ".join(image) for image in same.images[:EXAMPLES]) for same in self.same])
        return [*out, *(f"note: {note}" for note in self.notes)]


def find_leaks(
    index: Index,
    *,
    km: float | None = None,
    content: bool = True,
    threads: int = 0,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Leaks:
    """Look for what the splits of an index have in common. Images without a split are not looked at.

    Args:
        index: The images.
        km: Also look for places that are less than this apart, kilometres: the distance of their nearest images.
        content: Compare the bytes of the files, which reads the start of each, and all of those with the same start.
        threads: 0 is one for every core. The result is the same for any number.
        progress: Called with the steps done of comparing files and their number, some times a second.

    Raises:
        UsageError: fewer than two splits have images, or `km` is not above 0.

    """
    if km is not None and not 0 < km < float("inf"):
        raise UsageError(f"--km {km}: give kilometres, above 0")
    splits, code = split_codes(index)
    if len(splits) < 2:
        name = index.source or "the index"
        raise UsageError(f"{name}: {len(splits)} splits have images: leaks are between two; see geossl data split")
    names = place_names(index)
    notes: list[str] = []
    near: list[NearPlaces] = []
    if km is not None:
        near, unplaced = _near(index, splits, code, names, km=km, threads=threads)
        if unplaced:
            notes.append(f"places without coordinates, which may be near to anything: {unplaced:,}")
    same, unread = _same(index, splits, code, content=content, threads=threads, progress=progress)
    return Leaks(
        splits=tuple(splits),
        km=km,
        content=content,
        shared=tuple(_shared(index, splits, code, names)),
        near=tuple(sorted(near, key=lambda found: found.km)),
        same=tuple(same),
        notes=(*notes, *unread),
    )


def split_codes(index: Index) -> tuple[list[str], np.ndarray]:
    """The splits that have images, train, val and test first; and each row's among them, int64 [N], -1 for none."""
    encoded = index.table["split"].combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    names = sorted(found, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
    position = np.array([*(names.index(name) for name in found), -1], np.int64)
    codes: np.ndarray = position[encoded.indices.fill_null(-1).to_numpy()]
    return names, codes


def nearest_places(
    index: Index, rows: np.ndarray, others: np.ndarray, *, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How near each place of some rows is to the other rows, by the nearest two images.

    Args:
        index: The images.
        rows: row numbers, int64; those without coordinates are left out.
        others: the same.
        threads: 0 is all cores.

    Returns:
        (place, other place, km) of each place that has coordinates, [P] each: codes of `Index.places`, ascending in
        the first; none if no other row has coordinates.

    """
    lat, lon = (index.table[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    known = np.isfinite(lat) & np.isfinite(lon)
    rows, others = rows[known[rows]], others[known[others]]
    if not len(rows) or not len(others):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    at, km = nearest(lat[others], lon[others], lat[rows], lon[rows], k=1, threads=threads)
    places = index.places.astype(np.int64)
    order = np.argsort(km[:, 0], kind="stable")
    place, first = np.unique(places[rows[order]], return_index=True)
    chosen = order[first]
    return place, places[others[at[chosen, 0]]], km[chosen, 0]


def _shared(index: Index, splits: list[str], code: np.ndarray, names: list[str]) -> list[SharedPlace]:
    """The places of several splits, those with most images outside of their largest split first."""
    used = code >= 0
    count = np.zeros((len(names), len(splits)), np.int64)
    np.add.at(count, (index.places[used], code[used]), 1)
    shared = np.flatnonzero((count > 0).sum(1) > 1)
    stray = count[shared].sum(1) - count[shared].max(1)
    return [
        SharedPlace(
            place=names[place], images={split: int(n) for split, n in zip(splits, count[place], strict=True) if n}
        )
        for place in shared[np.argsort(-stray, kind="stable")].tolist()
    ]


def _near(
    index: Index, splits: list[str], code: np.ndarray, names: list[str], *, km: float, threads: int
) -> tuple[list[NearPlaces], int]:
    """The places that are near across splits, and how many places have no coordinates."""
    found = []
    for a, b in combinations(range(len(splits)), 2):
        earlier, later = np.flatnonzero(code == a), np.flatnonzero(code == b)
        later = later[~np.isin(index.places[later], index.places[earlier])]
        place, other, apart = nearest_places(index, later, earlier, threads=threads)
        found += [
            NearPlaces(
                km=float(apart[i]), splits=(splits[a], splits[b]), places=(names[int(other[i])], names[int(place[i])])
            )
            for i in np.flatnonzero(apart < km).tolist()
        ]
    lat, lon = (index.table[name].to_numpy() for name in ("lat", "lon"))
    placed = index.places[np.isfinite(lat) & np.isfinite(lon)]
    return found, len(np.setdiff1d(index.places[code >= 0], placed))


def _same(
    index: Index,
    splits: list[str],
    code: np.ndarray,
    *,
    content: bool,
    threads: int,
    progress: Callable[[int, int], object],
) -> tuple[list[SameImages], list[str]]:
    """Images that several splits have, those in most files first; and notes on those that could not be compared."""
    encoded = index.table["path"].combine_chunks().dictionary_encode()
    paths, image = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    used = np.unique(image[code >= 0])
    first = np.arange(len(paths))
    notes = []
    if content:
        local = np.array([n for n in used.tolist() if not is_remote(paths[n])], np.int64)
        found, failures = _core.same_bytes(
            [index.full_path(paths[n]) for n in local.tolist()], threads=threads, progress=progress
        )
        if len(local) and len(failures) == len(local):
            raise UsageError(
                f"none of the {len(local):,} images can be read, such as {paths[local[0]]}: {failures[0][1]}; "
                f"they are looked for under {index.root}; --no-content leaves the files alone"
            )
        first[local] = local[found]
        if failures:
            number, reason = failures[0]
            notes.append(f"files that cannot be read: {len(failures):,}, e.g. {paths[local[number]]}: {reason}")
        if len(local) < len(used):
            notes.append(f"images elsewhere, compared by their paths alone: {len(used) - len(local):,}")
    group = first[image]
    pairs = np.unique(np.stack([group, code], 1)[code >= 0], axis=0)
    leaking, count = np.unique(pairs[:, 0], return_counts=True)
    rows = np.flatnonzero(np.isin(group, leaking[count > 1]) & (code >= 0))
    members: dict[int, set[tuple[str, str]]] = {}
    for row in rows.tolist():
        members.setdefault(int(group[row]), set()).add((splits[code[row]], paths[image[row]]))
    ordered = [tuple(sorted(images, key=lambda i: (splits.index(i[0]), i[1]))) for images in members.values()]
    return [SameImages(images=images) for images in sorted(ordered, key=lambda images: -len(images))], notes
