"""`geossl export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def export(
    run: Path,
    /,
    *,
    format: Literal["torchvision", "timm", "torchgeo", "moco", "onnx"],  # noqa: A002 - the option's name
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    backbone: str | None = None,
    force: bool = False,
) -> None:
    """Write a trained encoder for another program: a folder with the weights, config.json and a model card.

    The weights are read again before the folder takes its name, and have to give the same features.

    Examples: `geossl export runs/demo --format timm -o demo-timm`,
    `geossl export moco_tp.pth.tar --format torchvision -o gassl`

    Parameters
    ----------
    run
        Folder of a run, a checkpoint, or weights in others' forms, as `geossl probe` takes them.
    format
        torchvision, timm: model.safetensors, by the names of the library's own model. torchgeo: model.ckpt, which
        torchgeo's trainers take as weights. moco: model.pth, in the form of MoCo's checkpoints, with the projection.
        onnx: model.onnx, for any number of images at once; needs geossl[onnx].
    out
        Folder to make.
    backbone
        The model, for a file that does not name it: resnet50, timm/vit_small_patch16_224, ...
    force
        Replace the folder, if it is one that was exported.
    """
    from geossl.export.encoder import export_encoder

    done = export_encoder(run, out=out, format=format, backbone=backbone, force=force)
    said = done.description
    for note in done.notes:
        print(note)
    size = done.weights.stat().st_size / 2**20
    tried = "" if format == "onnx" else ", read again: the same features"
    print(f"{said['arch']}, {said['num_features']} features, {size:,.1f} MiB{tried}")
    print(f"-> {done.folder}: {', '.join(sorted(file.name for file in done.folder.iterdir()))}")
