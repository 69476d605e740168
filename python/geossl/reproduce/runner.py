"""Runs a grid: what is done is kept, what was interrupted goes on, and the report follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from rich.console import Console

from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index, build_index
from geossl.data.synth import make_planet
from geossl.errors import UsageError
from geossl.evaluate.probe import probe
from geossl.files import replacing
from geossl.finetuning.config import make_config as finetune_config
from geossl.finetuning.finetune import finetune
from geossl.models.imagenet import IMAGENET, imagenet_file
from geossl.reproduce.grid import Grid
from geossl.reproduce.report import write_report
from geossl.reproduce.results import FINETUNE, PROBE, RUN, cell_folder, transfer_report
from geossl.reproduce.timing import timed, write_times
from geossl.training import train
from geossl.transfer.config import make_config as transfer_config
from geossl.transfer.objects import read_objects
from geossl.transfer.transfer import transfer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geossl.config import TrainConfig
    from geossl.reproduce.grid import Transfer

STATE = "grid.yaml"
"""What the folder is of: the grid, and the hash of the index that was given."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An arm with a seed."""

    arm: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.arm}-{self.seed}"


class Reproduction:
    """A grid in a folder, with its data."""

    def __init__(
        self,
        grid: Grid,
        name: str,
        *,
        out: Path,
        data: Path | None,
        weights: Mapping[str, Path] | None = None,
        device: str = "auto",
        threads: int = 0,
        console: Console | None = None,
    ) -> None:
        """Look at everything that is given; nothing is written.

        Args:
            grid: what to run.
            name: of the grid, for the report's title.
            out: the folder; an earlier call's goes on.
            data: index made by `geossl data index`; None where the grid makes its own.
            weights: files of the arms that are not trained here.
            device: auto, cpu, cuda or cuda:N.
            threads: decoding threads; 0 is one for every core but one.
            console: where progress is shown; by default standard output.

        Raises:
            UsageError: data are missing or too many, a file of weights is missing or has no arm, an arm's settings are
                wrong, a transfer's objects are missing, or the folder is of another grid or other data.

        """
        if grid.data is None and data is None:
            raise UsageError(f"grid {name}: give an index with --data")
        if grid.data is not None and data is not None:
            raise UsageError(f"grid {name}: makes its own planet; leave --data out")
        self.grid, self.name, self.out = grid, name, out
        self.data = out / "planet.parquet" if data is None else data
        index = None if data is None else Index.read(data, images=False)
        self._index_hash = None if index is None else index.content_hash
        if index is not None and grid.evaluation.transfer is not None:
            read_objects(index)  # whether they are there, before anything is trained
        self._device, self._threads = device, threads
        self._console = console or Console()
        self._sources, self.left_out = _find_weights(grid, weights or {})
        self._check_folder()
        for arm in grid.arms:
            if grid.arms[arm].trains:
                self.settings(arm, folder=out, seed=0)

    def cells(self) -> list[Cell]:
        """What is to be run, seed by seed, so that every arm is there early."""
        return [
            Cell(arm=arm, seed=seed, folder=cell_folder(self.out, arm, seed))
            for seed in self.grid.seeds
            for arm in self.grid.arms
            if arm not in self.left_out
        ]

    def settings(self, arm: str, *, folder: Path, seed: int) -> TrainConfig:
        """The settings that an arm is trained with. Raises UsageError naming every fault."""
        config = self.grid.settings(arm, data=self.data, out=folder, seed=seed)
        loader = config.loader.model_copy(update={"threads": self._threads})
        return config.model_copy(update={"device": self._device, "loader": loader})

    def run(self, *, only: str | None = None) -> bool:
        """Run what is not done, and write the report after every cell; False where a signal stopped it.

        Args:
            only: name of the one cell to run, without a report: others may run beside it.

        Raises:
            UsageError: there is no such cell, or the data or settings do not go together.
            GeosslError: a run or an evaluation failed; what is done is kept.

        """
        cells = self.cells()
        chosen = [one for one in cells if only in {None, one.name}]
        if not chosen:
            raise UsageError(f"--only {only}: no such cell; there are {', '.join(one.name for one in cells)}")
        left = [(number, one) for number, one in enumerate(chosen, 1) if not self.is_done(one)]
        for number, one in left:
            self._console.print(f"[{number}/{len(chosen)}] {one.name}", highlight=False, markup=False)
            if not self._run(one):
                return False
            if only is None:
                self.report()
        if only is None and not left:
            self.report()
        return True

    def prepare(self) -> None:
        """Write down what the folder is of, and make the data that the grid makes itself. Raises UsageError."""
        self._console.print(f"{self.name}: {self.grid.purpose}", highlight=False, soft_wrap=True)
        for arm, reason in self.left_out.items():
            self._console.print(f"left out: {arm}: {reason}", highlight=False, markup=False, soft_wrap=True)
        if not (self.out / STATE).exists():
            content = {"grid": self.grid.model_dump(mode="json"), "index": self._index_hash}
            with replacing(self.out / STATE) as file:
                file.write(yaml.safe_dump(content, sort_keys=False).encode())
        if (made := self.grid.data) is None:
            return
        planet = self.out / "planet"
        if not planet.exists():
            make_planet(planet, places=made.places, views=made.views, size=made.size)
        if not self.data.exists():
            build_index(planet)[0].write(self.data)
        if not default_path(self.data).exists():
            cluster_places(Index.read(self.data), k=[made.clusters], seed=0).write(default_path(self.data))

    def is_done(self, one: Cell) -> bool:
        """Whether all evaluations of a cell are there."""
        return all((one.folder / name).exists() for name in self._wanted(one))

    def report(self) -> None:
        """Write the report on what is there, and what it took. Raises GeosslError for a damaged evaluation."""
        write_report(self.grid, self.name, self.out, data=self.data, left_out=self.left_out)
        write_times(self.out, [one.folder for one in self.cells()])

    def _wanted(self, one: Cell) -> list[str]:
        arm, evaluation = self.grid.arms[one.arm], self.grid.evaluation
        if evaluation.transfer is not None:
            return [transfer_report(evaluation.transfer.task)]
        frozen = [PROBE] if arm.frozen and not arm.scratch else []
        return frozen + ([FINETUNE] if arm.finetuned and evaluation.finetune_epochs else [])

    def _check_folder(self) -> None:
        state = self.out / STATE
        if not state.exists():
            if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
                raise UsageError(f"{self.out}: exists and is not a reproduction's folder; name another")
            return
        try:
            content = yaml.safe_load(state.read_text(encoding="utf-8"))
            before, index = Grid.model_validate(content["grid"]), content["index"]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as e:
            raise UsageError(f"{state}: damaged ({type(e).__name__}); name another folder") from e
        if before != self.grid:
            raise UsageError(f"{self.out}: is of another grid, or of another version of it; name another folder")
        if self._index_hash != index:
            raise UsageError(f"{self.out}: was begun with another index than {self.data}; name another folder")

    def _run(self, one: Cell) -> bool:
        source = self._sources.get(one.arm)
        wanted = [name for name in self._wanted(one) if not (one.folder / name).exists()]
        if self.grid.arms[one.arm].trains:
            source = one.folder / RUN
            with timed(one.folder, "pretraining"):
                config = self.settings(one.arm, folder=source, seed=one.seed)
                if not train(config, resume="auto", console=self._console).finished:
                    return False
        if (how := self.grid.evaluation.transfer) is not None:
            with timed(one.folder, "transfer"):
                return self._transfer(one, source, how)
        if PROBE in wanted and source is not None:
            with timed(one.folder, "probe"):
                self._probe(one, source)
        if FINETUNE in wanted:
            with timed(one.folder, "finetuning"):
                return self._finetune(one, source)
        return True

    def _probe(self, one: Cell, source: Path) -> None:
        evaluation = self.grid.evaluation
        # Baselines are the same beside every arm of a seed.
        first = next(other.arm for other in self.cells() if PROBE in self._wanted(other))
        probe(
            source,
            data=self.data,
            out=one.folder,
            backbone=self._backbone(one),
            split_test=evaluation.split_test,
            methods=evaluation.methods,
            labels=evaluation.labels,
            baselines=evaluation.baselines if one.arm == first else [],
            crops=evaluation.crops,
            seed=one.seed,
            device=self._device,
            threads=self._threads,
        )

    def _finetune(self, one: Cell, source: Path | None) -> bool:
        """Whether it ended, and not by a signal."""
        # Where nothing is pretrained, it is as large as where something is.
        like = next((self.settings(arm, folder=self.out, seed=0) for arm in self.grid.arms if self._trains(arm)), None)
        config = finetune_config(
            run=source,
            data=self.data,
            out=(one.folder / FINETUNE).parent,
            from_scratch=source is None,
            backbone=self._backbone(one),
            split_test=self.grid.evaluation.split_test,
            size=like.crop.size if source is None and like is not None else None,
            epochs=self.grid.evaluation.finetune_epochs,
            batch=like.batch if like is not None else 256,
            seed=one.seed,
            device=self._device,
            threads=self._threads,
        )
        return finetune(config, resume="auto", console=self._console).report is not None

    def _transfer(self, one: Cell, source: Path | None, how: Transfer) -> bool:
        """Whether it ended, and not by a signal."""
        config = transfer_config(
            **how.settings,
            run=source,
            data=self.data,
            out=(one.folder / transfer_report(how.task)).parent,
            from_scratch=source is None,
            backbone=self._backbone(one),
            split_test=self.grid.evaluation.split_test,
            seed=one.seed,
            device=self._device,
            threads=self._threads,
        )
        return transfer(config, resume="auto", console=self._console).scores is not None

    def _backbone(self, one: Cell) -> str | None:
        return None if self._trains(one.arm) else self.grid.backbone

    def _trains(self, arm: str) -> bool:
        return self.grid.arms[arm].trains


def _find_weights(grid: Grid, given: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of arms that are not trained here, and why there is none of the others, by arm.

    Raises UsageError for a file that is missing, or that no arm takes.
    """
    takes = [name for name, arm in grid.arms.items() if arm.weights is not None]
    for name, file in given.items():
        if name not in takes:
            arms = f"; these do: {', '.join(takes)}" if takes else ""
            raise UsageError(f"--weights {name}: the grid has no such arm that takes a file of weights{arms}")
        if not file.exists():
            raise UsageError(f"--weights {name}: {file} is not there")
    sources, left_out = dict(given), {}
    for name in takes:
        if name in given:
            continue
        if grid.arms[name].weights == "file":
            left_out[name] = f"no file of its weights was given; --weights {name}=FILE does"
            continue
        try:
            imagenet_file(grid.backbone)
            sources[name] = IMAGENET
        except UsageError as e:
            left_out[name] = f"{e}; or give --weights {name}=FILE"
    return sources, left_out
