"""The learning rate of a finetuning run, chosen on training places that are set aside; the test is not looked at."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

from geossl.errors import GeosslError
from geossl.evaluate.validation import merit
from geossl.files import naming_full_disk, replacing
from geossl.finetuning.classifier import ROUNDING, SAME_BITS, begin, go_on, train, write_settings
from geossl.finetuning.data import even_batch
from geossl.finetuning.predict import predict
from geossl.training import resume as origins
from geossl.training.folder import RESUME, held
from geossl.training.ranks import ALONE
from geossl.training.watch import NotFiniteError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from geossl.finetuning.config import FinetuneConfig
    from geossl.finetuning.data import LabelledData

LR_GRID = (0.001, 0.01, 0.1)
"""What is tried: 0.001 is the published one."""
PART, LEAST_STEPS = 0.2, 300
"""Each is tried in this part of the epochs, with the same schedule, so that all take about half as long as the run
itself; but in so many steps at least, if the run has them: in a few steps, rates look well that diverge later."""
TRIED = "lr.json"
"""Name, in the run folder, of what was tried: `settings`, and `top1` of each rate, null of one that diverged."""


def choose_lr(config: FinetuneConfig, data: LabelledData, *, console: Console) -> float | None:
    """The learning rate of `LR_GRID` with the best top-1 on a fifth of the training places, which the others train for.

    The lower of equals wins, and a rate that diverges is left out. Each rate is a run in a folder of its own, which
    goes on where it was interrupted, and is removed when it is over; its score stays in lr.json.

    Args:
        config: the settings.
        data: what is trained on; its test rows are not read.
        console: where progress is shown.

    Returns:
        The rate; None after a signal that asks to stop.

    Raises:
        UsageError: most categories have a single place, so that nothing can be set aside.
        GeosslError: every rate diverged.

    """
    part = data.held_out(seed=config.seed)
    settings = config.model_dump(mode="json", exclude=SAME_BITS | ROUNDING)
    tried = _read(config.folder / TRIED, settings)
    for lr in LR_GRID:
        name = f"{lr:g}"
        if name not in tried:
            finished, tried[name] = _try(config, part, lr=lr, console=console)
            if not finished:
                return None
            _write(config.folder / TRIED, settings, tried)
        shutil.rmtree(_folder(config, lr), ignore_errors=True)
        top1, where = tried[name], f"{len(part.test):,} training images that were set aside"
        said = "diverged" if top1 is None else f"top-1 {top1:.1%} on {where}"
        console.print(f"learning rate {name}: {said}", highlight=False, soft_wrap=True)
    scores = {lr: top1 for lr in LR_GRID if (top1 := tried[f"{lr:g}"]) is not None}
    if not scores:
        raise GeosslError(f"{config.folder}: training diverged at every learning rate of {LR_GRID}; give --lr")
    return max(scores, key=lambda lr: scores[lr])


def _try(config: FinetuneConfig, data: LabelledData, *, lr: float, console: Console) -> tuple[bool, float | None]:
    """Whether a short run with that rate has ended, and its top-1; None if it has diverged."""
    folder = _folder(config, lr)
    steps = len(data.train) // even_batch(len(data.train), config.batch)
    epochs = min(config.epochs, math.ceil(max(PART * config.epochs, LEAST_STEPS / steps)))
    short = config.model_copy(update={"out": folder, "lr": lr, "epochs": epochs})
    with held(folder, console=console):
        origin = origins.find(folder, "auto", ranks=ALONE, console=console)
        state = begin(short, data, lr=lr) if origin is None else go_on(short, data, origin, console=console)
        write_settings(short)
        try:
            if not train(short, state, console=console):
                return False, None
            predictions, _ = predict(state, data, title=f"learning rate {lr:g}")
            return True, merit(predictions.probabilities, predictions.labels)[0]
        except NotFiniteError:
            return True, None


def _folder(config: FinetuneConfig, lr: float) -> Path:
    return config.folder / f"lr-{lr:g}"


def _read(path: Path, settings: dict[str, Any]) -> dict[str, float | None]:
    """What was tried before with these settings."""
    if not path.exists():
        return {}
    before = json.loads(path.read_text(encoding="utf-8"))
    return dict(before["top1"]) if before["settings"] == settings else {}


def _write(path: Path, settings: dict[str, Any], tried: dict[str, float | None]) -> None:
    text = json.dumps({"settings": settings, "top1": tried}, indent=2)
    with naming_full_disk(path, hint=RESUME), replacing(path) as file:
        file.write(f"{text}\n".encode())
