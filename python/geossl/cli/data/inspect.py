"""`geossl data inspect`: what an index has to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geossl.config import PairsConfig, Section


class Settings(Section):
    """Those of a training run that are counted."""

    pairs: PairsConfig = PairsConfig()


def inspect(
    index: Path,
    /,
    *,
    plot: Path | None = None,
    threads: int = 0,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Show what an index has: views of its places, the time between them, and how many pairs each policy makes.

    Its images need not be there. Options that begin with --pairs are those of `geossl train`: what they make is counted
    too.

    Examples: `geossl data inspect planet.parquet --plot planet.png`,
    `geossl data inspect planet.parquet --pairs.season other --pairs.max_cloud 10`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    plot
        Also draw views, gaps, dates and classes into this PNG.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    """
    from geossl.data.index import Index
    from geossl.data.inspect import inspect_index

    read = Index.read(index, images=False)
    found = inspect_index(read, source=index, policy=None if settings is None else settings.pairs, threads=threads)
    for line in found.lines():
        print(line)
    if plot is not None:
        from geossl.viz.inspect import plot_inspection

        print(f"-> {plot_inspection(plot, read, found)}")
