"""The settings of `geossl finetune`. A field's docstring is its help text."""

from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003 - pydantic evaluates annotations when the program runs
from typing import Any, Literal

from pydantic import Field, ValidationError, create_model, field_validator

from geossl.config import Precision, Section, explain, split_names
from geossl.errors import UsageError


class FinetuneConfig(Section):
    """What is trained, from which weights, and how."""

    run: Path | None = None
    """Folder of a run or an exported one, a checkpoint or weights in a form of docs/weights.md, or imagenet."""
    data: Path
    """Index with categories."""
    out: Path | None = None
    """Folder of the result; by default `finetune` in the run's folder, `scratch` with --from-scratch."""
    from_scratch: bool = False
    """Begin with random weights, the supervised baseline: the model, its size and the normalisation are the run's, or
    without a run those of --backbone."""
    backbone: str | None = None
    """The model, for a file that does not name it, or without a run: resnet50, timm/vit_small_patch16_224, ..."""
    size: int | None = Field(None, ge=16, le=2048)
    """Side of the square that the network sees, pixels, without a run; by default 224. A run has its own."""
    split_train: str = "train"
    """Split that is trained on, or several with commas between."""
    split_test: str = "val"
    """Split that is scored, or several: val,test. An index without splits is divided by place, 80 to 20."""
    bands: tuple[str, ...] | None = None
    """Bands that the network sees, by name (red,green,blue,nir) or by number from 1, in that order; by default those
    that the run chose, else all. Weights for RGB are spread over other bands where these are given."""
    labels: float = Field(100, gt=0, le=100)
    """Per cent of the training places that are used: as many of every category, at least one."""
    lr: float | Literal["auto"] = 1e-3
    """Learning rate at the start, for the backbone and the classifier; the published one by default. `auto` tries a few
    in short runs, on training places that are set aside."""
    head_lr: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Another learning rate for the classifier; by default that of the backbone, as published."""
    weight_decay: float = Field(0, ge=0, allow_inf_nan=False)
    """Weight decay; none as published."""
    bn: Literal["eval", "train"] | None = None
    """Batch normalisation: `eval` keeps the statistics of the weights, as published, `train` takes each batch's own. By
    default eval, and with --from-scratch, where the statistics are of no images, train."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip, beside the random crop. The published script has none: 0."""
    batch: int = Field(256, ge=2)
    """Images a step; a little fewer where so fewer images of an epoch are left over."""
    epochs: int = Field(100, ge=1)
    """Passes over the images. The learning rate falls to a tenth after 60 % and 80 % of them."""
    precision: Precision = "fp32"
    """Numbers that the network computes with (autocast); weights and the loss stay float32."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the classifier, of the order and crops, of the labels that are used, and of random weights."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = Field(0, ge=0, le=1024)
    """Decoding threads; 0 is one for every core but one."""
    root: Path | None = None
    """Folder that the index's paths start from, if the images have moved."""
    pack: Path | None = None
    """Pack of the images (`geossl data pack`), which is read in their place."""

    _split_bands = field_validator("bands", mode="before")(split_names)

    @field_validator("lr", mode="before")
    @classmethod
    def _positive(cls, lr: Any) -> float | str:
        """One message in place of one for each of the two types."""
        try:
            number = math.nan if lr == "auto" else float(lr)
        except (TypeError, ValueError):
            number = 0
        if number <= 0 or math.isinf(number) or (math.isnan(number) and lr != "auto"):
            raise ValueError("must be a number above 0, or auto")
        return "auto" if lr == "auto" else number

    @property
    def folder(self) -> Path:
        """Where the result is written. Raises UsageError where neither `out` nor `run` tells."""
        if self.out is not None:
            return self.out
        if self.run is None:
            raise UsageError("--out: not given; without a run there is no folder that it could be in")
        return (self.run if self.run.is_dir() else self.run.parent) / ("scratch" if self.from_scratch else "finetune")

    def settled(self) -> FinetuneConfig:
        """The settings with `out` and `bn` decided. Raises UsageError, naming every fault, where they do not fit."""
        faults = []
        if self.run is None and not (self.from_scratch and self.backbone):
            faults.append("no run to begin with: give one, or --from-scratch and --backbone")
        if self.run is not None and self.size is not None:
            faults.append("--size: is for --from-scratch without a run; a run has its own size")
        if faults:
            raise UsageError("; ".join(faults))
        return self.model_copy(update={"out": self.folder, "bn": self.bn or ("train" if self.from_scratch else "eval")})


def options_model() -> type[Section]:
    """`FinetuneConfig` without `run`, which a command line takes as its argument. Unset fields stay unset."""
    fields: dict[str, Any] = {k: (f.annotation, f) for k, f in FinetuneConfig.model_fields.items() if k != "run"}
    return create_model("Options", __base__=Section, **fields)


def make_config(**settings: Any) -> FinetuneConfig:
    """Check the settings, each by itself. Raises UsageError naming every fault."""
    try:
        return FinetuneConfig.model_validate(settings)
    except ValidationError as e:
        raise UsageError(explain(e, known=list(FinetuneConfig.model_fields))) from e
