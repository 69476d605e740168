"""What makes steps faster leaves their results: alone, and in short runs."""

import io
import os
import signal
from contextlib import contextmanager

import pytest
import torch
from rich.console import Console
from torch import nn
from training_data import FakeLoader, make_index, use_loader

from geossl.config import make_config
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.errors import UsageError
from geossl.models.moco import MoCo
from geossl.models.precision import autocast, gradient_scaler
from geossl.models.weights import CHECKPOINT
from geossl.training import train
from geossl.training.data import read_data, resolve
from geossl.training.learner import Learner
from geossl.training.log import read_metrics
from geossl.training.step import Stepper

SMALL = {
    "arm": "geo",
    "epochs": 2,
    "batch": 16,
    "device": "cpu",
    "crop": {"size": 32},
    "model": {"backbone": "resnet18", "dim": 16},
}


@pytest.fixture(autouse=True)
def _fake_loader(monkeypatch):
    use_loader(monkeypatch, FakeLoader)


@pytest.fixture
def data(tmp_path):
    path = make_index(tmp_path)
    cluster_places(Index.read(path), k=5, threads=1).write(default_path(path))
    return path


@pytest.fixture
def interrupted(monkeypatch):
    """Sends SIGTERM while so many steps have been taken and the next batch is made."""

    @contextmanager
    def inside(*, after):
        def make(self, k, made=FakeLoader.make):
            if k == after - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return made(self, k)

        with monkeypatch.context() as patch:
            patch.setattr(FakeLoader, "make", make)
            yield

    return inside


def run(data, name="run", *, resume=None, **settings):
    config = make_config(SMALL, {"data": data, "out": data.parent / name}, settings)
    result = train(config, resume=resume, console=Console(file=io.StringIO(), width=200))
    return read_metrics(result.run), torch.load(result.run / CHECKPOINT, weights_only=True)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(rows):
    return torch.tensor([[row["infonce"], row["geo"]] for row in rows])


def test_bf16_follows_fp32(planet, tmp_path, monkeypatch):
    """The losses of each of eight steps are within 5 % of those of fp32, and within 1 % on the average."""
    use_loader(monkeypatch, Loader)
    settings = {"batch": 32, "model": {"bn_groups": 2, "temperature": 0.2}}
    full, _ = run(planet, out=tmp_path / "full", **settings)
    half, checkpoint = run(planet, out=tmp_path / "half", precision="bf16", **settings)
    assert len(half) == 8
    torch.testing.assert_close(losses(half), losses(full), rtol=0.05, atol=0)
    torch.testing.assert_close(losses(half).mean(0), losses(full).mean(0), rtol=0.01, atol=0)
    assert not torch.equal(losses(half), losses(full)), "bf16 is another arithmetic"
    assert {value.dtype for value in checkpoint["state_dict"].values()} == {torch.float32, torch.int64}
    assert checkpoint["geossl"]["scaler"] == {}


def test_fp16_scales_the_loss_and_resumes(data, interrupted):
    settings = {"precision": "fp16", "epochs": 1, "crop": {"size": 16}}
    _, whole = run(data, "whole", **settings)
    with interrupted(after=2):
        _, part = run(data, "parts", **settings)
    assert part["geossl"]["scaler"]["scale"] != 1
    _, parts = run(data, "parts", resume="auto", **settings)
    assert parts["geossl"]["scaler"] == whole["geossl"]["scaler"]
    assert equal(whole["state_dict"], parts["state_dict"])


def test_a_step_whose_gradients_overflow_moves_nothing(data):
    config = make_config(SMALL, {"data": data, "out": data.parent / "run", "precision": "fp16"})
    found = read_data(config)
    config = resolve(config, found)
    learner = Learner(config, bands=3, classes=found.classes, geo=found.geo).to(torch.device("cpu"))
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    scaler = gradient_scaler("fp16", torch.device("cpu"))
    stepper = Stepper(config, learner=learner, optimizer=optimizer, scaler=scaler, loader=None, targets=None)
    before = [p.clone() for p in learner.parameters()]
    for overflown in (True, False):
        optimizer.zero_grad()
        stepper._backward(sum(p.mean() for p in learner.parameters()) * (1e38 if overflown else 1))
        scale = scaler.get_scale()
        stepper._move()
        moved = [not torch.equal(p, was) for p, was in zip(learner.parameters(), before, strict=True)]
        assert (any(moved), all(moved)) == (not overflown, not overflown)
        assert scaler.get_scale() == (scale / 2 if overflown else scale)
    expected = torch.full_like(before[0], 1 / before[0].numel())
    torch.testing.assert_close(learner.parameters()[0].grad, expected)  # not the scaled loss's


