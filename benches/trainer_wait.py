"""How long a step of ResNet-50 at 224 pixels waits for its images, with two threads that load them."""

from __future__ import annotations

import io
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from geossl.config import make_config
from geossl.recipes import read_recipe
from geossl.training import train
from geossl.training.log import read_metrics
from trainer_sets import make_folder

if TYPE_CHECKING:
    from sets import ImageSet

TARGET = 0.02
"""Most of the time that may be spent waiting."""
WARM = 2
BATCH = 32


def measure(images: ImageSet, *, work: Path, steps: int) -> dict[str, Any]:
    """The share of the time that `geossl train` itself reports as waiting, of the steps after the first few."""
    folder = make_folder(images, count=(steps + WARM) * BATCH, work=work)
    with tempfile.TemporaryDirectory() as temporary:
        given: dict[str, Any] = {"data": folder.index, "out": Path(temporary) / "run", "epochs": 1, "batch": BATCH}
        config = make_config(read_recipe("moco"), given, {"loader": {"threads": 2}})
        train(config, console=Console(file=io.StringIO()))
        rows = read_metrics(config.out)[WARM - 1 :]
    secs = [row["time"] - before["time"] for before, row in pairwise(rows)]
    shares = [row["loader_wait"] for row in rows[1:]]
    wait = sum(s * share for s, share in zip(secs, shares, strict=True)) / sum(secs)
    model = f"{config.model.backbone} at {config.crop.size}, batch {BATCH}, set {images.name}"
    return {"model": model, "steps": len(shares), "wait": wait, "spread": [min(shares), max(shares)], "secs": sum(secs)}
