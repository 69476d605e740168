"""`geossl data map`: where an index's images are, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def map_index(
    index: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    kind: Literal["density", "clusters", "classes", "splits"] = "density",
    clusters: Path | None = None,
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
        frequent classes, a panel each; splits: places in their splits' colours.
    clusters
        Clusters file to draw; by default the one beside the index.
    """
    from geossl.data.clusters import Clusters, default_path
    from geossl.data.index import Index
    from geossl.viz.maps import plot_map

    read = Index.read(index, images=False)
    found = Clusters.read(clusters or default_path(index)) if kind == "clusters" else None
    print(f"-> {plot_map(out, index=read, kind=kind, clusters=found)}")
