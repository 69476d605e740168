"""`geossl data`: make, index and cluster images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

app = App(name="data", help="Make, index and cluster images.")


@app.command
def synth(
    out: Path,
    /,
    *,
    places: int = 400,
    views: float = 5.0,
    size: int = 96,
    bands: Literal[3, 4] = 3,
    seed: int = 0,
) -> None:
    """Make a small planet to try things on: places, seasons and objects, in fMoW's layout.

    Example: `geossl data synth planet`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    places
        Number of places.
    views
        Dates of a place, on average.
    size
        Side of an image, pixels.
    bands
        3: RGB as JPEG; 4: red, green, blue and near infrared as uint16 GeoTIFF.
    seed
        Seed; the same arguments give the same files.
    """
    from geossl.data.synth import make_planet

    made = make_planet(out, places=places, views=views, size=size, bands=bands, seed=seed)
    print(f"{made.images} images of {made.places} places in {made.categories} categories -> {made.folder}")
    print(f"next: geossl data index {out} -o {out}.parquet")


@app.command
def index(
    src: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    layout: Literal["auto", "fmow", "csv"] = "auto",
    images: Literal["auto", "rgb", "msrgb", "ms"] = "auto",
    root: Path | None = None,
    threads: int = 0,
) -> None:
    """Read the places, dates, boxes and categories of images into one Parquet file.

    SRC is a folder in fMoW's layout (fMoW-rgb, fMoW-full or ready-made crops), or a CSV or Parquet file: the paper's
    (label, path), SatMAE's (label, path, timestamp), or any with a column `path` and, where known, `lat`, `lon`,
    `timestamp`, `location_id`, `category`.

    Example: `geossl data index planet -o planet.parquet`

    Parameters
    ----------
    src
        Folder or file.
    out
        Index to write.
    layout
        auto: fmow for a folder, csv for a file.
    images
        Which of fMoW's images: rgb, msrgb or ms; auto takes the first of these that is there.
    root
        Folder that a CSV's relative paths start from; by default the CSV's own.
    threads
        Threads that read; 0 is one for every core.
    """
    from geossl.data.index import build_index

    made, report = build_index(src, layout=layout, images=images, root=root, threads=threads)
    made.write(out)
    for line in report.lines():
        print(line)
    print(f"-> {out}")
    # The paper has 100 clusters; a small set gets eight places a cluster.
    print(f"next: geossl data cluster {out} -k {min(100, max(2, report.places // 8))}")


@app.command
def cluster(
    index: Path,
    /,
    *,
    k: Annotated[int, Parameter(name=["--clusters", "-k"])],
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    seed: int = 0,
    n_init: int = 4,
    max_iter: int = 300,
    threads: int = 0,
) -> None:
    """Cluster the places of an index by great-circle distance (spherical k-means).

    Example: `geossl data cluster planet.parquet -k 50`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    k
        Number of clusters, the classes of the geo head; the paper has 100.
    out
        Clusters file to write; by default beside the index.
    seed
        Seed of k-means++.
    n_init
        Runs from different starts, of which the best is kept.
    max_iter
        Most iterations of a run.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    """
    import numpy as np

    from geossl.data.clusters import cluster_places, default_path
    from geossl.data.index import Index

    path = out or default_path(index)
    found = cluster_places(Index.read(index), k=k, seed=seed, n_init=n_init, max_iter=max_iter, threads=threads)
    found.write(path)
    sizes = np.bincount(found.places["cluster"].to_numpy(), minlength=k)
    print(
        f"{found.k} clusters of {found.places.num_rows} places: {sizes.min()} to {sizes.max()} places a cluster "
        f"(median {int(np.median(sizes))}), inertia {found.inertia:.6g}"
    )
    print(f"-> {path}")
    print(f"next: geossl train --recipe geo_tp --data {index} --out runs/first")
