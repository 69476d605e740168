"""`geossl train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from geossl.config import make_config, overrides_model, read_recipe, read_yaml

if TYPE_CHECKING:
    from geossl.config import TrainConfig as Settings
else:
    Settings = overrides_model()


def train(
    *,
    recipe: Annotated[list[str] | None, Parameter(negative="")] = None,
    config: Annotated[list[Path] | None, Parameter(negative="")] = None,
    resume: Literal["auto"] | Path | None = None,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Pretrain an encoder.

    Settings come from recipes, then config files, then the options below; later ones win.

    Example: `geossl train --recipe geo_tp --data planet.parquet --out runs/demo`

    Parameters
    ----------
    recipe
        Shipped settings: moco, tp, geo, geo_tp, geoloc or supervised; paper_moco, paper_tp, paper_geo or paper_geo_tp
        for the published ones; laptop, given after one of these, for two cores. Can be given again.
    config
        YAML file with settings; can be given again.
    resume
        auto: go on from the last checkpoint in --out, or start if there is none. A checkpoint file, or the folder of a
        run: go on from that one. Of an earlier step of the run in --out, what came after it is dropped; of another
        run, a new run begins there.
    """
    layers = [read_recipe(name) for name in recipe or []] + [read_yaml(path) for path in config or []]
    given = settings.model_dump(exclude_unset=True) if settings is not None else {}
    chosen = make_config(*layers, given)

    from geossl.train import train as run

    result = run(chosen, resume=resume)
    print(f"{result.steps} steps, {result.epochs} epochs in {result.secs:.0f} s -> {chosen.out}")
    if result.finished:
        print(f"next: geossl probe {chosen.out} --data {chosen.data}")
