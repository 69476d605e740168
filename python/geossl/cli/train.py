"""`geossl train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from geossl.config import make_config, overrides_model, read_yaml
from geossl.print_config import annotated_yaml
from geossl.recipes import read_recipe

if TYPE_CHECKING:
    from geossl.config import TrainConfig as Settings
else:
    Settings = overrides_model()


def train(
    *,
    recipe: Annotated[list[str] | None, Parameter(negative="")] = None,
    config: Annotated[list[Path] | None, Parameter(negative="")] = None,
    resume: Literal["auto"] | Path | None = None,
    print_config: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    profile: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Pretrain an encoder.

    Settings come from recipes, then config files, then the options below; later ones win.

    Example: `geossl train --recipe geo_tp --data planet.parquet --out runs/demo`

    Parameters
    ----------
    recipe
        Shipped settings, by name (`geossl recipes list`): one of an arm, and laptop after it for two cores. Can be
        given again.
    config
        YAML file with settings; can be given again.
    resume
        auto: go on from the last checkpoint in --out, or start if there is none. A checkpoint file, or the folder of a
        run: go on from that one. Of an earlier step of the run in --out, what came after it is dropped; of another
        run, a new run begins there.
    print_config
        Print all settings as YAML, with what each is for and where its value comes from, and do no more.
    dry_run
        Build everything and take a few steps, write nothing, and print what the run is: images, pairs, model, steps,
        memory and time.
    profile
        Measure this many steps, after the first few, and go on: a table of where their time goes, and a trace, in the
        run's folder profile.
    """
    layers = [(f"recipe {name}", read_recipe(name)) for name in recipe or []]
    layers += [(str(path), read_yaml(path)) for path in config or []]
    if settings is not None:
        layers.append(("command line", settings.model_dump(exclude_unset=True)))
    chosen = make_config(*(layer for _, layer in layers))
    if print_config:
        print(annotated_yaml(chosen, layers), end="")
        return

    from geossl.training import train as run

    result = run(chosen, resume=resume, profile=profile, dry_run=dry_run)
    if dry_run:
        return
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one tells
    print(f"{result.steps} steps, {result.epochs} epochs in {result.secs:.0f} s -> {chosen.out}")
    if result.finished:
        print(f"next: geossl probe {chosen.out} --data {chosen.data}")
