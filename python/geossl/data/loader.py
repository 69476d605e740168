"""Batches of views from an index: an iterable in the shape of a DataLoader, filled by threads in Rust.

The bytes of batch k depend on (index, seed, epoch, k, options) alone: any number of threads or ranks, and any
restart, gives the same. See `Loader`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import torch

from geossl import _core
from geossl.config import PairsConfig
from geossl.data import uploads
from geossl.data.ground import ground_frames
from geossl.data.pack import Pack
from geossl.data.pairs import pair_options, queries
from geossl.data.samples import choose_samples, foreign_rows
from geossl.data.stats import LoaderStats, count_reasons
from geossl.data.table import image_boxes
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import pyarrow as pa

    from geossl.config import ColorConfig, CropConfig, LoaderConfig
    from geossl.data.index import Index

WAIT_SECS = 0.05
"""How long one wait for a batch lasts before Python looks at its signals."""
POLL_SECS = 0.001
"""The same while copies are under way whose memory the next batches need."""

RATIO = (3 / 4, 4 / 3)
"""Width over height of a random crop, from and to: RandomResizedCrop's."""
_DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}


@dataclass(frozen=True)
class Batch:
    """One batch, or one rank's part of it.

    The pixels are the loader's memory, lent: it is refilled once no tensor uses it any more. Copy what you keep.
    """

    images: torch.Tensor
    """uint8, uint16 or, of images of any other type, float32 [views, B, C, H, W]; float32 too where the loader
    normalises. channels_last in memory. Samples without data have the value `Loader.nodata`."""
    rows: torch.Tensor
    """int64 [views, B]: the index's row that each view was cut from."""
    color: torch.Tensor
    """float32 [views, B, 7]: order, brightness, contrast, saturation, hue, gray, sigma; see `geossl.augment`."""
    gains: torch.Tensor
    """float32 [views, B, C]: factor of each band; 0 where an image lacks the band or it was dropped."""
    uploads: list[Any] | None = field(default=None, repr=False, compare=False)
    """Events of the copies from pinned memory that `to` made; None where the memory is not pinned."""

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> Batch:
        """The batch on another device, but for `color` and `gains`, which `geossl.augment` wants on the CPU.

        Args:
            device: Where to.
            non_blocking: Do not wait for copies out of pinned memory. The loader does, before it refills it, also
                where another stream is the current one by then. Copies to the CPU are always waited for.

        """
        device = torch.device(device)
        non_blocking = non_blocking and device.type != "cpu"
        images = self.images.to(device, non_blocking=non_blocking)
        if self.uploads is not None and device.type != "cpu":
            self.uploads.append(uploads.record_event(device))
        rows = self.rows.to(device, non_blocking=non_blocking)
        return Batch(images=images, rows=rows, color=self.color, gains=self.gains)


