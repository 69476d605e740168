"""`geossl transfer segment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from geossl.transfer.config import make_config, options_model

if TYPE_CHECKING:
    from geossl.transfer.config import TransferConfig as Options
else:
    Options = options_model("segment")


def segment(
    run: Path | None = None,
    /,
    *,
    resume: Literal["auto"] | None = None,
    options: Annotated[Options, Parameter(name="*")],
) -> None:
    """Train a segmenter on an encoder's weights, or from scratch, and score it on whole images.

    Every pixel is background or one of the objects' categories. The network is PSPNet, or PSANet as in the paper, on
    the encoder dilated to an eighth of the image's side. Reports mIoU as the paper counts it, and F1 by footprint, of
    the last epoch. Nothing is chosen on the test images.

    Example: `geossl transfer segment runs/demo --data spacenet.parquet --head psanet`

    Parameters
    ----------
    run
        Folder of a run or an exported one, a checkpoint or weights in a form of docs/weights.md, or imagenet.
    resume
        auto: go on from the last checkpoint in --out, or start if there is none.
    """
    from geossl.transfer.transfer import DETAILS, transfer

    config = make_config(task="segment", run=run, **options.model_dump(exclude_unset=True))
    done = transfer(config, resume=resume)
    if done.scores is not None:
        print("\n".join(done.lines))
        print(f"-> {done.out / 'segment.json'}, {done.out / DETAILS}")
