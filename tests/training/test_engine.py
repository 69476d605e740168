"""The training loop with a loader that needs no files; test_resume.py has the real one."""

import io
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from torchvision.models import resnet18
from training_data import FakeLoader, make_index, make_table, use_loader

from geossl.config import make_config
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.errors import GeosslError, UsageError
from geossl.models.weights import CHECKPOINT, load_backbone
from geossl.training import train
from geossl.training.data import automatic_queue
from geossl.training.engine import cosine_lr
from geossl.training.log import read_metrics
from geossl.training.step import Stepper

SMALL = {
    "epochs": 2,
    "batch": 16,
    "device": "cpu",
    "crop": {"size": 32},
    "model": {"backbone": "resnet18", "dim": 16},
}


@pytest.fixture(autouse=True)
def _fake_loader(monkeypatch):
    class Loader(FakeLoader):
        pass

    use_loader(monkeypatch, Loader)
    return Loader


@pytest.fixture
def loader(_fake_loader):
    return _fake_loader


@pytest.fixture
def data(tmp_path):
    path = make_index(tmp_path)
    cluster(path)
    return path


def cluster(path, k=5):
    cluster_places(Index.read(path), k=k, threads=1).write(default_path(path))


def run(data, *, arm="geo_tp", resume=None, **settings):
    config = make_config(SMALL, {"arm": arm, "data": data, "out": data.parent / "run"}, settings)
    console = Console(file=io.StringIO(), width=200)
    return train(config, resume=resume, console=console), console.file.getvalue()


def load(result):
    return torch.load(result.run / CHECKPOINT, weights_only=True)


