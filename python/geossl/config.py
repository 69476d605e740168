"""The settings of a training run. A field's docstring is its help text.

A run's settings are merged from recipes (shipped YAML), the user's YAML files and the command line,
in that order, then checked together: every fault is reported at once, with a suggestion for typos.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from geossl.errors import UsageError
from geossl.renamed import explain_earlier

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0)]
Hue = Annotated[float, Field(ge=0, le=0.5)]
BandFactor = Annotated[float, Field(ge=0, lt=1)]
Arm = Literal["moco", "tp", "geo", "geo_tp", "geoloc", "supervised"]
GeoTarget = Literal["clusters", "hierarchy", "soft", "vector"]
Precision = Literal["fp32", "bf16", "fp16"]


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def split_names(bands: Any) -> Any:
    """One text with commas in it, as on a command line, is several bands; a number in YAML is its text."""
    if bands is None:
        return None
    given = [bands] if isinstance(bands, str | int) else bands
    return tuple(name.strip() for part in given for name in str(part).split(","))


class LoaderConfig(Section):
    """Where the images come from, and how they are read."""

    root: Path | None = None
    """Folder that the index's paths start from, if the images have moved since it was made."""
    pack: Path | None = None
    """Pack made by `geossl data pack`, which is read in place of the images; they need not be there any more."""
    clusters: Path | None = None
    """Clusters file of `geossl data cluster`; by default the one beside the index."""
    bands: tuple[str, ...] | None = None
    """Bands that the network sees, by name (red,nir) or by number from 1 (4,1,2), in that order; by default all. Where
    an image lacks one, it is the band's mean."""
    split: str | None = None
    """Train on this split alone; by default `train` where the index has splits, else everything."""
    threads: int = Field(0, ge=0, le=1024)
    """Decoding threads; 0 leaves the trainer its core: (cores - 1) / processes on this machine, at least 1."""
    on_error: Literal["raise", "substitute", "skip"] = "raise"
    """What an unreadable image does: end the run, be replaced by another (always the same), or be left out. More than
    1 % of the images end the run anyway."""
    max_image_mib: int = Field(1024, ge=1)
    """Most memory that decoding an image may take, MiB, and the largest file; an image that claims more is refused."""

    _split_bands = field_validator("bands", mode="before")(split_names)


class CropConfig(Section):
    """From the image to a view: RandomResizedCrop of the box with its context, and a flip."""

    size: int = Field(224, ge=16, le=2048)
    """Side of the square that the network sees, pixels."""
    resize: int | None = Field(None, ge=16)
    """First resize the short side to this, pixels, as the paper does; by default crop the original pixels."""
    center: bool = False
    """After `resize`, crop the central square, as the paper's temporal recipes do."""
    scale: tuple[float, float] = (0.2, 1.0)
    """Share of the area that a crop covers, from and to. Its width is 3/4 to 4/3 of its height."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    context: bool = True
    """Add fMoW's context around a bounding box (0.15 to 2 of its side, more for small ones)."""
    decode: Literal["exact", "scaled"] = "exact"
    """How images are decoded: `exact` gives the pixels of a full decode; `scaled` decodes a JPEG's crop that is 2, 4 or
    8 times as large as the view (or as `resize`) at 1/2, 1/4 or 1/8 of the size, and reads a GeoTIFF's overviews:
    faster, with slightly other pixels."""
    min_valid: float = Field(0.5, ge=0, le=1)
    """Share of a crop's pixels that must have data, where images say which do: other crops are drawn again."""
    aligned: float | None = Field(None, ge=0, le=1)
    """Crop the dates of a temporal pair at the same ground, by the images' georeference, whatever their grids, sizes
    and resolutions, the second date moved by at most this share of the crop's sides (0.1); by default each date is
    cropped by itself, as in the paper."""

    @field_validator("aligned", mode="before")
    @classmethod
    def _no_switch(cls, aligned: Any) -> Any:
        """True would pass for the number 1: the furthest of all."""
        if isinstance(aligned, bool):
            given = str(aligned).lower()
            raise ValueError(  # noqa: TRY004 - pydantic reports these
                f"{given} does not say how far the second date may be moved; give 0.1, or null for not aligned"
            )
        return aligned


