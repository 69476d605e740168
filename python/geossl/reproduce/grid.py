"""Grids: which arms are trained with which seeds, and how each is evaluated; declared in YAML."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geossl.config import TrainConfig, explain, hint, make_config, merge, parse_yaml, read_yaml
from geossl.errors import UsageError
from geossl.recipes import read_recipe
from geossl.transfer.config import DEFAULTS, Task

Table = Literal["fmow", "geoimagenet", "naip", "xview", "spacenet"]


class Part(BaseModel):
    """A frozen part of a grid; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MadeData(Part):
    """A planet that the grid makes for itself; else the user has the data."""

    places: int = Field(ge=2)
    views: float = Field(5.0, ge=1)
    size: int = Field(96, ge=16)
    clusters: int = Field(ge=2)


class Arm(Part):
    """A row of the report."""

    method: str
    """As the paper's tables call it, where they have it."""
    recipes: list[str] = []
    """Shipped recipes that it is trained with, the grid's own `recipes` after them."""
    config: dict[str, Any] = {}
    """Settings over those."""
    weights: Literal["imagenet", "file"] | None = None
    """Others' weights, which are evaluated without any pretraining here: of a file that the user gives by `--weights
    ARM=FILE`, or, by default, torchvision's of ImageNet in its cache. Without them the arm is left out."""
    frozen: bool = True
    """Whether the frozen encoder is evaluated."""
    finetuned: bool = True
    """Whether it is finetuned, where the grid does that at all."""
    scratch: bool = False
    """Nothing is pretrained, and nothing frozen: finetuning starts from random weights."""

    @property
    def trains(self) -> bool:
        """Whether it is pretrained here."""
        return not (self.scratch or self.weights)


class Transfer(Part):
    """A detector or segmenter on the encoder, as `geossl transfer` trains it; what is not given has its defaults."""

    task: Task
    """detect or segment."""
    head: Literal["pspnet", "psanet"] | None = None
    """segment: what is on the encoder."""
    size: int | None = Field(None, ge=32, le=2048)
    """Side of the windows, pixels."""
    chips: int | None = Field(None, ge=1)
    """Most windows of an image that are trained on."""
    lr: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Learning rate at the start."""
    batch: int | None = Field(None, ge=2)
    """Windows a step."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the windows."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of `TransferConfig`, with the task's defaults."""
        return DEFAULTS[self.task] | self.model_dump(exclude_none=True)


class Evaluation(Part):
    """How encoders are judged."""

    transfer: Transfer | None = None
    """The only evaluation, where it is set; the index has objects beside it then."""

    methods: list[Literal["linear", "knn", "logistic"]] = ["linear", "knn"]
    """Of the frozen encoder."""
    labels: list[float] = [100]
    """Per cent of the labelled training places."""
    split_test: str = "val"
    """What is scored; several splits with commas between."""
    crops: Literal["center", "random"] = "center"
    """Training crops of the linear classifier."""
    baselines: list[Literal["random", "statistics", "random_conv"]] = ["random", "statistics", "random_conv"]
    """Encoders that have learnt nothing, for comparison."""
    finetune_epochs: int = Field(0, ge=0)
    """Epochs of finetuning; 0 leaves it out."""


class Grid(Part):
    """Everything that `geossl reproduce` runs."""

    purpose: str
    """One line."""
    table: Table
    """The paper's table that ours stands beside."""
    data: MadeData | None = None
    seeds: list[int] = [0]
    recipes: list[str] = []
    """Under every arm, after its own."""
    config: dict[str, Any] = {}
    """Settings of every arm, over the recipes."""
    backbone: str = "resnet50"
    """Of arms that are not pretrained here."""
    arms: dict[str, Arm]
    evaluation: Evaluation = Evaluation()
    compare: list[tuple[str, str]] = []
    """Pairs of arms whose difference is reported: (less, more)."""

    def settings(self, name: str, *, data: Path, out: Path, seed: int) -> TrainConfig:
        """The settings that an arm is trained with. Raises UsageError naming every fault."""
        arm = self.arms[name]
        layers = [read_recipe(recipe) for recipe in [*arm.recipes, *self.recipes]]
        own = {"data": data, "out": out, "seed": seed}
        return make_config(*layers, merge(self.config, arm.config), own)


def grid_names() -> list[str]:
    """Names of the shipped grids, sorted."""
    folder = resources.files("geossl.reproduce") / "grids"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def read_grid(name: str) -> Grid:
    """A shipped grid by its name, or one of the user's by its path (.yaml).

    Raises UsageError for an unknown name, or a file that is no grid, naming every fault.
    """
    if name.endswith((".yaml", ".yml")):
        settings, where = read_yaml(Path(name)), name
    elif name in grid_names():
        where = f"grid {name}"
        text = (resources.files("geossl.reproduce") / "grids" / f"{name}.yaml").read_text(encoding="utf-8")
        settings = parse_yaml(text, where)
    else:
        raise UsageError(f"grid {name}: no such grid{hint(name, grid_names())}; or give a file that ends with .yaml")
    try:
        grid = Grid.model_validate(settings)
    except ValidationError as e:
        known = [field for part in (Grid, Arm, Evaluation, Transfer, MadeData) for field in part.model_fields]
        raise UsageError(f"{where}: {explain(e, known=known)}") from e
    unknown = sorted({arm for pair in grid.compare for arm in pair} - set(grid.arms))
    if unknown:
        raise UsageError(f"{where}: compare: no such arm: {', '.join(unknown)}")
    if faults := _transfer_faults(grid):
        raise UsageError(f"{where}: {'; '.join(faults)}")
    return grid


def _transfer_faults(grid: Grid) -> list[str]:
    """What does not go together with a transfer."""
    if (transfer := grid.evaluation.transfer) is None:
        return []
    others = sorted(grid.evaluation.model_fields_set - {"transfer", "split_test"})
    faults = [f"evaluation.{name}: is not used beside evaluation.transfer; leave it out" for name in others]
    if transfer.task == "detect" and transfer.head is not None:
        faults.append("evaluation.transfer.head: is for segment; leave it out")
    if grid.data is not None:
        faults.append("data: a made planet has no objects for evaluation.transfer; leave it out, and give --data")
    return faults
