"""SPDL: threads around FFmpeg, which decodes an image once and makes both of its views in one filter graph."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import spdl.io
from spdl.pipeline import PipelineBuilder

from work import Job, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

PACKAGES = ["spdl", "spdl-io"]


def view(job: Job, width: int, height: int) -> str:
    """FFmpeg's filters for a random view. Its scaler's bilinear is antialiased."""
    x, y, w, h = window(width, height, job.scale)
    flip = ",hflip" if random.random() < 0.5 else ""
    return f"crop={w}:{h}:{x}:{y}:exact=1,scale={job.size}:{job.size}:flags=bilinear{flip}"


def make(job: Job) -> Callable[[int], Iterator[np.ndarray]]:
    """Passes of a pipeline: decode in `threads` threads, batches put together as frames arrive."""
    if job.floats:
        raise NotImplementedError("SPDL has no colour changes of its own")
    others = job.others()

    def load(row: int) -> list[Any]:
        packets = spdl.io.demux_image(job.files[row])
        size = packets.width, packets.height
        if not job.temporal:
            both = f"split[a][b];[a]{view(job, *size)}[c];[b]{view(job, *size)}[d];[c][d]vstack,format=rgb24"
            return [spdl.io.decode_packets(packets, filter_desc=both)]
        other = spdl.io.demux_image(job.files[random.choice(others[row])])
        return [
            spdl.io.decode_packets(packets, filter_desc=f"{view(job, *size)},format=rgb24"),
            spdl.io.decode_packets(other, filter_desc=f"{view(job, other.width, other.height)},format=rgb24"),
        ]

    def batched(samples: list[list[Any]]) -> np.ndarray:
        frames = [frame for sample in samples for frame in sample]
        pixels: np.ndarray = spdl.io.to_numpy(spdl.io.convert_frames(frames))
        return pixels.reshape(len(samples), 2, job.size, job.size, 3)

    def passes(_: int) -> Iterator[np.ndarray]:
        pipeline = (
            PipelineBuilder()
            .add_source(job.order())
            .pipe(load, concurrency=job.threads)
            .aggregate(job.batch, drop_last=True)
            .pipe(batched)
            .add_sink(2)
            .build(num_threads=job.threads)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return passes
