"""Where a run goes on, and whether it may with the settings and the data that are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from geossl.config import TrainConfig, explain, flatten
from geossl.errors import UsageError
from geossl.models.weights import CHECKPOINT
from geossl.training import checkpoint
from geossl.training.checkpoint import BEST, DamagedError, TrainState
from geossl.training.folder import CONFIG, LOCK

if TYPE_CHECKING:
    from rich.console import Console

    from geossl.training.data import TrainData
    from geossl.training.learns import L
    from geossl.training.ranks import Ranks

Resume = Literal["auto"] | Path

SAME_BITS = {
    "data",
    "out",
    "save_steps",
    "keep",
    "loader.root",
    "loader.pack",
    "loader.clusters",
    "loader.threads",
    "watch.knn_epochs",
    "watch.wandb",
}
"""Settings that a resumed run may change, as no weight depends on them: they say where things are, or what is told.
That the images and the clusters are the same is checked by their content, that a pack gives the same batches by the
loader's state."""
ROUNDING = {"device", "precision", "compile", "accumulate", "model.checkpointing"}
"""Settings that a resumed run may change, as they say how the same is computed; weights may differ by rounding."""
RESCUES = {"loader.on_error", "loader.max_image_mib"}
"""Settings that a run which has ended at an unreadable image may change to go on. As it has not left any out, it
is from its start the run that it would have been with the new ones."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The checkpoint that a run goes on from."""

    file: Path
    content: dict[str, Any]
    own: bool
    """Whether it is the run's own, not that of another run which this one begins at."""

    @property
    def step(self) -> int:
        """Steps completed in it."""
        step: int = self.content["geossl"]["step"]
        return step


def find(run: Path, resume: Resume | None, *, ranks: Ranks, console: Console) -> Origin | None:
    """The checkpoint that the run folder's run goes on from, as `train` is asked to; None to start.

    Raises:
        UsageError: the folder is not free for it, or there is no whole checkpoint.

    """
    found = _find(run, resume, console=console) if ranks.first else None
    told = ranks.each(None if found is None else (found.file, found.own))[0]
    if told is None or ranks.first:
        return found
    file, own = told
    return Origin(file=file, content=checkpoint.read(file), own=own)


def _find(run: Path, resume: Resume | None, *, console: Console) -> Origin | None:
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run}: not a folder; use another --out")
    taken = run.exists() and any(file.name != LOCK for file in run.iterdir())
    if resume is None:
        if taken:
            raise UsageError(f"{run}: exists already; go on with --resume auto, or use another --out")
        return None
    if resume == "auto":
        if not taken:
            return None
        newest = _newest(run, console=console)
        if newest is None and not (run / CONFIG).is_file():
            raise UsageError(f"{run}: not a folder of a run; use another --out")
        return newest if newest is None else Origin(file=newest[0], content=newest[1], own=True)
    if not resume.exists():
        raise UsageError(f"--resume {resume}: no such run or checkpoint")
    own = (resume if resume.is_dir() else resume.parent.parent).resolve() == run.resolve()
    if taken and not own:
        raise UsageError(f"{run}: exists already; to begin a new run at {resume}, use another --out")
    found = _newest(resume, console=console) if resume.is_dir() else (resume, checkpoint.read(resume))
    if found is None:
        raise UsageError(f"--resume {resume}: no checkpoint in it ({CHECKPOINT})")
    return Origin(file=found[0], content=found[1], own=own)


def with_resolved(config: TrainConfig, origin: Origin, *, console: Console) -> TrainConfig:
    """The settings, with those left to be chosen automatically as the run has them."""
    saved = saved_settings(origin)
    color = {k: getattr(saved.color, k) for k in ("mean", "std") if getattr(config.color, k) is None}
    model = {"queue": saved.model.queue} if config.model.queue is None else {}
    if config.init_from not in {None, saved.init_from}:
        note = f"init_from: {config.init_from} is not read: the run goes on with its own weights"
        console.print(note, highlight=False, soft_wrap=True)
    return config.model_copy(
        update={
            "init_from": saved.init_from,
            "color": config.color.model_copy(update=color),
            "model": config.model.model_copy(update=model),
        }
    )


