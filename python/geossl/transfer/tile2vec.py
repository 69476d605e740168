"""Tile2Vec's land-cover tiles, a file of NumPy each, with an array of labels and one of splits.

What is known of them, and from where:

- `ermongroup/tile2vec` (README.md, examples/Example 3, src/datasets.py; Jean et al., AAAI 2019): a thousand tiles named
  `1tile.npy` to `1000tile.npy`, uint8 [height, width, 5]: red, green, blue, near infrared and the Cropland Data Layer
  (CDL) of the ground; `y.npy` has a CDL code each, as floats.
- `sustainlab-group/SatMAE` (util/naip_loader.py), by a group of the paper's authors, on the set of its 66 classes:
  tiles `0tile.npy`, ..., whose number is the position in the labels (`y_50_100.npy`) and in `splits.npy`, 0 train, 1
  val, 2 test; red, green and blue are the first three bands; the classes are the distinct labels.

Whether the 66 classes' labels are CDL codes or class numbers, and how large its tiles are, is not published. It is
looked up in the files, as are numbering, order of the axes and number of bands.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geossl.errors import UsageError
from geossl.transfer.cdl import CDL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

BANDS = ("red", "green", "blue", "nir")
WITH_MASK = 5
"""Bands of a tile whose last one is the CDL."""
SPLITS = {0: "train", 1: "val", 2: "test"}
"""By the codes of splits.npy."""
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
TILE = re.compile(r"(0|[1-9]\d*)tile\.npy")
LOOKED_AT = 101
"""Tiles whose shape is looked at to tell what shape they all should have."""
Coding = Literal["CDL codes", "class numbers", "numbers", "names"]


class BadTileError(ValueError):
    """A tile that cannot be used. The message says why, as "what: how"."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiles:
    """A set of tiles. Its tile number n has the label at the position n - `first`."""

    files: dict[int, Path]
    """Every tile's file, by its number."""
    first: int
    """0 or 1."""
    categories: list[str | None]
    """Class of each label; None where it is missing."""
    codes: NDArray[np.int64]
    """The labels as numbers, [N]; -1 where they are missing, or names."""
    coding: Coding
    """What the labels are."""
    splits: list[str | None] | None
    """train, val or test of each label; None in the list where it is none of them, None for the list without splits."""
    faults: dict[int, str]
    """What is wrong with the label or split at a position, as "what: how"."""
    shape: tuple[int, ...]
    """Of a tile as it is stored."""
    bands_last: bool
    """Whether the shape ends with the number of bands."""
    described: str
    """What was found, in words."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return BANDS[: self._count]

    @property
    def has_mask(self) -> bool:
        """Whether the tiles have the CDL of their ground too."""
        return self._count == WITH_MASK

    @property
    def _count(self) -> int:
        return self.shape[-1] if self.bands_last else self.shape[0]

    def read(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """The pixels of a tile, uint8 [bands, height, width], and its CDL, uint8 [height, width], where it has one.

        Raises BadTileError: there is no such file, it is damaged, of another shape, or not of 8 bits.
        """
        file = self.files.get(number)
        if file is None:
            raise BadTileError("no such tile: it has a label, and no file")
        try:
            # Mapped, so that a header which claims more than there is allocates nothing.
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise BadTileError(f"not an array of NumPy: {' '.join(str(e).split())}") from e
        if not isinstance(found, np.ndarray) or found.shape != self.shape:
            raise BadTileError(f"wrong shape: {_by(np.shape(found))}, others {_by(self.shape)}")
        samples = _eight_bits(np.moveaxis(found, -1, 0) if self.bands_last else found)
        return samples[: len(self.bands)], samples[-1] if self.has_mask else None


def find_tiles(src: Path, *, labels: Path | None = None, splits: Path | None = None) -> Tiles:
    """Look at a folder of tiles. No pickle is read.

    Args:
        src: folder with the tiles, or with one folder of them.
        labels: file of the labels; by default `y.npy` or the one `y_*.npy` in either folder.
        splits: file of the splits; by default `splits.npy` in either folder, if there is one.

    Raises:
        UsageError: there are no tiles or no labels, or several; a file is no array of one dimension; splits and labels
            are not as many; the tiles have no shape with 3 to 5 bands.

    """
    folder, files = _find_files(src)
    both = list(dict.fromkeys((src, folder)))
    labels_file = labels or _only(both, ["y.npy", "y_*.npy"], src)
    given = _array(labels_file)
    codes, categories, faults, coding = _read_labels(given)
    splits_file = splits or next((file for place in both if (file := place / "splits.npy").exists()), None)
    of_label = None
    if splits_file is not None:
        read = _array(splits_file)
        if len(read) != len(given):
            counts = f"{len(read):,} splits and {len(given):,} labels ({labels_file})"
            raise UsageError(
                f"{splits_file}: {counts}: they are of other tiles; name the files with --splits, --labels"
            )
        of_label = _read_splits(read, faults)
    first = 1 if 0 not in files and len(given) in files else 0
    shape = _common_shape(files)
    bands_last = shape[-1] in range(3, WITH_MASK + 1)
    if not bands_last and shape[0] not in range(3, WITH_MASK + 1):
        raise UsageError(f"{folder}: tiles of {_by(shape)}; 3 to {WITH_MASK} bands come last or first")
    order = "last" if bands_last else "first"
    about = f"Tile2Vec's tiles {_by(shape)}, bands {order}, numbered from {first}; {labels_file.name}: {coding}"
    return Tiles(
        files=files,
        first=first,
        categories=categories,
        codes=codes,
        coding=coding,
        splits=of_label,
        faults=faults,
        shape=shape,
        bands_last=bands_last,
        described=about + ("; no splits" if splits_file is None else f"; {splits_file.name}"),
    )


def _find_files(src: Path) -> tuple[Path, dict[int, Path]]:
    """The folder of the tiles, and their files by number."""
    if not src.is_dir():
        raise UsageError(f"{src}: {'not a folder' if src.exists() else 'no such folder'}")
    found = {src: _tiles_in(src)}
    if not found[src]:
        found = {place: files for place in sorted(src.iterdir()) if place.is_dir() and (files := _tiles_in(place))}
    if not found:
        scenes = next(src.glob("*.tif"), None)
        hint = "; GeoTIFFs are indexed with: geossl data index --layout geotiff" if scenes else ""
        raise UsageError(f"{src}: no tiles named 0tile.npy, 1tile.npy, ... in it, nor in a folder of it{hint}")
    if len(found) > 1:
        raise UsageError(f"{src}: several folders of tiles; give one: {', '.join(map(str, found))}")
    return next(iter(found.items()))


def _tiles_in(folder: Path) -> dict[int, Path]:
    with os.scandir(folder) as entries:
        numbers = [(int(match[1]), entry.name) for entry in entries if (match := TILE.fullmatch(entry.name))]
    return {number: folder / name for number, name in sorted(numbers)}


def _only(folders: list[Path], patterns: list[str], src: Path) -> Path:
    """The one file of labels."""
    for pattern in patterns:
        found = sorted(file for folder in folders for file in folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{src}: several files of labels: {', '.join(map(str, found))}; name one with --labels")
    raise UsageError(f"{src}: no labels: no y.npy or y_*.npy; name their file with --labels")


def _array(file: Path) -> NDArray[Any]:
    try:
        found = np.load(file, allow_pickle=False)
    except FileNotFoundError as e:
        raise UsageError(f"{file}: no such file") from e
    except (OSError, ValueError, EOFError) as e:
        why = " ".join(str(e).split())
        raise UsageError(f"{file}: cannot be read: {why}; only plain arrays of numbers or text are") from e
    found = np.squeeze(found) if isinstance(found, np.ndarray) and found.size > 1 else found
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iufUS":
        what = f"{_by(found.shape)} of {found.dtype}" if isinstance(found, np.ndarray) else "several arrays"
        raise UsageError(f"{file}: holds {what}; one number or text a tile is expected")
    return found


def _read_labels(given: NDArray[Any]) -> tuple[NDArray[np.int64], list[str | None], dict[int, str], Coding]:
    """Codes, categories, what is wrong with labels by their position, and what they are."""
    if given.dtype.kind in "US":
        names = [name.strip() or None for name in given.astype(str).tolist()]
        missing = {i: "label missing: empty" for i, name in enumerate(names) if name is None}
        return np.full(len(names), -1), names, missing, "names"
    values = given.astype(np.float64)
    good = np.isfinite(values) & (values >= 0) & (values == np.round(values))
    codes = np.where(good, values, -1).astype(np.int64)
    faults = {i: f"label missing: {values[i]:g}" for i in np.flatnonzero(~good).tolist()}
    distinct = np.unique(codes[good]).tolist()
    coding: Coding = "numbers"
    if distinct == list(range(len(distinct))):
        coding = "class numbers"
    elif set(distinct) <= CDL.keys():
        coding = "CDL codes"
    name: Callable[[int], str] = CDL.__getitem__ if coding == "CDL codes" else str
    return codes, [None if code < 0 else name(code) for code in codes.tolist()], faults, coding


def _read_splits(given: NDArray[Any], faults: dict[int, str]) -> list[str | None]:
    """The split of each label; one that is none is a fault, unless the label has one."""
    known: dict[Any, str] = SPLIT_NAMES if given.dtype.kind in "US" else SPLITS
    values = given.astype(str).tolist() if given.dtype.kind in "US" else given.tolist()
    out = [known.get(value.strip().lower() if isinstance(value, str) else value) for value in values]
    for i, split in enumerate(out):
        if split is None:
            faults.setdefault(
                i, f"no split: {values[i]}, which is not {', '.join(f'{k} {v}' for k, v in known.items())}"
            )
    return out


def _common_shape(files: dict[int, Path]) -> tuple[int, ...]:
    """The most frequent shape of some of the tiles. Raises UsageError if none of them has three dimensions."""
    every = list(files.values())
    chosen = np.unique(np.linspace(0, len(every) - 1, min(LOOKED_AT, len(every))).round().astype(int))
    shapes: Counter[tuple[int, ...]] = Counter()
    for i in chosen.tolist():
        try:
            found = np.load(every[i], mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if isinstance(found, np.ndarray) and found.ndim == 3:
            shapes[found.shape] += 1
    if not shapes:
        raise UsageError(
            f"{every[0].parent}: none of the {len(chosen)} tiles looked at is an array of three dimensions"
        )
    return shapes.most_common(1)[0][0]


def _eight_bits(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """The samples as uint8, contiguous. Raises BadTileError unless they are whole numbers of 0 to 255."""
    if stored.dtype == np.uint8:
        return np.array(stored, order="C")
    if stored.dtype.kind not in "iuf":
        raise BadTileError(f"not of 8 bits: {stored.dtype}")
    values = np.array(stored, np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise BadTileError(f"NaN: {bad:,} of {values.size:,} samples")
    if values.min() < 0 or values.max() > 255 or (values != np.round(values)).any():
        raise BadTileError(f"not of 8 bits: {stored.dtype} of {values.min():g} to {values.max():g}")
    return values.astype(np.uint8, order="C")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
