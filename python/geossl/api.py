"""What a program calls in place of the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl.config import make_config
from geossl.errors import UsageError
from geossl.models import weights
from geossl.recipes import read_recipe
from geossl.train import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from geossl.config import TrainConfig
    from geossl.models.weights import LoadedBackbone
    from geossl.train.engine import TrainResult


def train(
    config: TrainConfig | None = None,
    *,
    recipe: str | Sequence[str] = (),
    resume: Literal["auto"] | None = None,
    console: Console | None = None,
    **settings: Any,
) -> TrainResult:
    """Train an encoder, as `geossl train` does, and leave a run's folder.

    >>> import geossl
    >>> result = geossl.train(recipe=["geo_tp", "laptop"], data="planet.parquet", out="run", epochs=1)
    >>> result.finished
    True

    Args:
        config: all settings, as `make_config` or `TrainConfig` makes them; or none, and those below.
        recipe: names of shipped recipes; later ones win.
        resume: see `geossl.train.engine.train`.
        console: where progress is shown; by default standard output.
        settings: settings by name, over the recipes'; those of a section are a dict: `optim={"lr": 0.1}`.

    Returns:
        Where the run is, how many steps and epochs it has, and its last row of metrics.

    Raises:
        UsageError: the settings, the data and the run folder do not go together; nothing has been written.
        GeosslError: the run failed, by a loss that is no longer finite or a full disk.

    """
    names = [recipe] if isinstance(recipe, str) else recipe
    if config is None:
        config = make_config(*map(read_recipe, names), settings)
    elif names or settings:
        raise UsageError("train: give a config, or settings by name, not both")
    return engine.train(config, resume=resume, console=console)


def load_backbone(path: str | Path) -> LoadedBackbone:
    """The encoder of a run's folder or of a checkpoint in MoCo's form, frozen, and how images are prepared for it.

    >>> import geossl, torch
    >>> encoder = geossl.load_backbone("run")
    >>> encoder.module(torch.randn(2, encoder.bands, encoder.size, encoder.size)).shape
    torch.Size([2, 512])

    Raises:
        UsageError: there is no such run or file, the run has no checkpoint yet, or it is not a checkpoint.

    """
    return weights.load_backbone(Path(path))
