"""`geossl data merge`: the parts of a pack made one."""

from __future__ import annotations

from pathlib import Path


def merge(pack: Path, /) -> None:
    """Join the indexes of a pack's parts; the images stay where they are.

    Example: `geossl data merge fmow.pack`

    Parameters
    ----------
    pack
        Folder that `geossl data pack --part i/n` wrote to.
    """
    from geossl.data.pack import merge_pack

    print(f"{merge_pack(pack):,} images -> {pack}")
