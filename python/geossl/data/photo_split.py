"""Photos to train and to test on: drawn by their ids, written down, and what the two know of one another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl.data.listing import read_columns
from geossl.errors import UsageError
from geossl.geo import nearest
from geossl.tables import align, write_csv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geossl.data.index import Index, IndexReport

NEAR_KM = 1.0
"""Test photos that are closer to a training photo are counted."""
CLASSES = 5
"""Classes that are named."""
PAPER = "the paper has 543,435 photos of 5,150 classes: 443,435 to train on, 100,000 to test"


@dataclass(frozen=True, kw_only=True)
class PhotoSplitReport:
    """What became of a folder of photos. `lines` prints it."""

    index: IndexReport
    """Of the photos that were kept."""
    photos: dict[str, str]
    """The split of each photo, by its id, in the order of the ids."""
    counts: dict[str, np.ndarray]
    """Photos of each class, int64 [classes], in the order of the classes; by split, and `all` of them."""
    classes: list[str]
    left_out: dict[str, int]
    """Photos that were not kept, by the reason."""
    repeated: int
    """Ids that several files have: one photo in several classes."""
    near: int
    """Test photos less than `NEAR_KM` from a training photo."""
    same: int
    """Test photos at the very coordinates of a training photo."""

    def lines(self) -> list[str]:
        """The index's summary, what was left out, a table of the splits, and what to know of them."""
        rows = [["split", "photos", "classes", "photos of a class: least", "median", "most"]]
        for name, counts in self.counts.items():
            own = counts[counts > 0]
            spread = [f"{own.min():,}", f"{np.median(own):,g}", f"{own.max():,}"] if len(own) else ["-"] * 3
            rows.append([name, f"{counts.sum():,}", f"{len(own):,}", *spread])
        out = [*self.index.lines(), *(f"left out: {n:,} photos {why}" for why, n in self.left_out.items() if n)]
        out += align(rows, left={0})
        every, train, test = self.counts["all"], self.counts["train"], self.counts["test"]
        if single := int((every == 1).sum()):
            out.append(f"classes with a single photo, which can train or test, not both: {single:,}")
        out += self._named(
            "classes without training photos, whose test photos count as wrong", (train == 0) & (test > 0)
        )
        out += self._named("classes without test photos", (test == 0) & (train > 0))
        if self.repeated:
            out.append(f"photos in several classes, all of them in one split: {self.repeated:,}")
        tested = int(test.sum())
        if tested and train.any():
            out.append(
                f"test photos less than {NEAR_KM:g} km from a training photo: {self.near:,} of {tested:,} "
                f"({self.near / tested:.1%}), at the very same coordinates: {self.same:,}"
            )
        return [*out, PAPER]

    def write(self, path: Path) -> None:
        """Write the split as CSV, columns id and split, a row a photo, by id. Raises GeosslError if it cannot be."""
        write_csv(path, ["id", "split"], self.photos.items())

    def _named(self, what: str, which: np.ndarray) -> list[str]:
        numbers = np.flatnonzero(which).tolist()
        if not numbers:
            return []
        more = f" and {len(numbers) - CLASSES:,} more" if len(numbers) > CLASSES else ""
        return [f"{what}: {len(numbers):,}: {', '.join(self.classes[i] for i in numbers[:CLASSES])}{more}"]


def draw_test(ids: Sequence[str], *, test: int, seed: int) -> np.ndarray:
    """Which photos test, bool [N].

    The photos are ordered by the BLAKE2b hash of the seed and their id, and taken from the front: evenly at random, the
    same for any order of the files, and for a set with a few photos more or fewer nearly the same. Files with one id
    are one photo, which is in one split; one that would be more files than are left to take is passed over.

    Args:
        ids: id of each file's photo, N of them.
        test: files that test, 1 to N - 1.
        seed: seed of the draw.

    """
    names, of, files = np.unique(np.array(ids, np.object_), return_inverse=True, return_counts=True)
    hashes = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in names]
    drawn = np.zeros(len(names), bool)
    left = test
    for photo in sorted(range(len(names)), key=hashes.__getitem__):
        if files[photo] <= left:
            drawn[photo] = True
            left -= int(files[photo])
        if not left:
            break
    out: np.ndarray = drawn[of]
    return out


def apply_split(path: Path, ids: Sequence[str]) -> tuple[pa.Array, list[str]]:
    """The split of each photo by a file that `PhotoSplitReport.write` made, text [N], and the notes on it.

    Photos that it does not name have none. Raises UsageError if it is not such a file, or names none of the photos.
    """
    columns = read_columns(path, what="a split")
    if not {"id", "split"} <= set(columns):
        raise UsageError(f"{path}: a split has the columns id and split; its columns are: {', '.join(columns)}")
    key, split = columns["id"].cast(pa.string()), columns["split"].cast(pa.string())
    wrong = set(split.unique().to_pylist()) - {"train", "val", "test"}
    if wrong:
        raise UsageError(f"{path}: a split is train, val or test, not {min(map(str, wrong))}")
    names = pa.array(ids, pa.string())
    row = pc.index_in(names, value_set=key, skip_nulls=True)
    if row.null_count == len(row):
        raise UsageError(f"{path}: names none of the photos, such as {ids[0]}")
    absent = len(key) - pc.sum(pc.is_in(key, value_set=names)).as_py()
    counts = [
        (row.null_count, f"photos that {path.name} does not name, in no split"),
        (absent, f"photos of {path.name} that are not here"),
    ]
    return split.take(row), [f"{text}: {count:,}" for count, text in counts if count]


def report_split(
    index: Index, report: IndexReport, *, ids: Sequence[str], left_out: dict[str, int], threads: int = 0
) -> PhotoSplitReport:
    """Look at the splits of photos.

    Args:
        index: the photos, with coordinates and classes.
        report: on the index.
        ids: id of each row's photo.
        left_out: photos that are not in the index, by the reason.
        threads: 0 is all cores.

    """
    split = index.table["split"].combine_chunks()
    rows = {name: np.flatnonzero(pc.equal(split, name).fill_null(False)) for name in ("train", "test")}
    counts = {name: np.bincount(index.labels[own], minlength=len(index.categories)) for name, own in rows.items()}
    lat, lon = (index.table[name].to_numpy() for name in ("lat", "lon"))
    km = np.empty(0)
    if all(len(own) for own in rows.values()):
        train, test = rows["train"], rows["test"]
        km = nearest(lat[train], lon[train], lat[test], lon[test], k=1, threads=threads).km[:, 0]
    of_photo = dict(zip(ids, split.to_pylist(), strict=True))
    return PhotoSplitReport(
        index=report,
        photos={name: of_photo[name] for name in sorted(of_photo) if of_photo[name] is not None},
        counts={"all": np.bincount(index.labels, minlength=len(index.categories))} | counts,
        classes=list(index.categories),
        left_out=left_out,
        repeated=int((np.unique(np.array(ids, np.object_), return_counts=True)[1] > 1).sum()),
        near=int((km < NEAR_KM).sum()),
        same=int((km == 0).sum()),
    )
