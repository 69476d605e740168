"""Reading through rasterio: formats that the core has no decoder for, slower, and one image at a time."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from geossl.data.samples import BITS
from geossl.errors import GeosslError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

_OPENING = threading.Lock()


def read_window(
    path: str | PathLike[str],
    window: tuple[int, int, int, int],
    bands: Sequence[int | None] | None,
    nodata: int | None,
) -> tuple[np.ndarray, bool]:
    """The pixels of a window, as the core gives those of the formats that it reads.

    Args:
        path: File, or what rasterio opens (a URL, a /vsi path).
        window: x, y, width, height, pixels.
        bands: Bands from 0; None among them is a band of zeros. None: all.
        nodata: Value that integer samples without data get; None leaves all as they are. Valid samples of that value
            get the next one. Floats without data are NaN.

    Returns:
        uint8, uint16 or float32 [h, w, C], contiguous; and whether there may be samples without data.

    Raises:
        GeosslError: It cannot be read, or a sample is a complex number.

    """
    x, y, width, height = window
    area: Any = Window(x, y, width, height)
    try:
        with _open(path) as source:
            palette = source.colorinterp == (ColorInterp.palette,)
            wanted = list(range(3 if palette else source.count)) if bands is None else list(bands)
            there = [band for band in wanted if band is not None]
            stored = [1] if palette else [band + 1 for band in there]
            read = source.read(stored, window=area)
            masked = _may_lack(source, stored)
            valid = source.read_masks(stored, window=area) > 0 if masked else np.ones_like(read, bool)
            if palette:
                colors = np.array([source.colormap(1)[value][:3] for value in range(256)], np.uint8)
                read, valid = colors[read[0]].transpose(2, 0, 1)[there], np.repeat(valid, len(there), axis=0)
    except rasterio.errors.RasterioError as e:
        raise GeosslError(f"rasterio: {e}") from e
    if np.iscomplexobj(read):
        raise GeosslError("complex samples are not read")
    integers = read.dtype.name in BITS
    out = np.zeros((len(wanted), height, width), read.dtype if integers else np.float32)
    if not integers:
        read = np.where(valid, read, np.nan).astype(np.float32)
    elif nodata is not None:
        beside = nodata - 1 if nodata == np.iinfo(read.dtype).max else nodata + 1
        read = np.where(valid, np.where(read == nodata, beside, read), nodata).astype(read.dtype)
    out[[k for k, band in enumerate(wanted) if band is not None]] = read
    return np.ascontiguousarray(out.transpose(1, 2, 0)), masked


@contextmanager
def quiet() -> Iterator[None]:
    """No warning of images without a place: the filters of warnings are the process's, and several threads open."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _open(path: str | PathLike[str]) -> Any:
    with quiet():
        return rasterio.open(path)


def _may_lack(source: Any, bands: list[int]) -> bool:
    """Whether samples of the bands, from 1, may be without data. An alpha band that is wanted itself is no mask."""
    alpha = {number for number, color in enumerate(source.colorinterp, 1) if color == ColorInterp.alpha}
    flags = {flag for band in bands for flag in source.mask_flag_enums[band - 1]}
    return MaskFlags.all_valid not in flags and not (MaskFlags.alpha in flags and alpha & set(bands))