class Loader:
    """Views of an index's images, in batches.

    With `train`, an epoch is one pass over `rows` in a random order, each the first view once; crops and flips are
    random, and the last batch is dropped if it is short. With `temporal`, later views show other dates of the
    first one's place, as `pairs` says: different ones, until all that are allowed were drawn. Without `train`, rows
    come in order, resized and cut centrally, and every row comes.

    Args:
        index: The images.
        rows: int64 rows of the index to read.
        batch: Images of a global batch.
        views: Views of each image.
        temporal: Take later views from other dates of the place.
        pairs: Which dates may be a pair, and how one is drawn; by default any, uniformly, and an image without another
            date gives crops of itself. With `alone` leave_out, `rows` without an allowed date are left out.
        crop: How views are cut.
        color: Ranges of the colour parameters that come with each view; None for parameters that change nothing.
        normalize: (mean, standard deviation), one value a band, of values scaled to 0..1; of floats, which are not
            scaled, in the data's own units. With it the loader's threads
            do what `geossl.augment.augment` does with a batch, for machines without a GPU: they change the colours by
            the parameters, blur and normalise, and the images are float32. A state does not know about it: the
            images and their parameters are the same, so a run may go on where the device does this work, or back.
        seed: Seed of every draw.
        train: Random order and crops, or rows in order and central crops.
        cut: Which part of an image a view shows, if not what `train` says: `random_resized` is RandomResizedCrop and
            a flip, `random` Resize(crop.size) and RandomCrop (the linear protocol's), `center` Resize and CenterCrop.
        loader: Threads, limits and what an unreadable image does.
        slots: Batches held in memory: one in use, the others being filled.
        max_failures: Share of the images that may be unreadable before it is an error in any case.
        pin: Allocate the batches' memory pinned, for uploads to a GPU. It is refilled only when the copies are over:
            those of `Batch.to` on any stream, and others made on the stream that is current when the batch is let go.
        rank: This process among `world`; it gets its contiguous part of every batch.
        world: Processes that share the batch; must divide it.

    Raises:
        UsageError: For images of several kinds, temporal views without places, a batch larger than the data or not
            divisible by `world`, a mean or deviation that does not fit the bands, a pack that lacks an image or does
            not fit `crop`.

    >>> from pathlib import Path
    >>> from geossl import ColorConfig, CropConfig, Index, Loader, LoaderConfig
    >>> index = Index.read(Path("planet.parquet"))
    >>> loader = Loader(
    ...     index, rows=index.rows(split="train"), batch=8, views=2, temporal=True, seed=0, train=True,
    ...     crop=CropConfig(size=32), color=ColorConfig(), loader=LoaderConfig(),
    ... )
    >>> batch = next(iter(loader))
    >>> query, key = batch.images  # two dates of each place
    >>> query.shape, query.dtype
    (torch.Size([8, 3, 32, 32]), torch.uint8)
    >>> query_place, key_place = index.places[batch.rows]
    >>> bool((query_place == key_place).all())
    True

    """

    def __init__(
        self,
        index: Index,
        *,
        rows: np.ndarray,
        batch: int,
        views: int,
        temporal: bool,
        pairs: PairsConfig | None = None,
        crop: CropConfig,
        color: ColorConfig | None,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        seed: int,
        train: bool,
        cut: Literal["random_resized", "random", "center"] | None = None,
        loader: LoaderConfig,
        slots: int = 4,
        max_failures: float = 0.01,
        pin: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        pairs = pairs or PairsConfig()
        if temporal:
            rows = queries(index, rows, pairs)
        if len(rows) == 0:
            raise UsageError("no images are left to load")
        if train and len(rows) < batch:
            raise UsageError(f"a batch of {batch} is more than the {len(rows)} images; set --batch {len(rows)} or less")
        if world < 1 or not 0 <= rank < world or batch % world:
            raise UsageError(f"a batch of {batch} cannot be shared by {world} processes (this one is {rank})")
        self._rows = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64))
        table = index.table.take(rows)
        samples = choose_samples(table, loader.bands)
        self.bands, self.bits, self.nodata = samples.bands, samples.bits, samples.nodata
        """Bands of a view; bits of a sample, 8, 16 or (floats) 32; and the value of samples without data, None where
        every sample has data."""
        self.normalizes = normalize is not None
        """Whether views come with their colours changed, and normalised."""
        self.band_names = samples.names
        """Names of the bands, where the index knows them."""
        if normalize is not None:
            _check_normalize(*normalize, bands=self.bands)
        self.size, self.batch, self.seed, self.epoch = crop.size, batch, seed, 0
        self._consumed = 0
        self._index_hash = index.content_hash
        part = batch // world
        shape = (views, part, crop.size, crop.size, self.bands)
        # A substitute could stand for any image of the set, but an evaluation must not count one image for another.
        on_error = "skip" if loader.on_error == "substitute" and not train else loader.on_error
        color_options = _color_options(color, crop.size) if color is not None and train else None
        cut = cut or ("random_resized" if train else "center")
        pack = None if loader.pack is None else Pack.read(loader.pack)
        boxes = image_boxes(table)
        places = np.ascontiguousarray(index.places[rows], dtype=np.int32)
        if index.boxes == "tiles":
            crop = crop.model_copy(update={"context": False})  # which is for objects, and would reach into other tiles
        located = None
        if pack is not None:
            pack.check(crop)
            located = pack.locate(table["path"], boxes)
            if pack.form.short_side is not None:
                if crop.aligned is not None:
                    raise UsageError(f"crop.aligned: {pack.folder} was resized, so its pixels have lost their ground")
                boxes = np.zeros_like(boxes)  # what was packed is the box
        self._raises = on_error == "raise"
        options: dict[str, Any] = {
            "rows": hashlib.blake2b(self._rows.numpy().tobytes(), digest_size=16).hexdigest(),
            "batch": batch,
            "views": views,
            "pairs": pairs.model_dump(mode="json") if temporal else None,
            "seed": seed,
            "train": train,
            "cut": cut,
            "crop": _crop_options(crop),
            "color": color_options,
            "bands": loader.bands,
            "on_error": on_error,
            # A lossless pack gives the files' very batches, so that a run may go from one to the other.
            "pack": None if pack is None or pack.form.short_side is None else asdict(pack.form),
        }
        self._options_hash, self._careful_hash = (_digest(options | {"on_error": how}) for how in (on_error, "raise"))
        dtype = _DTYPES[self.bits] if normalize is None else torch.float32
        # Allocated by torch, so that they are pinned where uploads need it; filled by Rust's threads.
        memory = [torch.empty(shape, dtype=dtype, pin_memory=pin) for _ in range(slots)]
        self._shape, self._dtype = shape, dtype
        self._uploads = uploads.Uploads(memory) if pin else None
        self._slots = slots
        self._core = _core.Loader(
            paths=[index.full_path(path) for path in table["path"].to_pylist()],
            pack=located,
            foreign=foreign_rows(table) if pack is None else None,
            boxes=boxes,
            pairs=pair_options(table, places, pairs) if temporal else None,
            views=views,
            seed=seed,
            shuffle=train,
            cut=cut,
            crop=_crop_options(crop),
            color=color_options,
            normalize=normalize,
            samples=samples.options(),
            align=_align(index, table, places, crop) if crop.aligned is not None and temporal else None,
            max_image_bytes=loader.max_image_mib << 20,
            options={
                "batch": batch,
                "rank": rank,
                "world": world,
                "threads": loader.threads,
                "on_error": on_error,
                "max_failures": max_failures,
            },
            slots=[slot.view(torch.uint8).view(-1).numpy() for slot in memory],
            may_refill=None if self._uploads is None else self._uploads.may_refill,
        )
        self.threads: int = self._core.threads
        """Decoding threads."""
        slot_bytes = memory[0].numel() * memory[0].element_size()
        self.memory_bound = slots * slot_bytes + self.threads * self._core.thread_bytes
        """Bytes that the loader may use at most: its slots, and for each thread `loader.max_image_mib` for a file, as
        much for decoding it (twice as much where crops may be drawn again for want of data), 64 MiB for small things
        and, with `normalize`, two views. Pages of a pack that the system
        keeps in memory are not counted: it takes them back when it needs them."""

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._core)

    def __iter__(self) -> Generator[Batch]:
        """The rest of the current epoch. Leaving early stops the threads; the next iteration goes on from there.

        Raises:
            UsageError: For an image that cannot be read, named, as `loader.on_error` says; for too many of them; and
                when the consumer holds every slot.
            KeyboardInterrupt: On Ctrl-C, also while waiting.
        """
        if self._consumed >= len(self):
            self.set_epoch(self.epoch + 1)
        try:
            self._core.start(self.epoch, self._consumed)
        except ValueError as e:
            raise UsageError(str(e)) from e
        try:
            while (made := self._next()) is not None:
                self._consumed += 1
                yield self._batch(made)
        finally:
            self._core.stop()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch (counted from 0)."""
        self.epoch, self._consumed = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: {seed, epoch, batches consumed, index hash, options hash}."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "batches": self._consumed,
            "index": self._index_hash,
            "options": self._options_hash,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` stands, in O(1).

        The state may be of a loader that raises where this one substitutes or skips: both give the same up to there.

        Raises:
            UsageError: If the state belongs to other data or options, whose batches would differ.
        """
        own = self.state_dict()
        if state.get("options") == self._careful_hash:
            own["options"] = self._careful_hash
        wrong = [key for key in ("seed", "index", "options") if state.get(key) != own[key]]
        if wrong:
            raise UsageError(f"the loader's state is of another {' and '.join(wrong)}: its batches would differ")
        self.epoch, self._consumed = int(state["epoch"]), int(state["batches"])

    def stats(self) -> LoaderStats:
        """Counters since the loader was made; two readings make those of the time between, see `since`."""
        failures = count_reasons(reason for _, reason in self.failures())
        return LoaderStats(**self._core.stats(), slots=self._slots, failures=failures)

    def failures(self) -> list[tuple[str, str]]:
        """The images that could not be read so far: (path, reason), by path."""
        return [(str(path), reason) for path, reason in self._core.failures()]

    def __reduce__(self) -> NoReturn:
        raise UsageError("a loader has threads and cannot be sent to another process: make it in the child")

    def _next(self) -> dict[str, Any] | None:
        try:
            while True:
                copying = self._uploads is not None and self._give_back(self._uploads)
                made = self._core.next(wait_secs=POLL_SECS if copying else WAIT_SECS, coming=copying)
                if made != {}:
                    return made
        except (OSError, ValueError) as e:
            unreadable = self._raises and self._core.failures()
            hint = "; to go on without it: --loader.on_error substitute" if unreadable else ""
            raise UsageError(f"{e}{hint}") from e

    def _give_back(self, held: uploads.Uploads) -> bool:
        """Give back the slots whose copies are over. Whether there are others."""
        for slot in held.completed():
            self._core.release(slot)
        return held.waiting

    def _batch(self, made: dict[str, Any]) -> Batch:
        views, samples = self._shape[0], made["samples"]
        copies = None if self._uploads is None else self._uploads.lend(made["slot"])
        # Only the storage holds the lease: when the last tensor that uses it is gone, the slot is refilled.
        images = torch.frombuffer(made.pop("lease"), dtype=self._dtype).view(self._shape)[:, :samples]
        rows = torch.from_numpy(made["rows"]).view(views, samples)
        color = torch.from_numpy(made["color"]).view(views, samples, -1)
        gains = torch.from_numpy(made["gains"]).view(views, samples, -1)
        valid = torch.from_numpy(made["valid"])
        if not bool(valid.all()):
            # torch indexes uint16 on no device, but bytes on all.
            kept = valid.nonzero().squeeze(1)
            images = images.view(torch.uint8)[:, kept].view(self._dtype)
            rows, color, gains = rows[:, kept], color[:, kept], gains[:, kept]
        images = images.permute(0, 1, 4, 2, 3)
        return Batch(images=images, rows=self._rows[rows], color=color, gains=gains, uploads=copies)


