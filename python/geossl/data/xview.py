"""xView as it is released: large images, and a GeoJSON file of their objects.

The release (Lam et al., "xView: Objects in Context in Overhead Imagery", arXiv 1802.07856) has `train_images/*.tif`,
0.3 m RGB, and `xView_train.geojson`, whose features have the properties `image_id` (a file name), `type_id` (a class)
and `bounds_imcoords` ("left,top,right,bottom" in pixels). Known faults: boxes that reach or lie outside their image,
boxes without an area, the type ids 75 and 82, which are no class, and labels of an image that the archive lacks
(1395.tif). The labels of the validation images were never released.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geossl import _core
from geossl.data.listing import listed
from geossl.data.stored import Index
from geossl.data.summary import IndexReport, first_reasons, summarise
from geossl.data.table import content_hash
from geossl.errors import UsageError
from geossl.transfer.objects import objects_file, write_objects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

IMAGES, LABELS = "train_images", "xView_train.geojson"
TEST_SHARE = 146 / 846
"""The paper trains on 700 images and tests on 146."""
MIN_SIDE = 1.0
"""Boxes that are narrower, pixels, are no objects."""
CLASSES = {
    11: "Fixed-wing Aircraft", 12: "Small Aircraft", 13: "Cargo Plane", 15: "Helicopter", 17: "Passenger Vehicle",
    18: "Small Car", 19: "Bus", 20: "Pickup Truck", 21: "Utility Truck", 23: "Truck", 24: "Cargo Truck",
    25: "Truck w/Box", 26: "Truck Tractor", 27: "Trailer", 28: "Truck w/Flatbed", 29: "Truck w/Liquid",
    32: "Crane Truck", 33: "Railway Vehicle", 34: "Passenger Car", 35: "Cargo Car", 36: "Flat Car", 37: "Tank car",
    38: "Locomotive", 40: "Maritime Vessel", 41: "Motorboat", 42: "Sailboat", 44: "Tugboat", 45: "Barge",
    47: "Fishing Vessel", 49: "Ferry", 50: "Yacht", 51: "Container Ship", 52: "Oil Tanker", 53: "Engineering Vehicle",
    54: "Tower crane", 55: "Container Crane", 56: "Reach Stacker", 57: "Straddle Carrier", 59: "Mobile Crane",
    60: "Dump Truck", 61: "Haul Truck", 62: "Scraper/Tractor", 63: "Front loader/Bulldozer", 64: "Excavator",
    65: "Cement Mixer", 66: "Ground Grader", 71: "Hut/Tent", 72: "Shed", 73: "Building", 74: "Aircraft Hangar",
    76: "Damaged Building", 77: "Facility", 79: "Construction Site", 83: "Vehicle Lot", 84: "Helipad",
    86: "Storage Tank", 89: "Shipping container lot", 91: "Shipping Container", 93: "Pylon", 94: "Tower",
}  # fmt: skip
"""The 60 classes by their `type_id`, as the release's xview_class_labels.txt names them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class XView:
    """The index of a release and its objects, in memory. `write` leaves both."""

    index: Index
    report: IndexReport
    paths: list[str]
    """Each object's image, [N]."""
    categories: list[str]
    """Each object's class, [N]."""
    boxes: NDArray[np.float64]
    """float64 [N, 4]: left, top, right, bottom in pixels of the image, within it."""
    objects: list[str]
    """What is to be said of the objects, for people."""

    def write(self, out: Path) -> Path:
        """Write the index, and the objects beside it; gives the objects' file."""
        self.index.write(out)
        file = objects_file(out)
        write_objects(
            file, self.index, paths=self.paths, categories=self.categories, geometry=shapely.box(*self.boxes.T)
        )
        return file


def read_xview(root: Path, *, test: int | None = None, seed: int = 0, threads: int = 0) -> XView:
    """The images of a release, one row each, split into train and val, and their objects.

    Coordinates are the median of the objects' own, which the labels have in degrees. An object that reaches beyond its
    image is cut at its edge. The split is of whole images, drawn by their names and the seed, so that it does not
    depend on which other images there are on disk in what order.

    Args:
        root: folder with `train_images`, and in it or below it `xView_train.geojson`.
        test: images to test on; by default the paper's share, 146 of 846.
        seed: of the split.
        threads: threads that read headers; 0 is all cores.

    Raises:
        UsageError: there is no such folder or file, it cannot be read, no image or no object can be used, or there are
            not more images than `test`.

    """
    root = root.resolve()
    if not (root / IMAGES).is_dir():
        raise UsageError(f"{root}: xView has a folder {IMAGES} with its images")
    labels = _labels_file(root)
    found, unusable = _core.index_walk(root / IMAGES, ["tif", "tiff"], threads=threads)
    if not found:
        raise UsageError(f"{root / IMAGES}: no images found")
    features = _features(labels)
    paths = [f"{IMAGES}/{name}" for name in found]
    centres = _centres(features)
    columns = {
        "path": pa.array(paths, pa.string()),
        "location_id": pa.array([name.rpartition(".")[0] for name in found], pa.string()),
        "split": pa.array(_split(found, test=test, seed=seed), pa.string()),
        "lat": pa.array([centres.get(name, (None, None))[0] for name in found], pa.float64()),
        "lon": pa.array([centres.get(name, (None, None))[1] for name in found], pa.float64()),
    }
    rows = listed(labels, columns, root=root, threads=threads)
    rejected = sorted(rows.rejected + [(f"{IMAGES}/{path}", reason) for path, reason in unusable])
    if len(rows.table) == 0:
        raise UsageError(f"{root / IMAGES}: none of its images can be used: {first_reasons(rejected)}")
    kept, boxes, notes = _objects(features, rows.table)
    if not len(kept):
        raise UsageError(f"{labels}: none of its {len(features):,} objects can be used: {'; '.join(notes)}")
    of_image = np.array([features[i].image for i in kept])
    with_objects = pc.is_in(rows.table["path"], pa.array([f"{IMAGES}/{name}" for name in np.unique(of_image)]))
    empty = len(rows.table) - pc.sum(with_objects).as_py()
    categories = [CLASSES[features[i].kind] for i in kept]
    report = summarise(
        rows.table,
        source=root,
        layout="xView",
        rejected=rejected,
        nulled=rows.nulled,
        notes=rows.notes + rows.headers.notes,
        fallbacks=rows.headers.fallbacks,
    )
    said = f"{len(kept):,} objects of {len(set(categories))} classes; images without any: {empty:,}"
    return XView(
        index=Index(rows.table, root, content_hash(rows.table)),
        report=report,
        paths=[f"{IMAGES}/{name}" for name in of_image],
        categories=categories,
        boxes=boxes,
        objects=[said, *notes],
    )


