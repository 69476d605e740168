"""`geossl data map`: where an index's images are, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geossl.data.index import Index


def map_index(
    index: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    kind: Literal["density", "clusters", "classes", "splits", "errors"] = "density",
    clusters: Path | None = None,
    run: Path | None = None,
    split: str | None = None,
    root: Path | None = None,
) -> None:
    """Draw a map of an index: of the globe, or of the region that has all its images. Nothing is downloaded.

    Example: `geossl data map fmow.parquet -o fmow.png`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    out
        PNG to write.
    kind
        density: images counted in cells of equal area; clusters: places in their clusters' colours; classes: the most
        frequent classes, a panel each; splits: places in their splits' colours; errors: how far off a run's geo head
        places the images, the median in each cell.
    clusters
        clusters: the file to draw; by default the one beside the index.
    run
        errors: folder of a run of the arm geo, geo_tp or geoloc, or its checkpoint.
    split
        errors: the images that are placed; by default all with coordinates.
    root
        errors: folder that the index's paths start from, if the images have moved.
    """
    from geossl.data.clusters import Clusters, default_path
    from geossl.data.index import Index
    from geossl.viz.maps import plot_map

    read = Index.read(index, root=root, images=kind == "errors")
    found = Clusters.read(clusters or default_path(index)) if kind == "clusters" else None
    km = _errors(read, run, split) if kind == "errors" else None
    print(f"-> {plot_map(out, index=read, kind=kind, clusters=found, km=km)}")


def _errors(index: Index, run: Path | None, split: str | None) -> NDArray[np.float64]:
    """Error of each row, float64 [N], kilometres; NaN of rows that are not asked for."""
    import numpy as np

    from geossl.errors import UsageError

    if run is None:
        raise UsageError("--kind errors: needs a run with a geo head: give --run")
    rows = index.rows(split=split)
    rows = rows[np.isfinite(index.table["lat"].to_numpy()[rows])]
    if not len(rows):
        of = "" if split is None else f" of the split {split}"
        raise UsageError(f"{index.source}: no image{of} has coordinates, so there is nothing to map")
    from geossl.evaluate.geo_errors import geo_errors

    km = np.full(len(index), np.nan)
    km[rows] = geo_errors(run, index, rows).km
    return km
