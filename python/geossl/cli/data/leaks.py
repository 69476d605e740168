"""`geossl data leaks`: what one split knows of another."""

from __future__ import annotations

from pathlib import Path


def leaks(
    index: Path,
    /,
    *,
    km: float | None = None,
    content: bool = True,
    root: Path | None = None,
    threads: int = 0,
) -> None:
    """Look for what the splits of an index share: places, places nearby, images with the same bytes.

    The exit code is 1 if something leaks, so that scripts notice. Images without a split are not looked at.

    Example: `geossl data leaks fmow.parquet --km 1`

    Parameters
    ----------
    index
        Index with splits.
    km
        Also look for places of two splits that are less than this apart, kilometres: the distance of their nearest
        images.
    content
        Compare the bytes of the images: of each its start is read, and all of those whose start and size are the same.
    root
        Folder that the index's paths start from, if the images have moved.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    """
    from geossl.data.index import Index
    from geossl.data.leaks import find_leaks
    from geossl.errors import GeosslError
    from geossl.progress import counted

    read = Index.read(index, root=root, images=content)
    with counted("comparing") as progress:
        found = find_leaks(read, km=km, content=content, threads=threads, progress=progress)
    for line in found.lines():
        print(line)
    if len(found):
        raise GeosslError(f"{index}: {len(found):,} leaks between {', '.join(found.splits)}")