class PairsConfig(Section):
    """Which dates of a place may be a pair (arms tp, geo_tp), and which one is drawn."""

    season: Literal["any", "other", "same"] = "any"
    """Seasons of the two dates: `other` ones, or the `same` in another year. They begin with March, June, September and
    December."""
    gap_days: tuple[float, float | None] = (0, None)
    """Least and most days between the two dates; a most of `none` is no limit."""
    max_cloud: float | None = Field(None, ge=0, le=100)
    """Most cloud cover of each of the two dates, percent."""
    sensor: Literal["any", "same", "other"] = "any"
    """Sensors of the two dates."""
    draw: Literal["uniform", "nearest", "farthest", "clear"] = "uniform"
    """Which of the allowed dates is drawn: any, the nearest or farthest in time, or by weights: the share that is
    without cloud."""
    alone: Literal["itself", "leave_out"] = "itself"
    """What an image without an allowed date does: give two crops of itself, as the paper's, or be left out. A date that
    lacks what is asked for (timestamp, cloud cover, sensor) is no allowed one, and has none."""

    @field_validator("gap_days", mode="before")
    @classmethod
    def _unlimited(cls, gap: Any) -> Any:
        """A command line has no other word for nothing."""
        return [None if end == "none" else end for end in gap] if isinstance(gap, list | tuple) else gap

    @field_validator("gap_days")
    @classmethod
    def _ordered(cls, gap: tuple[float, float | None]) -> tuple[float, float | None]:
        least, most = gap
        if not 0 <= least < float("inf") or (most is not None and not least <= most):
            raise ValueError(f"0 <= least <= most must hold, not {gap}")
        return gap


