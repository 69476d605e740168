"""Which images train a probe and which test it. A place is never cut in two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geossl.data.index import Index

TEST_SHARE = 0.2
"""Share of the places that test, in an index without splits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of the index with a category, int64."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    notes: list[str]
    """What a reader of the scores has to know."""


def split_rows(index: Index, *, train: str, test: str, seed: int) -> Split:
    """The labelled rows of the splits `train` and `test`; without splits, a seeded 80/20 of the places.

    Either may be several splits with commas between, as `val,test`.

    Raises UsageError: no categories, an empty or shared split, fewer than two classes to train on.
    """
    name = index.source or "the index"
    labelled = index.labels >= 0
    if not labelled.any():
        raise UsageError(f"{name}: no image has a category: a probe needs the column `category`")
    notes = []
    splits = sorted(set(index.table["split"].to_pylist()) - {None})
    if splits:
        shared = set(_words(train)) & set(_words(test))
        if shared:
            both = f"are both {train!r}" if train == test else f"share {', '.join(sorted(shared))}"
            raise UsageError(f"--split-train and --split-test {both}: the scores would mean nothing")
        rows = []
        for option, wanted in (("--split-train", train), ("--split-test", test)):
            parts = []
            for split in _words(wanted):
                chosen = index.rows(split=split)
                parts.append(chosen[labelled[chosen]])
                if not len(parts[-1]):
                    there = split in splits
                    found = f"no image of the split {split!r} has a category" if there else f"no split {split!r}"
                    raise UsageError(f"{name}: {found}; give {option} one of: {', '.join(splits)}")
                if len(parts[-1]) < len(chosen):
                    left_out = len(chosen) - len(parts[-1])
                    notes.append(f"{left_out:,} of {len(chosen):,} images of {split!r} have no category: left out")
            rows.append(np.sort(np.concatenate(parts)))
        train_rows, test_rows = rows
    else:
        all_rows = np.flatnonzero(labelled)
        held = hold_out(torch.from_numpy(index.places[all_rows]), share=TEST_SHARE, seed=seed).numpy()
        if held.all():
            raise UsageError(f"{name}: no splits and a single place: nothing to test on")
        train_rows, test_rows = all_rows[~held], all_rows[held]
        notes.append(f"the index has no splits: {TEST_SHARE:.0%} of the places, drawn with seed {seed}, test")
        if len(all_rows) < len(index):
            notes.append(f"{len(index) - len(all_rows):,} of {len(index):,} images have no category: left out")
    known = np.unique(index.labels[train_rows])
    if len(known) < 2:
        only = index.categories[known[0]]
        raise UsageError(f"{name}: the training images have one category, {only!r}: a probe needs two")
    return Split(train=train_rows, test=test_rows, notes=notes + _warnings(index, train_rows, test_rows))


def _words(text: str) -> list[str]:
    """Splits with commas between, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def hold_out(places: torch.Tensor, *, share: float, seed: int) -> torch.Tensor:
    """Draw a share of the places, at least one: bool [N], True for every row of a drawn place.

    Args:
        places: code of each row's place, integer [N], N >= 1.
        share: share of the places, 0..1.
        seed: seed of the draw.

    """
    codes = torch.unique(places)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    drawn = order[: max(1, round(share * len(codes)))]
    return torch.isin(places, codes[drawn.to(codes.device)])


def _warnings(index: Index, train: NDArray[np.int64], test: NDArray[np.int64]) -> list[str]:
    notes = []
    shared = np.intersect1d(index.places[train], index.places[test])
    if len(shared):
        notes.append(f"warning: places with training and test images: {len(shared):,}; the scores flatter")
    unseen = np.setdiff1d(index.labels[test], index.labels[train])
    if len(unseen):
        names = [index.categories[code] for code in unseen[:5]]
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        notes.append(f"no training images of: {', '.join(names)}{more}; their test images count as wrong")
    return notes


def count_oblong(index: Index, rows: NDArray[np.int64]) -> int:
    """How many of the rows have a box, or where there is none an image, that is not square."""

    def column(name: str) -> NDArray[np.int64]:
        return np.asarray(index.table[name].fill_null(0))[rows].astype(np.int64)

    boxed = np.asarray(index.table["box_w"].is_valid())[rows]
    width = np.where(boxed, column("box_w"), column("width"))
    height = np.where(boxed, column("box_h"), column("height"))
    return int((width != height).sum())
