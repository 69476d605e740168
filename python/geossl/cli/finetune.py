"""`geossl finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from geossl.finetuning.config import make_config, options_model

if TYPE_CHECKING:
    from geossl.finetuning.config import FinetuneConfig as Options
else:
    Options = options_model()


def finetune(
    run: Path | None = None,
    /,
    *,
    resume: Literal["auto"] | None = None,
    options: Annotated[Options, Parameter(name="*")],
) -> None:
    """Train a classifier of the categories end to end, from an encoder's weights or from scratch.

    Reports top-1, top-5, F1 and calibration of the last epoch, per image, and per place by the sum of its images'
    probabilities, with 95 % intervals over places. Nothing is chosen on the test images. The folder --out is a run's:
    `geossl probe` reads it too.

    Example: `geossl finetune runs/demo --data planet.parquet`

    Parameters
    ----------
    run
        Folder of a run or an exported one, a checkpoint or weights in a form of docs/weights.md, or imagenet.
    resume
        auto: go on from the last checkpoint in --out, or start if there is none.
    """
    from geossl.finetuning.finetune import DETAILS, REPORT
    from geossl.finetuning.finetune import finetune as run_finetune

    config = make_config(run=run, **options.model_dump(exclude_unset=True))
    done = run_finetune(config, resume=resume)
    if done.report is not None:
        print("\n".join(done.report.lines()))
        print(f"-> {done.out / REPORT}, {done.out / DETAILS}")
