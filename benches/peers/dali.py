"""NVIDIA DALI's CPU pipeline: its fused decode of a random crop, resize and flip."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from work import (
    BLUR_P,
    BLUR_SIDE,
    BLUR_SIGMA,
    BRIGHTNESS,
    CONTRAST,
    GRAY_P,
    HUE,
    JITTER_P,
    MEAN,
    RATIO,
    SATURATION,
    STD,
    Job,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ["nvidia-dali-cuda120"]


def flipped() -> Any:
    """1 for half of the samples."""
    return fn.random.coin_flip(probability=0.5)


def colored(view: Any) -> Any:
    """MoCo-v2's colour changes; the jitter's operations come in DALI's own order, in one pass."""
    jitter = fn.random.coin_flip(probability=JITTER_P)
    gray = fn.random.coin_flip(probability=GRAY_P)
    blur = fn.random.coin_flip(probability=BLUR_P)

    def drawn(reach: float) -> Any:
        return jitter * fn.random.uniform(range=[-reach, reach])

    view = fn.color_twist(
        view,
        brightness=1 + drawn(BRIGHTNESS),
        contrast=1 + drawn(CONTRAST),
        saturation=(1 + drawn(SATURATION)) * (1 - gray),
        hue=drawn(HUE * 360),
    )
    # A window of one pixel blurs nothing.
    window = blur * (BLUR_SIDE - 1) + 1
    view = fn.gaussian_blur(view, sigma=fn.random.uniform(range=list(BLUR_SIGMA)), window_size=window)
    return fn.crop_mirror_normalize(
        view,
        dtype=types.FLOAT,
        output_layout="HWC",
        mirror=flipped(),
        mean=[255 * m for m in MEAN],
        std=[255 * s for s in STD],
    )


def make(job: Job) -> Callable[[int], Iterator[np.ndarray]]:
    """Passes of one pipeline; a pass ends when its source does, and nothing is prefetched over the end."""
    others = job.others()
    size, area, ratio = [job.size, job.size], list(job.scale), list(RATIO)

    def encoded() -> Iterator[tuple[list[np.ndarray], ...]]:
        order = job.order()
        for start in range(0, job.pairs - job.batch + 1, job.batch):
            rows = order[start : start + job.batch]
            first = [np.fromfile(job.files[row], np.uint8) for row in rows]
            if job.temporal:
                yield first, [np.fromfile(job.files[random.choice(others[row])], np.uint8) for row in rows]
            else:
                yield (first,)

    @pipeline_def(batch_size=job.batch, num_threads=job.threads, device_id=None)
    def pipeline() -> tuple[Any, ...]:
        files = fn.external_source(encoded, num_outputs=2 if job.temporal else 1, cycle="raise")
        if job.temporal:
            views = [
                fn.resize(fn.decoders.image_random_crop(file, random_area=area, random_aspect_ratio=ratio), size=size)
                for file in files
            ]
        else:
            image = fn.decoders.image(files[0])
            views = [
                fn.random_resized_crop(image, size=size, random_area=area, random_aspect_ratio=ratio) for _ in range(2)
            ]
        if job.floats:
            return tuple(colored(view) for view in views)
        return tuple(fn.flip(view, horizontal=flipped()) for view in views)

    made = pipeline()
    made.build()

    def passes(_: int) -> Iterator[np.ndarray]:
        while True:
            try:
                first, second = made.run()
            except StopIteration:
                made.reset()
                return
            yield np.stack([first.as_array(), second.as_array()], axis=1)

    return passes
