"""The settings of `geossl transfer`. A field's docstring is its help text."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic evaluates annotations when the program runs
from typing import Any, Literal

from pydantic import Field, ValidationError, create_model, field_validator

from geossl.config import Precision, Section, explain, split_names
from geossl.errors import UsageError

Task = Literal["detect", "segment"]
DEFAULTS: dict[str, dict[str, Any]] = {
    # The paper's: RetinaNet on chips of 416 pixels, Adam with 1e-5, batches of 4. Its epochs are not published.
    "detect": {"size": 416, "lr": 1e-5, "batch": 4, "epochs": 30, "chips": 100},
    # Those of the code that the paper's PSANet is from (hszhao/semseg): SGD with 0.01, batches of 16, 100 windows of an
    # image all in all.
    "segment": {"size": 385, "lr": 1e-2, "batch": 16, "epochs": 25, "chips": 4},
}
"""What a task has for settings that are not given."""


class TransferConfig(Section):
    """What is trained, from which weights, and how."""

    task: Task
    """detect: boxes of objects; segment: the class of every pixel."""
    run: Path | None = None
    """Folder of a run or an exported one, a checkpoint or weights in a form of docs/weights.md, or imagenet."""
    data: Path
    """Index of whole images, with its objects beside it (`geossl data xview`, `geossl data spacenet`)."""
    out: Path | None = None
    """Folder of the result; by default the task's name in the run's folder, with `-scratch` or `-frozen` after it."""
    from_scratch: bool = False
    """Begin with random weights, the baseline: the model and the normalisation are the run's, or without a run those of
    --backbone."""
    backbone: str | None = None
    """The model, for a file that does not name it, or without a run: resnet50, timm/convnext_tiny, ..."""
    frozen: bool = False
    """Leave the encoder's weights as they are, and train what is on it."""
    head: Literal["pspnet", "psanet"] = "pspnet"
    """segment: what is on the encoder: PSPNet's pyramid pooling, or the point-wise attention of PSANet, the paper's."""
    size: int | None = Field(None, ge=32, le=2048)
    """Side of the windows of an image that the network sees, pixels; by default 416 to detect, 385 to segment
    (8 n + 1 fits the maps of a ResNet best; a vision transformer takes a multiple of its patch)."""
    chips: int | None = Field(None, ge=1)
    """Most windows of an image that are trained on, drawn at random; by default 100 to detect, 4 to segment."""
    overlap: float = Field(0.25, ge=0, lt=1)
    """Share of a window that neighbours share where a whole image is predicted."""
    split_train: str = "train"
    """Split that is trained on."""
    split_test: str = "val"
    """Split that is scored."""
    bands: tuple[str, ...] | None = None
    """Bands that the network sees, by name (red,green,blue,nir) or by number from 1, in that order; by default those
    that the run chose, else all. Weights for RGB are spread over other bands where these are given."""
    labels: float = Field(100, gt=0, le=100)
    """Per cent of the training images that are used, at least one."""
    lr: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Learning rate at the start; by default 1e-5 (Adam, constant) to detect, 0.01 (SGD, falling as a polynomial) to
    segment. What is new on the encoder has ten times as much to segment."""
    batch: int | None = Field(None, ge=2)
    """Windows a step, over all processes; by default 4 to detect, 16 to segment."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the windows; by default 30 to detect, 25 to segment."""
    bn: Literal["eval", "train"] | None = None
    """Batch normalisation of the encoder: `eval` keeps the statistics of the weights, `train` takes each batch's own.
    By default eval to detect, where batches are small, train to segment, and train with --from-scratch."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability that a window is mirrored left to right."""
    precision: Precision = "fp32"
    """Numbers that the network computes with (autocast); weights and the loss stay float32."""
    save_steps: int = Field(0, ge=0)
    """Save a checkpoint every so many steps; 0 is at the end of every epoch only."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of everything random."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = Field(0, ge=0, le=1024)
    """Decoding threads; 0 is one for every core but one."""
    root: Path | None = None
    """Folder that the index's paths start from, if the images have moved."""
    pack: Path | None = None
    """Lossless pack of the images (`geossl data pack`), which is read in their place."""

    _split_bands = field_validator("bands", mode="before")(split_names)

    @property
    def folder(self) -> Path:
        """Where the result is written. Raises UsageError where neither `out` nor `run` tells."""
        if self.out is not None:
            return self.out
        if self.run is None:
            raise UsageError("--out: not given; without a run there is no folder that it could be in")
        name = self.task + ("-scratch" if self.from_scratch else "") + ("-frozen" if self.frozen else "")
        return (self.run if self.run.is_dir() else self.run.parent) / name

    def settled(self) -> TransferConfig:
        """The settings with everything decided. Raises UsageError, naming every fault, where they do not fit."""
        faults = []
        if self.run is None and not (self.from_scratch and self.backbone):
            faults.append("no run to begin with: give one, or --from-scratch and --backbone")
        if self.from_scratch and self.frozen:
            faults.append("--frozen: would leave random weights as they are; leave out --from-scratch")
        if self.task == "detect" and self.head != TransferConfig.model_fields["head"].default:
            faults.append("--head: is for segment")
        if faults:
            raise UsageError("; ".join(faults))
        given = {name: value for name, value in DEFAULTS[self.task].items() if getattr(self, name) is None}
        bn = self.bn or ("train" if self.from_scratch or (self.task == "segment" and not self.frozen) else "eval")
        return self.model_copy(update={**given, "out": self.folder, "bn": bn})


def options_model(task: Task) -> type[Section]:
    """`TransferConfig` without `run` and `task`, which a command line knows. Unset fields stay unset."""
    left_out = {"run", "task"} | ({"head"} if task == "detect" else set())
    fields: dict[str, Any] = {k: (f.annotation, f) for k, f in TransferConfig.model_fields.items() if k not in left_out}
    return create_model("Options", __base__=Section, **fields)


def make_config(**settings: Any) -> TransferConfig:
    """Check the settings, each by itself. Raises UsageError naming every fault."""
    try:
        return TransferConfig.model_validate(settings)
    except ValidationError as e:
        raise UsageError(explain(e, known=list(TransferConfig.model_fields))) from e
