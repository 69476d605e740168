"""`geossl probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from cyclopts import Parameter

from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geossl.evaluate.baselines import Baseline
    from geossl.evaluate.classifiers import Method


def probe(
    run: Path,
    /,
    *,
    data: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    backbone: str | None = None,
    split_train: str = "train",
    split_test: str = "val",
    bands: str | None = None,
    methods: str = "linear,knn",
    labels: str = "100",
    baselines: str = "random",
    lr: float | None = None,
    crops: Literal["center", "random"] = "center",
    details: bool = False,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> None:
    """Evaluate a trained encoder, frozen: linear classification and nearest neighbours.

    Reports top-1, top-5, F1 and calibration per image, and per place by the sum of its images' probabilities, with 95 %
    intervals over places, beside an encoder with random weights. Nothing is chosen on the test images. The figures are
    written to probe.json in the run's folder or --out; predictions, tables and plots to the folder probe beside it.

    Examples: `geossl probe runs/demo --data planet.parquet`,
    `geossl probe runs/demo --data planet.parquet --methods linear,knn,logistic --labels 1,10,100 --details`

    Parameters
    ----------
    run
        Folder of a run or an exported one, a checkpoint in one of the forms of docs/weights.md, weights of torchvision
        or timm (.pth, .safetensors), or imagenet, torchvision's weights in its cache.
    data
        Index with categories.
    out
        Folder of the report; by default the run's, or that of the file.
    backbone
        The model, for a file that does not name it: resnet50, timm/vit_small_patch16_224, ...
    split_train
        Split that the classifiers learn from, or several with commas between.
    split_test
        Split that is scored, or several: val,test. An index without splits is divided by place, 80 to 20.
    bands
        Bands of the images that the encoder gets, by name (red,green,blue) or number, in its order; by default those
        that its run chose, else all.
    methods
        Classifiers, with commas between: linear (the paper's protocol), knn (nearest neighbours), logistic (logistic
        regression).
    labels
        Per cent of the training places whose labels are used, with commas between: 1,10,100. Each class keeps a place
        at least.
    baselines
        Encoders beside it, with commas between: random (its architecture with random weights), statistics (of the
        images' values), random_conv (random convolutional features); or none.
    lr
        Learning rate of the linear classifier; by default chosen on held-out training places.
    crops
        Crops of the training images: `random` is the paper's protocol to the letter, a new square of each box in every
        epoch, and reads the images a hundred times; `center` reads them once. For square boxes they are the same.
    details
        Also show places put together in other ways, results by country, continent and distance to the training places
        (as far as the index knows them), and the hardest classes.
    seed
        Seed of the classifiers, the split, the baselines and the intervals.
    device
        auto, cpu, cuda or cuda:N.
    threads
        Decoding threads; 0 is one for every core but one.
    root
        Folder that the index's paths start from, if the images have moved.
    pack
        Pack of the images (`geossl data pack`), which is read in their place.
    """
    shares = _shares(labels)

    from geossl.evaluate.probe import probe as run_probe
    from geossl.evaluate.probe import report_folder

    report = run_probe(
        run,
        data=data,
        out=out,
        backbone=backbone,
        split_train=split_train,
        split_test=split_test,
        bands=None if bands is None else _words(bands),
        # What is not known is told by the probe.
        methods=cast("Sequence[Method]", _words(methods)),
        labels=shares,
        baselines=cast("Sequence[Baseline]", [] if baselines == "none" else _words(baselines)),
        lr=lr,
        crops=crops,
        seed=seed,
        device=device,
        threads=threads,
        root=root,
        pack=pack,
    )
    print("\n".join([*report.lines(), *(report.details if details else [])]))
    folder = report_folder(run, out)
    print(f"-> {folder / 'probe.json'}, {folder / 'probe'}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _shares(text: str) -> list[float]:
    try:
        return [float(word) for word in _words(text)]
    except ValueError as e:
        raise UsageError(f"--labels {text}: give shares of the training places in per cent, as 1,10,100") from e
