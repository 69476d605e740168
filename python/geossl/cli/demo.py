"""`geossl demo`."""

from __future__ import annotations

from pathlib import Path


def demo(out: Path = Path("geossl-demo"), /) -> None:
    """Try everything on a small made planet: a few minutes on two cores, ending with a table and a picture.

    Example: `geossl demo`

    Parameters
    ----------
    out
        Folder to make.
    """
    from geossl.demo import run_demo

    run_demo(out)
