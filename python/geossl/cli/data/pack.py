"""`geossl data pack`: the images in few large files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geossl.cli.data.unreadable import print_unreadable


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
    print_unreadable(report.failures, where=f"; all are in {out}/pack.parquet")
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
