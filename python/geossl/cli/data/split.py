"""`geossl data split`: which images train, and which are kept for validation and test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def split(
    index: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    by: Literal["place", "block", "country"],
    share: str = "val=0.1,test=0.1",
    block_km: float = 500,
    buffer_km: float | None = None,
    seed: int = 0,
    threads: int = 0,
) -> None:
    """Write an index whose images have new splits: train, val and test. Places are never cut in two.

    Whole groups are drawn: places; all places of a block of the globe, so that test images lie elsewhere than training
    images; or all places of a country. Places without coordinates (for blocks and a buffer) or without a country_code
    (for countries) are in no split.

    Example: `geossl data split fmow.parquet -o fmow-split.parquet --by block --buffer-km 20`

    Parameters
    ----------
    index
        Index made by `geossl data index`; the splits that it has are not looked at.
    out
        Index to write; it may be the same file.
    by
        What stays together: a place, the places of a block, or of a country.
    share
        Share of the images that val and test have; train has the rest. Either may be left out.
    block_km
        Side of a block, kilometres. Blocks are about square and of about the same area everywhere.
    buffer_km
        Leave places out of training that are less than this from a place of val or test, and out of val those this
        near to one of test, kilometres: the distance of their nearest images.
    seed
        Seed of the draw. The order of the images does not matter.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    """
    from geossl.data.index import Index
    from geossl.data.splits import split_index

    shares = _shares(share)
    read = Index.read(index, images=False)
    made, report = split_index(
        read, by=by, share=shares, block_km=block_km, buffer_km=buffer_km, seed=seed, threads=threads
    )
    made.write(out)
    for line in report.lines():
        print(line)
    print(f"-> {out}")
    print(f"next: geossl data leaks {out}" + (f" --km {buffer_km:g}" if buffer_km is not None else ""))


def _shares(text: str) -> dict[str, float]:
    from geossl.errors import UsageError

    out: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            out[name.strip()] = float(number)
        except ValueError as e:
            raise UsageError(f"--share {text}: give it as val=0.1,test=0.1") from e
    return out
