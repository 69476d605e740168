"""What `geossl train` takes beside the same step written by hand: both in turn, step by step, on the same batches.

The loader of a run is replaced by one that, whenever the run asks for a batch, first takes the step by hand, with a
copy of the model, and then hands the batch over: what passes until the run asks again is its step, all that is done
between two batches included: figures, log and progress. That both did the same work is told by their losses.
"""

from __future__ import annotations

import io
import signal
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch.nn import functional as F

from geossl.config import make_config
from geossl.data.loader import Loader
from geossl.models.seeds import generator
from geossl.recipes import read_recipe
from geossl.training import engine
from geossl.training.data import read_data, resolve
from geossl.training.learner import Learner
from geossl.training.log import read_metrics
from trainer_sets import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geossl.config import TrainConfig
    from geossl.data.loader import Batch
    from sets import ImageSet

TARGET = 0.03
"""Most of the hand-written step's time that ours takes on top."""
WARM = 3
EPOCH = 1500
"""Steps of the epoch whose first steps are measured: a row of metrics comes every hundredth of an epoch, and one of
fMoW's has about as many."""

LAPTOP = {"moco, laptop recipe": ["moco", "laptop"]}
LARGE = {"ResNet-50 at 224": ["moco"]}


class ByHand:
    """MoCo's step as a person writes it, with the initial weights of a run."""

    def __init__(self, config: TrainConfig) -> None:
        data = read_data(config)
        self.config = resolve(config, data)
        learner = Learner(self.config, bands=data.samples.bands, classes=0, geo=None)
        self.moco: Any = learner.to(torch.device("cpu")).model
        self.optimizer = torch.optim.SGD(
            learner.encoder.parameters(), lr=config.optim.lr, momentum=0.9, weight_decay=config.optim.weight_decay
        )
        self.place = 0

    def step(self, batch: Batch, number: int) -> float:
        """Its loss."""
        model, query, key = self.moco, *batch.images
        order = torch.randperm(len(key), generator=generator(self.config.seed, "shuffle", number))
        with torch.no_grad():
            for k, q in zip(model.encoder_k.parameters(), model.encoder_q.parameters(), strict=True):
                k.lerp_(q, 1 - model.momentum)
            shuffled = F.normalize(model.encoder_k(key[order]))
            keys = torch.empty_like(shuffled)
            keys[order] = shuffled
        queries = F.normalize(model.encoder_q(query))
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ model.queue], 1) / model.temperature
        loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        model.queue[:, self.place : self.place + len(keys)] = keys.T
        self.place = (self.place + len(keys)) % model.queue.shape[1]
        return loss.item()


def measure(images: ImageSet, *, work: Path, steps: int, large_steps: int) -> list[dict[str, Any]]:
    """A row for the small model, where a step's fixed costs weigh most, and one for the large."""
    rows = []
    for sort, count, batch in ((LAPTOP, steps, 64), (LARGE, large_steps, 16)):
        ((name, recipes),) = sort.items()
        folder = make_folder(images, count=EPOCH * batch, work=work)
        given: dict[str, Any] = {"data": folder.index, "epochs": 1, "batch": batch, "loader": {"threads": 1}}
        rows.append(
            {"model": name, "batch": batch} | compare([read_recipe(recipe) for recipe in recipes], given, count)
        )
    return rows


def compare(recipes: list[dict[str, Any]], given: dict[str, Any], count: int) -> dict[str, Any]:
    """Milliseconds of `count` steps of both, after the first few, and how far their losses are apart."""
    with tempfile.TemporaryDirectory() as temporary:
        config = make_config(*recipes, given, {"out": Path(temporary) / "run", "device": "cpu"})
        hand = ByHand(config)
        ours: list[float] = []
        theirs: list[float] = []
        losses: list[float] = []

        class Alternating(Loader):
            def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
                # Read beforehand: threads that decode would slow whichever step they fall into.
                read = [replace(b, images=b.images.clone()) for b in islice(super().__iter__(), WARM + count + 1)]
                for number, batch in enumerate(read):
                    if number == WARM + count:
                        signal.raise_signal(signal.SIGTERM)  # the run ends after this step, which is not measured
                        yield batch
                    # A run on a CPU has switched to reproducible kernels; by hand, one would not.
                    torch.use_deterministic_algorithms(mode=False)
                    started = time.perf_counter()
                    losses.append(hand.step(batch, number))
                    theirs.append(time.perf_counter() - started)
                    torch.use_deterministic_algorithms(mode=True)
                    started = time.perf_counter()
                    yield batch
                    ours.append(time.perf_counter() - started)

        vars(engine)["Loader"] = Alternating
        try:
            engine.train(config, console=Console(file=io.StringIO()))
        finally:
            vars(engine)["Loader"] = Loader
        logged = {row["step"] - 1: row["loss"] for row in read_metrics(config.out)}
    apart = max(abs(losses[step] - loss) for step, loss in logged.items() if step < len(losses))
    ours, theirs = ours[WARM:], theirs[WARM:]
    ratios = [a / b - 1 for a, b in zip(ours, theirs, strict=True)]
    low, _, high = quantiles(ratios)
    return {
        "steps": len(ours),
        "ours_ms": 1e3 * median(ours),
        "by_hand_ms": 1e3 * median(theirs),
        "overhead": median(ratios),
        "quartiles": [low, high],
        "losses_apart": apart,
    }
