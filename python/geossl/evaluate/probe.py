"""`geossl probe`: what a trained encoder's features are worth, beside a random one's."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from rich.table import Table

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.device import resolve_device
from geossl.errors import GeosslError, UsageError
from geossl.evaluate.features import Features, check_bands, extract
from geossl.evaluate.knn import predict_knn
from geossl.evaluate.linear import LR_GRID, choose_lr, fit_linear, predict_linear
from geossl.evaluate.metrics import Scores, score
from geossl.evaluate.split import count_oblong, split_rows
from geossl.files import replacing
from geossl.models.weights import load_backbone, random_backbone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

METRICS = ("top1", "top5", "f1", "place_top1", "place_top5", "place_f1")
HEADER = ("encoder", "method", "top-1", "top-5", "F1", "place top-1", "place top-5", "place F1")


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """One encoder by one method."""

    encoder: str
    """The run's arm, or `random`."""
    method: str
    """`linear` or `knn`."""
    lr: float | None
    """Learning rate of the linear classifier, given or chosen."""
    scores: Scores

    def cells(self) -> list[str]:
        """The row as text, shares in per cent, a dash for what does not exist."""
        values = [getattr(self.scores, name) for name in METRICS]
        return [self.encoder, self.method, *("-" if math.isnan(v) else f"{100 * v:.2f}" for v in values)]


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """The scores, and what they were measured on. Written to `probe.json` in the run's folder."""

    run: str
    data: str
    index_hash: str
    settings: dict[str, Any]
    """What the probe was asked for."""
    train_images: int
    train_places: int
    test_images: int
    test_places: int
    classes: int
    """Categories among the training and test images."""
    rows: list[ProbeRow]
    notes: list[str]
    """What a reader of the scores has to know: how it was split, what was left out, leaks."""

    def summary(self) -> str:
        """One line: what was trained and tested on."""
        return (
            f"{self.classes} classes: trained on {self.train_images:,} images "
            f"of {self.train_places:,} places, "
            f"tested on {self.test_images:,} images "
            f"of {self.test_places:,} places ({self.test_images / self.test_places:.1f} views each)"
        )

    def table(self) -> Table:
        """The scores as a table for a terminal, per cent."""
        table = Table(caption=self.summary(), caption_justify="left")
        for name in HEADER[:2]:
            table.add_column(name)
        for name in HEADER[2:]:
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(*row.cells())
        return table

    def lines(self) -> list[str]:
        """The scores as plain lines in columns, per cent, then the summary and the notes."""
        cells = [list(HEADER), *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
        text = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        return [*text, self.summary(), *self.notes]

    def write(self, path: Path) -> None:
        """Write the report as JSON; a score that does not exist is null."""
        text = json.dumps(_finite(asdict(self)), indent=2, allow_nan=False, ensure_ascii=False)
        try:
            with replacing(path) as file:
                file.write(f"{text}\n".encode())
        except OSError as e:
            raise GeosslError(f"{path}: cannot write the report: {e.strerror}") from e


def probe(
    run: Path,
    *,
    data: Path,
    backbone: str | None = None,
    split_train: str = "train",
    split_test: str = "val",
    random: bool = True,
    lr: float | None = None,
    crops: Literal["center", "random"] = "center",
    seed: int = 0,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> ProbeReport:
    """Evaluate the frozen encoder of a run by linear and kNN classification, and write `probe.json` there.

    The protocol is in `geossl.evaluate.linear`, `.knn` and `.metrics`. Nothing is chosen on test images: the
    last epoch is reported, and the learning rate comes from held-out places of the training images.

    Args:
        run: folder of a training run, or a file that `load_backbone` reads (the report is then written beside it).
        data: index of labelled images.
        backbone: the model, for a file that does not name it: a state_dict of torchvision or timm.
        split_train: split of the index that the classifiers learn from.
        split_test: split that is scored. In an index without splits, a seeded fifth of the places.
        random: also probe an encoder of the same architecture that was never trained.
        lr: learning rate of the linear classifier; by default the best of `linear.LR_GRID`.
        crops: the training images' crops: `random` is the protocol to the letter, a new square of the box in every
            epoch, and reads the images a hundred times; `center` reads them once. The same for square boxes.
        seed: seed of the splits, of the classifiers and of the random encoder.
        batch: images that the encoder reads at once.
        device: auto, cpu, cuda or cuda:N.
        threads: decoding threads; 0 is one a core, but for one core.
        root: folder that the index's paths start from, if the images have moved.
        pack: pack that is read in place of the images.

    Raises:
        UsageError: the run, the index or its images are missing, have no categories, too few classes, an
            empty split, or other bands than the encoder reads; or an option's value is impossible.
        GeosslError: images cannot be read, or the classifier diverged.

    """
    if lr is not None and not 0 < lr < math.inf:
        raise UsageError(f"--lr {lr:g}: must be above 0")
    if crops not in {"center", "random"}:
        raise UsageError(f"--crops {crops}: must be center or random")
    if batch < 1:
        raise UsageError(f"--batch {batch}: must be at least 1")
    target = resolve_device(device)
    trained = load_backbone(run, backbone=backbone)
    index = Index.read(data, root=root, images=pack is None)
    split = split_rows(index, train=split_train, test=split_test, seed=seed)
    if lr is None and len(np.unique(index.places[split.train])) < 2:
        raise UsageError(f"{data}: the training images show a single place: no --lr can be chosen; give one")
    rows = np.concatenate([split.train, split.test])
    bands = trained.chosen_bands
    check_bands(index, rows, trained, bands=bands, run=run)
    used = torch.from_numpy(np.unique(index.labels[rows]))

    encoders = {str(trained.settings.get("arm", "trained")): trained}
    if random:
        encoders["random"] = random_backbone(trained, seed=seed)
    results: list[ProbeRow] = []
    for name, encoder in encoders.items():
        read = partial(
            extract,
            encoder.module.to(target),
            index=index,
            **encoder.preparation,
            device=target,
            batch=batch,
            loader=LoaderConfig(root=root, pack=pack, bands=bands, threads=threads, on_error="skip"),
            seed=seed,
        )
        train = read(rows=split.train, title=f"{name}: training images")
        test = read(rows=split.test, title=f"{name}: test images")
        anew = partial(_anew, read, split.train) if crops == "random" else None
        results += _classify(name, train=train, test=test, used=used, lr=lr, seed=seed, device=target, anew=anew)

    report = ProbeReport(
        run=str(run),
        data=str(data),
        index_hash=index.content_hash,
        settings={
            "backbone": trained.name,
            "split_train": split_train,
            "split_test": split_test,
            "crops": crops,
            "lr": lr,
            "lr_grid": None if lr else list(LR_GRID),
            "seed": seed,
            "size": trained.size,
        },
        train_images=len(train.rows),
        train_places=len(torch.unique(train.places)),
        test_images=len(test.rows),
        test_places=len(torch.unique(test.places)),
        classes=len(used),
        rows=results,
        notes=trained.notes
        + split.notes
        + _crops_note(index, split.train, crops)
        + _unreadable(train.failures + test.failures),
    )
    report.write((run if run.is_dir() else run.parent) / "probe.json")
    return report


def _anew(read: Callable[..., Features], rows: NDArray[np.int64], epoch: int) -> torch.Tensor:
    """Features of an epoch's own random crops."""
    return read(rows=rows, cut="random", epoch=epoch, title=f"epoch {epoch + 1}").x


def _crops_note(index: Index, rows: NDArray[np.int64], crops: str) -> list[str]:
    oblong = count_oblong(index, rows)
    if crops == "random" or not oblong:
        return []
    centre = "their centre is used; --crops random cuts a random square in every epoch, as the paper's protocol does"
    return [f"{oblong:,} of {len(rows):,} training boxes are not square: {centre}"]


def _classify(
    name: str,
    *,
    train: Features,
    test: Features,
    used: torch.Tensor,
    lr: float | None,
    seed: int,
    device: torch.device,
    anew: Callable[[int], torch.Tensor] | None,
) -> list[ProbeRow]:
    """The linear and the kNN row of an encoder."""
    classes = len(used)
    # From codes of the index's categories to 0..C-1: what is neither trained nor tested on is no class here.
    train_y, test_y = torch.searchsorted(used, train.labels), torch.searchsorted(used, test.labels)
    train_x, test_x, y = train.x.to(device), test.x.to(device), train_y.to(device)
    if lr is None:
        lr = choose_lr(x=train_x, y=y, places=train.places, classes=classes, seed=seed)
    weight, bias = fit_linear(x=train_x, y=y, classes=classes, lr=lr, seed=seed, anew=anew)
    linear = predict_linear(x=test_x, weight=weight, bias=bias)
    knn = predict_knn(train_x=train_x, train_y=y, test_x=test_x, classes=classes)
    return [
        ProbeRow(
            encoder=name,
            method=method,
            lr=lr if method == "linear" else None,
            scores=score(probabilities=probabilities, labels=test_y, places=test.places),
        )
        for method, probabilities in (("linear", linear), ("knn", knn))
    ]


def _unreadable(failures: list[tuple[str, str]]) -> list[str]:
    if not failures:
        return []
    path, reason = failures[0]
    return [f"unreadable images left out: {len(failures):,}, the first: {path}: {reason}"]


def _finite(value: Any) -> Any:
    """The value with NaN as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
