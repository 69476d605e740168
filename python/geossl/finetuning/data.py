"""What finetuning learns from and what it is tested on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.data.index import Index
from geossl.data.samples import choose_samples
from geossl.errors import UsageError
from geossl.evaluate.few_labels import draw_places
from geossl.evaluate.split import split_rows
from geossl.evaluate.validation import hold_out_places
from geossl.training.data import TrainData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geossl.finetuning.config import FinetuneConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledData:
    """The images of a finetuning run and their classes."""

    index: Index
    labelled: NDArray[np.int64]
    """Rows of the index that could be trained on: the labelled ones of the training split."""
    train: NDArray[np.int64]
    """Those that are, with fewer labels a part of them."""
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

    def held_out(self, *, seed: int) -> LabelledData:
        """The same, scored on a share of the training places, which are not trained on; see `hold_out_places`.

        Raises UsageError where most classes have a single place.
        """
        places, labels = (torch.from_numpy(codes[self.train]) for codes in (self.index.places, self.labels))
        held = hold_out_places(places=places, labels=labels, seed=seed).numpy()
        if not held.any():
            raise UsageError("most categories have a single training place: no learning rate can be chosen; give --lr")
        return replace(self, train=self.train[~held], test=self.train[held], notes=[])


def read_labelled(config: FinetuneConfig) -> LabelledData:
    """Read the index, and choose what is trained and tested on.

    Raises UsageError as `geossl.evaluate.split.split_rows`, and for a missing or broken index.
    """
    index = Index.read(config.data, root=config.root, images=config.pack is None)
    split = split_rows(index, train=config.split_train, test=config.split_test, seed=config.seed)
    notes = list(split.notes)
    labels, places = index.labels[split.train], index.places[split.train]
    kept = np.ones(len(places), dtype=bool)
    if config.labels < 100:
        of_rows = torch.from_numpy(places), torch.from_numpy(labels)
        share = config.labels / 100
        kept = draw_places(places=of_rows[0], labels=of_rows[1], share=share, seed=config.seed, use="labels").numpy()
        used, there = len(np.unique(places[kept])), len(np.unique(places))
        notes.append(f"{config.labels:g} % of the labels: {used:,} of {there:,} training places, drawn by category")
    return LabelledData(
        index=index,
        labelled=split.train,
        train=split.train[kept],
        test=split.test,
        used=np.unique(index.labels[np.concatenate([split.train, split.test])]),
        notes=notes,
    )


def even_batch(images: int, batch: int, *, world: int = 1) -> int:
    """Images a step, at most `batch`, so that whole batches leave few images of an epoch out.

    Where an epoch would end with a short batch, as many batches of equal size leave out fewer images, if the images
    are few; of many, whole batches do. The published loader gives the short batch too. Of several processes, each has
    as many images of a batch: a batch is a multiple of `world`.
    """
    steps = -(-images // batch)
    even = images // steps // world * world
    return even if even and images - steps * even < images % batch else batch
