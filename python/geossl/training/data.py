"""What a run trains on: the rows of the index, what they predict, and the settings that depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.data.band_stats import BandStats
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.data.pack import Pack
from geossl.data.pairs import partnered
from geossl.data.samples import TOP, Samples, choose_samples
from geossl.device import resolve_device
from geossl.errors import Faults, UsageError
from geossl.models.backbone import full_name, sees_batch
from geossl.models.weights import IMAGENET_MEAN, IMAGENET_STD, checkpoint_file
from geossl.training.targets import GeoTargets, Targets, clusters_file, digest, read_geo_targets

if TYPE_CHECKING:
    from geossl.config import ModelConfig, TrainConfig

LARGEST_QUEUE = 65_536
"""MoCo's queue, which a large data set gets."""
MEASURED_IMAGES = 512
"""Images that the mean and standard deviation are measured on, where ImageNet's do not apply."""


@dataclass(frozen=True, kw_only=True)
class TrainData:
    """The images of a run and what they are to predict."""

    index: Index
    rows: np.ndarray
    """int64: the index's rows that are trained on."""
    categories: np.ndarray | None
    """int64 [len(index)]: category of each row, -1 unknown; None where the arm does not predict it."""
    geo: GeoTargets | None
    """Where each row's place is; None where the arm does not predict it."""
    alone: int
    """Images of the run without an allowed other date, which are not in `rows` where they are left out; 0 where the arm
    shows no other dates."""
    samples: Samples
    """Bands, their names and the type of the samples that the network sees."""

    @property
    def classes(self) -> int:
        """How many categories, or clusters of the finest level, are predicted; 0 where none is."""
        if self.categories is not None:
            return int(self.categories.max()) + 1
        return len(self.geo.levels[-1]) if self.geo is not None and self.geo.levels else 0

    @property
    def labels_hash(self) -> str:
        """Hex digest of what is predicted, which tells whether a run is resumed with the same."""
        if self.categories is not None:
            return digest(self.categories)
        return "" if self.geo is None else self.geo.hash

    def targets(self) -> Targets:
        """What each row of the index is to predict."""
        if self.geo is None:
            return Targets(categories=None if self.categories is None else torch.from_numpy(self.categories))
        return Targets(clusters=torch.from_numpy(self.geo.clusters), points=torch.from_numpy(self.geo.points))


def read_data(config: TrainConfig, *, new: bool = True, faults: Faults | None = None) -> TrainData:
    """Read the index, and the clusters where the geo head needs them, and check that the arm can be trained.

    Images without a label stay in the arms that have InfoNCE, and are left out of geoloc and supervised.

    Args:
        config: the settings.
        new: whether the run begins here, for which it needs the weights that it starts from.
        faults: what has been found wrong before, which is told together with what is wrong here.

    Raises:
        UsageError: a file or the device is missing or not what it should be, or the data lacks what the arm needs; all
            that could be found out at once.

    """
    faults = faults or Faults()
    _check_surroundings(config, faults, new=new)
    index, geo, rows = None, None, np.empty(0, np.int64)
    with faults.noted():
        index = Index.read(config.data, root=config.loader.root, images=config.loader.pack is None)
    if index is not None:
        with faults.noted():
            rows = _split_rows(config, index)
        if config.geographic:
            with faults.noted():
                geo = read_geo_targets(config, index)
    elif config.geographic and config.geo.target != "vector":
        with faults.noted():
            clusters_file(config)
    faults.tell()
    assert index is not None  # noqa: S101 - else there was a fault
    categories = index.labels if config.arm == "supervised" else None
    if geo is not None:
        rows = _labelled_rows(config, rows, geo.known)
    elif categories is not None:
        rows = _labelled_rows(config, rows, categories >= 0)
    alone = 0
    if config.temporal:
        paired = _check_temporal(config, index, rows)
        alone = len(rows) - int(paired.sum())
        if config.pairs.alone == "leave_out":
            rows = rows[paired]
    return TrainData(
        index=index,
        rows=rows,
        categories=categories,
        geo=geo,
        alone=alone,
        samples=choose_samples(index.table.take(rows), config.loader.bands),
    )


def resolve(config: TrainConfig, data: TrainData) -> TrainConfig:
    """The settings with everything automatic decided: device, queue, mean and standard deviation.

    Raises UsageError for a device or a backbone that is not there, for a mean or deviation that does not fit the bands,
    and for a batch that batch normalisation cannot see in its groups.
    """
    model, color = _resolve_backbone(config), config.color
    if config.contrastive and model.queue is None:
        model = model.model_copy(update={"queue": automatic_queue(images=len(data.rows), batch=config.batch)})
    for name in ("mean", "std"):
        given = getattr(color, name)
        if given is not None and len(given) != data.samples.bands:
            found = f"{len(given)} values for images of {data.samples.bands} bands"
            raise UsageError(f"color.{name}: {found}; give one a band")
    if color.std is not None and min(color.std) <= 0:
        raise UsageError(f"color.std: must be above 0, not {min(color.std)}")
    if color.mean is None or color.std is None:
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if _is_photo(data.samples) else measure_bands(config, data)
        color = color.model_copy(update={"mean": color.mean or mean, "std": color.std or std})
    device = str(resolve_device(config.device))
    return config.model_copy(update={"model": model, "color": color, "device": device})


