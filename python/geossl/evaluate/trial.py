"""What every encoder of a probe is put through: its features, the classifiers on them, and their predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from geossl.evaluate.baselines import Probed, Standardizer, make_baseline
from geossl.evaluate.classifiers import Labelled, fit
from geossl.evaluate.few_labels import draw_places
from geossl.evaluate.places import group_places
from geossl.evaluate.predictions import Fit, Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geossl.evaluate.baselines import Baseline
    from geossl.evaluate.classifiers import Method
    from geossl.evaluate.features import Features
    from geossl.models.weights import LoadedBackbone


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """What every encoder of a probe is put through."""

    read: Callable[..., Features]
    """`extract`, with all given but the encoder, the rows and the title."""
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    used: torch.Tensor
    """Codes of the index's categories that are classes here, ascending: those of training and test images."""
    methods: list[Method]
    shares: list[float]
    lr: float | None
    seed: int
    device: torch.device
    random_crops: bool

    def features(self, encoder: Probed) -> tuple[Features, Features]:
        """Of the training and of the test images."""
        read = partial(self.read, encoder.module, keep_nodata=encoder.keep_nodata)
        train = read(rows=self.train_rows, title=f"{encoder.name}: training images")
        return train, read(rows=self.test_rows, title=f"{encoder.name}: test images")

    def predict(self, encoder: Probed, train: Features, test: Features) -> Iterator[Predictions]:
        """The predictions of the test images by each method, with each share of the labels."""
        brought = Standardizer(train.x) if encoder.standardize else _as_it_is
        train_x, test_x = brought(train.x).to(self.device), brought(test.x).to(self.device)
        train_y, test_y = (torch.searchsorted(self.used, found.labels) for found in (train, test))
        places = group_places(places=test.places.numpy(), labels=test_y.numpy())
        for method in self.methods:
            for share in self.shares:
                mine = self._labelled(train.places, train_y, share)
                data = Labelled(
                    # A copy of all would take as much memory again.
                    x=train_x if mine.all() else train_x[mine.to(self.device)],
                    y=train_y[mine].to(self.device),
                    places=train.places[mine],
                    classes=len(self.used),
                )
                made = Fit(
                    encoder=encoder.name,
                    method=method,
                    labels=share,
                    train_images=len(data.y),
                    train_places=len(torch.unique(data.places)),
                )
                _tell(made.called)
                anew = partial(self._anew, encoder, brought, train.rows[mine]) if self.random_crops else None
                classifier = fit(method, data, lr=self.lr, seed=self.seed, anew=anew)
                yield Predictions(
                    fit=replace(
                        made,
                        lr=classifier.lr,
                        c=classifier.c,
                        validation_places=classifier.validation_places,
                        converged=classifier.converged,
                    ),
                    probabilities=classifier.predict(test_x).cpu(),
                    labels=test_y,
                    places=test.places,
                    rows=test.rows,
                    by_mean_feature=classifier.predict(places.mean(test_x)).cpu(),
                )

    def baselines(self, names: Sequence[Baseline], *, like: LoadedBackbone) -> Iterator[Predictions]:
        """The predictions by each baseline of the encoder."""
        for name in names:
            encoder = make_baseline(name, like=like, read=self.read, rows=self.train_rows, seed=self.seed)
            if isinstance(encoder.module, torch.nn.Module):
                encoder.module.to(self.device)
            yield from self.predict(encoder, *self.features(encoder))

    def _labelled(self, places: torch.Tensor, labels: torch.Tensor, share: float) -> torch.Tensor:
        """Which training images have their labels used, bool [N]."""
        if share == 100:
            return torch.ones(len(labels), dtype=torch.bool)
        return draw_places(places=places, labels=labels, share=share / 100, seed=self.seed, use="labels")

    def _anew(
        self, encoder: Probed, brought: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, epoch: int
    ) -> torch.Tensor:
        """Features of an epoch's own random crops."""
        found = self.read(
            encoder.module,
            rows=rows.numpy(),
            cut="random",
            epoch=epoch,
            keep_nodata=encoder.keep_nodata,
            title=f"{encoder.name}: epoch {epoch + 1}",
        )
        return brought(found.x)


def _as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x


def _tell(what: str) -> None:
    """Say on a terminal's standard error what is being fitted: it takes a while."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(what, highlight=False, markup=False)
