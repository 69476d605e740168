"""SpaceNet's building sets, 1 (Rio de Janeiro) and those in the form of 2: an index, and the footprints beside it.

What is known of the files is from the challenge's utilities (SpaceNetChallenge/utilities), solutions of the challenge
and torchgeo's reader; docs/spacenet.md has it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl import _core
from geossl.data.geotiff import GeoOptions, complete
from geossl.data.headers import RGB
from geossl.data.index import Index
from geossl.data.listing import FMOW_MS, Listed, listed
from geossl.data.spacenet_outlines import Outlines, read_outlines
from geossl.data.summary import first_reasons, grouped, summarise
from geossl.data.table import content_hash
from geossl.errors import GeosslError, UsageError
from geossl.progress import counted
from geossl.transfer.objects import objects_file, write_objects

if TYPE_CHECKING:
    from geossl.data.index import IndexReport

Images = Literal["rgb", "ms", "ps-ms", "pan"]
PRODUCTS: dict[Images, tuple[str, ...]] = {
    "rgb": ("3band", "RGB-PanSharpen", "PS-RGB", "RGB"),
    "ms": ("8band", "MUL", "MS"),
    "ps-ms": ("MUL-PanSharpen", "PS-MS"),
    "pan": ("PAN",),
}
"""What the sets call their kinds of images, in SpaceNet 1, in 2, and in later copies of both."""
BANDS: dict[Images, str] = {"rgb": RGB, "ms": FMOW_MS[8], "ps-ms": FMOW_MS[8], "pan": "pan"}
"""The bands of WorldView's images, which the files do not name."""
CATEGORY = "building"
PAPER_TEST = 1940 / 6940
"""Share of the images that the paper tests on: 1,940 of SpaceNet 1's 6,940."""

KIND_OF = {name.lower(): kind for kind, names in PRODUCTS.items() for name in names}
IMAGE = re.compile(rf"(?i)(?:^|_)({'|'.join(sorted(KIND_OF, key=len, reverse=True))})(?=_|$)")
FOOTPRINTS = re.compile(r"(?i)^(?:geo|buildings|labels?)(?=_|$)|_geo$|_geojson_buildings(?=_)")
SCENE = re.compile(r"(?i)img\d+$")


