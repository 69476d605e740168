"""A run whose encoder has random weights."""

import pytest
import torch

from geossl.models.backbone import build_backbone
from geossl.models.weights import IMAGENET_MEAN, IMAGENET_STD

ARCH = "resnet18"
"""512 features wide."""


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    def make(*, bands=3, chosen=None, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=16):
        folder = tmp_path_factory.mktemp("run")
        built = build_backbone(ARCH, bands=bands, seed=7, size=size)
        state = {f"module.encoder_q.{name}": value for name, value in built.state_dict().items()}
        own = {
            "config": {"arm": "tp", "crop": {"size": size}, "loader": {"bands": chosen}},
            "bands": bands,
            "mean": list(mean),
            "std": list(std),
        }
        (folder / "checkpoints").mkdir()
        torch.save({"arch": ARCH, "state_dict": state, "geossl": own}, folder / "checkpoints" / "last.pt")
        return folder

    return make


@pytest.fixture(scope="session")
def run(make_run):
    return make_run()