def test_features_and_losses_are_float32_in_bf16(data):
    config = make_config(SMALL, {"data": data, "out": data.parent / "run", "precision": "bf16"})
    found = read_data(config)
    learner = Learner(resolve(config, found), bands=3, classes=found.classes, geo=found.geo)
    seen = []
    for module in learner.encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    out = learner.trained(torch.rand(8, 3, 32, 32))
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in out} == {torch.float32}
    with autocast("bf16", torch.device("cpu")):
        keys = learner.model.encode_keys(torch.rand(8, 3, 32, 32))
    assert keys.dtype == torch.float32
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(8))
    assert learner.model.logits(out.projection, keys).dtype == torch.float32


@pytest.mark.parametrize("bn_groups", [1, 2])
def test_every_convolution_gets_and_gives_channels_last(data, bn_groups):
    config = make_config(SMALL, {"data": data, "out": data.parent / "run", "model": {"bn_groups": bn_groups}})
    found = read_data(config)
    config = resolve(config, found)
    learner = Learner(config, bands=3, classes=found.classes, geo=found.geo).to(torch.device("cpu"))
    views = {"batch": 16, "views": 2, "temporal": False, "crop": config.crop, "color": config.color}
    scale = (config.color.mean, config.color.std)
    loader = FakeLoader(found.index, rows=found.rows, normalize=scale, seed=0, train=True, loader=None, **views)
    stepper = Stepper(
        config,
        learner=learner,
        optimizer=torch.optim.SGD(learner.parameters(), lr=0.1),
        scaler=gradient_scaler("fp32", torch.device("cpu")),
        loader=loader,
        targets=found.targets(),
    )
    bad, count = [], [0]

    def look(_module, given, made):
        count[0] += 1
        bad.extend(t.shape for t in (*given, made) if not t.is_contiguous(memory_format=torch.channels_last))

    for module in learner.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    stepper.step(next(iter(loader)), number=0)
    assert (count[0], bad) == (2 * 20, [])


def test_the_momentum_update_is_the_formula_parameter_by_parameter():
    torch.manual_seed(0)
    moco = MoCo(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), dim=2, queue=4, momentum=0.9, temperature=1, seed=0)
    for p in moco.encoder_q.parameters():
        p.data.normal_()
    want = [k.lerp(q, 1 - 0.9) for k, q in zip(moco.encoder_k.parameters(), moco.encoder_q.parameters(), strict=True)]
    moco.update_key_encoder()
    for have, wanted in zip(moco.encoder_k.parameters(), want, strict=True):
        assert torch.equal(have, wanted)


def test_checkpointing_changes_nothing_but_time_and_memory(data):
    _, kept = run(data, "kept", epochs=1)
    _, again = run(data, "again", epochs=1, model={"checkpointing": True})
    assert equal(kept["state_dict"], again["state_dict"])
    assert equal(kept["geo_dict"], again["geo_dict"])


def test_a_run_goes_on_with_checkpointing(data, interrupted):
    _, whole = run(data, "whole", epochs=1)
    with interrupted(after=2):
        run(data, "parts", epochs=1)
    _, parts = run(data, "parts", resume="auto", epochs=1, model={"checkpointing": True})
    assert equal(whole["state_dict"], parts["state_dict"])


def test_compiled_encoders_train_the_same_in_place(data, monkeypatch):
    """With the backend `eager`, which needs no compiler: what is compiled is traced, and run as it is."""
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: real(self, backend="eager"))
    monkeypatch.setattr("geossl.training.learner.check_compiler", lambda device: None)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, kept = run(data, "plain", epochs=1)
    compiled, state = run(data, "compiled", epochs=1, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2, "the query's and the key's"
    assert not torch._dynamo.utils.counters["graph_break"]
    assert list(state["state_dict"]) == list(kept["state_dict"])
    torch.testing.assert_close(losses(compiled), losses(plain), rtol=1e-4, atol=1e-5)


def test_no_compiler_is_a_usage_error(data, monkeypatch):
    def broken(*_args, **_options):
        def call(*_):
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler\nmore")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UsageError, match=r"^compile: torch cannot compile .*C\+\+ compiler\)$"):
        run(data, compile=True)
    assert not (data.parent / "run" / CHECKPOINT).exists()
