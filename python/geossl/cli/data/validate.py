"""`geossl data validate`: every image decoded, and what is broken named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def validate(
    index: Path,
    /,
    *,
    fix: Path | None = None,
    broken: Annotated[Path | None, Parameter(name="--list")] = None,
    root: Path | None = None,
    threads: int = 0,
    max_image_mib: int = 1024,
) -> None:
    """Decode every image of an index whole, and name those that are broken or are not what the index says.

    The exit code is 1 if something is broken and --fix has not left it out, so that scripts notice.

    Example: `geossl data validate fmow.parquet --fix fmow-clean.parquet`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    fix
        Also write an index without what is broken; it may be the same file.
    broken
        Write the path of everything that is broken, and the reason, to this CSV file.
    root
        Folder that the index's paths start from, if the images have moved.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    max_image_mib
        Most memory that decoding an image may take, MiB, and the largest file; an image that claims more is broken.
    """
    from geossl.data.index import Index
    from geossl.data.validate import validate_index
    from geossl.errors import GeosslError
    from geossl.progress import counted

    read = Index.read(index, root=root, images=False)
    with counted("decoding") as progress:
        found = validate_index(read, threads=threads, max_image_mib=max_image_mib, progress=progress)
    for line in found.lines():
        print(line)
    if broken is not None:
        found.write_list(broken)
        print(f"-> {broken}")
    if fix is not None:
        whole = read.with_table(read.table.filter(found.good))
        whole.write(fix)
        print(f"{len(whole):,} rows -> {fix}")
    elif found.broken:
        raise GeosslError(
            f"{index}: {(~found.good).sum():,} of its rows are broken; --fix writes an index without them"
        )
