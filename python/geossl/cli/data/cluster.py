"""`geossl data cluster`: the classes of the geo head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


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
    read = Index.read(index, images=False)
    found = cluster_places(read, k=k, seed=seed, n_init=n_init, max_iter=max_iter, threads=threads)
    found.write(path)
    sizes = np.bincount(found.places["cluster"].to_numpy(), minlength=k)
    print(
        f"{found.k} clusters of {found.places.num_rows} places: {sizes.min()} to {sizes.max()} places a cluster "
        f"(median {int(np.median(sizes))}), inertia {found.inertia:.6g}"
    )
    print(f"-> {path}")
    print(f"next: geossl train --recipe geo_tp --data {index} --out runs/first")
