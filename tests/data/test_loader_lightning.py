"""A Loader handed to Lightning as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loading import digest, epoch, loader

from geossl.data.index import Index
from geossl.data.loader import Batch

Jpegs = Callable[..., Index]


def test_the_pieces_that_lightning_asks_for(jpegs: Jpegs) -> None:
    source = loader(jpegs())
    assert len(source) == 7
    batch = next(iter(source))
    # It moves anything that has `to(device)`, and keeps the state of anything that has these two.
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch)
    assert torch.equal(moved.images, batch.images)
    assert callable(source.state_dict)
    assert callable(source.load_state_dict)
    # It looks for a sampler to call set_epoch on; the loader counts its own epochs.
    assert not hasattr(source, "sampler")
    assert epoch(source, 1) == [digest(b) for b in after(loader(jpegs()), 1)]


def after(source: Any, epochs: int) -> Any:
    for _ in range(epochs):
        for _batch in source:
            pass
    return source


@pytest.mark.filterwarnings("ignore")  # its own, about its settings and the machine
def test_lightning_trains_and_resumes_in_the_middle_of_an_epoch(jpegs: Jpegs, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    index = jpegs()

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)
            self.seen: list[str] = []

        def training_step(self, batch: Batch, _: int) -> torch.Tensor:
            assert batch.images.device == self.device
            self.seen.append(digest(batch))
            return self.layer(batch.images.float().mean((0, 3, 4)) / 255).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(steps: int, checkpoint: Path | None = None) -> list[str]:
        model = Model()
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, max_steps=steps, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(model, loader(index), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return model.seen

    whole = fit(18)
    source = loader(index)
    assert whole == [*epoch(source, 0), *epoch(source, 1), *epoch(source, 2)][:18]
    for stop in (3, 7, 9, 14):
        assert fit(stop) == whole[:stop]
        assert fit(18, tmp_path / f"{stop}.ckpt") == whole[stop:], stop
