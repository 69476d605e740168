"""The tiles of an embedding file that are most like another: exact, in one pass over the file, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl.embedding.file import embeddings
from geossl.errors import UsageError
from geossl.geo import distance_km

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geossl.embedding.file import EmbeddingFile

TOLD = ["row", "path", "location_id", "timestamp", "lat", "lon", "category", "box_x", "box_y", "box_w", "box_h"]
"""Columns that are told of what is found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """What is looked for."""

    vector: NDArray[np.float32]
    """Its embedding, float32 [D]; of several tiles the mean of their embeddings' directions."""
    positions: NDArray[np.int64]
    """Where it is in the file, int64 [n]; empty where it is not. These are not found."""
    lat: float
    """Degrees; NaN where it has no place."""
    lon: float
    """Degrees, likewise."""
    title: str
    """What it is, in words."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The nearest tiles, the most similar first."""

    positions: NDArray[np.int64]
    """Their rows in the file, int64 [k]."""
    similarity: NDArray[np.float64]
    """Cosine similarity, float64 [k], -1 to 1."""
    km: NDArray[np.float64]
    """Great-circle distance from the query, float64 [k]; NaN where either has no place."""
    table: pa.Table
    """The columns of `TOLD` of each."""


def query_like(file: EmbeddingFile, tile: str | int) -> Query:
    """A tile of the file.

    Args:
        file: the file.
        tile: its `row`, or the path of its image, as in the file, or where it is on the disk.

    Raises:
        UsageError: there is none, or several: boxes of one image, which their rows tell apart.

    """
    positions = _at_row(file, int(tile)) if str(tile).isdecimal() else _at_path(file, str(tile))
    table = file.take(positions, TOLD)
    if len(positions) > 1:
        rows = ", ".join(map(str, table["row"].to_pylist()[:10]))
        more = f" and {len(positions) - 10:,} more" if len(positions) > 10 else ""
        raise UsageError(f"--like {tile}: the image has {len(positions):,} tiles; give one by its row: {rows}{more}")
    (lat,), (lon,) = _coordinates(table)
    title = f"row {table['row'][0]}, {table['path'][0]}"
    return Query(vector=file.vectors(positions)[0], positions=positions, lat=lat, lon=lon, title=title)


def query_at(file: EmbeddingFile, lat: float, lon: float) -> Query:
    """The tile nearest to a coordinate; of several there, such as the dates of a place, the mean direction.

    Args:
        file: the file.
        lat: degrees, -90 to 90.
        lon: degrees, -180 to 360.

    Raises:
        UsageError: it is no coordinate, or no tile has one.

    """
    if not (-90 <= lat <= 90 and -180 <= lon <= 360):
        raise UsageError(
            f"--at {lat:g},{lon:g}: latitude -90 to 90 and longitude -180 to 360 are wanted, in that order"
        )
    positions, nearest = np.empty(0, np.int64), np.inf
    for first, table in file.scan(["lat", "lon"]):
        km = _km(lat, lon, table)
        # The nearest so far may be as near as those before it: another date of the place.
        least = np.nanmin(km, initial=np.inf)
        if least <= nearest:
            here = first + np.flatnonzero(km == least)
            positions = np.concatenate([positions, here]) if least == nearest else here
            nearest = least
    if not np.isfinite(nearest):
        raise UsageError(f"{file.path}: no tile has coordinates")
    tiles = f"{len(positions)} tiles" if len(positions) > 1 else f"row {file.take(positions, ['row'])['row'][0]}"
    title = f"{tiles}, {nearest:,.1f} km from {lat:g}, {lon:g}"
    mean = unit(file.vectors(positions)).mean(axis=0).astype(np.float32)
    return Query(vector=mean, positions=positions, lat=lat, lon=lon, title=title)