class ColorConfig(Section):
    """Colour jitter, grayscale, blur and normalisation, as in MoCo-v2."""

    jitter: tuple[Share, Factor, Factor, Factor, Hue] = (0.8, 0.4, 0.4, 0.4, 0.1)
    """Probability, then brightness b, contrast c, saturation s and hue h, as torchvision's ColorJitter: the first three
    are multiplied by 1 - b to 1 + b and so on, hue is turned by -h to h of the colour circle (saturation and hue: three
    bands only)."""
    gray_p: float = Field(0.2, ge=0, le=1)
    """Probability of grayscale (three bands only)."""
    blur: tuple[Share, float, float] = (0.5, 0.1, 2.0)
    """Probability of Gaussian blur, then its standard deviation, from and to, pixels at a view of 224; scaled with the
    view's size."""
    bands: tuple[BandFactor, Share] = (0.1, 0.0)
    """Jitter b: each band has a factor of its own, 1 - b to 1 + b (other than three bands only). Dropout: probability
    that a band is dropped, which makes it 0 after normalisation; at least one stays."""
    mean: tuple[float, ...] | None = None
    """Per-band mean, of values scaled to 0..1 (floats: as they are); by default ImageNet's for 8-bit RGB, else that of
    `geossl data stats`, or measured."""
    std: tuple[float, ...] | None = None
    """Per-band standard deviation, of values scaled to 0..1; by default as for the mean."""

    @field_validator("jitter", mode="before")
    @classmethod
    def _with_probability(cls, jitter: Any) -> Any:
        """The four values that it had in earlier versions."""
        if isinstance(jitter, list | tuple) and len(jitter) == 4:
            raise ValueError(f"the probability comes first: [0.8, {', '.join(map(str, jitter))}]")
        return jitter

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std. Raises ValueError where they are still to be chosen."""
        if self.mean is None or self.std is None:
            raise ValueError("color.mean and color.std must be resolved")
        return self.mean, self.std


class ModelConfig(Section):
    """Encoder, projection and MoCo."""

    backbone: str = "resnet50"
    """Encoder: a classification model of torchvision or timm, by its name there (timm/NAME for timm's, where both have
    one); see docs/backbones.md."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """How a ResNet begins: as for ImageNet, or for small images (under 64 pixels or so) with a convolution of 3 x 3,
    stride 1, and no pooling."""
    checkpointing: bool = False
    """Keep what goes into each of the encoder's blocks, and compute what is in it again for the backward pass: the same
    gradients with less memory, in more time."""
    dim: int = Field(128, ge=2)
    """Width of the projection."""
    queue: int | None = Field(None, ge=1)
    """Keys kept as negatives; by default 65,536, or less on a small data set (half of its images)."""
    momentum: float = Field(0.999, ge=0, lt=1)
    """Momentum of the key encoder."""
    temperature: float = Field(0.07, gt=0)
    """Temperature of InfoNCE: the best of 0.02 (as published), 0.07 and 0.2 (MoCo-v2's) on held-out training places of
    the Blue Marble tiles; see docs/results.md."""
    bn_groups: int = Field(4, ge=1)
    """Batch normalisation sees the batch in this many groups, with the keys shuffled between them; whatever the number
    of processes and micro-batches, which must fit it. 1 for a backbone without batch normalisation."""


class GeoConfig(Section):
    """The geo-location head (arms geo, geo_tp, geoloc)."""

    target: GeoTarget = "clusters"
    """What it predicts of a place: its cluster, as the paper (clusters); its cluster at each level of a hierarchical
    clusters file (hierarchy, made by `geossl data cluster -k 10,100,1000`); a distribution over the clusters that falls
    with their distance (soft); or its coordinates as a unit vector, which needs no clusters (vector)."""
    weights: tuple[Factor, Factor] = (1.0, 1.0)
    """Weights in the loss of InfoNCE (alpha) and of the geo head (beta)."""
    feature: Literal["projection", "backbone"] = "projection"
    """What the head reads: the un-normalised projection, as in the paper's code, or the backbone's feature."""


class OptimConfig(Section):
    """Stochastic gradient descent with a cosine schedule, per epoch, without warm-up."""

    lr: float = Field(0.03, gt=0)
    """Learning rate at the start, for the whole batch."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay."""


class WatchConfig(Section):
    """What is looked at beside the loss; nothing here changes what is learnt."""

    knn_epochs: int = Field(0, ge=0)
    """Classify by nearest neighbours every so many epochs, on labelled images, to see the encoder improve; 0 is never.
    The column `category` of the index is needed."""
    wandb: str | None = None
    """Send the figures to this project of Weights & Biases too; needs the extra geossl[wandb]."""


class TrainConfig(Section):
    """A training run."""

    arm: Arm = "geo_tp"
    """What supervises: MoCo (moco), + temporal positives (tp), + geo-location (geo), both (geo_tp),
    geo-location alone (geoloc), or the categories (supervised)."""
    data: Path
    """Index made by `geossl data index`."""
    out: Path
    """Folder of the run."""
    init_from: Path | None = None
    """Start from these weights: a run's folder, a checkpoint in one of the forms of docs/weights.md (MoCo's, the
    paper's, SeCo's, ...), a state_dict of torchvision or timm (.pth, .safetensors), or imagenet, torchvision's in its
    cache; RGB weights fit images of any bands. By default the weights are random."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of everything random."""
    epochs: int = Field(200, ge=1)
    """Passes over the images."""
    batch: int = Field(256, ge=2)
    """Images a step, over all processes and micro-batches."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches that a step is computed in, one after the other, to fit into memory. The result is the same."""
    precision: Precision = "fp32"
    """Numbers that the encoders compute with (autocast); weights, unit features and losses stay float32. fp16 scales
    the loss, so that small gradients are not lost. On a CPU, fp16 is far slower than fp32."""
    compile: bool = False
    """Compile the encoders (torch.compile): minutes at the start, faster steps after. Needs a C++ compiler."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    save_steps: int = Field(0, ge=0)
    """Save a checkpoint every so many steps; 0 is at the end of every epoch only."""
    keep: int = Field(1, ge=1)
    """Last checkpoints kept: last.pt, and those before it as step-XXXXXXXX.pt."""
    loader: LoaderConfig = LoaderConfig()
    crop: CropConfig = CropConfig()
    pairs: PairsConfig = PairsConfig()
    color: ColorConfig = ColorConfig()
    model: ModelConfig = ModelConfig()
    geo: GeoConfig = GeoConfig()
    optim: OptimConfig = OptimConfig()
    watch: WatchConfig = WatchConfig()

    @property
    def contrastive(self) -> bool:
        """Whether InfoNCE is part of the loss."""
        return self.arm in {"moco", "tp", "geo", "geo_tp"}

    @property
    def temporal(self) -> bool:
        """Whether the positive is another date of the place."""
        return self.arm in {"tp", "geo_tp"}

    @property
    def geographic(self) -> bool:
        """Whether the place is predicted."""
        return self.arm in {"geo", "geo_tp", "geoloc"}


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings of a YAML file. Raises UsageError if it is missing or not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: cannot read the config file: {e}") from e
    return parse_yaml(text, str(path))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, section by section; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def make_config(*layers: dict[str, Any]) -> TrainConfig:
    """Merge the layers, later over earlier, and check them. Raises UsageError naming every fault."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    try:
        config = TrainConfig.model_validate(merged)
    except ValidationError as e:
        raise UsageError(explain(e)) from e
    if faults := _faults(config):
        raise UsageError("; ".join(faults))
    return config


def overrides_model() -> type[Section]:
    """`TrainConfig` with nothing required: what a command line may give. Unset fields stay unset."""
    fields: dict[str, Any] = {}
    for name, field in TrainConfig.model_fields.items():
        if field.is_required():
            fields[name] = (field.annotation | None, Field(None, description=field.description))  # type: ignore[operator]
        else:
            fields[name] = (field.annotation, field)
    return create_model("Settings", __base__=Section, **fields)


def dump_yaml(config: TrainConfig) -> str:
    """The settings as YAML that `read_yaml` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"section.key": value}."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def setting_names() -> list[str]:
    """Every setting's dotted name."""
    names = []
    for name, field in TrainConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            names += [f"{name}.{sub}" for sub in section.model_fields]
        else:
            names.append(name)
    return names


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Settings of a YAML text that is called `where`. Raises UsageError if it is not a mapping."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise UsageError(f"{where}: not valid YAML: {' '.join(str(e).split())}") from e
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected settings as `key: value`, found {type(value).__name__}")
    return value


def explain(error: ValidationError, *, known: list[str] | None = None) -> str:
    """Every fault of a validation on one line, by the settings' names, with suggestions for typos.

    Args:
        error: of the validation.
        known: names of all settings that there are; by default those of a training run.

    """
    known = setting_names() if known is None else known
    return "; ".join(_explain(fault, known) for fault in error.errors())


def _faults(config: TrainConfig) -> list[str]:
    """What is wrong between settings that are each right."""
    crop, model = config.crop, config.model
    faults = []
    if not 0 < crop.scale[0] <= crop.scale[1] <= 1:
        faults.append(f"crop.scale: 0 < from <= to <= 1 must hold, not {crop.scale}")
    if not config.temporal:
        asked = [
            name for name in PairsConfig.model_fields if getattr(config.pairs, name) != getattr(PairsConfig(), name)
        ]
        what = f"for two dates of a place; the arm {config.arm} shows one (use tp or geo_tp)"
        faults += [f"pairs.{name}: {what}" for name in asked]
    if crop.aligned is not None and not config.temporal:
        faults.append(f"crop.aligned: for two dates of a place; the arm {config.arm} shows one (use tp or geo_tp)")
    if crop.aligned is not None and crop.resize is not None:
        faults.append("crop.aligned: crops the original pixels; leave crop.resize out")
    if crop.center and crop.resize is None:
        faults.append("crop.center: the central square is cut after a resize; set crop.resize too")
    if not 0 <= config.color.blur[1] <= config.color.blur[2]:
        faults.append(f"color.blur: 0 <= from <= to must hold, not {config.color.blur[1:]}")
    if config.geo.target != "clusters" and not config.geographic:
        faults.append(f"geo.target: for the geo head, which the arm {config.arm} has not (use geo, geo_tp or geoloc)")
    if config.contrastive and model.queue is not None and model.queue % config.batch:
        faults.append(f"model.queue ({model.queue}) must be a multiple of batch ({config.batch})")
    return faults


def _explain(error: Any, known: list[str]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return explain_earlier(name) or f"{name}: no such setting{hint(name, known)}"
    if error["type"] == "missing":
        return f"{name}: not given; use --{name}"
    message = error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] == "value_error" else f" (got {error['input']!r})"
    return f"{name}: {message}{got}" if name else f"{message}{got}"


def hint(word: str, known: list[str]) -> str:
    """What to add to a message about an unknown word: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