def check_same(config: TrainConfig, data: TrainData, origin: Origin, *, console: Console) -> None:
    """Check that the run can go on with these settings and this data, and say which settings have changed.

    Raises:
        UsageError: it cannot; each setting has been shown as it was and as it is now.

    """
    was, now = (flatten(settings.model_dump(mode="json")) for settings in (saved_settings(origin), config))
    rescues = RESCUES if was.get("loader.on_error") == "raise" else set()
    compare(was, now, same_bits=SAME_BITS, rounding=ROUNDING, rescues=rescues, file=origin.file, console=console)
    check_data(config.data, data, origin)


def compare(
    was: dict[str, Any],
    now: dict[str, Any],
    *,
    same_bits: set[str],
    rounding: set[str],
    rescues: set[str] | None = None,
    file: Path,
    console: Console,
) -> None:
    """Check that a checkpoint's run can go on with other settings, and say which have changed.

    Args:
        was: the checkpoint's settings, by name.
        now: those that it is to go on with.
        same_bits: names of settings that may change, as no weight depends on them.
        rounding: those that may, as weights differ by rounding.
        rescues: those that may in this case.
        file: the checkpoint.
        console: where the changed ones are shown.

    Raises:
        UsageError: others have changed; each has been shown as it was and as it is now.

    """
    rescues = rescues or set()
    changed = {name: (was.get(name), now.get(name)) for name in was | now if was.get(name) != now.get(name)}
    refused = [name for name in changed if name not in same_bits | rounding | rescues]
    if refused:
        for name in refused:
            console.print(f"  {name}: was {_shown(changed[name][0])}, now {_shown(changed[name][1])}", highlight=False)
        raise UsageError(
            f"{file}: cannot resume with changed settings ({', '.join(refused)}); put them back, or start another run"
        )
    for name in changed.keys() & (rounding | rescues):
        effect = "; results may differ by rounding" if name in rounding else ""
        line = f"{name}: was {_shown(changed[name][0])}, now {_shown(changed[name][1])}{effect}"
        console.print(line, highlight=False, soft_wrap=True)


def check_data(path: Path, data: TrainData, origin: Origin) -> None:
    """Check that a run goes on with the index at `path` and the labels that its checkpoint was made with.

    Raises UsageError if they are others.
    """
    own = origin.content["geossl"]
    if own["index_hash"] != data.index.content_hash:
        raise UsageError(f"{path}: not the index that {origin.file} was made with; give that one, or start another run")
    if own["labels_hash"] != data.labels_hash:
        raise UsageError(f"{origin.file}: was made with other clusters; give those, or start another run")


def enter(origin: Origin, state: TrainState[L], *, console: Console) -> None:
    """Bring the state, and the run folder, to where the checkpoint was written."""
    run, step = state.config.out, origin.step
    checkpoint.restore(origin.content, state)
    if not state.ranks.first:
        return
    if not origin.own:
        state.best = None  # of a best.pt that stays in the other run
        # From the first moment there is a checkpoint here: what stops before the first step goes on, too.
        checkpoint.save(state)
        line = f"{run}: begins at step {step} of {origin.file}"
    else:
        dropped = checkpoint.go_back(run, origin.file, step=step)
        if any(file.name == BEST for file in dropped):
            state.best = None
        state.saved = step
        line = f"{run}: going on after step {step}"
        if dropped or origin.file.name != Path(CHECKPOINT).name:
            line += "; the rows and checkpoints of later steps are dropped"
    console.print(line, highlight=False, soft_wrap=True)


def saved_settings(origin: Origin) -> TrainConfig:
    """The settings of the checkpoint; those that its version of geossl had not are at their defaults, as it did."""
    try:
        return TrainConfig.model_validate(origin.content["geossl"]["config"])
    except ValidationError as e:
        raise UsageError(f"{origin.file}: has settings of another version of geossl: {explain(e)}") from e


def _newest(run: Path, *, console: Console) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint of a run, and its content; None if it has none.

    Raises UsageError if it has damaged ones only.
    """
    last = run / CHECKPOINT
    files = [file for file in (last, *checkpoint.older(run), last.with_name(BEST)) if file.exists()]
    why = f"{last.name} is missing"
    first: DamagedError | None = None
    for file in files:
        try:
            content = checkpoint.read(file)
        except DamagedError as e:
            first, why = first or e, f"{file.name} is damaged" if file == last else why
            continue
        if file != last:
            console.print(f"{run}: {why}; {file.name} is whole", highlight=False, soft_wrap=True)
        return file, content
    if first is not None:
        raise UsageError(f"{first}; no whole one is kept, so start again with another --out") from first
    return None


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
