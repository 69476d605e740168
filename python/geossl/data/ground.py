"""Where the pixels of an index's images lie on the ground, in one frame for all dates of a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geossl.data.table import transforms

if TYPE_CHECKING:
    import pyarrow as pa


def ground_frames(table: pa.Table, places: np.ndarray) -> np.ndarray:
    """The affine map from the pixels of each row's image to the ground of its place.

    The frame is the coordinate reference system of the place's first row. An image in another one (a neighbouring UTM
    zone) gets the affine map that fits its corners best.

    Args:
        table: Rows of an index, with `transform`, `crs`, `width` and `height`.
        places: int [N], each row's place.

    Returns:
        float64 [N, 6], (a, b, c, d, e, f): pixel (x, y) lies at (a x + b y + c, d x + e y + f). NaN where an image
        has no transform or no coordinate reference system.

    """
    frames = transforms(table)
    frames[~np.asarray(table["crs"].is_valid())] = np.nan
    rows = np.flatnonzero(~np.isnan(frames[:, 0]))
    if not len(rows):
        return frames
    encoded = table["crs"].combine_chunks().dictionary_encode()
    crs = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    # The first known row of each place.
    _, first, inverse = np.unique(places[rows], return_index=True, return_inverse=True)
    of_place = crs[rows[first]][inverse]
    for source, target in sorted({(int(s), int(t)) for s, t in zip(crs[rows], of_place, strict=True) if s != t}):
        moved = rows[(crs[rows] == source) & (of_place == target)]
        size = np.stack([table["width"].take(moved).to_numpy(), table["height"].take(moved).to_numpy()], 1)
        names = encoded.dictionary
        frames[moved] = _refit(frames[moved], size, names[source].as_py(), names[target].as_py())
    return frames


def _refit(frames: np.ndarray, sizes: np.ndarray, source: str, target: str) -> np.ndarray:
    """Affine maps, float64 [N, 6], into another reference system: the best fit to the corners of each image."""
    from rasterio.warp import transform as warp

    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    pixels = corners * sizes[:, None, :]  # [N, 4, 2]
    linear = frames.reshape(-1, 2, 3)
    ground = np.einsum("nij,nkj->nki", linear[:, :, :2], pixels) + linear[:, None, :, 2]
    x, y = warp(source, target, ground[..., 0].ravel(), ground[..., 1].ravel())
    there = np.stack([np.asarray(x), np.asarray(y)], 1).reshape(-1, 4, 2)
    design = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], 2)
    # Far from zero the columns differ by magnitudes: fitted about the first corner.
    origin = there[:, :1]
    solved = np.stack([np.linalg.lstsq(d, t, rcond=None)[0].T for d, t in zip(design, there - origin, strict=True)])
    solved[:, :, 2] += origin[:, 0]
    fitted: np.ndarray = solved.reshape(-1, 6)
    return fitted
