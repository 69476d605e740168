"""Single images, of an index or of none: as a query, and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from geossl.config import CropConfig, LoaderConfig
from geossl.data.headers import read_headers
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.data.table import SCHEMA, content_hash, is_remote
from geossl.device import resolve_device
from geossl.embedding.job import weights_hash
from geossl.embedding.search import Query
from geossl.errors import UsageError
from geossl.evaluate.features import check_bands, extract
from geossl.models.weights import load_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geossl.embedding.file import EmbeddingFile

SIDE = 1024
"""Most pixels of the side of a central square."""
PERCENTILES = (2, 98)
"""Of samples that are not 8 bits: black and white in a picture."""


def query_image(
    file: EmbeddingFile, image: Path, *, run: Path, backbone: str | None = None, device: str = "auto"
) -> Query:
    """An image file, embedded whole as the file's images were.

    Args:
        file: the file that will be searched.
        image: image of any format that an index may have.
        run: what embedded the file: a run's folder, or a file of weights.
        backbone: the model, for weights that do not name it.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: the image or the run is missing or cannot be read, it has other bands than the encoder reads, or
            another encoder made the file's embeddings.

    """
    encoder = load_backbone(run, backbone=backbone)
    wanted, preparation = file.about["model"], encoder.preparation
    if weights_hash(encoder.module) != wanted["weights_sha256"]:
        raise UsageError(
            f"--run {run}: is not the encoder of {file.path} ({wanted['architecture']} of {file.about['run']}): its "
            "features cannot be compared with those"
        )
    index = image_index(image.parent, image.name)
    rows = np.zeros(1, np.int64)
    check_bands(index, rows, encoder, bands=encoder.chosen_bands, run=run)
    target = resolve_device(device)
    found = extract(
        encoder.module.to(target),
        index=index,
        rows=rows,
        **preparation,
        device=target,
        loader=LoaderConfig(bands=encoder.chosen_bands),
        quiet=True,
    )
    vector: NDArray[np.float32] = found.x[0].numpy()
    nowhere = np.empty(0, np.int64)
    return Query(vector=vector, positions=nowhere, lat=np.nan, lon=np.nan, title=str(image))


def image_index(root: Path, path: str, *, box: Sequence[int | None] | None = None, tile: bool = False) -> Index:
    """An index of one image.

    Args:
        root: folder that the path starts from.
        path: the image.
        box: x, y, width and height, pixels; None, or four of them, is the whole image.
        tile: whether the box is a tile of a scene, which has no context.

    Raises UsageError if it cannot be read.
    """
    root = Path(root).resolve()
    headers = read_headers(root, [path], threads=1)
    if headers.rejected:
        raise UsageError(f"{path if is_remote(path) else root / path}: {headers.rejected[0]}")
    values: dict[str, Any] = {"path": [path]} | {name: column.to_pylist() for name, column in headers.columns.items()}
    values |= dict(zip(("box_x", "box_y", "box_w", "box_h"), ([side] for side in box or [None] * 4), strict=True))
    columns = [pa.array(values.get(field.name, [None]), field.type) for field in SCHEMA]
    table = pa.table(columns, schema=SCHEMA)
    return Index(table, root, content_hash(table), boxes="tiles" if tile else "objects")


def central_square(
    index: Index, row: int, *, pack: Path | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int, int]]:
    """The largest central square of a whole image of an index, at most 1024 pixels a side, as `picture` shows it.

    Args:
        index: of whole images.
        row: which one.
        pack: lossless pack that it is read from, in place of its file.

    Returns:
        uint8 [size, size, 3], and the square: left, top and side in pixels of the image.

    Raises UsageError if it cannot be read.
    """
    width, height = (index.column(name)[row].as_py() for name in ("width", "height"))
    side: int = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = index.parts(np.array([row]), np.array([[left, top, side, side]]))
    return picture(square, size=min(side, SIDE), context=False, pack=pack), (left, top, side)


def picture(index: Index, *, size: int, context: bool, pack: Path | None = None) -> NDArray[np.uint8]:
    """The image of an index of one, as its encoder saw it but for the size: uint8 [size, size, 3].

    Red, green and blue where the bands have these names, else the first three; 8 bits as they are, others stretched
    from their 2nd to their 98th percentile; black where there are no data. Of a lossless pack, the image is read there.

    Raises UsageError if it cannot be read.
    """
    names = (index.table["band_names"][0].as_py() or "").lower().split(",")
    bands: int = index.table["bands"][0].as_py()
    rgb = ("red", "green", "blue")
    shown = [names.index(name) for name in rgb] if set(rgb) <= set(names) else [0, 1, 2]
    if bands < 3:
        shown = [0, 0, 0]
    source = Loader(
        index,
        rows=np.zeros(1, np.int64),
        batch=1,
        views=1,
        temporal=False,
        crop=CropConfig(size=size, context=context),
        color=None,
        seed=0,
        train=False,
        loader=LoaderConfig(threads=1, pack=pack),
        slots=2,
    )
    (batch,) = source
    image: NDArray[Any] = batch.images[0, 0].numpy().transpose(1, 2, 0)[:, :, shown]  # a copy: the pixels are lent
    if source.bits == 8:
        return image.astype(np.uint8, copy=False)
    values = image.astype(np.float64)
    values[~np.isfinite(values) | (values == (np.inf if source.nodata is None else source.nodata))] = np.nan
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, PERCENTILES) if len(known) else (0.0, 1.0)
    # An even image stays even: what resampling rounds is no contrast.
    span = max(high - low, 1e-5 * max(abs(low), abs(high)), np.finfo(np.float32).tiny)
    scaled = np.nan_to_num((values - low) / span).clip(0, 1)
    shades: NDArray[np.uint8] = (255 * scaled + 0.5).astype(np.uint8)
    return shades
