"""Class masks of chips: where the pixels of an image are in a chip that the loader cut, and polygons burnt there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from rasterio import Affine
from rasterio.features import rasterize

from geossl.data.fallback import quiet
from geossl.data.footprints import apply
from geossl.data.table import image_boxes

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

IGNORE = 255
"""Class of pixels that count for nothing, as in semseg (hszhao/semseg)."""


def windows(table: pa.Table) -> NDArray[np.int64]:
    """What the chips of an index's rows show of their images: the rows' boxes, or the whole images.

    Args:
        table: rows of an index whose boxes are tiles, which have no context.

    Returns:
        int64 [N, 4] of x, y, width, height, pixels, inside the images.

    """
    sizes = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1).astype(np.int64)
    boxes = image_boxes(table).astype(np.int64)
    whole = boxes[:, 2:3] == 0
    first = np.where(whole, 0, boxes[:, :2].clip(0))
    last = np.where(whole, sizes, np.minimum(boxes[:, :2] + boxes[:, 2:], sizes))
    return np.concatenate([first, last - first], axis=1)


def chip_maps(chips: NDArray[Any], *, size: int) -> NDArray[np.float64]:
    """The affine maps from the pixels of images to those of chips, as `geossl.data.loader.Loader` cuts them.

    With `cut="center"` the loader resizes a window's short side to `size`, truncates the long one, as torchvision's
    Resize does, and cuts out the central square, as its CenterCrop does.

    Args:
        chips: the windows that are shown, int [N, 4]: x, y, width, height, pixels; see `windows`.
        size: side of a chip, pixels.

    Returns:
        float64 [N, 6], (a, b, c, d, e, f) as in geotransforms: point (x, y) of the image, from the outer corner of its
        upper left pixel, is at (a x + b y + c, d x + e y + f) of the chip, from the outer corner of its own.

    """
    corner, lengths = chips[:, :2].astype(np.int64), chips[:, 2:].astype(np.int64)
    short = lengths.min(axis=1, keepdims=True)
    resized = size * lengths // short
    # np.rint rounds half to even, as torchvision does.
    offset = np.rint((resized - size) / 2)
    scale = resized / lengths
    shift = -corner * scale - offset
    out = np.zeros((len(chips), 6))
    out[:, 0], out[:, 4] = scale.T
    out[:, 2], out[:, 5] = shift.T
    return out


def rasterise(
    polygons: NDArray[Any],
    classes: NDArray[Any],
    *,
    to_chip: NDArray[np.float64],
    size: int,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """The class of each pixel of a chip: that of the last polygon that its centre lies in, else 0.

    Args:
        polygons: shapely polygons in pixels of the image, object [N].
        classes: their classes, int [N]; 0 is the background.
        to_chip: the chip's row of `chip_maps`, float64 [6].
        size: side of the chip, pixels.
        valid: which pixels have data, bool [size, size], as `has_data` says; the others get `IGNORE`.

    Returns:
        int64 [size, size].

    """
    mask = np.zeros((size, size), np.int64)
    from_chip = ~Affine(*to_chip)
    left, top = from_chip @ (0.0, 0.0)
    right, bottom = from_chip @ (float(size), float(size))
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    seen = (bounds[:, 0] < right) & (bounds[:, 2] > left) & (bounds[:, 1] < bottom) & (bounds[:, 3] > top)
    if seen.any():
        moved = shapely.transform(polygons[seen], lambda points: apply(to_chip, points))
        shapes = list(zip(moved, classes[seen].tolist(), strict=True))
        with quiet():
            mask = rasterize(shapes, out_shape=(size, size), fill=0, dtype="int32").astype(np.int64)
    if valid is not None:
        mask[~valid] = IGNORE
    return mask


def has_data(images: NDArray[Any], *, nodata: float | None) -> NDArray[np.bool_]:
    """Which pixels of chips have data: those with a band that has.

    Args:
        images: chips as they come from the loader, [..., C, H, W].
        nodata: the loader's `nodata`; None where every sample has data.

    Returns:
        bool [..., H, W].

    """
    if nodata is None:
        return np.ones((*images.shape[:-3], *images.shape[-2:]), bool)
    without = np.isnan(images) if np.isnan(nodata) else images == nodata
    valid: NDArray[np.bool_] = ~without.all(axis=-3)
    return valid
