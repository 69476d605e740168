"""`geossl probe`: what a trained encoder's features are worth, beside those of baselines."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from rich.console import Console

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.evaluate.baselines import BASELINES, Baseline, Probed, Standardizer, make_baseline
from geossl.evaluate.classifiers import METHODS, Labelled, Method, fit
from geossl.evaluate.evaluation import evaluate
from geossl.evaluate.features import Features, check_bands, extract
from geossl.evaluate.few_labels import draw_places
from geossl.evaluate.geo_errors import score_geo
from geossl.evaluate.linear import LR_GRID
from geossl.evaluate.logistic import C_GRID
from geossl.evaluate.places import group_places
from geossl.evaluate.predictions import Fit, Predictions
from geossl.evaluate.report import Report
from geossl.evaluate.split import count_oblong, split_rows
from geossl.models.weights import load_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.models.weights import LoadedBackbone

GEO_ARMS = {"geo", "geo_tp", "geoloc"}
"""Arms whose runs have a geo head."""
_Word = TypeVar("_Word", bound=str)


def probe(
    run: Path,
    *,
    data: Path,
    backbone: str | None = None,
    split_train: str = "train",
    split_test: str = "val",
    methods: Sequence[Method] = ("linear", "knn"),
    labels: Sequence[float] = (100,),
    baselines: Sequence[Baseline] = ("random",),
    lr: float | None = None,
    crops: Literal["center", "random"] = "center",
    seed: int = 0,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> Report:
    """Classify images by the frozen encoder of a run; write `probe.json` there, and the folder `probe` beside it.

    The protocols are in `geossl.evaluate.linear`, `.knn` and `.logistic`, the figures in `.metrics`, `.bootstrap`
    and `.breakdowns`, the folder in `.evaluation`. Nothing is chosen on test images: the last epoch is reported, and
    settings are chosen on held-out places of the training images whose labels are used.

    Args:
        run: folder of a training run, or a file that `load_backbone` reads (the report is then written beside it).
        data: index of labelled images.
        backbone: the model, for a file that does not name it: a state_dict of torchvision or timm.
        split_train: split of the index that the classifiers learn from.
        split_test: split that is scored. In an index without splits, a seeded fifth of the places.
        methods: classifiers: linear, knn, logistic.
        labels: shares of the training places whose labels are used, per cent, above 0 to 100; each class keeps a
            place at least.
        baselines: encoders to probe beside it: random (the same architecture with random weights), statistics (of
            the images' values), random_conv (random convolutional features).
        lr: learning rate of the linear classifier; by default the best of `linear.LR_GRID`.
        crops: the training images' crops: `random` is the protocol to the letter, a new square of the box in every
            epoch, and reads the images a hundred times; `center` reads them once. The same for square boxes.
        seed: seed of the splits, of the classifiers, of the baselines and of the intervals.
        batch: images that the encoder reads at once.
        device: auto, cpu, cuda or cuda:N.
        threads: decoding threads; 0 is one a core, but for one core.
        root: folder that the index's paths start from, if the images have moved.
        pack: pack that is read in place of the images.

    Raises:
        UsageError: the run, the index or its images are missing, have no categories, too few classes, an
            empty split, or other bands than the encoder reads; or an option's value is impossible.
        GeosslError: images cannot be read, the classifier diverged, or a file cannot be written.

    """
    if lr is not None and not 0 < lr < math.inf:
        raise UsageError(f"--lr {lr:g}: must be above 0")
    if crops not in {"center", "random"}:
        raise UsageError(f"--crops {crops}: must be center or random")
    if batch < 1:
        raise UsageError(f"--batch {batch}: must be at least 1")
    methods = _chosen("--methods", methods, METHODS)
    baselines = _chosen("--baselines", baselines, BASELINES) if baselines else []
    shares = sorted(set(labels))
    if not shares or not 0 < shares[0] <= shares[-1] <= 100:
        given = ",".join(f"{share:g}" for share in labels)
        raise UsageError(f"--labels {given}: give shares of the training places in per cent, above 0 to 100")
    target = resolve_device(device)
    trained = load_backbone(run, backbone=backbone)
    index = Index.read(data, root=root, images=pack is None)
    split = split_rows(index, train=split_train, test=split_test, seed=seed)
    bands = trained.chosen_bands
    rows = np.concatenate([split.train, split.test])
    check_bands(index, rows, trained, bands=bands, run=run)

    name = str(trained.settings.get("arm", "trained"))
    work = _Work(
        read=partial(
            extract,
            index=index,
            **trained.preparation,
            device=target,
            batch=batch,
            loader=LoaderConfig(root=root, pack=pack, bands=bands, threads=threads, on_error="skip"),
            seed=seed,
        ),
        train_rows=split.train,
        test_rows=split.test,
        used=torch.from_numpy(np.unique(index.labels[rows])),
        methods=methods,
        shares=shares,
        lr=lr,
        seed=seed,
        device=target,
        random_crops=crops == "random",
    )

    encoder = Probed(name=name, module=trained.module.to(target))
    train, test = work.features(encoder)
    train_images, test_images = len(train.rows), len(test.rows)
    train_places, test_places = (len(torch.unique(found.places)) for found in (train, test))
    geo = score_geo(run, test, index=index) if name in GEO_ARMS else None
    unreadable = _unreadable(train.failures + test.failures)
    predictions = chain(work.predict(encoder, train, test), _baselines(baselines, like=trained, work=work))
    del train, test  # large, and needed for the first predictions alone
    folder = run if run.is_dir() else run.parent
    categories = [index.categories[code] for code in work.used.tolist()]
    made = evaluate(
        predictions,
        folder=folder / "probe",
        index=index,
        classes=categories,
        train_rows=split.train,
        main=name,
        seed=seed,
    )
    report = Report(
        run=str(run),
        data=str(data),
        index_hash=index.content_hash,
        settings={
            "backbone": trained.name,
            "split_train": split_train,
            "split_test": split_test,
            "methods": methods,
            "labels": shares,
            "baselines": baselines,
            "crops": crops,
            "lr": lr,
            "lr_grid": None if lr else list(LR_GRID),
            "c_grid": list(C_GRID) if "logistic" in methods else None,
            "seed": seed,
            "size": trained.size,
        },
        train_images=train_images,
        train_places=train_places,
        test_images=test_images,
        test_places=test_places,
        classes=len(categories),
        rows=made.rows,
        geo=geo,
        notes=split.notes + _crops_note(index, split.train, crops) + unreadable,
        details=made.details,
    )
    report.write(folder / "probe.json")
    return report


@dataclass(kw_only=True, eq=False)
class _Work:
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
                    x=train_x[mine.to(self.device)],
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


def _baselines(names: list[Baseline], *, like: LoadedBackbone, work: _Work) -> Iterator[Predictions]:
    """The predictions by each baseline."""
    for name in names:
        encoder = make_baseline(name, like=like, read=work.read, rows=work.train_rows, seed=work.seed)
        if isinstance(encoder.module, torch.nn.Module):
            encoder.module.to(work.device)
        yield from work.predict(encoder, *work.features(encoder))


def _chosen(option: str, words: Sequence[_Word], known: Sequence[_Word]) -> list[_Word]:
    """The words, each once. Raises UsageError if there is none, or one that is not known."""
    wrong = [word for word in words if word not in known]
    if wrong or not words:
        raise UsageError(f"{option} {','.join(words)}: give some of: {', '.join(known)}")
    return list(dict.fromkeys(words))


def _tell(what: str) -> None:
    """Say on a terminal's standard error what is being fitted: it takes a while."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(what, highlight=False, markup=False)


def _crops_note(index: Index, rows: NDArray[np.int64], crops: str) -> list[str]:
    oblong = count_oblong(index, rows)
    if crops == "random" or not oblong:
        return []
    centre = "their centre is used; --crops random cuts a random square in every epoch, as the paper's protocol does"
    return [f"{oblong:,} of {len(rows):,} training boxes are not square: {centre}"]


def _unreadable(failures: list[tuple[str, str]]) -> list[str]:
    if not failures:
        return []
    path, reason = failures[0]
    return [f"unreadable images left out: {len(failures):,}, the first: {path}: {reason}"]
