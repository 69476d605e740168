"""`geossl embed`: the features of an index's images in one GeoParquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def embed(
    run: Path,
    /,
    *,
    data: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    split: str | None = None,
    dtype: Literal["float32", "int8"] = "float32",
    clusters: Path | None = None,
    backbone: str | None = None,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> None:
    """Write the features of every image of an index to a GeoParquet file, ordered by where they are.

    GeoParquet 1.1, which geopandas, DuckDB and QGIS read, with a STAC item beside it. Work that was interrupted goes on
    with the same command, and ends with the same file. Images that cannot be read are left out and named in
    OUT.failures.jsonl; more than 1 % of them are an error.

    Example: `geossl embed runs/demo --data planet.parquet -o features.parquet`

    Parameters
    ----------
    run
        Folder of a run, a checkpoint, or weights of torchvision or timm (.pth, .safetensors).
    data
        Index of the images.
    out
        Parquet file to write. Meanwhile the folder OUT.parts has what is done.
    split
        Embed this split alone.
    dtype
        float32: features as the encoder gives them. int8: a quarter of the bytes, a scale a vector in the column scale.
    clusters
        Clusters for the column cluster; by default those beside the index, if there are any.
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
    from geossl.cli.data.unreadable import print_unreadable
    from geossl.embedding.embed import embed as run_embed
    from geossl.embedding.failures import failures_path
    from geossl.files import mib

    report = run_embed(
        run,
        data=data,
        out=out,
        split=split,
        dtype=dtype,
        clusters=clusters,
        backbone=backbone,
        batch=batch,
        device=device,
        threads=threads,
        root=root,
        pack=pack,
    )
    for note in report.notes:
        print(note)
    print_unreadable(report.failures, where=f"; all are in {failures_path(out)}")
    if report.least_cosine is not None:
        print(f"int8: the cosine to the float32 embedding is {report.least_cosine:.6f} or more")
    now = report.images - report.earlier
    rate = f" in {report.seconds:,.1f} s, {now / report.seconds:,.0f} images/s" if now else ""
    earlier = f" ({report.earlier:,} of them earlier)" if report.earlier else ""
    print(f"{report.images - len(report.failures):,} rows{earlier}{rate}, {mib(report.bytes)} -> {out}")
    print(f"next: geossl search {out} --like {report.first_row}")
