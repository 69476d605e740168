"""Splits of an index's places: by place, by blocks of the globe, by country; with a distance between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl.data.coordinates import place_coordinates, place_names
from geossl.data.leaks import SPLITS, Leaks, find_leaks, nearest_places
from geossl.errors import UsageError
from geossl.geo import EARTH_RADIUS_KM
from geossl.tables import align

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geossl.data.index import Index

By = Literal["place", "block", "country"]
HALF_MERIDIAN_KM = math.pi * EARTH_RADIUS_KM
"""From pole to pole on the sphere."""
CLASSES = 5
"""Missing classes that are named."""


@dataclass(frozen=True, kw_only=True)
class SplitPart:
    """What a split has."""

    images: int
    places: int
    classes: int
    missing: tuple[str, ...]
    """Classes of other splits that it lacks."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What became of an index. `lines` prints it."""

    by: By
    groups: int
    """Places, blocks or countries, each of them in one split."""
    parts: dict[str, SplitPart]
    """By split; "none" has what is in no split."""
    left_out: dict[str, tuple[int, int]]
    """Why places are in no split: (places, images)."""
    leaks: Leaks
    """Between the splits; the files were not looked at."""

    def lines(self) -> list[str]:
        """The table, the classes that a split lacks, what was left out, and the leaks."""
        total = max(sum(part.images for part in self.parts.values()), 1)
        rows = [["split", "images", "", "places", "classes"]]
        for name, part in self.parts.items():
            share = f"{part.images / total:.1%}"
            rows.append([name, f"{part.images:,}", share, f"{part.places:,}", f"{part.classes:,}"])
        out = align(rows, left={0})
        for name, part in self.parts.items():
            if part.missing and name != "none":
                more = f" and {len(part.missing) - CLASSES} more" if len(part.missing) > CLASSES else ""
                out.append(f"{name} has no images of: {', '.join(part.missing[:CLASSES])}{more}")
        out += [
            f"in no split: {places:,} places ({images:,} images): {why}"
            for why, (places, images) in self.left_out.items()
        ]
        return out + self.leaks.lines()


def split_index(
    index: Index,
    *,
    by: By,
    share: Mapping[str, float],
    block_km: float = 500,
    buffer_km: float | None = None,
    seed: int = 0,
    threads: int = 0,
) -> tuple[Index, SplitReport]:
    """Give every image of an index a split anew: train, val or test.

    Whole groups go to a split: places, all places of a block of the globe, or all places of a country. They are drawn
    by the seed: first those of test, then those of val, each added if that brings the split's share of the images
    nearer; train has the rest. What is drawn depends on the places and the seed, not on the order of the rows.

    What a place's group is:

    - place: the place itself; an image without location_id is one (all boxes of that image are).
    - block: cells of about `block_km` by `block_km`, of about the same area everywhere (`blocks`); a place lies where
      the mean of its images does. A place without coordinates is in no split.
    - country: the country_code that most of its images have, the first in the alphabet of several. A place without
      one is in no split.

    With `buffer_km`, places that are nearer to one of a later split (train, val, test) are in no split: the distance
    of two places is that of their nearest images. A place without coordinates is in none either then.

    Args:
        index: The images; the splits that it has are not looked at.
        by: What stays together.
        share: Share of the images that val and test, or one of them, have.
        block_km: Side of a block, kilometres.
        buffer_km: Least distance between places of two splits, kilometres.
        seed: Seed of the draw.
        threads: 0 is one for every core. The result is the same for any number.

    Returns:
        The index with the column split, and what each split has.

    Raises:
        UsageError: a setting is out of its range; no place has a group; there are too few groups for the shares; the
            buffer leaves a split without images.

    """
    _check(share, block_km, buffer_km)
    names = place_names(index)
    lat, lon, _ = place_coordinates(index)
    placed = np.isfinite(lat)
    left_out: dict[str, np.ndarray] = {}
    if by == "block":
        group = np.where(placed, blocks(lat, lon, km=block_km), -1)
        left_out["without coordinates"] = ~placed
    elif by == "country":
        group = _countries(index)
        left_out["without a country_code"] = group < 0
    else:
        group = np.unique(np.array(names, np.object_), return_inverse=True)[1]
    images = np.bincount(index.places, minlength=len(names))
    code = _draw(group, images, share, by=by, seed=seed)
    if buffer_km is not None:
        alone = ~placed & (code >= 0)
        left_out["without coordinates, so that a buffer cannot be kept"] = alone
        code[alone] = -1
        near = _near(index, code, buffer_km, threads)
        left_out[f"less than {buffer_km:g} km from a place of a later split"] = near
        code[near] = -1
    for name in ("train", *share):
        if not (code == SPLITS.index(name)).any():
            raise UsageError(f"the split {name} has no image left: give another --buffer-km or --share")
    rows = np.array([*SPLITS, None], np.object_)[code][index.places]
    column = pa.array(rows, pa.string())
    made = index.with_table(index.table.set_column(index.table.schema.get_field_index("split"), "split", column))
    report = SplitReport(
        by=by,
        groups=len(np.unique(group[group >= 0])),
        parts=_parts(made),
        left_out={why: (int(which.sum()), int(images[which].sum())) for why, which in left_out.items() if which.any()},
        leaks=find_leaks(made, km=buffer_km, content=False, threads=threads),
    )
    return made, report