def same(a, b):
    """Whether nested containers of tensors are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("arm", ["moco", "supervised"])
def test_the_device_and_the_loader_make_the_same_views(data, loader, arm):
    """On a CPU the loader changes the colours; on a GPU it is done there, which this does on the CPU."""
    config = make_config(SMALL, {"arm": arm, "data": data, "out": data.parent / "run"})
    made, scale = [], ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    config = make_config(config.model_dump(), {"color": dict(zip(("mean", "std"), scale, strict=True))})
    loader.left_out = 3  # 13 images a batch: 12 are whole groups of batch normalisation
    for normalize in (None, scale):
        options = {"views": 2, "temporal": False, "crop": config.crop, "color": config.color, "normalize": normalize}
        source = loader(Index.read(data), rows=np.arange(48), batch=16, seed=1, train=True, loader=None, **options)
        stepper = Stepper(config, learner=None, optimizer=None, scaler=None, loader=source, targets=None)
        prepared = [stepper.prepare(b, number=0) for b in source]
        made.append([list(part) for part in zip(*prepared, strict=True)])
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other)
    assert made[0][0][0].shape == (2, 12, 3, 32, 32)


FIGURES = {
    "moco": {"infonce", "pretext_acc"},
    "tp": {"infonce", "pretext_acc"},
    "geo": {"infonce", "pretext_acc", "geo", "geo_acc", "geo_km"},
    "geo_tp": {"infonce", "pretext_acc", "geo", "geo_acc", "geo_km"},
    "geoloc": {"geo", "geo_acc", "geo_km"},
    "supervised": {"class_acc"},
}


@pytest.mark.parametrize("arm", FIGURES)
def test_every_arm_trains_and_its_encoder_loads(data, arm):
    result, text = run(data, arm=arm, epochs=1)
    assert (result.steps, result.epochs, result.finished) == (3, 1, True)
    assert "epoch 1/1  loader: 0.0 ms an image, 0.0 of 4 batches ready, starved" in text
    common = {"step", "epoch", "lr", "loss", "feature_std", "grad_norm", "images_per_sec", "loader_wait", "time"}
    if "infonce" in FIGURES[arm]:
        common |= {"alignment", "uniformity", "rankme", "infonce_ratio", "queue_age", "queue_age_mean"}
    rows = read_metrics(result.run)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == common | FIGURES[arm]
    loader = {"ms_an_image", "decode_ms", "ready", "starved_secs", "idle_secs", "mb_per_sec", "failures"}
    assert set(rows[-1]) == set(rows[0]) | {f"loader_{name}" for name in loader}
    assert rows[-1] == result.metrics
    assert list((result.run / "tensorboard").iterdir())
    loaded = load_backbone(result.run)
    assert (loaded.name, loaded.bands, loaded.size, loaded.mean) == ("resnet18", 3, 32, (0.485, 0.456, 0.406))
    assert loaded.settings["arm"] == arm
    state = load(result)["state_dict"]
    assert torch.equal(state["module.encoder_q.conv1.weight"], loaded.module.body.conv1.weight)


def test_the_checkpoint_has_the_authors_names(data):
    checkpoint = load(run(data, epochs=1)[0])
    assert set(checkpoint) == {"epoch", "arch", "state_dict", "optimizer", "geo_dict", "geossl"}
    names = set(checkpoint["state_dict"])
    assert names > {
        "module.encoder_q.conv1.weight",
        "module.encoder_q.bn1.running_mean",
        "module.encoder_q.layer1.0.conv1.weight",
        "module.encoder_q.fc.0.weight",
        "module.encoder_q.fc.0.bias",
        "module.encoder_q.fc.2.weight",
        "module.encoder_k.conv1.weight",
        "module.encoder_k.fc.2.bias",
        "module.queue",
        "module.queue_ptr",
    }
    assert all(name.startswith("module.") for name in names)
    assert set(checkpoint["geo_dict"]) == {"module.layers.1.weight", "module.layers.1.bias"}
    assert checkpoint["geo_dict"]["module.layers.1.weight"].shape == (5, 16)
    assert checkpoint["state_dict"]["module.queue"].shape == (16, 16)  # one batch, at most half of 48 images
    assert checkpoint["epoch"] == 1
    assert checkpoint["arch"] == "resnet18"
    assert "geo_dict" not in load(run(data, arm="tp", out=data.parent / "tp", epochs=1)[0])


def test_the_geo_head_can_read_the_backbones_feature(data):
    checkpoint = load(run(data, epochs=1, geo={"feature": "backbone"})[0])
    assert checkpoint["geo_dict"]["module.layers.1.weight"].shape == (5, 512)


def test_nothing_temporary_is_left(data):
    result, _ = run(data, epochs=1, save_steps=1)
    assert sorted(p.name for p in result.run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "metrics.jsonl",
        "tensorboard",
    ]
    assert [p.name for p in (result.run / "checkpoints").iterdir()] == ["last.pt"]


def test_the_saved_settings_have_what_was_automatic_decided(data):
    result, _ = run(data, epochs=1, device="auto")
    settings = yaml.safe_load((result.run / "config.yaml").read_text())
    assert settings["model"]["queue"] == 16
    assert settings["color"]["mean"] == [0.485, 0.456, 0.406]
    assert settings["device"] in {"cpu", "cuda"}
    assert make_config(settings).model_dump(mode="json") == load(result)["geossl"]["config"]


def test_other_images_are_measured(tmp_path):
    path = make_index(tmp_path, make_table(bands=4, dtype="uint16"))
    result, _ = run(path, arm="moco", epochs=1)
    own = load(result)["geossl"]
    # Uniform noise over 0..1.
    assert own["mean"] == pytest.approx([0.5] * 4, abs=0.01)
    assert own["std"] == pytest.approx([1 / math.sqrt(12)] * 4, abs=0.01)
    assert own["bands"] == load_backbone(result.run).bands == 4


@pytest.mark.parametrize(
    ("images", "batch", "queue"),
    [(1000, 256, 256), (1024, 256, 512), (100, 64, 64), (363_571, 256, 65_536), (10**6, 100, 65_500)],
)
def test_automatic_queue(images, batch, queue):
    assert automatic_queue(images=images, batch=batch) == queue


def test_cosine_schedule():
    assert cosine_lr(0.03, epoch=0, epochs=200) == 0.03
    assert cosine_lr(0.03, epoch=50, epochs=200) == pytest.approx(0.03 * (1 + math.sqrt(0.5)) / 2)
    assert cosine_lr(0.03, epoch=100, epochs=200) == pytest.approx(0.015)
    assert cosine_lr(0.03, epoch=199, epochs=200) == pytest.approx(0.03 * math.sin(math.pi / 400) ** 2)


def test_learning_rate_of_each_step(data):
    result, _ = run(data, arm="moco", optim={"lr": 0.2})
    assert [row["lr"] for row in read_metrics(result.run)] == pytest.approx([0.2] * 3 + [0.1] * 3)


@pytest.mark.parametrize("stop_at", [2, 3])  # in the middle and at the end of an epoch
def test_sigterm_saves_and_the_resumed_run_is_the_uninterrupted_one(data, monkeypatch, stop_at):
    straight, _ = run(data)
    out = {"out": data.parent / "stopped"}
    with monkeypatch.context() as patch:
        send_signal(patch, signal.SIGTERM, at=stop_at)
        stopped, text = run(data, **out)
    assert (stopped.steps, stopped.epochs, stopped.finished) == (stop_at, stop_at // 3, False)
    assert "go on with --resume auto" in text
    resumed, text = run(data, resume="auto", **out)
    assert f"going on after step {stop_at}" in text
    assert resumed.finished
    a, b = load(straight), load(resumed)
    for part in ("epoch", "state_dict", "optimizer", "geo_dict"):
        assert same(a[part], b[part]), part
    rows = [[(row["step"], row["loss"]) for row in read_metrics(r.run)] for r in (straight, resumed)]
    assert rows[0] == rows[1]


def test_sigint_saves_then_interrupts(data, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    send_signal(monkeypatch, signal.SIGINT, at=2)
    with pytest.raises(KeyboardInterrupt):
        run(data)
    assert torch.load(data.parent / "run" / CHECKPOINT, weights_only=True)["geossl"]["step"] == 2
    assert signal.getsignal(signal.SIGINT) is handler


def send_signal(patch, number, *, at):
    """Make the process signal itself in step `at`."""
    take_step = Stepper.step

    def step(self, batch, **rest):
        made = take_step(self, batch, **rest)
        if rest["number"] + 1 == at:
            os.kill(os.getpid(), number)
        return made

    patch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("arm", ["geo_tp", "geoloc", "supervised"])
def test_a_run_starts_from_the_weights_of_a_file(data, arm):
    theirs = resnet18(weights=None)
    torch.save(theirs.state_dict(), data.parent / "weights.pth")
    still = {"lr": 1e-20, "weight_decay": 0}
    result, text = run(data, arm=arm, epochs=1, optim=still, init_from=data.parent / "weights.pth")
    assert f"weights: {data.parent / 'weights.pth'}: a state_dict; left out: fc\n" in text
    assert "expect another normalisation" not in text
    saved = load(result)["state_dict"]
    for encoder in ("encoder_q", "encoder_k") if arm == "geo_tp" else ("encoder_q",):
        for name, value in theirs.named_parameters():
            if not name.startswith("fc."):
                torch.testing.assert_close(saved[f"module.{encoder}.{name}"], value)


def test_weights_that_expect_another_normalisation(data):
    first, _ = run(data, epochs=1, color={"mean": [0.5, 0.25, 0.5], "std": [0.25, 0.5, 0.5]})
    _, text = run(data, epochs=1, out=data.parent / "second", init_from=first.run)
    assert "a checkpoint of geossl, the query encoder; left out: " in text
    want = "color.mean [0.5, 0.25, 0.5], color.std [0.25, 0.5, 0.5] (as a checkpoint of geossl has it)"
    assert f"the weights expect another normalisation than the run's: {want}" in text


def test_imagenets_weights_are_looked_for_before_anything_starts(data, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(data.parent / "hub"))
    monkeypatch.chdir(data.parent)
    with pytest.raises(UsageError, match=r"imagenet: .*hub/checkpoints/resnet18-\w+\.pth is not there") as e:
        run(data, init_from="imagenet")
    assert "https://download.pytorch.org/models/resnet18-" in str(e.value)
    assert not (data.parent / "run").exists()
    (data.parent / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(resnet18(weights=None).state_dict(), str(e.value).split()[1])
    result, text = run(data, epochs=1, init_from="imagenet")
    assert "a state_dict; left out: fc" in text
    assert load(result)["geossl"]["config"]["init_from"] == "imagenet"


def test_a_resumed_run_does_not_need_the_file(data, monkeypatch):
    weights, settings = data.parent / "weights.pth", {"init_from": data.parent / "weights.pth"}
    torch.save(resnet18(weights=None).state_dict(), weights)
    with monkeypatch.context() as patch:
        send_signal(patch, signal.SIGTERM, at=2)
        run(data, **settings)
    weights.unlink()
    resumed, _ = run(data, resume="auto", **settings)
    assert resumed.finished
    with pytest.raises(UsageError, match=r"weights\.pth: no such run or checkpoint"):
        run(data, out=data.parent / "other", **settings)
    assert not (data.parent / "other").exists()


def test_a_finished_run_says_so(data):
    first, _ = run(data, epochs=1)
    again, text = run(data, epochs=1, resume="auto")
    assert "already finished" in text
    assert (again.steps, again.epochs, again.metrics) == (3, 1, first.metrics)


def test_resume_auto_starts_where_there_is_no_checkpoint(data):
    (data.parent / "run").mkdir()
    (data.parent / "run" / "config.yaml").write_text("arm: moco\n")
    (data.parent / "run" / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n{"step"')
    result, _ = run(data, epochs=1, resume="auto")
    assert [row["step"] for row in read_metrics(result.run)] == [1, 2, 3]
    assert read_metrics(result.run)[0]["loss"] != 9.0


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(data, loader):
    loader.bad_step = 1
    with pytest.raises(GeosslError, match=r"the loss is nan at step 2 of epoch 1"):
        run(data, save_steps=1)
    saved = torch.load(data.parent / "run" / CHECKPOINT, weights_only=True)
    assert saved["geossl"]["step"] == 1
    assert all(v.isfinite().all() for v in saved["state_dict"].values())
    assert [row["step"] for row in read_metrics(data.parent / "run")] == [1]


def test_unreadable_images_are_listed(data, loader):
    loader.unreadable = [("a.jpg", "cut short")]
    loader.left_out = 3  # 13 images a batch: 12 are whole groups of batch normalisation
    result, _ = run(data, epochs=1)
    rows = [json.loads(line) for line in (result.run / "failures.jsonl").read_text().splitlines()]
    assert rows == [{"path": "a.jpg", "reason": "cut short"}]


def test_places_without_coordinates_keep_their_infonce(tmp_path):
    lat = [None if i < 24 else 1.0 * i for i in range(48)]
    path = make_index(tmp_path, make_table(lat=lat, lon=lat))
    cluster(path)
    assert run(path, arm="geo", epochs=1)[0].steps == 3
    assert run(path, arm="geoloc", epochs=1, out=tmp_path / "geoloc")[0].steps == 1  # 24 of 48 images


def test_the_train_split_is_the_default(tmp_path):
    path = make_index(tmp_path, make_table(split=["train"] * 16 + ["val"] * 32))
    assert run(path, arm="moco", epochs=1)[0].steps == 1
    assert run(path, arm="moco", epochs=1, loader={"split": "val"}, out=tmp_path / "val")[0].steps == 2


NOTHING = [None] * 48


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({}, {"arm": "geo"}, "no clusters, which the arm geo needs; make them: geossl data cluster"),
        ({"lat": NOTHING, "location_id": NOTHING}, {"arm": "tp"}, "needs location_id, which no image has"),
        ({"location_id": list(map(str, range(48)))}, {"arm": "tp"}, "places with two images or more"),
        ({"category": NOTHING}, {"arm": "supervised"}, "no image has a category"),
        ({}, {"arm": "moco", "device": "gpu"}, "device: unknown device gpu"),
        ({}, {"arm": "moco", "device": "cuda:99"}, "device: cuda:99 is not there"),
        ({}, {"arm": "moco", "loader": {"split": "val"}}, "no split val in .*; it has none"),
        ({}, {"arm": "moco", "color": {"mean": [0.5]}}, "color.mean: 1 values for images of 3 bands"),
        ({}, {"arm": "moco", "color": {"std": [0.1, 0, 1]}}, "color.std: must be above 0"),
        ({}, {"arm": "moco", "model": {"bn_groups": 16}}, "have one image each.*use at most 8"),
    ],
)
def test_data_that_the_arm_cannot_use(tmp_path, columns, settings, message):
    path = make_index(tmp_path, make_table(**columns))
    with pytest.raises(UsageError, match=message) as e:
        run(path, **settings)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_not_overwritten(data):
    run(data, epochs=1)
    before = (data.parent / "run" / CHECKPOINT).read_bytes()
    with pytest.raises(UsageError, match="exists already; go on with --resume auto"):
        run(data, epochs=1)
    assert (data.parent / "run" / CHECKPOINT).read_bytes() == before
    (data.parent / "other").mkdir()
    (data.parent / "other" / "notes.txt").touch()
    with pytest.raises(UsageError, match="not a folder of a run"):
        run(data, resume="auto", out=data.parent / "other")


def test_a_run_folder_that_cannot_be_made(data):
    with pytest.raises(UsageError, match=r"cannot be written .*use another --out"):
        run(data, arm="moco", out=data / "run")  # inside a file


def test_resume_with_changed_settings_prints_each_difference(data):
    run(data, epochs=1)
    before = (data.parent / "run" / "config.yaml").read_text()
    shown = Console(file=io.StringIO(), width=200)
    config = make_config(SMALL, {"data": data, "out": data.parent / "run", "epochs": 3, "optim": {"lr": 0.1}})
    with pytest.raises(UsageError, match=r"cannot resume with changed settings \(epochs, optim.lr\)"):
        train(config, resume="auto", console=shown)
    assert "  epochs: was 1, now 3\n  optim.lr: was 0.03, now 0.1\n" in shown.file.getvalue()
    assert (data.parent / "run" / "config.yaml").read_text() == before
    # These say where things are, not what is computed.
    moved = default_path(data).rename(data.parent / "moved.parquet")
    _, text = run(data, epochs=1, resume="auto", save_steps=5, loader={"threads": 3, "clusters": moved})
    assert "already finished" in text


def test_a_run_of_an_earlier_version_goes_on(data, monkeypatch):
    """Its checkpoint has the earlier names, and lacks the settings that came later; the weights are the same."""
    whole, _ = run(data, out=data.parent / "whole")
    with monkeypatch.context() as patch:
        send_signal(patch, signal.SIGTERM, at=2)
        stopped, _ = run(data)
    saved = load(stopped)
    config = saved["geossl"]["config"]
    config["loader"] |= {"slots": 4, "max_failures": 0.01}
    config["crop"] |= {"ratio": [3 / 4, 4 / 3], "aligned": False, "jitter": 0.1}
    color = config["color"]
    color["jitter_p"], *color["jitter"] = color["jitter"]
    color["blur_p"], *color["blur_sigma"] = color.pop("blur")
    color["band_jitter"], color["band_dropout"] = color.pop("bands")
    config["geo"]["infonce_weight"], config["geo"]["weight"] = config["geo"].pop("weights")
    config["model"]["init"] = config.pop("init_from")
    for name in ("precision", "compile", "accumulate", "keep", "watch"):
        del config[name]
    del config["model"]["checkpointing"], config["model"]["stem"]
    torch.save(saved, stopped.run / CHECKPOINT)
    assert load_backbone(stopped.run).settings["color"]["jitter"] == [0.8, 0.4, 0.4, 0.4, 0.1]
    resumed, _ = run(data, resume="auto")
    assert resumed.finished
    assert same(load(resumed)["state_dict"], load(whole)["state_dict"])


def test_resume_with_other_data_is_refused(data):
    run(data, epochs=1)
    cluster(data, k=6)
    with pytest.raises(UsageError, match="was made with other clusters"):
        run(data, epochs=1, resume="auto")
    make_index(data.parent, make_table(category=["x"] * 48))
    cluster(data)
    with pytest.raises(UsageError, match=r"not the index that .* was made with"):
        run(data, epochs=1, resume="auto")


def test_training_leaves_the_process_as_it_was(data):
    rng, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator is what is looked at
    run(data, epochs=1)
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert (state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_plain_lines_off_a_terminal(data):
    _, text = run(data, epochs=1)
    line = text.strip().splitlines()[-1]
    assert line.startswith("epoch 1/1  step 3  loss ")
    assert "pretext acc" in line
    assert "img/s  waiting" in line


def test_a_bar_on_a_terminal(data):
    config = make_config(SMALL, {"arm": "moco", "data": data, "out": data.parent / "run", "epochs": 1})
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    train(config, console=console)
    assert "epoch 1/1" in console.file.getvalue()
    assert "100%" in console.file.getvalue()
    assert "pretext acc" in console.file.getvalue()
