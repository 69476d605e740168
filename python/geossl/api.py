"""What a program calls in place of the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl.config import make_config
from geossl.errors import UsageError
from geossl.export import encoder as exporting
from geossl.models import weights
from geossl.recipes import read_recipe
from geossl.training import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from geossl.config import TrainConfig
    from geossl.export.formats import Format
    from geossl.models.weights import LoadedBackbone
    from geossl.training.engine import TrainResult
    from geossl.training.resume import Resume


def train(
    config: TrainConfig | None = None,
    *,
    recipe: str | Sequence[str] = (),
    resume: str | Path | None = None,
    console: Console | None = None,
    **settings: Any,
) -> TrainResult:
    """Train an encoder, as `geossl train` does, and leave a run's folder.

    >>> import geossl
    >>> from rich.console import Console
    >>> settings = {"data": "planet.parquet", "out": "run", "epochs": 1, "optim": {"lr": 0.1}}
    >>> result = geossl.train(recipe=["geo_tp", "laptop"], **settings, console=Console(quiet=True))
    >>> result.finished
    True

    Args:
        config: all settings, as `make_config` or `TrainConfig` makes them; or none, and those below.
        recipe: names of shipped recipes; later ones win.
        resume: `auto` goes on in `out` where the run there ended, or starts if there is none; a checkpoint, or a run's
            folder, is where to go on instead. See `geossl.training.engine.train`.
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
    origin: Resume | None = "auto" if resume == "auto" else None if resume is None else Path(resume)
    return engine.train(config, resume=origin, console=console)


def load_backbone(path: str | Path, *, backbone: str | None = None) -> LoadedBackbone:
    """The trained encoder of a run's folder, a checkpoint or a file of weights, frozen, and how images are prepared.

    >>> import geossl, torch
    >>> encoder = geossl.load_backbone("run")
    >>> encoder.module(torch.randn(2, encoder.bands, encoder.size, encoder.size)).shape
    torch.Size([2, 512])

    Args:
        path: a run's folder or an exported one, a checkpoint in MoCo's form or others' (see `geossl.models.forms`), a
            library's state_dict, or `imagenet`, torchvision's weights in its cache.
        backbone: the model, for a file that does not name it, such as `resnet50`.

    Raises:
        UsageError: there is no such run or file, the run has no checkpoint yet, or it is not a checkpoint.

    """
    return weights.load_backbone(Path(path), backbone=backbone)


def export_encoder(
    run: str | Path,
    *,
    out: str | Path,
    format: Format,  # noqa: A002 - as the option is called
    backbone: str | None = None,
    force: bool = False,
) -> Path:
    """Write a trained encoder for another program, as `geossl export` does: weights, config.json and a model card.

    >>> import geossl, timm
    >>> folder = geossl.export_encoder("run", out="exported", format="timm")
    >>> timm.create_model(f"local-dir:{folder}", pretrained=True).num_features
    512

    Args:
        run: a run's folder, or another file that `load_backbone` reads.
        out: folder to make.
        format: torchvision, timm, torchgeo, moco or onnx.
        backbone: the model, for a file that does not name it.
        force: replace `out`, where it is an exported folder.

    Returns:
        The folder.

    Raises:
        UsageError: there is no such run, the format has no such model, or `out` exists. Nothing has been written.
        GeosslError: what the format needs is not installed, or the disk is full.

    """
    done = exporting.export_encoder(Path(run), out=Path(out), format=format, backbone=backbone, force=force)
    return done.folder
