"""`geossl transfer detect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from geossl.transfer.config import make_config, options_model

if TYPE_CHECKING:
    from geossl.transfer.config import TransferConfig as Options
else:
    Options = options_model("detect")


def detect(
    run: Path | None = None,
    /,
    *,
    resume: Literal["auto"] | None = None,
    options: Annotated[Options, Parameter(name="*")],
) -> None:
    """Train a RetinaNet on an encoder's weights, or from scratch, and score it on whole images.

    The protocol is the paper's for xView: windows of 416 x 416 drawn from the training images, Adam with 1e-5, batches
    of 4. Reports AP50 and AP, all in all and by category, of the last epoch. Nothing is chosen on the test images.

    Example: `geossl transfer detect runs/demo --data xview.parquet`

    Parameters
    ----------
    run
        Folder of a run or an exported one, a checkpoint or weights in a form of docs/weights.md, or imagenet.
    resume
        auto: go on from the last checkpoint in --out, or start if there is none.
    """
    from geossl.transfer.transfer import DETAILS, transfer

    config = make_config(task="detect", run=run, **options.model_dump(exclude_unset=True))
    done = transfer(config, resume=resume)
    if done.scores is not None:
        print("\n".join(done.lines))
        print(f"-> {done.out / 'detect.json'}, {done.out / DETAILS}")
