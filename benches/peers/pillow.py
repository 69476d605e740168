"""Pillow (or pillow-simd) at its best: a file is opened once, and each view is one `resize` of a box of it.

Without torch and torchvision. Threads, as Pillow decodes and resizes without the GIL.
"""

from __future__ import annotations

import random
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from work import MEAN, STD, Job, colors, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ["numpy"]
SCALE, SHIFT = (1 / (255 * np.array(STD))).astype(np.float32), (-np.array(MEAN) / np.array(STD)).astype(np.float32)


def change(view: Image.Image, operation: str, amount: float) -> Image.Image:
    """One operation of the jitter."""
    if operation == "brightness":
        return ImageEnhance.Brightness(view).enhance(amount)
    if operation == "contrast":
        return ImageEnhance.Contrast(view).enhance(amount)
    if operation == "saturation":
        return ImageEnhance.Color(view).enhance(amount)
    hue, saturation, value = view.convert("HSV").split()
    hue = hue.point([(i + round(amount * 256)) % 256 for i in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def view(image: Image.Image, job: Job, out: np.ndarray) -> None:
    """Write a random view, channels last, to `out`."""
    x, y, w, h = window(*image.size, job.scale)
    made = image.resize((job.size, job.size), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
    if random.random() < 0.5:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if not job.floats:
        out[:] = np.asarray(made)
        return
    drawn = colors()
    for operation, amount in drawn.jitter:
        made = change(made, operation, amount)
    if drawn.gray:
        made = ImageOps.grayscale(made).convert("RGB")
    if drawn.sigma > 0:
        made = made.filter(ImageFilter.GaussianBlur(drawn.sigma))
    np.multiply(np.asarray(made), SCALE, out=out)
    out += SHIFT


def read(path: str) -> Image.Image:
    """The whole image; RGB already, so nothing is converted."""
    image = Image.open(path)
    image.load()
    return image


def make(job: Job) -> Callable[[int], Iterator[np.ndarray]]:
    """Passes of a thread pool, a batch ahead."""
    others = job.others()
    shape = (job.batch, 2, job.size, job.size, 3)
    pool = ThreadPoolExecutor(job.threads) if job.threads > 1 else None

    def fill(batch: np.ndarray, i: int, row: int) -> None:
        image = read(job.files[row])
        view(image, job, batch[i, 0])
        if job.temporal:
            image = read(job.files[random.choice(others[row])])
        view(image, job, batch[i, 1])

    def passes(_: int) -> Iterator[np.ndarray]:
        order = job.order()
        waiting: list[tuple[np.ndarray, list[Future[None]]]] = []
        for start in range(0, job.pairs - job.batch + 1, job.batch):
            batch = np.empty(shape, np.float32 if job.floats else np.uint8)
            rows = order[start : start + job.batch]
            if pool is None:
                for i, row in enumerate(rows):
                    fill(batch, i, row)
                yield batch
                continue
            waiting.append((batch, [pool.submit(fill, batch, i, row) for i, row in enumerate(rows)]))
            if len(waiting) == 2:
                yield done(waiting.pop(0))
        while waiting:
            yield done(waiting.pop(0))

    return passes


def done(made: tuple[np.ndarray, list[Future[None]]]) -> np.ndarray:
    """The batch, once its samples are there."""
    batch, samples = made
    for sample in samples:
        sample.result()
    return batch
