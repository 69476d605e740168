"""`geossl probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def probe(
    run: Path,
    /,
    *,
    data: Path,
    backbone: str | None = None,
    split_train: str = "train",
    split_test: str = "val",
    lr: float | None = None,
    crops: Literal["center", "random"] = "center",
    random: bool = True,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> None:
    """Evaluate a trained encoder, frozen: linear classification and nearest neighbours.

    Reports top-1, top-5 and macro-F1 per image, and per place by the sum of its images' probabilities, beside an
    encoder with random weights. Nothing is chosen on the test images.

    Example: `geossl probe runs/demo --data planet.parquet`

    Parameters
    ----------
    run
        Folder of a run or an exported one, a checkpoint in one of the forms of docs/weights.md, weights of torchvision
        or timm (.pth, .safetensors), or imagenet, torchvision's weights in its cache.
    data
        Index with categories.
    backbone
        The model, for a file that does not name it: resnet50, timm/vit_small_patch16_224, ...
    split_train
        Split that the classifiers learn from.
    split_test
        Split that is scored. An index without splits is divided by place, 80 to 20.
    lr
        Learning rate of the linear classifier; by default chosen on held-out training places.
    crops
        Crops of the training images: `random` is the paper's protocol to the letter, a new square of each box in every
        epoch, and reads the images a hundred times; `center` reads them once. For square boxes they are the same.
    random
        Also evaluate an encoder with random weights.
    seed
        Seed of the classifier and of the split.
    device
        auto, cpu, cuda or cuda:N.
    threads
        Decoding threads; 0 is one for every core but one.
    root
        Folder that the index's paths start from, if the images have moved.
    pack
        Pack of the images (`geossl data pack`), which is read in their place.
    """
    import sys

    from rich.console import Console

    from geossl.evaluate.probe import probe as run_probe

    report = run_probe(
        run,
        data=data,
        backbone=backbone,
        split_train=split_train,
        split_test=split_test,
        random=random,
        lr=lr,
        crops=crops,
        seed=seed,
        device=device,
        threads=threads,
        root=root,
        pack=pack,
    )
    if sys.stdout.isatty():
        Console().print(report.table())
        for note in report.notes:
            print(note)
    else:
        print("\n".join(report.lines()))