def _digest(options: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(options, sort_keys=True).encode(), digest_size=16).hexdigest()


def _align(index: Index, table: pa.Table, places: np.ndarray, crop: CropConfig) -> dict[str, Any]:
    """What the core needs to show the same ground. Raises UsageError where no image has a georeference."""
    frames = ground_frames(table, places)
    if np.isnan(frames).all():
        raise UsageError(
            f"crop.aligned: the images of {index.source or 'the index'} have no georeference; "
            "index GeoTIFFs, or leave crop.aligned out"
        )
    sizes = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], 1).astype(np.int32)
    return {"frames": frames, "sizes": np.ascontiguousarray(sizes), "jitter": crop.aligned}


def _check_normalize(mean: Sequence[float], std: Sequence[float], *, bands: int) -> None:
    if len(mean) != bands or len(std) != bands:
        raise UsageError(
            f"normalize: {len(mean)} means and {len(std)} deviations for images of {bands} bands; give one a band"
        )
    if not all(value > 0 for value in std):
        raise UsageError(f"normalize: a standard deviation must be above 0, not {min(std)}")


def _crop_options(crop: CropConfig) -> dict[str, Any]:
    """The settings in the form of the core, which states of earlier versions are hashed over: hence `jitter`."""
    aligned = {"aligned": crop.aligned is not None, "jitter": 0.1 if crop.aligned is None else crop.aligned}
    return crop.model_dump() | {"ratio": RATIO} | aligned


def _color_options(color: ColorConfig, size: int) -> dict[str, Any]:
    """The random part of the settings, with the blur in pixels of a view."""
    jitter = dict(zip(("jitter_p", "brightness", "contrast", "saturation", "hue"), color.jitter, strict=True))
    blur_p, low, high = color.blur
    band_jitter, band_dropout = color.bands
    return jitter | {
        "gray_p": color.gray_p,
        "blur_p": blur_p,
        "blur_sigma": (low * size / 224, high * size / 224),
        "band_jitter": band_jitter,
        "band_dropout": band_dropout,
    }
