"""`geossl data`: make, index, cluster and pack images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

app = App(name="data", help="Make, index, cluster and pack images.")


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
    layout: Literal["auto", "fmow", "csv", "geotiff"] = "auto",
    images: Literal["auto", "rgb", "msrgb", "ms"] = "auto",
    root: Path | None = None,
    bands: str | None = None,
    dates: Path | None = None,
    date_pattern: str | None = None,
    tile: int | None = None,
    threads: int = 0,
) -> None:
    """Read the places, dates, boxes and categories of images into one Parquet file.

    SRC is a folder in fMoW's layout (fMoW-rgb, fMoW-full or ready-made crops), or a CSV or Parquet file: the paper's
    (label, path), SatMAE's (label, path, timestamp), or any with a column `path` and, where known, `lat`, `lon`,
    `timestamp`, `location_id`, `category`. With --layout geotiff it is any folder of GeoTIFFs (and of what else GDAL
    reads), or a list of their paths and URLs: places and dates are read from the files, and images that show the same
    ground are views of one place.

    Examples: `geossl data index planet -o planet.parquet`,
    `geossl data index naip --layout geotiff --bands red,green,blue,nir --tile 256 -o naip.parquet`

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
    bands
        geotiff: names of the bands, with commas between, of images that have as many and do not name them.
    dates
        geotiff: CSV or Parquet file with the columns path (or file name) and timestamp; by default the dates are read
        from the files' names, else from their tags.
    date_pattern
        geotiff: what the dates in the files' or folders' names look like, such as %Y%j for 2017006; by default
        20170106, 2017-01-06, 20170106T101031 and the forms of Sentinel, Landsat, MODIS, PlanetScope and NAIP are known.
    tile
        geotiff: cut scenes into tiles of this many pixels a side, on a grid on the ground that the dates of a place
        share; by default an image is one view.
    threads
        Threads that read; 0 is one for every core.
    """
    from geossl.data.index import GeoOptions, build_index

    geo = GeoOptions(bands=bands.split(",") if bands else (), dates=dates, date_pattern=date_pattern, tile=tile)
    made, report = build_index(src, layout=layout, images=images, root=root, geo=geo, threads=threads)
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


@app.command
def stats(
    index: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    sample: int = 1000,
    whole: bool = False,
    plot: Path | None = None,
    seed: int = 0,
    root: Path | None = None,
    threads: int = 0,
    max_image_mib: int = 1024,
) -> None:
    """Measure the bands of an index's images: mean, deviation, percentiles, histogram, share without data.

    Training normalises by what it finds beside the index. Boxes are looked at without their context.

    Example: `geossl data stats naip.parquet --plot naip.png`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    out
        File to write; by default beside the index, where training looks for it.
    sample
        Images that are looked at, drawn by the seed.
    whole
        Look at all images.
    plot
        Also draw the histograms into this PNG.
    seed
        Seed of the sample.
    root
        Folder that the index's paths start from, if the images have moved.
    threads
        Threads; 0 is one for every core. The result is the same for any number.
    max_image_mib
        Most memory that decoding an image may take, MiB, and the largest file; an image that claims more is left out.
    """
    from geossl.data.band_stats import measure_index, stats_path
    from geossl.data.index import Index
    from geossl.errors import UsageError
    from geossl.progress import counted

    if sample < 1:
        raise UsageError(f"--sample {sample}: must be at least 1; --whole takes all images")
    read = Index.read(index, root=root)
    with counted("measuring") as progress:
        found = measure_index(
            read,
            sample=None if whole else sample,
            seed=seed,
            threads=threads,
            max_image_mib=max_image_mib,
            progress=progress,
        )
    for line in found.lines():
        print(line)
    _print_unreadable(found.failures, where="")
    if found.seed is not None:
        print(f"a sample of {len(read):,} images: --sample takes more, --whole all")
    file = out or stats_path(index)
    found.write(file)
    print(f"-> {file}")
    if plot is not None:
        from geossl.viz.bands import plot_bands

        print(f"-> {plot_bands(plot, found)}")


@app.command
def pack(
    index: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    short_side: int | None = None,
    quality: int | None = None,
    raw: bool = False,
    context: bool = True,
    part: str = "1/1",
    verify: bool = False,
    root: Path | None = None,
    threads: int = 0,
    max_image_mib: int = 1024,
) -> None:
    """Put the images of an index into few large files, which training reads faster than the images.

    By default nothing is lost: the loader gives the same batches as from the files, bit for bit. With --short-side the
    pack is smaller and faster still, and keeps each box with its context at that size. Work that was ended goes on with
    the same command.

    Examples: `geossl data pack fmow.parquet -o fmow.pack`,
    `geossl data pack fmow.parquet -o fmow448.pack --short-side 448`

    Parameters
    ----------
    index
        Index made by `geossl data index`.
    out
        Folder of the pack.
    short_side
        Reduce the short side to this, pixels; 448 is what the paper's temporal recipes resize to. Crops of less than
        the whole lose detail, where the images are larger.
    quality
        JPEG quality of a sized pack, 1 to 100; by default 90, with chroma at half the resolution.
    raw
        Keep the pixels of a sized pack as they are: larger and faster, and nothing is lost but by the resize.
    context
        Put fMoW's context around the boxes of a sized pack, as crop.context does.
    part
        i/n: pack the i-th of n parts, for array jobs; then join them with `geossl data merge`.
    verify
        Then read everything back and compare it with the files.
    root
        Folder that the index's paths start from, if the images have moved.
    threads
        Threads; 0 is one for every core. The pack is the same for any number.
    max_image_mib
        Most memory that decoding an image may take, MiB, and the largest file; an image that claims more is left out.
    """
    from geossl.data.index import Index
    from geossl.data.pack import make_pack, verify_pack
    from geossl.errors import GeosslError, UsageError
    from geossl.progress import counted

    number, _, parts = part.partition("/")
    if not (number.isdecimal() and parts.isdecimal()):
        raise UsageError(f"--part {part}: give it as i/n, such as 3/16")
    which = (int(number), int(parts))
    read = Index.read(index, root=root)
    with counted("packing") as progress:
        report = make_pack(
            read,
            out,
            short_side=short_side,
            quality=quality,
            raw=raw,
            context=context,
            part=which,
            threads=threads,
            max_image_mib=max_image_mib,
            progress=progress,
        )
    earlier = f", {report.earlier:,} of them earlier" if report.earlier else ""
    print(f"{report.images - len(report.failures):,} images packed{earlier}")
    if report.bytes_in:
        mib, share = report.bytes_out / 2**20, report.bytes_out / report.bytes_in
        print(f"{report.bytes_in / 2**20:,.1f} MiB of files -> {mib:,.1f} MiB ({share:.1%})")
    _print_unreadable(report.failures, where=f"; all are in {out}/pack.parquet")
    if report.psnr is not None:
        print(f"lossy: {report.psnr:.1f} dB PSNR against the resized pixels")
    if verify:
        with counted("verifying") as progress:
            differ, psnr = verify_pack(
                read,
                out,
                part=which,
                threads=threads,
                max_image_mib=max_image_mib,
                progress=progress,
            )
        if differ:
            path, reason = differ[0]
            raise GeosslError(f"{out}: {len(differ):,} packed images are not the files', the first: {path}: {reason}")
        whose = "the file's" if short_side is None else "the resized file's"
        print(f"verified: every pixel is {whose}" if psnr is None else f"verified: readable, {psnr:.1f} dB PSNR")
    print(f"-> {out}")
    if which[1] > 1:
        print(f"next, when all {which[1]} parts are done: geossl data merge {out}")
    else:
        print(f"next: geossl train --recipe geo_tp --data {index} --loader.pack {out} --out runs/first")


@app.command
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


def _print_unreadable(failures: Sequence[tuple[str, str]], *, where: str) -> None:
    """The first images that could not be read, and how many more there are."""
    for path, reason in failures[:5]:
        print(f"unreadable: {path}: {reason}")
    if len(failures) > 5:
        print(f"unreadable: {len(failures) - 5:,} more{where}")
