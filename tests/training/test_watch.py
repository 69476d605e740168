"""What a run tells beside its loss: figures, warnings, the batch of a NaN, online kNN, CSV, Weights & Biases."""

import csv
import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from training_data import FakeLoader, make_index, make_table, use_loader

from geossl.config import make_config
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.data.loader import Batch
from geossl.errors import GeosslError, UsageError
from geossl.models.weights import CHECKPOINT
from geossl.training import metrics_csv, online_knn, train
from geossl.training.data import read_data, resolve
from geossl.training.figures import effective_rank
from geossl.training.learner import Learner
from geossl.training.log import read_metrics
from geossl.training.online_knn import OnlineKnn
from geossl.training.watch import COLLAPSED_STEPS, SKIPPED_STEPS, Warnings, Watcher

SMALL = {
    "arm": "moco",
    "epochs": 2,
    "batch": 16,
    "device": "cpu",
    "crop": {"size": 32},
    "model": {"backbone": "resnet18", "dim": 16},
}


@pytest.fixture
def loader(monkeypatch):
    class Loader(FakeLoader):
        pass

    use_loader(monkeypatch, Loader)
    return Loader


@pytest.fixture
def data(tmp_path):
    path = make_index(tmp_path)
    cluster_places(Index.read(path), k=5, threads=1).write(default_path(path))
    return path


def run(data, out, **settings):
    config = make_config(SMALL, {"data": data, "out": out}, settings)
    console = Console(file=io.StringIO(), width=200)
    return train(config, console=console), console.file.getvalue()


