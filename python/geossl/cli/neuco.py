"""`geossl neuco`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def neuco(
    run: Path,
    /,
    *,
    data: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    dim: int = 1024,
    split: str | None = None,
    backbone: str | None = None,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> None:
    """Write an embedding of each place as a CSV file that NeuCo-Bench takes: a column id, then 0, 1, 2, ...

    An embedding is the mean of the features of a place's images; its id is the place's location_id, or the name of the
    image's file where it has none. Features wider than --dim become principal components.

    Example: `geossl neuco runs/demo --data ssl4eo.parquet -o demo.csv`

    Parameters
    ----------
    run
        Folder of a run, a checkpoint, or weights of torchvision or timm (.pth, .safetensors).
    data
        Index of the images.
    out
        CSV file to write.
    dim
        Most dimensions of an embedding; the benchmark's challenge had 1024.
    split
        Split of the index that is embedded; by default all.
    backbone
        The model, for a file that does not name it: resnet50, timm/vit_small_patch16_224, ...
    batch
        Images that the encoder reads at once.
    device
        auto, cpu, cuda or cuda:N.
    threads
        Decoding threads; 0 is one for every core but one.
    root
        Folder that the index's paths start from, if the images have moved.
    pack
        Pack of the images (`geossl data pack`), which is read in their place.
    """
    from geossl.judges.neuco import write_neuco

    report = write_neuco(
        run,
        data=data,
        out=out,
        dim=dim,
        split=split,
        backbone=backbone,
        batch=batch,
        device=device,
        threads=threads,
        root=root,
        pack=pack,
    )
    for line in report.lines():
        print(line)
    print(f"-> {out}")
