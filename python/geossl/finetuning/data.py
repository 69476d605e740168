"""What finetuning learns from and what it is tested on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.data.index import Index
from geossl.data.samples import choose_samples
from geossl.errors import UsageError
from geossl.evaluate.split import hold_out, split_rows
from geossl.finetuning.few_labels import few_labels
from geossl.training.data import TrainData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geossl.finetuning.config import FinetuneConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledData:
    """The images of a finetuning run and their classes."""

    index: Index
    train: NDArray[np.int64]
    """Rows of the index that are trained on."""
    test: NDArray[np.int64]
    """Rows that are scored."""
    used: NDArray[np.int64]
    """int64 [C]: code in the index (`Index.labels`) of each class, ascending. What is neither trained nor tested on is
    no class."""
    notes: list[str]
    """What a reader of the scores has to know."""

    @property
    def categories(self) -> list[str]:
        """Name of each class."""
        return [self.index.categories[code] for code in self.used]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each row of the index, 0..C-1, int64 [len(index)]; -1 of those that have none."""
        codes = self.index.labels
        known = np.isin(codes, self.used)
        return np.where(known, np.searchsorted(self.used, codes), -1)

    def train_data(self, bands: Sequence[str] | None) -> TrainData:
        """The training images as a run of the arm supervised has them, of the bands chosen by name or number."""
        samples = choose_samples(self.index.table.take(self.train), bands)
        return TrainData(index=self.index, rows=self.train, categories=self.labels, geo=None, alone=0, samples=samples)

    def held_out(self, *, share: float, seed: int) -> LabelledData:
        """The same, scored on a share of the training places, which are not trained on.

        Raises UsageError where there is a single place.
        """
        held = hold_out(torch.from_numpy(self.index.places[self.train]), share=share, seed=seed).numpy()
        if held.all():
            raise UsageError("the training images show a single place: no learning rate can be chosen; give --lr")
        return replace(self, train=self.train[~held], test=self.train[held], notes=[])


def read_labelled(config: FinetuneConfig) -> LabelledData:
    """Read the index, and choose what is trained and tested on.

    Raises UsageError as `geossl.evaluate.split.split_rows`, and for a missing or broken index.
    """
    index = Index.read(config.data, root=config.root, images=config.pack is None)
    split = split_rows(index, train=config.split_train, test=config.split_test, seed=config.seed)
    notes = list(split.notes)
    labels, places = index.labels[split.train], index.places[split.train]
    kept = few_labels(labels, places, percent=config.labels, seed=config.seed)
    if config.labels < 100:
        used, there = len(np.unique(places[kept])), len(np.unique(places))
        notes.append(f"{config.labels:g} % of the labels: {used:,} of {there:,} training places, drawn by category")
    return LabelledData(
        index=index,
        train=split.train[kept],
        test=split.test,
        used=np.unique(index.labels[np.concatenate([split.train, split.test])]),
        notes=notes,
    )


def even_batch(images: int, batch: int) -> int:
    """Images a step, at most `batch`, so that whole batches leave few images of an epoch out.

    Where an epoch would end with a short batch, as many batches of equal size leave out fewer images, if the images
    are few; of many, whole batches do. The published loader gives the short batch too.
    """
    steps = -(-images // batch)
    return images // steps if images % steps < images % batch else batch