@pytest.mark.usefixtures("loader")
def test_rows_have_the_figures_of_the_last_step(data, tmp_path):
    result, _ = run(data, tmp_path / "run", arm="geo_tp")
    rows = read_metrics(result.run)
    own = {"alignment", "uniformity", "rankme", "infonce_ratio", "queue_age", "queue_age_mean", "grad_norm"}
    assert own <= set(rows[0])
    assert all(np.isfinite(row[name]) for row in rows for name in own)
    # A queue of one batch: at the first step it is noise, then the batch before.
    assert [row["queue_age"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert [row["queue_age_mean"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert rows[-1]["infonce_ratio"] == pytest.approx(rows[-1]["infonce"] / np.log(17), rel=1e-6)
    checkpoint = torch.load(result.run / CHECKPOINT, weights_only=True)
    queue = checkpoint["state_dict"]["module.queue"]
    assert rows[-1]["rankme"] == pytest.approx(effective_rank(queue @ queue.T), rel=1e-3)


@pytest.mark.usefixtures("loader")
def test_figures_of_rows_are_computed_for_rows_alone(data, tmp_path, monkeypatch):
    every = read_metrics(run(data, tmp_path / "every", arm="geo_tp")[0].run)
    watched = []
    watch = Learner.watch
    monkeypatch.setattr(Learner, "watch", lambda *args: watched.append(watch(*args)) or watched[-1])
    monkeypatch.setattr("geossl.training.log.ROWS_AN_EPOCH", 1)
    rows = read_metrics(run(data, tmp_path / "few", arm="geo_tp")[0].run)
    assert [row["step"] for row in rows] == [3, 6]
    assert len(watched) == 2
    clock = {"time", "images_per_sec"}
    for row, other in zip(rows, every[2::3], strict=True):
        assert row.keys() == other.keys()
        assert all(row[k] == other[k] for k in row if k not in clock and not k.startswith("loader"))


@pytest.mark.usefixtures("loader")
def test_arms_without_a_queue_have_no_figures_of_one(data, tmp_path):
    rows = read_metrics(run(data, tmp_path / "run", arm="supervised", epochs=1)[0].run)
    assert {"feature_std", "grad_norm"} <= set(rows[0])
    assert not {"rankme", "alignment", "queue_age", "infonce_ratio"} & set(rows[0])


@pytest.mark.usefixtures("loader")
def test_the_gradient_norm_is_that_of_the_step(data, tmp_path, monkeypatch):
    """Without momentum or decay, a step of rate 1 moves the weights by the gradient."""
    seen = []
    step = torch.optim.SGD.step

    def watched(self, *args, **kwargs):
        before = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        step(self, *args, **kwargs)
        after = [p.detach() for group in self.param_groups for p in group["params"]]
        moved = [(b - a).flatten() for b, a in zip(before, after, strict=True)]
        seen.append(float(torch.cat(moved).double().norm()))

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    plain = {"lr": 1e-3, "momentum": 0, "weight_decay": 0}
    rows = read_metrics(run(data, tmp_path / "run", epochs=1, optim=plain)[0].run)
    assert [row["grad_norm"] for row in rows] == pytest.approx([moved / 1e-3 for moved in seen], rel=1e-2)


def test_a_loss_that_is_not_finite_leaves_its_batch(data, tmp_path, loader):
    loader.bad_step = 1
    with pytest.raises(GeosslError, match=r"the loss is nan at step 2 of epoch 1; .* is in nan_batch\.pt") as e:
        run(data, tmp_path / "run")
    assert not isinstance(e.value, UsageError)
    assert "\n" not in str(e.value)
    kept = torch.load(tmp_path / "run" / "nan_batch.pt", weights_only=True)
    assert kept["step"] == 2
    assert np.isnan(kept["figures"]["loss"])
    assert kept["views"].shape == (2, 16, 3, 32, 32)
    assert kept["color"].shape == (2, 16, 7)
    assert kept["gains"].shape == (2, 16, 3)
    # It is what the loader gave: the parameters that were spoilt, and the names of the rows.
    assert kept["color"][..., 1].isnan().all()
    assert kept["paths"] == [[f"{row:03}.jpg" for row in view] for view in kept["rows"].tolist()]
    assert f"{kept['paths'][0][0]} is not finite after augmentation" in str(e.value)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1]
    assert not list((tmp_path / "run").glob(".*"))


def test_the_kept_views_are_what_the_network_saw(data, tmp_path, loader, monkeypatch):
    monkeypatch.setattr("geossl.losses.info_nce", lambda logits: logits.sum() * torch.inf)
    made = []
    make = loader.make
    monkeypatch.setattr(loader, "make", lambda self, k: made.append(make(self, k)) or made[-1])
    with pytest.raises(GeosslError, match=r"the loss is (nan|-?inf) at step 1 of epoch 1; try a smaller learning rate"):
        run(data, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "nan_batch.pt", weights_only=True)
    assert torch.equal(kept["views"], made[0].images)
    assert torch.equal(kept["rows"], made[0].rows)


@pytest.mark.usefixtures("loader")
def test_a_gradient_that_is_not_finite_ends_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr("geossl.training.step.gradient_norm", lambda _: torch.tensor(torch.inf))
    with pytest.raises(
        GeosslError, match=r"the gradient's norm is inf at step 1 of epoch 1; try a smaller learning rate"
    ):
        run(data, tmp_path / "run")


def test_a_loss_scale_may_leave_steps_out_but_not_for_ever(data, tmp_path):
    config = make_config(SMALL, {"data": data, "out": tmp_path, "precision": "fp16"})
    stepper = SimpleNamespace(prepare=lambda batch, number: (batch.images, batch.rows[0]))
    learner = SimpleNamespace(model=None)
    watcher = Watcher(config, learner=learner, stepper=stepper, index=Index.read(data))
    batch = Batch(
        images=torch.zeros(2, 16, 3, 8, 8),
        rows=torch.arange(16).repeat(2, 1),
        color=torch.zeros(2, 16, 7),
        gains=torch.ones(2, 16, 3),
    )

    def read(step, norm):
        made = {"loss": torch.tensor(1.0), "grad_norm": torch.tensor(norm)}
        return watcher.read(made, batch=batch, step=step, epoch=0, logged=False)

    for step in range(1, 60):
        read(step, torch.inf if step % 30 else 1.0)
    read(60, 1.0)
    for step in range(61, 60 + SKIPPED_STEPS):
        read(step, torch.inf)
    with pytest.raises(GeosslError, match=f"the gradient's norm is inf at step {60 + SKIPPED_STEPS} "):
        read(60 + SKIPPED_STEPS, torch.inf)


def row(step, **figures):
    return {"step": step, "feature_std": 0.8, "rankme": 90.0, "loader_wait": 0.0} | figures


@pytest.mark.parametrize("low", [{"feature_std": 0.01}, {"rankme": 1.2}])
def test_collapse_is_told_once_when_it_begins(low):
    warnings = Warnings(make_config(SMALL, {"data": "x", "out": "y"}))
    told = {s: warnings.of(row(s, **low), secs=1) for s in range(0, 2 * COLLAPSED_STEPS, 10)}
    assert [s for s, texts in told.items() if texts] == [COLLAPSED_STEPS]
    (text,) = told[COLLAPSED_STEPS]
    assert text.startswith("collapse: since step 0 ")
    assert "optim.lr" in text
    assert warnings.of(row(1000), secs=1) == []
    # A dip is no collapse, a second collapse is told again.
    again = [warnings.of(row(s, **low), secs=1) for s in range(2000, 2001 + COLLAPSED_STEPS, 10)]
    assert [len(texts) for texts in again] == [0] * (len(again) - 1) + [1]


def test_other_arms_cannot_collapse():
    warnings = Warnings(make_config(SMALL, {"data": "x", "out": "y", "arm": "supervised"}))
    rows = ({"step": s, "feature_std": 0.01, "loader_wait": 0.0} for s in range(0, 1000, 10))
    assert not any(warnings.of(r, secs=1) for r in rows)


def test_starving_is_told_with_how_much_and_what_to_do():
    warnings = Warnings(make_config(SMALL, {"data": "x", "out": "y"}))
    assert not any(warnings.of(row(s, loader_wait=0.1), secs=10) for s in range(20))
    told = [warnings.of(row(20 + s, loader_wait=0.5), secs=10) for s in range(20)]
    (text,) = [text for texts in told for text in texts]
    assert "waited for images 23% of the last 60 s" in text  # two rows in six
    assert "more --loader.threads, `geossl data pack` and --loader.pack or --crop.decode scaled" in text
    packed = Warnings(
        make_config(SMALL, {"data": "x", "out": "y", "loader": {"pack": "p"}, "crop": {"decode": "scaled"}})
    )
    (text,) = [t for s in range(9) for t in packed.of(row(s, loader_wait=0.5), secs=10)]
    assert text.endswith("try more --loader.threads")


@pytest.mark.usefixtures("loader")
def test_a_warning_is_in_a_row_and_on_the_console(data, tmp_path, monkeypatch):
    monkeypatch.setattr("geossl.training.watch.COLLAPSED_STEPS", 2)
    monkeypatch.setattr("geossl.training.watch.COLLAPSED_RANK", 99)
    result, text = run(data, tmp_path / "run")
    told = {r["step"]: r["warnings"] for r in read_metrics(result.run) if "warnings" in r}
    assert list(told) == [3]
    assert f"warning: {told[3][0]}" in text
    assert text.count("warning: ") == 1


@pytest.mark.usefixtures("loader")
def test_the_csv_has_the_rows(data, tmp_path):
    result, _ = run(data, tmp_path / "run", arm="geo_tp")
    rows = read_metrics(result.run)
    with (result.run / "metrics.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows) == 6
    assert list(read[0])[:3] == ["step", "epoch", "lr"]
    for mine, theirs in zip(read, rows, strict=True):
        for name, value in theirs.items():
            assert (json.loads(mine[name]) if isinstance(value, dict) else float(mine[name])) == value
        assert all(mine[name] == "" for name in mine.keys() - theirs.keys())


def test_csv_of_lists(tmp_path):
    metrics_csv.write(tmp_path / "m.csv", [{"step": 1}, {"step": 2, "warnings": ['a, "b"']}, {"step": 3, "x": None}])
    with (tmp_path / "m.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [r["step"] for r in read] == ["1", "2", "3"]
    assert [r["x"] for r in read] == [""] * 3
    assert json.loads(read[1]["warnings"]) == ['a, "b"']


TINY = {"arm": "tp", "epochs": 2, "batch": 64}


def test_online_knn_rows_and_that_the_weights_are_the_same_bits(planet, tmp_path):
    rng = torch.get_rng_state()
    with_it, text = run(planet, tmp_path / "with", **TINY, watch={"knn_epochs": 1})
    assert torch.equal(rng, torch.get_rng_state())
    without, _ = run(planet, tmp_path / "without", **TINY)
    rows = read_metrics(with_it.run)
    ends = [r for r in rows if "knn_acc" in r]
    assert [r["epoch"] for r in ends] == [1, 2]
    assert all("loader_mb_per_sec" in r for r in ends)  # the row that ends the epoch
    assert all(0 < r[name] <= 1 for r in ends for name in ("knn_acc", "knn_macro_f1"))
    assert "knn acc" in text
    a, b = (torch.load(r.run / CHECKPOINT, weights_only=True) for r in (with_it, without))
    for part in ("state_dict", "geo_dict"):
        assert a.get(part, {}).keys() == b.get(part, {}).keys()
        assert all(torch.equal(a[part][name], b[part][name]) for name in a.get(part, {}))
    assert [r["loss"] for r in rows] == [r["loss"] for r in read_metrics(without.run)]


def prepared(path, tmp_path, **settings):
    config = make_config(SMALL, {"data": path, "out": tmp_path / "run", "watch": {"knn_epochs": 1}}, settings)
    data = read_data(config)
    return resolve(config, data), data


def test_questions_are_of_the_val_split(planet, tmp_path):
    config, data = prepared(planet, tmp_path)
    knn = OnlineKnn(config, data, console=Console())
    splits = np.array(data.index.table["split"].to_pylist())
    assert set(splits[knn._asked]) == {"val"}
    assert set(splits[knn._bank]) == {"train"}


def test_questions_without_a_split_are_of_places_apart(data, tmp_path):
    config, found = prepared(data, tmp_path)
    knn = OnlineKnn(config, found, console=Console())
    places = found.index.places
    assert not set(places[knn._bank]) & set(places[knn._asked])
    assert len(knn._bank) + len(knn._asked) == 48
    assert len(set(places[knn._asked])) == round(0.2 * 24)


def test_online_knn_is_bounded(data, tmp_path, monkeypatch):
    monkeypatch.setattr(online_knn, "BANK_IMAGES", 7)
    monkeypatch.setattr(online_knn, "QUESTION_IMAGES", 3)
    config, found = prepared(data, tmp_path)
    chosen = [OnlineKnn(config, found, console=Console()) for _ in range(2)]
    assert [(len(knn._bank), len(knn._asked)) for knn in chosen] == [(7, 3)] * 2
    assert (chosen[0]._bank == chosen[1]._bank).all()
    assert len(set(chosen[0]._bank)) == 7


@pytest.mark.parametrize(
    ("categories", "message"),
    [([None] * 48, "no image of .* that is trained on has a category"), (["a"] * 48, "have a single category")],
)
@pytest.mark.usefixtures("loader")
def test_online_knn_without_labels(tmp_path, categories, message):
    path = make_index(tmp_path, make_table(category=categories))
    with pytest.raises(UsageError, match=rf"watch\.knn_epochs: .*{message}"):
        run(path, tmp_path / "run", watch={"knn_epochs": 1})
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("loader")
def test_unreadable_questions_do_not_end_a_run(data, tmp_path):
    """The files of this index are empty."""
    result, text = run(data, tmp_path / "run", epochs=1, watch={"knn_epochs": 1})
    assert result.finished
    assert "warning: watch.knn_epochs: " in text
    assert "knn_acc" not in result.metrics


class FakeWandb:
    """Notes what is asked of it."""

    Error = ConnectionError
    refuses = False

    def __init__(self):
        self.begun, self.rows, self.alerts, self.exits = [], [], [], []

    def init(self, **how):
        if self.refuses:
            raise self.Error("no\nlog-in")
        self.begun.append(how)
        return SimpleNamespace(
            id=how["id"] or "abc123",
            define_metric=lambda *_, **__: None,
            log=self.rows.append,
            alert=lambda **alert: self.alerts.append(alert),
            finish=lambda **how: self.exits.append(how["exit_code"]),
        )


@pytest.mark.usefixtures("loader")
def test_weights_and_biases_gets_the_rows_and_a_resumed_run_goes_on_there(data, tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("geossl.training.weights_biases.find_spec", lambda _: object())
    monkeypatch.setattr("geossl.training.watch.COLLAPSED_STEPS", 2)
    monkeypatch.setattr("geossl.training.watch.COLLAPSED_RANK", 99)
    config = make_config(SMALL, {"data": data, "out": tmp_path / "run", "watch": {"wandb": "earth"}})
    console = Console(file=io.StringIO())
    monkeypatch.setattr(FakeLoader, "bad_step", 1)
    with pytest.raises(GeosslError):
        train(config, console=console)
    monkeypatch.setattr(FakeLoader, "bad_step", None)
    train(config, resume="auto", console=console)
    assert [(b["project"], b["id"], b["resume"], b["name"]) for b in fake.begun] == [
        ("earth", None, "allow", "run"),
        ("earth", "abc123", "allow", "run"),
    ]
    assert fake.begun[0]["config"]["optim"]["lr"] == config.optim.lr
    assert [r["step"] for r in fake.rows] == [1, 1, 2, 3, 4, 5, 6]
    assert fake.rows[-1]["loss"] == read_metrics(tmp_path / "run")[-1]["loss"]
    assert [alert["title"] for alert in fake.alerts] == ["collapse"]
    assert fake.exits == [1, 0]


@pytest.mark.usefixtures("loader")
def test_weights_and_biases_may_refuse(data, tmp_path, monkeypatch):
    fake = FakeWandb()
    fake.refuses = True
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("geossl.training.weights_biases.find_spec", lambda _: object())
    with pytest.raises(GeosslError, match=r"watch\.wandb: no log-in; log in with .*WANDB_MODE=offline"):
        run(data, tmp_path / "run", watch={"wandb": "earth"})


OFFLINE = """
import sys
from pathlib import Path
from geossl.config import make_config
from geossl.training.weights_biases import WandbRun
config = make_config({"arm": "moco", "data": "x", "out": Path(sys.argv[1]), "watch": {"wandb": "earth"}})
for steps in ([1, 2], [2, 3]):
    run = WandbRun(config)
    for step in steps:
        run.log({"step": step, "loss": 1 / step, "loader_failures": {}, "warnings": ["collapse: all alike"]})
    run.finish(failed=False)
"""


@pytest.mark.skipif(find_spec("wandb") is None, reason="the extra wandb is not installed")
def test_the_real_package_works_offline_and_resumes_the_same_run(tmp_path):
    # Of its own process, as it leaves threads and a server behind.
    offline = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    subprocess.run([sys.executable, "-c", OFFLINE, str(tmp_path)], check=True, env=offline, timeout=300)
    run_id = (tmp_path / "wandb_id").read_text().strip()
    kept = [p.name for p in (tmp_path / "wandb").glob("offline-run-*")]
    assert len(kept) == 2
    # Of two in one second the second folder gets a number after the id.
    assert all(f"-{run_id}" in name for name in kept)


@pytest.mark.usefixtures("loader")
def test_a_missing_package_is_named_with_its_extra(data, tmp_path, monkeypatch):
    monkeypatch.setattr("geossl.training.weights_biases.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"watch\.wandb: .*pip install 'geossl\[wandb\]'"):
        run(data, tmp_path / "run", watch={"wandb": "earth"})
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("loader")
def test_the_package_is_not_imported_unasked(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    assert run(data, tmp_path / "run", epochs=1)[0].finished
