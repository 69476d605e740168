"""`geossl predict`: what a trained detector, segmenter or classifier sees in images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from geossl.errors import UsageError
from geossl.finetuning import classifier, classify
from geossl.models.weights import CHECKPOINT
from geossl.training import checkpoint
from geossl.training.resume import Origin
from geossl.transfer import predict as transferred
from geossl.transfer import run as transfers

if TYPE_CHECKING:
    from pathlib import Path


def predict(
    run: Path,
    source: Path,
    *,
    out: Path,
    least: float = 0.05,
    draw: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> list[Path]:
    """Write what the network of a run sees in images; which files, its kind says.

    Detectors and segmenters are those of `geossl.transfer.predict`, classifiers those of `geossl.finetuning.classify`.

    Args:
        run: folder that `geossl transfer` or `geossl finetune` has left.
        source: an image, a folder of images, or an index; of whole images for detectors and segmenters.
        out: folder to write to.
        least: score or probability from which something is written, 0 to 1.
        draw: write pictures, too.
        device: auto, cpu, cuda or cuda:N.
        console: where it is said what cannot be read; by default standard output.

    Returns:
        The files.

    Raises:
        UsageError: the run or the images are missing or of another kind, the images have other bands, or `out` has what
            would be replaced.
        GeosslError: no image can be read, or the disk is full.

    """
    file = run / CHECKPOINT
    if not file.is_file():
        raise UsageError(f"{run}: no run of `geossl transfer` or `geossl finetune` ({CHECKPOINT} is missing)")
    origin = Origin(file=file, content=checkpoint.read(file), own=True)
    notes = origin.content["geossl"]
    console = console or Console()
    if transfers.NOTES in notes:
        return transferred.predict(origin, source, out=out, least=least, draw=draw, device=device, console=console)
    if classifier.NOTES in notes:
        return classify.predict(origin, source, out=out, least=least, draw=draw, device=device, console=console)
    raise UsageError(
        f"{run}: has an encoder alone, which names nothing in images: `geossl transfer detect {run} --data INDEX` (or "
        f"segment) makes a network of it, `geossl finetune {run} --data INDEX` a classifier"
    )
