"""What a transfer learns from and what it is tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geossl.data.index import Index
from geossl.data.pack import Pack
from geossl.data.samples import choose_samples
from geossl.data.table import image_boxes
from geossl.errors import UsageError
from geossl.training.data import TrainData
from geossl.transfer.boxes import BoxTargets, with_objects
from geossl.transfer.chips import MOST_OVERLAP, draw_chips
from geossl.transfer.objects import objects_file, read_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geossl.transfer.chips import Chips
    from geossl.transfer.config import TransferConfig
    from geossl.transfer.objects import Objects


@dataclass(frozen=True, kw_only=True, eq=False)
class TransferData:
    """The images of a transfer and their objects."""

    index: Index
    """A row a whole image."""
    objects: Objects
    train: NDArray[np.int64]
    """Rows that are trained on."""
    test: NDArray[np.int64]
    """Rows that are scored."""
    chips: Chips
    """Windows of the training images."""
    chip_index: Index
    """An index with a row for each of them."""
    notes: list[str]
    """What a reader of the scores has to know."""

    @property
    def digest(self) -> str:
        """Tells whether a run goes on with the same windows and objects."""
        objects = self.objects
        content = hashlib.blake2b(digest_size=16)
        for values in (objects.image, objects.category, objects.boxes, self.chips.image, self.chips.window, self.test):
            content.update(np.ascontiguousarray(values).tobytes())
        return content.hexdigest()

    def train_data(self, bands: Sequence[str] | None) -> TrainData:
        """The windows as a run of the arm supervised has them, of the bands chosen by name or number."""
        rows = np.arange(len(self.chips), dtype=np.int64)
        samples = choose_samples(self.chip_index.table, bands)
        return TrainData(index=self.chip_index, rows=rows, categories=None, geo=None, alone=0, samples=samples)


def read_data(config: TransferConfig) -> TransferData:
    """Read the index and its objects, and draw the windows that are trained on.

    To detect, windows without an object are left out. To segment, all are kept: that there is nothing is learnt, too.

    Args:
        config: the settings, settled.

    Raises UsageError if a file is missing or broken, the rows are not whole images, the pack is not lossless, or a
    split has none.

    """
    if config.pack is not None and Pack.read(config.pack).form.short_side is not None:
        raise UsageError(
            f"--pack {config.pack}: was resized, and windows are of whole images; pack without --short-side"
        )
    index = Index.read(config.data, root=config.root, images=config.pack is None)
    if image_boxes(index.table)[:, 2].any():
        raise UsageError(f"{config.data}: its rows are parts of images; a transfer needs whole images")
    objects = read_objects(index)
    train, test = (_split(config, index, split) for split in (config.split_train, config.split_test))
    if config.task == "detect":
        train = train[np.isin(train, objects.image)]  # the others give no windows
    notes = []
    if config.labels < 100:
        there = len(train)
        train = _drawn(index, train, share=config.labels / 100, seed=config.seed)
        notes.append(f"{config.labels:g} % of the labels: {len(train):,} of {there:,} training images")
    size, most = config.size or 0, config.chips or 0
    # Objects are to be seen by one window each; of pixels, what is beside them is another view.
    overlap = MOST_OVERLAP if config.task == "detect" else 1.0
    chips = draw_chips(index, train, size=size, most=most, seed=config.seed, overlap=overlap)
    if config.task == "detect":
        boxes = BoxTargets(objects=objects, boxes=objects.boxes, chips=chips)
        chips = chips.take(with_objects(boxes))
    if len(chips) < (config.batch or 0):
        what = "windows with an object" if config.task == "detect" else "windows"
        raise UsageError(f"{config.data}: {len(chips):,} {what}, fewer than a batch of {config.batch}; give --batch")
    return TransferData(
        index=index,
        objects=objects,
        train=train,
        test=test,
        chips=chips,
        chip_index=chips.index(index),
        notes=notes,
    )


def _split(config: TransferConfig, index: Index, split: str) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = index.rows(split=split)
    if not len(rows):
        there = sorted(str(name) for name in index.column("split").unique().to_pylist() if name is not None)
        raise UsageError(
            f"{config.data}: no images of the split {split}; it has {', '.join(there) or 'none'} "
            f"(--split-train, --split-test, or `geossl data split {objects_file(config.data).stem}`)"
        )
    return rows


def _drawn(index: Index, rows: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.int64]:
    """A share of the rows, at least one; with one seed, a larger share has the rows of a smaller one."""
    paths = index.column("path")
    digests = [hashlib.blake2b(f"{seed} labels {paths[row].as_py()}".encode()).digest() for row in rows.tolist()]
    order = np.array(sorted(range(len(rows)), key=digests.__getitem__))
    return np.sort(rows[order[: max(1, round(share * len(rows)))]])
