"""Batches on the device: while the network learns from one, the next is copied."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from geossl.phases import phase

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from geossl.data.loader import Batch, Loader


def uploaded(loader: Loader, device: torch.device) -> Generator[Batch]:
    """The rest of the loader's epoch, with the images on the device; the rows stay on the CPU.

    For the CPU, batches pass as they are. For a GPU, one batch is copied ahead, on a stream of its own, so that the
    copy from pinned memory and the computation overlap: the loader's own count of batches is then one ahead of what
    was learnt from. Its memory is free for the next batch as soon as the copy is over.

    Raises:
        UsageError: as the loader; for a GPU one batch earlier.

    """
    with closing(iter(loader)) as batches:
        if device.type == "cpu":
            while (ready := _next(batches)) is not None:
                yield ready
            return
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        coming = _upload(batches, device, side)
        while coming is not None:
            batch, copied = coming
            # Before the batch is handed over, and not when it has been learnt from: who reads a step's loss waits for
            # the step, and a copy that began after that would overlap with nothing.
            coming = _upload(batches, device, side)
            torch.cuda.current_stream(device).wait_event(copied)
            yield batch


@phase("data wait")
def _next(batches: Iterator[Batch]) -> Batch | None:
    return next(batches, None)


def _upload(
    batches: Iterator[Batch], device: torch.device, side: torch.cuda.Stream
) -> tuple[Batch, torch.Event] | None:
    """The next batch, and the event after which it is on the device; None after the last."""
    batch = _next(batches)
    if batch is None:
        return None
    with phase("upload"):
        # The memory that the copy gets may have been an earlier batch's, whose last use was put into the current stream
        # before it was given back.
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            moved = replace(batch.to(device), rows=batch.rows)
            # Let go of here, the loader's memory waits for the copy; after this block, it would wait for the network.
            del batch
            return moved, side.record_event()