def blocks(lat: np.ndarray, lon: np.ndarray, *, km: float) -> np.ndarray:
    """Number of the block that each point lies in, int64 [N]; of points that are not finite it means nothing.

    Blocks lie in bands of equal height from pole to pole; each band is cut into equal parts, from 180 degrees west,
    whose width in its middle is nearest to its height. So all are of nearly the same area and nearly square, but for
    the few around the poles.

    Args:
        lat: latitudes in degrees, float64 [N].
        lon: longitudes in degrees, float64 [N].
        km: side of a block, kilometres; the height is the nearest that divides half a meridian.

    """
    bands = max(1, round(HALF_MERIDIAN_KM / km))
    middle = (np.arange(bands) + 0.5) / bands * np.pi - np.pi / 2
    parts = np.maximum(1, np.round(2 * bands * np.cos(middle))).astype(np.int64)
    lat, lon = np.nan_to_num(lat), np.nan_to_num(lon)
    band = np.clip(np.floor((lat + 90) / 180 * bands), 0, bands - 1).astype(np.int64)
    part = np.floor((lon + 180) / 360 * parts[band]).astype(np.int64) % parts[band]
    numbers: np.ndarray = np.concatenate([[0], np.cumsum(parts)])[band] + part
    return numbers


def _check(share: Mapping[str, float], block_km: float, buffer_km: float | None) -> None:
    if not share or not set(share) <= {"val", "test"}:
        raise UsageError(
            f"--share {_words(share)}: give val, test or both, such as val=0.1,test=0.1; train is the rest"
        )
    if not all(0 < part < 1 for part in share.values()) or sum(share.values()) >= 1:
        raise UsageError(f"--share {_words(share)}: each has to be above 0, and their sum below 1")
    for option, km in (("--block-km", block_km), ("--buffer-km", buffer_km)):
        if km is not None and not 0 < km < math.inf:
            raise UsageError(f"{option} {km}: give kilometres, above 0")


def _words(share: Mapping[str, float]) -> str:
    return ",".join(f"{name}={part:g}" for name, part in share.items()) or "nothing"


def _countries(index: Index) -> np.ndarray:
    """Number of each place's country in the alphabet, int64 [P]; -1 where none of its images has a code."""
    encoded = index.table["country_code"].combine_chunks().dictionary_encode()
    codes = np.append(np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), np.object_))), -1)
    row = codes[encoded.indices.fill_null(-1).to_numpy()].astype(np.int64)
    out = np.full(int(index.places.max(initial=-1)) + 1, -1, np.int64)
    known = row >= 0
    pairs, count = np.unique(np.stack([index.places[known], row[known]], 1), axis=0, return_counts=True)
    # The last that is written stays: most images, and of equally many the first in the alphabet.
    order = np.lexsort((-pairs[:, 1], count))
    out[pairs[order, 0]] = pairs[order, 1]
    return out


def _draw(group: np.ndarray, images: np.ndarray, share: Mapping[str, float], *, by: By, seed: int) -> np.ndarray:
    """Position in `SPLITS` of each place's split, int64 [P]; -1 where it has no group."""
    known = group >= 0
    if not known.any():
        raise UsageError(f"no place has {'a country_code' if by == 'country' else 'coordinates'}: split by another")
    found, number = np.unique(group[known], return_inverse=True)
    sizes = np.bincount(number, weights=images[known]).astype(np.int64).tolist()
    order = np.random.default_rng(seed).permutation(len(found)).tolist()
    drawn = np.zeros(len(found), np.int64)
    for name in ("test", "val"):
        target, have = share.get(name, 0) * sum(sizes), 0
        left = []
        for n in order:
            if abs(have + sizes[n] - target) < abs(have - target):
                have += sizes[n]
                drawn[n] = SPLITS.index(name)
            else:
                left.append(n)
        if name in share and not have:
            raise UsageError(
                f"--share {_words(share)}: every {by} has more than twice the images that {name} is to have; "
                f"there are {len(found):,}"
            )
        order = left
    if not order:
        raise UsageError(f"--share {_words(share)}: nothing is left to train on; there are {len(found):,} to share out")
    code = np.full(len(group), -1, np.int64)
    code[known] = drawn[number]
    return code


def _near(index: Index, code: np.ndarray, km: float, threads: int) -> np.ndarray:
    """The places, bool [P], that are nearer than `km` to one of a later split."""
    row_code = code[index.places]
    out = np.zeros(len(code), bool)
    for split in range(len(SPLITS) - 2, -1, -1):
        rows = np.flatnonzero(row_code == split)
        later = np.flatnonzero((row_code > split) & ~out[index.places])
        place, _, apart = nearest_places(index, rows, later, threads=threads)
        out[place[apart < km]] = True
    return out


def _parts(index: Index) -> dict[str, SplitPart]:
    """What each split has, in their order; and the rest, if there is any."""
    split = index.table["split"]
    known = set(index.categories)
    out = {}
    for name in (*SPLITS, None):
        chosen = pc.is_null(split) if name is None else pc.equal(split, name).fill_null(False)
        rows = np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
        if not len(rows):
            continue
        classes = {index.categories[label] for label in np.unique(index.labels[rows]) if label >= 0}
        out["none" if name is None else name] = SplitPart(
            images=len(rows),
            places=len(np.unique(index.places[rows])),
            classes=len(classes),
            missing=tuple(sorted(known - classes)),
        )
    return out