@dataclass(frozen=True, kw_only=True)
class SpacenetReport:
    """What became of a folder of SpaceNet's. `lines` prints it."""

    index: IndexReport
    buildings: int
    empty: int
    """Images without buildings."""
    left_out: list[tuple[str, str]]
    """Outlines that gave no building, as (file, "what: why")."""
    mended: list[tuple[str, str]]
    """Outlines that are not as they were written, as (file, "what: why")."""

    def lines(self) -> list[str]:
        """The index's summary, and that of the buildings."""
        images = self.index.images
        out = [*self.index.lines(), f"{'buildings':<12}{self.buildings:,} in {images - self.empty:,} images"]
        out.append(f"{'empty':<12}{self.empty:,} images without buildings")
        for name, faults in (("left out", self.left_out), ("mended", self.mended)):
            if faults:
                out += [f"{name:<12}{len(faults):,} outlines", *grouped(faults)]
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Which file has the footprints of which image."""

    of: dict[str, str]
    """The GeoJSON file by its image, sorted by image; paths below the root."""
    rejected: list[tuple[str, str]]
    """Images without footprints, and the reverse, as (path, "what: why")."""


def index_spacenet(
    src: Path, *, out: Path, images: Images = "rgb", test: float = PAPER_TEST, seed: int = 0, threads: int = 0
) -> SpacenetReport:
    """Index a folder of SpaceNet's, and write its building footprints beside the index.

    Known layouts, anywhere below `src`: SpaceNet 1's (`3band`, `8band`, `vectordata/geojson` or `geojson`, also with
    the names of the first release), SpaceNet 2's (`AOI_2_Vegas_Train/RGB-PanSharpen`, `MUL`, `geojson/buildings`, ...;
    also with the later names, `PS-RGB`, `geojson_buildings`), and a folder a scene (`..._img1/RGB.tif`,
    `..._img1-labels/labels.geojson`). A scene's files belong together by their names.

    The images have the split val by a draw that depends on `seed` and the scenes' names alone, so that all kinds of
    images of a set are split alike; the others are train.

    Args:
        src: the folder.
        out: index to write, NAME.parquet; the footprints go to NAME.objects.parquet.
        images: which kind of a scene's images.
        test: images of the split val: a number of them, or below 1 a share.
        seed: seed of the draw.
        threads: threads that read the images' headers; 0 is all cores.

    Raises:
        UsageError: `src` has no such images, or none with footprints or buildings; `test` leaves a split without any.

    """
    src = Path(src)
    if out.suffix != ".parquet":
        raise UsageError(f"{out}: the index is a .parquet file")
    if not src.is_dir():
        raise UsageError(f"{src}: no such folder")
    root = src.resolve()
    pairs = _pair(src, root, images, threads=threads)
    found = _read_images(src, root, pairs, images, threads=threads)
    outlines = _read_footprints(found, root, pairs)
    paths = list(outlines)
    if not sum(len(each.polygons) for each in outlines.values()):
        raise UsageError(f"{src}: none of its {len(outlines):,} images has a building that can be used")
    table = found.table.filter(pc.is_in(found.table["path"], pa.array(paths, pa.string())))
    split = _split([_scene_of(path) for path in paths], test=test, seed=seed)
    table = table.set_column(table.schema.get_field_index("split"), "split", pa.array(split, pa.string()))
    rejected = sorted(found.rejected + pairs.rejected)
    notes = found.notes + found.headers.notes
    report = summarise(
        table,
        source=src,
        layout=f"SpaceNet, {images}",
        rejected=rejected,
        nulled=found.nulled,
        notes=notes,
        fallbacks=found.headers.fallbacks,
    )
    index = Index(table, root, content_hash(table))
    index.write(out)
    of = [path for path in paths for _ in outlines[path].polygons]
    geometry = np.concatenate([outlines[path].polygons for path in paths])
    write_objects(objects_file(out), index, paths=of, categories=[CATEGORY] * len(of), geometry=geometry)
    return SpacenetReport(
        index=report,
        buildings=len(of),
        empty=sum(not len(outlines[path].polygons) for path in paths),
        left_out=[(pairs.of[path], fault) for path in paths for fault in outlines[path].left_out],
        mended=[(pairs.of[path], fault) for path in paths for fault in outlines[path].mended],
    )


def _pair(src: Path, root: Path, images: Images, *, threads: int) -> _Pairs:
    tiffs, unusable = _core.index_walk(root, ["tif", "tiff"], threads=threads)
    kinds: dict[Images, dict[str, list[str]]] = {kind: defaultdict(list) for kind in PRODUCTS}
    for path in tiffs:
        if (what := _scene(path, IMAGE)) is not None:
            scene, product = what
            kinds[KIND_OF[product.lower()]][scene.casefold()].append(path)
    if not kinds[images]:
        there = ", ".join(f"{kind} {len(scenes):,}" for kind, scenes in kinds.items() if scenes)
        raise UsageError(
            f"{src}: no images of the kind {images} ({', '.join(PRODUCTS[images])}); "
            + (f"give another with --images: {there}" if there else "none of its files has one of SpaceNet's names")
        )
    files, more = _core.index_walk(root, ["geojson"], threads=threads)
    footprints: dict[str, list[str]] = defaultdict(list)
    for path in files:
        if (what := _scene(path, FOOTPRINTS)) is not None:
            footprints[what[0].casefold()].append(path)
    of: dict[str, str] = {}
    rejected = [*unusable, *more]
    for scene in sorted(kinds[images].keys() | footprints.keys()):
        tiles, labels = kinds[images].get(scene, []), footprints.get(scene, [])
        # Copies of a scene, such as those of train and test, belong to the footprints that lie nearest.
        near = min(((-_shared(tile, label), tile, label) for tile in tiles for label in labels), default=None)
        _, tile, label = near or (0, "", "")
        if near is not None:
            of[tile] = label
        why = "an image without footprints" if near is None else f"another image of its scene is taken: {tile}"
        rejected += [(path, why) for path in tiles if path != tile]
        why = "footprints without an image" if near is None else f"other footprints of their scene are taken: {label}"
        rejected += [(path, why) for path in labels if path != label]
    if not of:
        raise UsageError(f"{src}: none of its images has footprints: {first_reasons(rejected)}")
    return _Pairs(of=dict(sorted(of.items())), rejected=rejected)


def _scene(path: str, names: re.Pattern[str]) -> tuple[str, str] | None:
    """The scene that a file is of, such as AOI_1_RIO_img12, and the part of its name that says what it shows."""
    file = PurePosixPath(path)
    found = names.search(file.stem)
    if found is None:
        return None
    scene = (file.stem[: found.start()] + file.stem[found.end() :]).strip("_")
    if not scene:  # a folder a scene
        scene = file.parent.name.removesuffix("-labels")
    return (scene, found[0].strip("_")) if SCENE.search(scene) else None


def _shared(one: str, other: str) -> int:
    """Folders that two paths have in common."""
    return len(PurePosixPath(os.path.commonpath([f"/{one}", f"/{other}"])).parts)


def _read_images(src: Path, root: Path, pairs: _Pairs, images: Images, *, threads: int) -> Listed:
    """The images that have footprints and a georeference to place them by."""
    paths = list(pairs.of)
    columns = {"path": pa.array(paths), "location_id": pa.array([_scene_of(path) for path in paths])}
    found = listed(src, columns, root=root, threads=threads)
    if len(found.table) == 0:
        raise UsageError(
            f"{src}: none of its {len(found.rejected):,} images can be used: {first_reasons(found.rejected)}"
        )
    names = BANDS[images]
    fits = pc.equal(found.table["bands"], len(names.split(",")))
    named = pc.coalesce(found.table["band_names"], pc.if_else(fits, names, None))
    found.table = found.table.set_column(found.table.schema.get_field_index("band_names"), "band_names", named)
    complete(found, root=root, options=GeoOptions())
    placed = pc.and_(found.table["transform"].is_valid(), found.table["crs"].is_valid())
    bare = found.table["path"].filter(pc.invert(placed)).to_pylist()
    found.rejected += [(path, "an image without a georeference, by which its footprints lie") for path in bare]
    found.table = found.table.filter(placed)
    return found


def _scene_of(path: str) -> str:
    what = _scene(path, IMAGE)
    return path if what is None else what[0]


def _read_footprints(found: Listed, root: Path, pairs: _Pairs) -> dict[str, Outlines]:
    """The buildings of each image whose footprints can be read; the others are added to what was rejected."""
    outlines: dict[str, Outlines] = {}
    columns = ("path", "transform", "crs", "width", "height")
    rows = list(zip(*(found.table[name].to_pylist() for name in columns), strict=True))
    with counted("footprints") as progress:
        for done, (path, transform, crs, width, height) in enumerate(rows, 1):
            label = pairs.of[path]
            try:
                outlines[path] = read_outlines(root / label, transform=transform, crs=crs, size=(width, height))
            except GeosslError as e:
                found.rejected.append((path, f"an image whose footprints cannot be read: {label}: {e}"))
            progress(done, len(rows))
    return outlines


def _split(scenes: list[str], *, test: float, seed: int) -> list[str]:
    """The split of each scene. A scene that comes or goes moves one other at most."""
    count = round(test * len(scenes)) if test < 1 else test
    if count != int(count) or not 0 < count < len(scenes):
        raise UsageError(
            f"--test {test:g}: is a number of the {len(scenes):,} images or a share of them, below 1, that leaves "
            "images for train and for val"
        )
    drawn = [hashlib.blake2b(repr((seed, "spacenet", scene.casefold())).encode()).digest() for scene in scenes]
    chosen = set(sorted(range(len(scenes)), key=lambda i: drawn[i])[: int(count)])
    return ["val" if i in chosen else "train" for i in range(len(scenes))]
