"""`geossl data stats`: what an index's images hold, band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geossl.cli.data.unreadable import print_unreadable


def stats(
    index: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    sample: int = 1000,
    whole: bool = False,
    plot: Path | None = None,
    seed: int = 0,
    root: Path | None = None,
    threads: int = 0,
    max_image_mib: int = 1024,
) -> None:
    """Measure the bands of an index's images: mean, deviation, percentiles, histogram, share without data.

    Training normalises by what it finds beside the index. Boxes are looked at without their context.

    Example: `geossl data stats naip.parquet --plot naip.png`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    out
        File to write; by default beside the index, where training looks for it.
    sample
        Images that are looked at, drawn by the seed.
    whole
        Look at all images.
    plot
        Also draw the histograms into this PNG.
    seed
        Seed of the sample.
    root
        Folder that the index's paths start from, if the images have moved.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    max_image_mib
        Most memory that decoding an image may take, MiB, and the largest file; an image that claims more is left out.
    """
    from geossl.data.band_stats import measure_index, stats_path
    from geossl.data.index import Index
    from geossl.errors import UsageError
    from geossl.progress import counted

    if sample < 1:
        raise UsageError(f"--sample {sample}: must be at least 1; --whole takes all images")
    read = Index.read(index, root=root)
    with counted("measuring") as progress:
        found = measure_index(
            read,
            sample=None if whole else sample,
            seed=seed,
            threads=threads,
            max_image_mib=max_image_mib,
            progress=progress,
        )
    for line in found.lines():
        print(line)
    print_unreadable(found.failures, where="")
    if found.seed is not None:
        print(f"a sample of {len(read):,} images: --sample takes more, --whole all")
    file = out or stats_path(index)
    found.write(file)
    print(f"-> {file}")
    if plot is not None:
        from geossl.viz.bands import plot_bands

        print(f"-> {plot_bands(plot, found)}")