def _resolve_backbone(config: TrainConfig) -> ModelConfig:
    """The model's settings with the backbone's full name, and with a single group where no layer sees groups."""
    model, batch = config.model, config.batch
    groups = model.bn_groups if sees_batch(model.backbone, size=config.crop.size) else 1
    if batch % groups:
        raise UsageError(f"batch ({batch}) must be a multiple of model.bn_groups ({groups})")
    if groups > 1 and batch // groups < 2:
        raise UsageError(
            f"model.bn_groups: {groups} groups of a batch of {batch} have one image each, and batch normalisation "
            f"needs two; use at most {batch // 2}"
        )
    return model.model_copy(update={"backbone": full_name(model.backbone), "bn_groups": groups})


def automatic_queue(*, images: int, batch: int) -> int:
    """Keys kept as negatives: at most 65,536 and half of the images, in whole batches, at least one.

    A longer queue would hold other keys of the query's own image on every step.
    """
    return max(min(LARGEST_QUEUE, images // 2) // batch, 1) * batch


def _is_photo(samples: Samples) -> bool:
    """Whether ImageNet's mean and deviation apply."""
    return (samples.bands, samples.bits) == (3, 8) and samples.names in {None, ("red", "green", "blue")}


def measure_bands(config: TrainConfig, data: TrainData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each band over the data's samples, of values scaled to 0..1 (floats: as they are).

    They are those of `geossl data stats`, where it left them beside the index; else a sample of the images is read.
    """
    found = BandStats.find(config.data)
    if found is not None:
        return found.scaled(data.samples)
    spread = np.linspace(0, len(data.rows) - 1, min(MEASURED_IMAGES, len(data.rows))).round().astype(np.int64)
    loader = Loader(
        data.index,
        rows=data.rows[spread],
        batch=min(64, len(spread)),
        views=1,
        temporal=False,
        crop=config.crop,
        color=None,
        seed=config.seed,
        train=False,
        loader=config.loader,
    )
    bands = data.samples.bands
    count, total, squares = (torch.zeros(bands).double() for _ in range(3))
    for batch in loader:
        values = batch.images[0].double()
        nodata = torch.nan if loader.nodata is None else loader.nodata  # which no value equals, NaN itself neither
        there = ~values.isnan() & (values != nodata) & (batch.gains[0] > 0)[..., None, None]
        values = torch.where(there, values / TOP[loader.bits], 0)
        count += there.sum((0, 2, 3))
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    mean = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    std[std < 1e-6] = 1  # a band that is constant, which no division should blow up
    return tuple(mean.tolist()), tuple(std.tolist())


def _check_surroundings(config: TrainConfig, faults: Faults, *, new: bool) -> None:
    """Note what is wrong with what a run needs beside its images."""
    with faults.noted():
        resolve_device(config.device)
    with faults.noted():
        _resolve_backbone(config)
    if new and config.init_from is not None:
        with faults.noted():
            checkpoint_file(config.init_from, backbone=config.model.backbone)
    if config.loader.pack is not None:
        with faults.noted():
            Pack.read(config.loader.pack)


def _split_rows(config: TrainConfig, index: Index) -> np.ndarray:
    splits = sorted({str(split) for split in index.table["split"].unique().to_pylist() if split is not None})
    split = config.loader.split or ("train" if "train" in splits else None)
    if split is not None and split not in splits:
        raise UsageError(f"loader.split: no split {split} in {config.data}; it has {', '.join(splits) or 'none'}")
    rows: np.ndarray = index.rows(split=split)
    if not len(rows):
        raise UsageError(f"{config.data}: the index has no images")
    return rows


def _labelled_rows(config: TrainConfig, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    labelled = rows[known[rows]]
    if not len(labelled):
        what = "a category" if config.arm == "supervised" else "coordinates"
        raise UsageError(f"{config.data}: no image has {what}, which the arm {config.arm} needs")
    return rows if config.contrastive else labelled


def _check_temporal(config: TrainConfig, index: Index, rows: np.ndarray) -> np.ndarray:
    """Whether each row has an allowed other date, bool [len(rows)]. Raises UsageError where none has."""
    fall_back = f"--arm {'geo' if config.geographic else 'moco'}"
    if index.table["location_id"].take(rows).null_count == len(rows):
        raise UsageError(
            f"{config.data}: the arm {config.arm} needs location_id, which no image has; use {fall_back} instead"
        )
    if np.bincount(index.places[rows]).max() < 2:
        raise UsageError(
            f"{config.data}: the arm {config.arm} needs places with two images or more, and there are none; "
            f"use {fall_back} instead"
        )
    paired = partnered(index, rows, config.pairs)
    if not paired.any():
        raise UsageError(
            f"pairs: no two dates of a place in {config.data} are as these settings say; see what there is with: "
            f"geossl data inspect {config.data}"
        )
    return paired
