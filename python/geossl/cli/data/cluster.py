"""`geossl data cluster`: the classes of the geo head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from geossl.errors import UsageError


def cluster(
    index: Path,
    /,
    *,
    k: Annotated[str | None, Parameter(name=["--clusters", "-k"])] = None,
    method: Literal["kmeans", "minibatch", "balanced", "dbscan", "h3"] = "kmeans",
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    max_size: int | None = None,
    batch: int | None = None,
    radius_km: float | None = None,
    min_places: int | None = None,
    resolution: int | None = None,
    weights: Literal["places", "images"] = "places",
    seed: int = 0,
    n_init: int = 4,
    max_iter: int = 300,
    threads: int = 0,
) -> None:
    """Cluster the places of an index by great-circle distance, and tell what the clusters give away of the classes.

    Methods: kmeans (spherical k-means), minibatch (the same from samples, for tens of millions of places), balanced
    (k-means with a largest size), dbscan (dense groups of any shape; the rest is noise, which the geo head leaves
    out), h3 (the cells of the H3 grid).

    Examples: `geossl data cluster planet.parquet -k 50`, `geossl data cluster planet.parquet -k 10,100,1000`,
    `geossl data cluster planet.parquet --method dbscan --radius-km 50 --min-places 5`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    k
        Number of clusters, the classes of the geo head; the paper has 100. Several, with commas between, are levels
        that nest, for --geo.target hierarchy: the coarser ones are groups of the finest clusters.
    method
        How the clusters are found.
    out
        Clusters file to write; by default beside the index.
    max_size
        balanced: most places of a cluster; by default as few as k clusters can have.
    batch
        minibatch: places looked at in a step; by default 10,000.
    radius_km
        dbscan: how near two places are neighbours, km.
    min_places
        dbscan: neighbours, itself among them, that put a place into the core of a cluster, by default 5. h3: cells with
        fewer places are merged into others, by default none.
    resolution
        h3: size of the cells, from 0 (1,300 km across) to 15 (1 m).
    weights
        places: every place counts once; images: as often as it has images (not balanced).
    seed
        Seed of kmeans, minibatch and balanced.
    n_init
        kmeans, balanced: runs from different starts, of which the best is kept.
    max_iter
        kmeans, balanced: most iterations of a run; minibatch: steps.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    """
    sizes = None if k is None else _sizes(k)

    from geossl.data.cluster_report import describe_clusters
    from geossl.data.clustering import cluster_places
    from geossl.data.clusters import default_path
    from geossl.data.index import Index

    path = out or default_path(index)
    read = Index.read(index, images=False)
    found = cluster_places(
        read,
        method=method,
        k=sizes,
        max_size=max_size,
        batch=batch,
        radius_km=radius_km,
        min_places=min_places,
        resolution=resolution,
        weights=weights,
        seed=seed,
        n_init=n_init,
        max_iter=max_iter,
        threads=threads,
    )
    found.write(path)
    for line in describe_clusters(found, read, seed=seed, threads=threads).lines():
        print(line)
    print(f"-> {path}")
    options = f" --loader.clusters {path}" if out is not None and out != default_path(index) else ""
    options += " --geo.target hierarchy" if len(found.levels) > 1 else ""
    # Without ids no two images are known to show one place, as photos.
    recipe = "geo" if read.column("location_id").null_count == len(read) else "geo_tp"
    print(f"next: geossl train --recipe {recipe} --data {index} --out runs/first{options}")


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise UsageError(f"-k {text}: a number of clusters, or several with commas between") from None
