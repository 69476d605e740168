"""Nearest neighbours while a run is under way: what its encoder separates by now, without training anything.

The bank is labelled images that are trained on (without their labels, unless the arm is supervised); the questions are
labelled images of the split `val`, or where that is not there, or is trained on, of places kept out of the bank. The
protocol is the probe's (`geossl.evaluate.knn`, `.features`), on fewer images: read the course, not the level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.errors import GeosslError, UsageError
from geossl.evaluate.features import Features, extract
from geossl.evaluate.knn import predict_knn
from geossl.evaluate.metrics import score
from geossl.evaluate.split import hold_out
from geossl.models.backbone import features
from geossl.models.seeds import derive_seed, generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console
    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.models.backbone import Encoder
    from geossl.training.data import TrainData

BANK_IMAGES = 4096
"""Most images of the bank."""
QUESTION_IMAGES = 2048
"""Most images that are classified. Together with the bank's they take 50 MB of features of 2048 values."""
HELD_OUT = 0.2
"""Share of the places that are kept out of the bank, where no split asks the questions."""
BATCH = 256
"""Most images that the encoder reads at once."""


class OnlineKnn:
    """Classifies labelled images by their nearest neighbours, always the same ones."""

    def __init__(self, config: TrainConfig, data: TrainData, *, console: Console) -> None:
        """Choose the images, from the seed.

        Args:
            config: the settings, with everything automatic decided.
            data: the run's.
            console: where a failure is told.

        Raises:
            UsageError: the index has no labels, or too few to classify by.

        """
        self._config, self._index, self._console = config, data.index, console
        bank, asked = _choose(config, data)
        self._bank = _sample(bank, BANK_IMAGES, seed=config.seed, use="knn bank")
        self._asked = _sample(asked, QUESTION_IMAGES, seed=config.seed, use="knn questions")
        self._used = torch.from_numpy(np.unique(data.index.labels[np.concatenate([self._bank, self._asked])]))

    def measure(self, encoder: Encoder) -> dict[str, float]:
        """Share of the images that are classified rightly (knn_acc), and the mean over classes of F1 (knn_macro_f1).

        Nothing where the images cannot be read, or a feature is not finite: that is told, and no reason to end a run.

        Args:
            encoder: of the run, on its device. It is in eval mode meanwhile, and as it was after.

        """
        was = encoder.training
        encoder.eval()
        try:
            bank, asked = (self._extract(encoder, rows) for rows in (self._bank, self._asked))
        except GeosslError as e:
            self._console.print(f"warning: watch.knn_epochs: {e}", highlight=False, markup=False, soft_wrap=True)
            return {}
        finally:
            encoder.train(was)
        device = torch.device(self._config.device)
        votes = predict_knn(
            train_x=bank.x.to(device),
            train_y=torch.searchsorted(self._used, bank.labels).to(device),
            test_x=asked.x.to(device),
            classes=len(self._used),
        )
        labels = torch.searchsorted(self._used, asked.labels)
        scores = score(probabilities=votes, labels=labels, places=asked.places)
        return {"knn_acc": scores.top1, "knn_macro_f1": scores.f1}

    def _extract(self, encoder: Encoder, rows: NDArray[np.int64]) -> Features:
        config = self._config

        def backbone(images: Tensor) -> Tensor:
            return features(encoder, images)

        return extract(
            backbone,
            index=self._index,
            rows=rows,
            size=config.crop.size,
            mean=config.color.mean or (),
            std=config.color.std or (),
            context=config.crop.context,
            device=torch.device(config.device),
            batch=min(config.batch, BATCH, len(rows)),
            loader=config.loader.model_copy(update={"on_error": "skip"}),
            quiet=True,
        )


def _choose(config: TrainConfig, data: TrainData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the bank and of the questions, before they are sampled."""
    index = data.index
    labels = index.labels
    bank = data.rows[labels[data.rows] >= 0]
    without = "run without --watch.knn_epochs"
    if not len(bank):
        raise UsageError(f"watch.knn_epochs: no image of {config.data} that is trained on has a category; {without}")
    asked = index.rows(split="val")
    asked = asked[labels[asked] >= 0]
    if not len(asked) or np.isin(asked, data.rows).any():
        held = hold_out(
            torch.from_numpy(index.places[bank]), share=HELD_OUT, seed=derive_seed(config.seed, "knn places")
        ).numpy()
        bank, asked = bank[~held], bank[held]
    if len(np.unique(labels[bank])) < 2:
        raise UsageError(f"watch.knn_epochs: the labelled images of {config.data} have a single category; {without}")
    return bank, asked


def _sample(rows: NDArray[np.int64], most: int, *, seed: int, use: str) -> NDArray[np.int64]:
    """At most so many of the rows, drawn evenly, in order."""
    drawn = torch.randperm(len(rows), generator=generator(seed, use))[:most]
    return np.sort(rows[drawn.numpy()])
