"""Runs with backbones that are no ResNet of torchvision: with and without batch normalisation."""

import io

import pytest
import torch
from rich.console import Console
from training_data import FakeLoader, make_index, use_loader

from geossl.config import make_config
from geossl.errors import UsageError
from geossl.models.weights import CHECKPOINT, load_backbone
from geossl.training import train
from geossl.training.step import Stepper

SMALL = {"arm": "tp", "epochs": 2, "batch": 12, "device": "cpu", "crop": {"size": 32}}
VIT, ACT = "timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050"


@pytest.fixture
def data(tmp_path, monkeypatch):
    use_loader(monkeypatch, FakeLoader)
    return make_index(tmp_path)


def run(data, *, out="run", resume=None, backbone=VIT, **settings):
    config = make_config(
        SMALL, {"data": data, "out": data.parent / out, "model": {"backbone": backbone, "dim": 16}}, settings
    )
    return train(config, resume=resume, console=Console(file=io.StringIO()))


def load(result):
    return torch.load(result.run / CHECKPOINT, weights_only=True)


@pytest.mark.parametrize("backbone", [VIT, ACT])
def test_a_resumed_run_is_the_uninterrupted_one(data, monkeypatch, backbone):
    straight = load(run(data, backbone=backbone))
    step = Stepper.step

    def killed(self, batch, *, number, **rest):
        if number == 3:
            raise OSError("killed")
        return step(self, batch, number=number, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", killed)
        with pytest.raises(OSError, match="killed"):
            run(data, out="killed", backbone=backbone, save_steps=2)
    resumed = load(run(data, out="killed", backbone=backbone, resume="auto", save_steps=2))
    assert straight["arch"] == backbone
    assert resumed["state_dict"].keys() == straight["state_dict"].keys()
    assert all(torch.equal(value, straight["state_dict"][name]) for name, value in resumed["state_dict"].items())


def test_without_batch_normalisation_no_groups_are_demanded(data):
    # Nine images are no four groups, and a bare name is timm's where torchvision has none.
    result = run(data, backbone="vit_tiny_patch16_224", batch=9, epochs=1)
    saved = load(result)
    model = saved["geossl"]["config"]["model"]
    assert (saved["arch"], model["backbone"], model["bn_groups"]) == (VIT, VIT, 1)
    loaded = load_backbone(result.run)
    assert (loaded.name, loaded.size, loaded.num_features) == (VIT, 32, 192)
    with pytest.raises(UsageError, match=r"batch \(9\) must be a multiple of model\.bn_groups \(4\)"):
        run(data, out="other", backbone=ACT, batch=9)


def test_a_run_starts_from_another_of_smaller_images(data):
    first = run(data, epochs=1)
    still = {"lr": 1e-20, "weight_decay": 0}
    second = run(data, out="second", epochs=1, crop={"size": 64}, optim=still, init_from=first.run)
    was, now = load(first)["state_dict"], load(second)["state_dict"]
    for encoder in ("encoder_q", "encoder_k"):
        name = "blocks.3.attn.qkv.weight"
        torch.testing.assert_close(now[f"module.{encoder}.{name}"], was[f"module.encoder_q.{name}"])
        assert now[f"module.{encoder}.pos_embed"].shape == (1, 1 + 4 * 4, 192)


def test_the_small_stem_is_in_the_checkpoint(data):
    result = run(data, epochs=1, batch=12, model={"backbone": "resnet18", "dim": 16, "stem": "small"})
    assert load(result)["state_dict"]["module.encoder_q.conv1.weight"].shape == (64, 3, 3, 3)
    assert load_backbone(result.run).module.body.conv1.stride == (1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "vit_tiny_patch16"}, "did you mean .*vit_tiny_patch16_224"),
        ({"crop": {"size": 40}}, "patches of 16 pixels, and 40 is no multiple"),
        ({"backbone": "timm/levit_128", "crop": {"size": 224}}, "cannot be trained here"),
        ({"model": {"backbone": VIT, "stem": "small"}}, "only ResNets have"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(data, settings, message):
    with pytest.raises(UsageError, match=message):
        run(data, **settings)
    assert not (data.parent / "run").exists()