def search(file: EmbeddingFile, query: Query, *, k: int = 20, exclude_place: bool = False) -> Found:
    """The tiles nearest to the query by cosine similarity; of equal ones those that come first in the file.

    Args:
        file: the file.
        query: of `query_like`, `query_at`, or `geossl.embedding.image.query_image`.
        k: how many; fewer if the file has no more.
        exclude_place: leave out the tiles of the query's places (`location_id`) too.

    Raises:
        UsageError: k is below 1, the query is a vector of another length or of zeros, it is in no place that could be
            left out, or nothing is left to find.

    """
    if k < 1:
        raise UsageError(f"-k {k}: must be at least 1")
    if query.vector.shape != (file.dimensions,):
        raise UsageError(f"{file.path}: embeddings of {file.dimensions} dimensions, the query has {len(query.vector)}")
    if not np.linalg.norm(query.vector) > 0:
        raise UsageError(f"{query.title}: its embedding is zero, which has no direction: nothing is similar to it")
    direction = unit(query.vector[None])[0]
    places = _places(file, query) if exclude_place else None
    best, similarity = np.empty(0, np.int64), np.empty(0)
    for first, table in file.scan([*file.vector_columns, *([] if places is None else ["location_id"])]):
        positions = first + np.arange(len(table))
        left_out = np.isin(positions, query.positions)
        if places is not None:
            left_out |= pc.is_in(table["location_id"], value_set=places, skip_nulls=True).to_numpy()
        here = _cosine(embeddings(table), direction)
        best = np.concatenate([best, positions[~left_out]])
        similarity = np.concatenate([similarity, here[~left_out]])
        order = np.lexsort((best, -similarity))[:k]
        best, similarity = best[order], similarity[order]
    if not len(best):
        raise UsageError(f"{file.path}: has no tiles but those of the query")
    table = file.take(best, TOLD)
    return Found(positions=best, similarity=similarity, km=_km(query.lat, query.lon, table), table=table)


def unit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Vectors [n, D] of length 1, float64; zeros stay as they are."""
    wide = x.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = wide / np.where(length > 0, length, 1)
    return scaled


def _cosine(x: NDArray[np.float32], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines of vectors [n, D] with one of length 1, float64 [n]; 0 of zeros."""
    wide = x.astype(np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    # The order of a product's sums depends on where a row lies in memory; equal tiles are to be equally similar.
    cosine: NDArray[np.float64] = (wide @ direction / np.where(length > 0, length, 1)).round(12)
    return cosine


def _at_row(file: EmbeddingFile, row: int) -> NDArray[np.int64]:
    found = [first + np.flatnonzero(table["row"].to_numpy() == row) for first, table in file.scan(["row"])]
    positions = np.concatenate(found)
    if not len(positions):
        raise UsageError(f"--like {row}: {file.path} has no such row of its index")
    return positions


def _at_path(file: EmbeddingFile, path: str) -> NDArray[np.int64]:
    names = {path}
    if Path(path).resolve().is_relative_to(file.root):
        names.add(Path(path).resolve().relative_to(file.root).as_posix())
    found = []
    example = None
    for first, table in file.scan(["path"]):
        matches = pc.is_in(table["path"], value_set=pa.array(sorted(names))).to_numpy()
        found.append(first + np.flatnonzero(matches))
        example = example or table["path"][0].as_py()
    positions = np.concatenate(found)
    if not len(positions):
        raise UsageError(f"--like {path}: {file.path} has no such path; its paths are such as {example}")
    return positions


def _places(file: EmbeddingFile, query: Query) -> pa.Array:
    """The location_ids of the query; a tile without one is a place of its own."""
    if not len(query.positions):
        raise UsageError(f"--exclude-place: {query.title}: is no tile of the file, so that its place is not known")
    return file.take(query.positions, ["location_id"])["location_id"].combine_chunks().drop_null().unique()


def _coordinates(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lat, lon = (table[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    return lat, lon


def _km(lat: float, lon: float, table: pa.Table) -> NDArray[np.float64]:
    """Distances from a point, float64 [n], kilometres; NaN where either has no coordinates."""
    lats, lons = _coordinates(table)
    km = np.full(len(lats), np.nan)
    known = np.isfinite(lats) & np.isfinite(lons)
    if np.isfinite(lat) and np.isfinite(lon):
        km[known] = distance_km(lat, lon, lats[known], lons[known])
    return km
