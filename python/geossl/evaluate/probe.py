"""`geossl probe`: what a trained encoder's features are worth, beside those of baselines."""

from __future__ import annotations

import math
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.evaluate.baselines import BASELINES, Baseline, Probed
from geossl.evaluate.classifiers import METHODS, Method
from geossl.evaluate.evaluation import evaluate
from geossl.evaluate.features import check_bands, extract
from geossl.evaluate.geo_errors import score_geo
from geossl.evaluate.linear import LR_GRID
from geossl.evaluate.logistic import C_GRID
from geossl.evaluate.report import Report
from geossl.evaluate.split import count_oblong, split_rows
from geossl.evaluate.trial import Trial
from geossl.models.weights import IMAGENET_MEAN, IMAGENET_STD, load_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.data.samples import Samples
    from geossl.models.weights import LoadedBackbone

GEO_ARMS = {"geo", "geo_tp", "geoloc"}
"""Arms whose runs have a geo head."""
_Word = TypeVar("_Word", bound=str)


def probe(
    run: Path,
    *,
    data: Path,
    out: Path | None = None,
    backbone: str | None = None,
    split_train: str = "train",
    split_test: str = "val",
    bands: Sequence[str] | None = None,
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
    """Classify images by the frozen encoder of a run; write `probe.json`, and the folder `probe` beside it.

    The protocols are in `geossl.evaluate.linear`, `.knn` and `.logistic`, the figures in `.metrics`, `.bootstrap`
    and `.breakdowns`, the folder in `.evaluation`. Nothing is chosen on test images: the last epoch is reported, and
    settings are chosen on held-out places of the training images whose labels are used.

    Args:
        run: folder of a training run, or a file that `load_backbone` reads.
        data: index of labelled images.
        out: folder of the report; by default the run's, or that of the file.
        backbone: the model, for a file that does not name it: a state_dict of torchvision or timm.
        split_train: split of the index that the classifiers learn from, or several with commas between.
        split_test: split that is scored, or several. In an index without splits, a seeded fifth of the places.
        bands: bands of the images that the encoder gets, by name or number, in its order; by default those that its run
            chose, else all.
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
    shares = sorted({float(share) for share in labels})
    if not shares or not 0 < shares[0] <= shares[-1] <= 100:
        given = ",".join(f"{share:g}" for share in labels)
        raise UsageError(f"--labels {given}: give shares of the training places in per cent, above 0 to 100")
    target = resolve_device(device)
    trained = load_backbone(run, backbone=backbone)
    index = Index.read(data, root=root, images=pack is None)
    split = split_rows(index, train=split_train, test=split_test, seed=seed)
    chosen = trained.chosen_bands if bands is None else list(bands)
    rows = np.concatenate([split.train, split.test])
    samples = check_bands(index, rows, trained, bands=chosen, run=run, option="--bands")

    name = str(trained.settings.get("arm", "trained"))
    trial = Trial(
        read=partial(
            extract,
            index=index,
            **trained.preparation,
            device=target,
            batch=batch,
            loader=LoaderConfig(root=root, pack=pack, bands=chosen, threads=threads, on_error="skip"),
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
    train, test = trial.features(encoder)
    train_images, test_images = len(train.rows), len(test.rows)
    train_places, test_places = (len(torch.unique(found.places)) for found in (train, test))
    notes = _dark_note(trained, samples) + _crops_note(index, split.train, crops)
    geo = score_geo(run, test, index=index) if name in GEO_ARMS else None
    unreadable = _unreadable(train.failures + test.failures)
    predictions = chain(trial.predict(encoder, train, test), trial.baselines(baselines, like=trained))
    del train, test  # large, and needed for the first predictions alone
    folder = report_folder(run, out)
    categories = [index.categories[code] for code in trial.used.tolist()]
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
            "bands": chosen,
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
        notes=trained.notes + split.notes + notes + unreadable,
        details=made.details,
    )
    report.write(folder / "probe.json")
    return report


def report_folder(run: Path, out: Path | None) -> Path:
    """Where the report of a probe goes: `out`, or else the run's folder, or that of the file."""
    return out or (run if run.is_dir() else run.parent)


def _chosen(option: str, words: Sequence[_Word], known: Sequence[_Word]) -> list[_Word]:
    """The words, each once. Raises UsageError if there is none, or one that is not known."""
    wrong = [word for word in words if word not in known]
    if wrong or not words:
        raise UsageError(f"{option} {','.join(words)}: give some of: {', '.join(known)}")
    return list(dict.fromkeys(words))


def _crops_note(index: Index, rows: NDArray[np.int64], crops: str) -> list[str]:
    oblong = count_oblong(index, rows)
    if crops == "random" or not oblong:
        return []
    centre = "their centre is used; --crops random cuts a random square in every epoch, as the paper's protocol does"
    return [f"{oblong:,} of {len(rows):,} training boxes are not square: {centre}"]


def _dark_note(trained: LoadedBackbone, samples: Samples) -> list[str]:
    """Whether images have more bits than those whose mean and deviation they are normalised by."""
    if samples.bits == 8 or (trained.mean, trained.std) != (IMAGENET_MEAN, IMAGENET_STD):
        return []
    mend = "finetuning normalises by the images' own mean and deviation"
    bits = f"the encoder's normalisation is of 8-bit images, and these have {samples.bits} bits"
    return [f"warning: {bits}: what does not fill them looks black to it; {mend}"]


def _unreadable(failures: list[tuple[str, str]]) -> list[str]:
    if not failures:
        return []
    path, reason = failures[0]
    return [f"unreadable images left out: {len(failures):,}, the first: {path}: {reason}"]
