"""How long a real training step waits for its data: with our loader, and with Pillow and a DataLoader."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geossl.augment import augment
from geossl.config import make_config
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.models.seeds import generator
from geossl.recipes import read_recipe
from geossl.training.data import read_data, resolve
from geossl.training.learner import Learner, Share
from geossl.training.targets import Targets
from peers import torchvision_pil
from work import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.models.moco import MoCo
    from sets import ImageSet

    Batches = Callable[[int], Iterator[Tensor]]

WARM = 3
"""Steps before the clock starts: the first ones start workers, and choose kernels on a GPU."""
WHOLE = Share(images=1.0, known=torch.ones(()))
"""A micro-batch that is the whole batch."""


def measure(images: ImageSet, *, steps: int, repetitions: int) -> list[dict[str, Any]]:
    """Train on temporal pairs of a set with each loader in turn; a row for each loader."""
    recipes = ["tp"] if torch.cuda.is_available() else ["tp", "laptop"]
    given: dict[str, Any] = {"data": Path(images.index), "out": Path("never-written"), "crop": {"scale": (0.2, 1.0)}}
    config = make_config(*(read_recipe(name) for name in recipes), given)
    data = read_data(config)
    config = resolve(config, data)
    device = torch.device(config.device)
    pairs = (steps + WARM) * config.batch
    loaders = {"geossl files": ours(config, images, pairs), "torchvision PIL": pil(config, images, pairs)}
    learner = Learner(config, bands=data.samples.bands, classes=0, geo=None).to(device)
    optimizer = torch.optim.SGD(learner.parameters(), lr=config.optim.lr, momentum=config.optim.momentum)
    waits: dict[str, list[float]] = {name: [] for name in loaders}
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    for repetition in range(repetitions):
        for name, batches in loaders.items():
            wait, secs = train(batches(repetition), learner, optimizer, config)
            waits[name].append(wait / secs)
            speeds[name].append(steps / secs)
    what = f"{' + '.join(recipes)}: {config.model.backbone}, {config.crop.size} px, batch {config.batch}, {device}"
    return [
        {
            "step": f"{what}, set {images.name}",
            "loader": name,
            "wait": statistics.median(waits[name]),
            "spread": f"{100 * min(waits[name]):.1f} to {100 * max(waits[name]):.1f} %",
            "steps_per_sec": statistics.median(speeds[name]),
        }
        for name in loaders
    ]


def ours(config: TrainConfig, images: ImageSet, pairs: int) -> Batches:
    """Our loader's pixels, coloured on the device as `geossl train` does it."""
    index, device = Index.read(Path(images.index)), torch.device(config.device)
    loader = Loader(
        index,
        rows=np.resize(np.arange(len(index)), pairs),
        batch=config.batch,
        views=2,
        temporal=True,
        crop=config.crop,
        color=config.color,
        seed=config.seed,
        train=True,
        loader=config.loader,
        pin=device.type == "cuda",
    )
    mean, std = (torch.tensor(values, device=device) for values in (config.color.mean, config.color.std))

    def batches(number: int) -> Iterator[Tensor]:
        loader.set_epoch(number)
        for batch in loader:
            pixels = batch.images.to(device, non_blocking=True)
            views = augment(pixels.flatten(0, 1), batch.color.flatten(0, 1), mean=mean, std=std)
            yield views.view(*pixels.shape[:2], *views.shape[1:])

    return batches


def pil(config: TrainConfig, images: ImageSet, pairs: int) -> Batches:
    """The reference's way, with a worker for each core."""
    job = Job(
        files=images.files,
        places=images.places,
        index=images.index,
        packs="",
        temporal=True,
        floats=True,
        threads=max(len(os.sched_getaffinity(0)), 2),
        pairs=pairs,
        batch=config.batch,
        size=config.crop.size,
    )
    passes = torchvision_pil.make(job)

    def batches(number: int) -> Iterator[Tensor]:
        for batch in passes(number):
            yield batch.transpose(0, 1).to(config.device, non_blocking=True)

    return batches


def train(
    batches: Iterator[Tensor], learner: Learner, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> tuple[float, float]:
    """Seconds waited for data, and seconds in all, of the steps after the first few."""
    moco: MoCo = learner.model  # type: ignore[assignment]
    wait = 0.0
    started = asked = time.perf_counter()
    for step, views in enumerate(batches):
        if step == WARM:
            wait, started = 0.0, asked
        wait += time.perf_counter() - asked
        order = torch.randperm(config.batch, generator=generator(config.seed, "shuffle", step)).to(config.device)
        shuffled = moco.encode_keys(views[1, order])
        keys = torch.empty_like(shuffled).index_copy_(0, order, shuffled)
        loss = learner.part(views[0], keys=keys, targets=Targets(), share=WHOLE).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        moco.enqueue(keys)
        optimizer.step()
        loss.item()  # waits for the device, as the log's figures do in `geossl train`
        asked = time.perf_counter()
    return wait, asked - started