@dataclass(frozen=True, kw_only=True)
class _Feature:
    """One object of the labels, as far as it could be read."""

    image: str
    kind: int
    box: tuple[float, float, float, float] | None
    centre: tuple[float, float] | None
    """Latitude and longitude."""


def _labels_file(root: Path) -> Path:
    found = sorted(root.glob(f"**/{LABELS}"))
    if not found:
        raise UsageError(f"{root}: no {LABELS} in it or below it")
    return found[0]


def _features(file: Path) -> list[_Feature]:
    try:
        content = json.loads(file.read_bytes())
        return [_feature(feature) for feature in content["features"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"{file}: not xView's labels: {type(e).__name__}: {' '.join(str(e).split())}") from e


def _feature(feature: dict[str, Any]) -> _Feature:
    said = feature["properties"]
    box = None
    sides = str(said.get("bounds_imcoords") or "").split(",")
    if len(sides) == 4:
        try:
            left, top, right, bottom = (float(side) for side in sides)
            box = (left, top, right, bottom)
        except ValueError:
            box = None
    centre = None
    geometry = feature.get("geometry") or {}
    if geometry.get("type") == "Polygon":
        ring = np.array(geometry["coordinates"][0], np.float64)[:, :2]
        lon, lat = (ring.min(0) + ring.max(0)) / 2
        centre = (float(lat), float(lon))
    return _Feature(image=str(said["image_id"]), kind=int(said["type_id"]), box=box, centre=centre)


def _centres(features: Sequence[_Feature]) -> dict[str, tuple[float, float]]:
    """Median latitude and longitude of each image's objects."""
    of_image: dict[str, list[tuple[float, float]]] = {}
    for feature in features:
        if feature.centre is not None:
            of_image.setdefault(feature.image, []).append(feature.centre)
    means = {name: np.median(np.array(points), axis=0) for name, points in of_image.items()}
    return {name: (float(mean[0]), float(mean[1])) for name, mean in means.items()}


def _split(names: Sequence[str], *, test: int | None, seed: int) -> list[str]:
    """Split of each image: those whose digest of name and seed are the lowest are tested on."""
    count = round(TEST_SHARE * len(names)) if test is None else test
    if not 0 < count < len(names):
        raise UsageError(f"--test: {count} images to test on, of {len(names):,}; give 1 to {len(names) - 1:,}")
    digests = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest() for name in names]
    chosen = set(sorted(range(len(names)), key=digests.__getitem__)[:count])
    return ["val" if i in chosen else "train" for i in range(len(names))]


def _objects(features: Sequence[_Feature], table: pa.Table) -> tuple[list[int], NDArray[np.float64], list[str]]:
    """Which of the objects are used, their boxes, and what became of the others."""
    size = {
        path.removeprefix(f"{IMAGES}/"): (width, height)
        for path, width, height in zip(*(table[name].to_pylist() for name in ("path", "width", "height")), strict=True)
    }
    kept, boxes = [], []
    why: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def leave_out(reason: str, feature: _Feature) -> None:
        why[reason] += 1
        examples.setdefault(reason, f"{feature.image} {feature.box}")

    cut = 0
    for i, feature in enumerate(features):
        if feature.kind not in CLASSES:
            leave_out(f"type id {feature.kind}, which is no class", feature)
        elif feature.image not in size:
            leave_out(f"of {feature.image}, which is not in {IMAGES} or cannot be read", feature)
        elif feature.box is None or not np.isfinite(feature.box).all():
            leave_out("no box in bounds_imcoords", feature)
        else:
            width, height = size[feature.image]
            left, top, right, bottom = feature.box
            inside = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
            if right - left < MIN_SIDE or bottom - top < MIN_SIDE:
                leave_out("box without an area", feature)
            elif inside[2] - inside[0] < MIN_SIDE or inside[3] - inside[1] < MIN_SIDE:
                leave_out("box outside its image", feature)
            else:
                cut += inside != feature.box
                kept.append(i)
                boxes.append(inside)
    notes = [f"objects left out: {n:,}: {reason} (e.g. {examples[reason]})" for reason, n in why.most_common()]
    if cut:
        notes.append(f"objects cut at the edge of their image: {cut:,}")
    return kept, np.array(boxes, np.float64).reshape(-1, 4), notes
