"""`geossl search`: the tiles of an embedding file that are most like another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from geossl.errors import UsageError
from geossl.tables import align

if TYPE_CHECKING:
    from geossl.embedding.file import EmbeddingFile
    from geossl.embedding.search import Found, Query

HEADER = ("rank", "similarity", "row", "path", "place", "category", "date", "lat", "lon", "km")
RIGHT = {"rank", "similarity", "row", "lat", "lon", "km"}


def search(
    features: Path,
    /,
    *,
    like: str | None = None,
    at: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    image: Path | None = None,
    run: Path | None = None,
    backbone: str | None = None,
    device: str = "auto",
    k: Annotated[int, Parameter(name="-k")] = 20,
    exclude_place: Annotated[bool, Parameter(negative="")] = False,
    draw: Path | None = None,
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    root: Path | None = None,
) -> None:
    """Find the tiles most like a tile, a coordinate's tile, or an image, by the cosine of their embeddings.

    All rows are compared, some at a time, so that the file may be larger than memory. The query's own tiles are not
    among what is found.

    Examples: `geossl search features.parquet --like 12 --draw nearest.png`,
    `geossl search features.parquet --at 48.86,2.35 --exclude-place --map nearest.png`,
    `geossl search features.parquet --image field.jpg --run runs/demo`

    Parameters
    ----------
    features
        File made by `geossl embed`.
    like
        Tile of the file: its row, as printed, or the path of its image.
    at
        Latitude and longitude in degrees, with a comma between: the tile nearest to it. Of several dates there, the
        mean.
    image
        Image file, which the encoder of --run embeds.
    run
        image: the run, or weights, that embedded the file.
    backbone
        image: the model, for a file of weights that does not name it.
    device
        image: auto, cpu, cuda or cuda:N.
    k
        How many tiles to find.
    exclude_place
        Leave out the other tiles of the query's place.
    draw
        PNG to write: the query's image and those that were found.
    map_
        PNG to write: where on the globe they are.
    root
        draw: folder that the file's paths start from, if the images have moved.
    """
    from geossl.embedding.file import EmbeddingFile
    from geossl.embedding.search import search as find

    file = EmbeddingFile(features)
    query = _query(file, like=like, at=at, image=image, run=run, backbone=backbone, device=device)
    found = find(file, query, k=k, exclude_place=exclude_place)
    print(f"nearest of {file.rows:,} tiles to {query.title}")
    _print_table(found)
    if draw is not None:
        from geossl.viz.search import plot_sheet

        print(f"-> {plot_sheet(draw, file=file, query=query, found=found, image=image, root=root)}")
    if map_ is not None:
        from geossl.viz.search import plot_map

        print(f"-> {plot_map(map_, query=query, found=found)}")


def _query(
    file: EmbeddingFile,
    *,
    like: str | None,
    at: str | None,
    image: Path | None,
    run: Path | None,
    backbone: str | None,
    device: str,
) -> Query:
    from geossl.embedding.search import query_at, query_like

    given = [name for name, value in (("--like", like), ("--at", at), ("--image", image)) if value is not None]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else "none is given"
        raise UsageError(f"search: one of --like, --at and --image says what to look for; {what}")
    if (image is None) != (run is None):
        raise UsageError("search: --image needs the encoder that embeds it (--run), and --run is for --image")
    if like is not None:
        return query_like(file, like)
    if image is not None and run is not None:
        from geossl.embedding.image import query_image

        return query_image(file, image, run=run, backbone=backbone, device=device)
    try:
        lat, lon = (float(part) for part in str(at).split(","))
    except ValueError as e:
        raise UsageError(f"--at {at}: give latitude and longitude with a comma between, such as 48.86,2.35") from e
    return query_at(file, lat, lon)


def _print_table(found: Found) -> None:
    """On a terminal a table, elsewhere lines in columns."""
    import sys

    from rich.console import Console
    from rich.table import Table

    cells = [_cells(found, i) for i in range(len(found.positions))]
    if sys.stdout.isatty():
        table = Table()
        for name in HEADER:
            table.add_column(name, justify="right" if name in RIGHT else "left", overflow="fold")
        for row in cells:
            table.add_row(*row)
        Console().print(table)
        return
    left = {column for column, name in enumerate(HEADER) if name not in RIGHT}
    print("\n".join(align([HEADER, *cells], left=left)))


def _cells(found: Found, i: int) -> tuple[str, ...]:
    """A row of the table as text, a dash for what is not known."""
    tile = {name: found.table[name][i].as_py() for name in found.table.column_names}
    known = tile["lat"] is not None and tile["lon"] is not None
    return (
        str(i + 1),
        f"{found.similarity[i]:.6f}",
        str(tile["row"]),
        tile["path"],
        tile["location_id"] or "-",
        tile["category"] or "-",
        "-" if tile["timestamp"] is None else f"{tile['timestamp']:%Y-%m-%d}",
        f"{tile['lat']:.4f}" if known else "-",
        f"{tile['lon']:.4f}" if known else "-",
        "-" if found.km[i] != found.km[i] else f"{found.km[i]:,.1f}",
    )
