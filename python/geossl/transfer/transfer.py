"""`geossl transfer`: a detector or segmenter trained on an encoder, and its scores."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from geossl.device import resolve_device
from geossl.files import replacing
from geossl.training import resume as origins
from geossl.training.folder import held, read_failures
from geossl.training.loop import backends
from geossl.training.ranks import joined
from geossl.transfer.data import read_data
from geossl.transfer.evaluate import evaluate_detector, evaluate_segmenter
from geossl.transfer.run import NOTES, begin, go_on, train, write_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

    from geossl.training.checkpoint import TrainState
    from geossl.training.ranks import Ranks
    from geossl.transfer.config import TransferConfig
    from geossl.transfer.data import TransferData
    from geossl.transfer.detections import DetectionScores
    from geossl.transfer.learner import TransferLearner
    from geossl.transfer.segmentations import SegmentationResult

DETAILS = "test"
"""Name, in the folder, of the folder with what was seen in the test images, tables and pictures."""


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """What a call of `transfer` did."""

    out: Path
    """The folder."""
    scores: DetectionScores | SegmentationResult | None
    """Of the test images; None after SIGTERM."""
    lines: list[str]
    """The report for people."""
    secs: float
    """Duration of this call."""


def transfer(
    config: TransferConfig, *, resume: Literal["auto"] | None = None, console: Console | None = None
) -> TransferResult:
    """Train a detector or segmenter on an encoder, score it on the test images, and leave a run's folder.

    The folder `config.folder` gets config.yaml (the settings), checkpoints/last.pt, metrics.jsonl and tensorboard/ (see
    `geossl.training.log`), failures.jsonl if training images could not be read, detect.json or segment.json (the scores
    and settings), and the folder test: seen.parquet (what a detector saw, see `geossl.transfer.seen`), categories.csv,
    and pictures. The last epoch is reported, and nothing is chosen on test images.

    Args:
        config: the settings.
        resume: `auto` goes on where the folder's checkpoint ends, on the CPU with weights that are bit for bit those of
            an uninterrupted run, or starts if there is none. None starts, and the folder must be free.
        console: where progress is shown; by default standard output.

    Raises:
        UsageError: a run, file, index or folder is not what it should be, or settings do not go together.
        GeosslError: the training has diverged, images cannot be read, or the disk is full; the last checkpoint is kept.
        KeyboardInterrupt: after SIGINT, once the step is finished and the checkpoint saved. After SIGTERM and SIGUSR1
            the same is done, and the call returns. A second signal acts at once.

    Processes that torchrun has started train together, as `geossl.training.train`; the first one scores.

    """
    started = time.perf_counter()
    config = config.settled()
    with ExitStack() as held_folder:
        with joined(config.device) as ranks:
            console = (console or Console()) if ranks.first else Console(quiet=True)
            if ranks.first:
                held_folder.enter_context(held(config.folder, console=console))
            data = read_data(config)
            state = _trained(config, data, resume=resume, console=console, ranks=ranks)
        # The others have left: what follows must not wait for them.
        scores, lines = None, list[str]()
        if ranks.first and state is not None:
            scores, lines = _score(config, data, state)
    return TransferResult(out=config.folder, scores=scores, lines=lines, secs=time.perf_counter() - started)


def _trained(
    config: TransferConfig, data: TransferData, *, resume: Literal["auto"] | None, console: Console, ranks: Ranks
) -> TrainState[TransferLearner] | None:
    """The run after its last epoch; None after SIGTERM."""
    resolve_device(config.device)
    out = config.folder
    origin = origins.find(out, resume, ranks=ranks, console=console)
    if origin is not None:
        state = go_on(config, data, origin, ranks=ranks, console=console)
    else:
        state = begin(config, data, ranks=ranks)
    if ranks.first:
        write_settings(config)
    if state.epoch == state.config.epochs:
        console.print(f"{out}: already trained", highlight=False, soft_wrap=True)
    elif not train(config, data, state, console=console):
        return None
    return state


def _score(
    config: TransferConfig, data: TransferData, state: TrainState[TransferLearner]
) -> tuple[DetectionScores | SegmentationResult, list[str]]:
    """Score the test images, and write the report."""
    failures: list[tuple[str, str]] = []
    evaluate = evaluate_detector if config.task == "detect" else evaluate_segmenter
    with backends(torch.device(state.config.device)):
        made = evaluate(config, data, state, folder=config.folder / DETAILS, failures=failures)
    notes = [*data.notes, *state.notes[NOTES].get("said", []), *_notes(config, failures)]
    report: dict[str, Any] = {
        "task": config.task,
        "run": str(config.run or state.config.model.backbone),
        "data": str(config.data),
        "index_hash": data.index.content_hash,
        "settings": config.model_dump(mode="json", exclude={"run", "data", "out", "device", "threads", "root", "pack"}),
        "scores": made.figures,
        "train_images": len(data.train),
        "train_chips": len(data.chips),
        "notes": notes,
    }
    with replacing(config.folder / f"{config.task}.json") as file:
        file.write(json.dumps(report, indent=1).encode())
    return made.scores, [*made.lines, *(f"note: {note}" for note in notes)]


def _notes(config: TransferConfig, failures: list[tuple[str, str]]) -> Iterator[str]:
    """What a reader of the scores has to know beside how the data were chosen."""
    if replaced := read_failures(config.folder):
        path, reason = replaced[0]
        yield f"unreadable training images, which others stood for: {len(replaced):,}, the first: {path}: {reason}"
    if failures:
        path, reason = failures[0]
        yield f"unreadable test images, in which nothing was seen: {len(failures):,}, the first: {path}: {reason}"
