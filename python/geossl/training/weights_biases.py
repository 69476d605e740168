"""Weights & Biases: the figures of a run on its site, or in its offline files."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from geossl.errors import GeosslError, UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geossl.config import TrainConfig

ID = "wandb_id"
"""Name of the file in a run folder that has the run's id there, so that a resumed run goes on in the same one."""


def check(config: TrainConfig) -> None:
    """Raise UsageError if `watch.wandb` asks for a package that is not installed."""
    if config.watch.wandb is not None and find_spec("wandb") is None:
        raise UsageError("watch.wandb: the package wandb is not installed; pip install 'geossl[wandb]'")


class WandbRun:
    """A run of the project `watch.wandb`. WANDB_MODE=offline and its other variables hold."""

    def __init__(self, config: TrainConfig) -> None:
        """Begin it, or go on where `config.out` has begun one. Raises GeosslError if that is refused (no log-in)."""
        # Imported when it is asked for, and only then: it starts a process of its own.
        wandb = import_module("wandb")
        path = config.out / ID
        known = path.read_text().strip() if path.exists() else None
        try:
            self._run = wandb.init(
                project=config.watch.wandb,
                id=known,
                resume="allow",
                name=config.out.name,
                dir=str(config.out),
                config=config.model_dump(mode="json"),
            )
        except wandb.Error as e:
            why = " ".join(str(e).split())
            raise GeosslError(f"watch.wandb: {why}; log in with `wandb login`, or set WANDB_MODE=offline") from e
        # After a resume, steps that were sent before a kill are sent again: its own counter would refuse them.
        self._run.define_metric("*", step_metric="step")
        if known is None:
            with replacing(path) as file:
                file.write(f"{self._run.id}\n".encode())

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row of metrics; a warning in it is an alert."""
        self._run.log({name: value for name, value in row.items() if name not in {"time", "warnings"}})
        for warning in row.get("warnings", ()):
            self._run.alert(title=warning.partition(":")[0], text=warning)

    def finish(self, *, failed: bool) -> None:
        """End it: what is not sent yet is sent."""
        self._run.finish(exit_code=int(failed))
