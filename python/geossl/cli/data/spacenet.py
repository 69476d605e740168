"""`geossl data spacenet`: SpaceNet's building sets as an index with footprints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def spacenet(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    images: Literal["rgb", "ms", "ps-ms", "pan"] = "rgb",
    test: float | None = None,
    seed: int = 0,
    threads: int = 0,
) -> None:
    """Index SpaceNet 1 (Rio de Janeiro), or a set in the form of SpaceNet 2, with its building footprints.

    SRC is the folder that the archives were unpacked in. Images and footprints are matched by their names. What cannot
    be used is named and counted: images without footprints, and the reverse, outlines that cross themselves or lie
    beyond the image, unreadable files.

    Example: `geossl data spacenet spacenet1 -o spacenet.parquet`

    Parameters
    ----------
    src
        Folder.
    out
        Index to write, NAME.parquet; the footprints go to NAME.objects.parquet.
    images
        rgb: 3band, RGB-PanSharpen; ms: 8band, MUL; ps-ms: MUL-PanSharpen; pan: PAN.
    test
        Images that are held out, in the split val: a number, or a share below 1; by default the paper's share, 1,940 of
        6,940.
    seed
        Seed of the draw of the held-out images. All kinds of images are split alike.
    threads
        Threads that read the images' headers; 0 is one for every core.
    """
    from geossl.data.spacenet import PAPER_TEST, index_spacenet

    held_out = PAPER_TEST if test is None else test
    made = index_spacenet(src, out=out, images=images, test=held_out, seed=seed, threads=threads)
    for line in made.lines():
        print(line)
    print(f"-> {out}")
    print(f"next: geossl transfer segment --data {out}")
