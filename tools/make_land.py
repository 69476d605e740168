"""Make the land outline of the maps, python/geossl/viz/land.npz, from Natural Earth's countries.

    pip download --no-deps pyogrio
    python tools/make_land.py pyogrio-*.whl

Natural Earth (naturalearthdata.com, 1:110 million) is in the public domain; pyogrio's wheel has it among its test
fixtures. Borders of countries are drawn twice, once in each direction: what is left without them is the coast.
"""

from __future__ import annotations

import argparse
import struct
import zipfile
from pathlib import Path

import numpy as np

SHAPES = "pyogrio/tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp"
OUT = Path(__file__).resolve().parent.parent / "python" / "geossl" / "viz" / "land.npz"
POLYGON = 5


def read_rings(shapes: bytes) -> list[np.ndarray]:
    """The closed rings of a shapefile of polygons, float64 [n, 2] of longitude and latitude each."""
    rings: list[np.ndarray] = []
    at = 100  # the file's header
    while at < len(shapes):
        words = struct.unpack(">i", shapes[at + 4 : at + 8])[0]
        record = shapes[at + 8 : at + 8 + 2 * words]
        kind, *_ = struct.unpack("<i", record[:4])
        if kind != POLYGON:
            raise ValueError(f"a shape of type {kind}: only polygons are read")
        parts, points = struct.unpack("<2i", record[36:44])
        starts = np.frombuffer(record, "<i4", parts, 44)
        rings += np.split(np.frombuffer(record, "<f8", 2 * points, 44 + 4 * parts).reshape(-1, 2), starts[1:])
        at += 8 + 2 * words
    return rings


def dissolve(rings: list[np.ndarray]) -> list[np.ndarray]:
    """The outline of the union of polygons that share whole edges and do not overlap."""
    edges = dict.fromkeys(
        (start, end)
        for ring in rings
        for start, end in zip(map(tuple, ring[:-1]), map(tuple, ring[1:]), strict=True)
        if start != end
    )
    after: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for start, end in edges:
        if (end, start) not in edges:
            after.setdefault(start, []).append(end)
    out = []
    while after:
        ring = [next(iter(after))]
        while len(ring) == 1 or ring[-1] != ring[0]:
            ends = after[ring[-1]]
            start = ring[-1]
            ring.append(ends.pop())
            if not ends:
                del after[start]
        out.append(np.array(ring))
    return out


def main() -> None:
    """Read the wheel, write the outline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="pyogrio's wheel")
    rings = dissolve(read_rings(zipfile.ZipFile(parser.parse_args().wheel).read(SHAPES)))
    rings.sort(key=len, reverse=True)
    starts = np.cumsum([0, *map(len, rings)])
    # 1 / 1000 degree: 100 m, of a map of 1:110 million.
    points = np.round(np.concatenate(rings), 3).astype(np.float32)
    np.savez_compressed(OUT, points=points, starts=starts.astype(np.int32))
    print(f"{len(rings)} rings, {len(points):,} points, {OUT.stat().st_size:,} bytes -> {OUT}")


if __name__ == "__main__":
    main()
