"""A finetuning run from its files to its report: what it leaves, how it goes on, what it refuses."""

import json
import math
import os
import signal
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest
import torch
from finetune_data import COLOURS, SIZE, load, make_data, make_run, run
from sklearn.metrics import f1_score

from geossl.data.index import Index
from geossl.errors import GeosslError, UsageError
from geossl.evaluate.predictions import read_predictions
from geossl.evaluate.probe import probe
from geossl.finetuning import choose_lr
from geossl.models.weights import CHECKPOINT, load_backbone
from geossl.training.log import read_metrics
from geossl.training.ranks import Ranks
from geossl.training.step import Stepper


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def begin(tmp_path):
    return make_run(tmp_path / "run")


def send_signal(patch, number, *, at):
    """Make the process signal itself in step `at`."""
    take_step = Stepper.step

    def step(self, batch, **rest):
        made = take_step(self, batch, **rest)
        if rest["number"] + 1 == at:
            os.kill(os.getpid(), number)
        return made

    patch.setattr(Stepper, "step", step)


def same(out, other):
    ours, theirs = load(out), load(other)
    momenta = [[s["momentum_buffer"] for s in part["optimizer"]["state"].values()] for part in (ours, theirs)]
    return (
        ours["state_dict"].keys() == theirs["state_dict"].keys()
        and all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
        and all(torch.equal(a, b) for a, b in zip(*momenta, strict=True))
    )


def test_from_files_to_report(begin, data):
    result, text = run(begin, data, epochs=10, lr=0.01)
    assert result.out == begin / "finetune"
    assert "finetune: timm/test_resnet at 32 pixels on cpu, weights of " in text
    assert "24 images of 12 places, 3 classes; 3 steps of 8 an epoch, 10 epochs" in text
    names = {"checkpoints", "config.yaml", "finetune.json", "metrics.csv", "metrics.jsonl", "tensorboard", "test"}
    assert {path.name for path in result.out.iterdir()} == names
    report = result.report
    (row,) = report.rows
    assert (row.fit.encoder, row.fit.method, row.fit.lr) == ("tp", "finetune", 0.01)
    assert (report.train_images, report.train_places, report.test_images, report.test_places) == (24, 12, 8, 4)
    assert report.classes == 3
    assert row.scores.top1 == 1, "colours as far apart as these are told apart"
    assert math.isnan(row.scores.top5)
    written = json.loads((result.out / "finetune.json").read_text())
    assert written["rows"][0]["scores"]["place_top1"] == row.scores.place_top1
    settings = written["settings"]
    assert (settings["bn"], settings["batch"], settings["backbone"]) == ("eval", 8, "timm/test_resnet")
    assert [r["lr"] for r in read_metrics(result.out)][::3] == pytest.approx([0.01] * 6 + [0.001] * 2 + [0.0001] * 2)
    assert {"loss", "class_acc", "grad_norm", "images_per_sec"} <= set(read_metrics(result.out)[-1])


def test_the_scores_are_those_of_the_predictions(begin, data):
    result, _ = run(begin, data)
    found, index = result.predictions, Index.read(data)
    assert found.probabilities.shape == (8, 3)
    assert found.probabilities.dtype == torch.float32
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(8))
    assert found.rows.tolist() == index.rows(split="val").tolist()
    assert found.labels.tolist() == index.labels[found.rows].tolist()
    assert found.places.tolist() == index.places[found.rows].tolist()
    guess, scores = found.probabilities.argmax(1), result.report.rows[0].scores
    assert scores.top1 == (guess == found.labels).double().mean().item()
    assert scores.f1 == pytest.approx(f1_score(found.labels, guess, average="macro", zero_division=0))
    # As the probe reads the folder: the same encoder, and the classifier beside it.
    loaded, saved = load_backbone(result.out), load(result.out)
    weight, bias = (saved["state_dict"][f"module.encoder_q.fc.{name}"] for name in ("weight", "bias"))
    assert saved["geossl"]["finetune"]["categories"] == sorted(COLOURS)
    assert (loaded.size, loaded.settings["arm"]) == (SIZE, "supervised")
    read = probe(result.out, data=data, baselines=[], lr=1.0, device="cpu", threads=1)
    assert read.rows[0].fit.encoder == "supervised"
    from geossl.config import LoaderConfig
    from geossl.evaluate.features import extract

    rows = index.rows(split="val")
    options = {"index": index, "rows": rows, "device": torch.device("cpu"), "loader": LoaderConfig(threads=1)}
    feature = extract(loaded.module, **options, **loaded.preparation)
    want = torch.softmax(feature.x @ weight.T + bias, 1)
    torch.testing.assert_close(found.probabilities, want, rtol=1e-4, atol=1e-5)
    of_places = torch.stack([feature.x[found.places == place].mean(0) for place in found.places.unique()])
    want = torch.softmax(of_places @ weight.T + bias, 1)
    torch.testing.assert_close(found.by_mean_feature, want, rtol=1e-4, atol=1e-5)
    (kept,), classes = read_predictions(result.out / "test" / "predictions.parquet")
    assert classes == sorted(COLOURS)
    assert torch.equal(kept.probabilities, found.probabilities)


def test_from_scratch_beside_the_finetuned_one(begin, data):
    result, text = run(begin, data, from_scratch=True)
    assert result.out == begin / "scratch"
    assert "random weights" in text
    assert result.report.rows[0].fit.encoder == "scratch"
    assert result.report.settings["bn"] == "train"
    assert result.report.settings["size"] == SIZE
    again, _ = run(None, data, from_scratch=True, backbone="timm/test_resnet", size=SIZE, out=begin / "bare")
    assert again.report.run == "timm/test_resnet"
    assert again.report.rows[0].fit.encoder == "scratch"


def test_a_librarys_file(data, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(load_backbone(make_run(tmp_path / "run")).module.state_dict(), weights)
    with pytest.raises(UsageError, match="name it, as with --backbone"):
        run(weights, data)
    result, _ = run(weights, data, backbone="timm/test_resnet", epochs=1)
    assert result.out == tmp_path / "finetune"
    assert result.report.rows[0].fit.encoder == "trained"


def test_few_labels(begin, tmp_path):
    data = make_data(tmp_path / "many", places=48)
    result, _ = run(begin, data, labels=25, epochs=1)
    fit = result.report.rows[0].fit
    assert (fit.labels, fit.train_places, fit.train_images, result.report.train_places) == (25, 9, 18, 36)
    assert result.report.classes == 3
    assert result.report.notes == [
        "25 % of the labels: 9 of 36 training places, drawn by category",
        "batches of 6 in place of 8, of which an epoch has 3 whole ones",
    ]
    assert (result.report.test_places, result.report.settings["labels"]) == (12, 25)


# Interruptions


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_stopped_and_resumed_it_is_bit_for_bit_the_same(begin, data, monkeypatch, bn):
    settings = {"epochs": 3, "bn": bn, "lr": 0.01}
    straight, _ = run(begin, data, out=begin / "straight", **settings)
    for at in (2, 3, 7):  # in an epoch, at the end of one, in the last
        with monkeypatch.context() as patch:
            send_signal(patch, signal.SIGTERM, at=at)
            stopped, text = run(begin, data, resume="auto", **settings)
        assert stopped.report is None
        assert f"step {at}: stopped by SIGTERM and saved; go on with --resume auto" in text
        assert not (stopped.out / "finetune.json").exists()
    # The weights that it began with are not read again.
    (begin / CHECKPOINT).unlink()
    resumed, text = run(begin, data, resume="auto", **settings)
    assert "going on after step 7" in text
    assert same(resumed.out, straight.out)
    assert str(resumed.report.rows) == str(straight.report.rows)
    assert [row["step"] for row in read_metrics(resumed.out)] == list(range(1, 10))
    again, text = run(begin, data, resume="auto", **settings)
    assert "already trained" in text
    assert str(again.report.rows) == str(straight.report.rows)


def test_ctrl_c_saves_and_is_passed_on(begin, data, monkeypatch):
    with monkeypatch.context() as patch:
        send_signal(patch, signal.SIGINT, at=2)
        with pytest.raises(KeyboardInterrupt):
            run(begin, data)
    assert load(begin / "finetune")["geossl"]["step"] == 2


def test_what_may_change_on_resume(begin, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        send_signal(patch, signal.SIGTERM, at=2)
        run(begin, data, epochs=2)
    with pytest.raises(UsageError, match=r"cannot resume with changed settings \(seed, epochs\)|\(epochs, seed\)") as e:
        run(begin, data, epochs=3, seed=1, resume="auto")
    assert "  epochs: was 2, now 3" in e.value.__notes__[0]
    other = make_data(tmp_path / "other", views=3)
    with pytest.raises(UsageError, match="not the index that"):
        run(begin, other, resume="auto")
    result, text = run(begin, data, epochs=2, threads=2, precision="bf16", resume="auto")
    assert "precision: was fp32, now bf16; results may differ by rounding" in text
    assert result.report is not None


def test_a_folder_that_is_taken(begin, data):
    run(begin, data, epochs=1)
    before = (begin / "finetune" / CHECKPOINT).read_bytes()
    with pytest.raises(UsageError, match=r"finetune: exists already; go on with --resume auto, or use another --out"):
        run(begin, data, epochs=1)
    with pytest.raises(UsageError, match="exists already"):
        run(begin, data, epochs=1, out=begin)
    assert (begin / "finetune" / CHECKPOINT).read_bytes() == before


def test_a_run_of_another_kind_is_not_gone_on_with(begin, data):
    saved = load(begin)
    saved["geossl"] |= {"format": 1, "step": 3, "index_hash": "", "labels_hash": ""}
    torch.save(saved, begin / CHECKPOINT)
    with pytest.raises(UsageError, match="has another run, not a finetuning's"):
        run(begin, data, out=begin, resume="auto")


# The learning rate


def test_the_learning_rate_is_chosen_on_training_places(begin, data, monkeypatch):
    seen = []
    predict = choose_lr.predict

    def spy(state, part, **options):
        found, failures = predict(state, part, **options)
        top1 = (found.probabilities.argmax(1) == found.labels).double().mean().item()
        seen.append((state.config.optim.lr, state.config.epochs, set(part.train), set(part.test), top1))
        return found, failures

    monkeypatch.setattr(choose_lr, "predict", spy)
    monkeypatch.setattr(choose_lr, "LR_GRID", (0.0001, 0.001, 0.01))
    monkeypatch.setattr(choose_lr, "LEAST_STEPS", 9)  # three epochs, where a fifth are two
    result, text = run(begin, data, lr="auto", epochs=10, batch=6)
    assert [(lr, epochs) for lr, epochs, *_ in seen] == [(0.0001, 3), (0.001, 3), (0.01, 3)]
    index = Index.read(data)
    for _, _, train, test, _ in seen:
        assert train | test == set(index.rows(split="train"))
        assert not train & test
        assert not set(index.places[list(train)]) & set(index.places[list(test)])
        assert np.bincount(index.labels[list(test)]).tolist() == [2, 2, 2]
    top1 = [share for *_, share in seen]
    assert result.report.rows[0].fit.lr == choose_lr.LR_GRID[int(np.argmax(top1))]
    tried = json.loads((result.out / "lr.json").read_text())["top1"]
    assert tried == {f"{lr:g}": share for lr, share in zip(choose_lr.LR_GRID, top1, strict=True)}
    assert f"learning rate 0.001: top-1 {top1[1]:.1%} on 6 training images that were set aside" in text
    assert not list(result.out.glob("lr-*"))
    fixed, _ = run(begin, data, lr=result.report.rows[0].fit.lr, epochs=10, batch=6, out=begin / "fixed")
    assert same(fixed.out, result.out)


def test_no_choice_depends_on_test_labels(begin, data, tmp_path, monkeypatch):
    monkeypatch.setattr(choose_lr, "LR_GRID", (0.0001, 0.001))
    honest, _ = run(begin, data, lr="auto", epochs=2, out=tmp_path / "honest")
    index = Index.read(data)
    category = np.array(index.table["category"].to_pylist())
    test, names = index.rows(split="val"), sorted(COLOURS)
    category[test] = [names[(names.index(name) + 1) % 3] for name in category[test]]
    where = index.table.column_names.index("category")
    poisoned = index.table.set_column(where, index.table.schema.field("category"), pa.array(category, pa.string()))
    other = tmp_path / "poisoned.parquet"
    Index(table=poisoned, root=index.root, content_hash="1", source=None).write(other)
    result, _ = run(begin, other, lr="auto", epochs=2, out=tmp_path / "out")
    assert same(result.out, honest.out)
    assert torch.equal(result.predictions.probabilities, honest.predictions.probabilities)
    assert not torch.equal(result.predictions.labels, honest.predictions.labels)


def test_the_choice_goes_on_where_it_was_interrupted(begin, data, monkeypatch):
    monkeypatch.setattr(choose_lr, "LR_GRID", (0.0001, 0.001))
    straight, _ = run(begin, data, lr="auto", epochs=2, out=begin / "straight")
    begun = []
    take = choose_lr.begin
    monkeypatch.setattr(choose_lr, "begin", lambda c, d, *, lr: begun.append(lr) or take(c, d, lr=lr))
    for at in (1, 5):
        with monkeypatch.context() as patch:
            send_signal(patch, signal.SIGTERM, at=at)
            stopped, _ = run(begin, data, lr="auto", epochs=2, resume="auto")
            assert stopped.report is None
    resumed, _ = run(begin, data, lr="auto", epochs=2, resume="auto")
    assert begun == [0.0001, 0.001], "each was begun once"
    assert same(resumed.out, straight.out)


def test_a_rate_that_diverges_is_left_out(begin, data, monkeypatch):
    monkeypatch.setattr(choose_lr, "LR_GRID", (1e30, 0.01))
    result, text = run(begin, data, lr="auto")
    assert "learning rate 1e+30: diverged" in text
    assert result.report.rows[0].fit.lr == 0.01
    monkeypatch.setattr(choose_lr, "LR_GRID", (1e30, 1e32))
    with pytest.raises(GeosslError, match="diverged at every learning rate"):
        run(begin, data, lr="auto", out=begin / "other")


def test_a_single_place_leaves_no_choice(begin, tmp_path):
    data = make_data(tmp_path / "one", places=3, split=False)
    index = Index.read(data)
    column = pa.array(["here"] * 4 + ["there"] * 2, pa.string())
    table = index.table.set_column(index.table.column_names.index("location_id"), "location_id", column)
    split = pa.array(["train"] * 4 + ["val"] * 2, pa.string())
    table = table.set_column(table.column_names.index("split"), "split", split)
    Index(table=table, root=index.root, content_hash="2", source=None).write(data)
    with pytest.raises(UsageError, match="single training place"):
        run(begin, data, lr="auto")
    assert not (begin / "finetune").exists()


# Mistakes and failures


def test_wrong_inputs_leave_nothing(begin, data, tmp_path):
    four, no_classes = make_data(tmp_path / "four", bands=4), make_data(tmp_path / "none", category=False)
    cases = [
        ({"run": tmp_path / "nowhere", "out": begin / "finetune"}, "nowhere: no such run"),
        ({"data": tmp_path / "no.parquet"}, r"no\.parquet"),
        ({"data": four}, r"images of 4 bands; the encoder of .* reads 3"),
        ({"data": no_classes}, "no image has a category"),
        ({"split_test": "test"}, "no split 'test'"),
        ({"lr": 0.0}, "lr: must be a number above 0, or auto"),
        ({"lr": math.nan}, "lr: must be a number above 0, or auto"),
        ({"lr": "much"}, "lr: must be a number above 0, or auto"),
        ({"head_lr": -1}, "head_lr: Input should be greater than 0"),
        ({"labels": 0}, "labels: Input should be greater than 0"),
        ({"flip": 2}, "flip: Input should be less than or equal to 1"),
        ({"bn": "frozen"}, "bn: Input should be 'eval' or 'train'"),
        ({"learning_rate": 1}, "learning_rate: no such setting"),
        ({"size": 64}, "--size: is for --from-scratch without a run"),
        ({"run": None}, "no run to begin with"),
        ({"run": None, "from_scratch": True, "backbone": "resnet18"}, "--out: not given"),
        ({"run": None, "from_scratch": True, "backbone": "resnet18x", "out": begin / "finetune"}, "did you mean"),
        ({"device": "cuda:9"}, "cuda:9 is not there"),
        ({"pack": tmp_path / "no.pack"}, r"no\.pack"),
    ]
    for change, message in cases:
        options = {"begin": begin, "data": data} | {"begin" if k == "run" else k: v for k, v in change.items()}
        with pytest.raises(UsageError, match=message) as caught:
            run(options.pop("begin"), options.pop("data"), **options)
        assert "\n" not in str(caught.value)
        assert not (begin / "finetune").exists(), change


def test_a_rate_is_not_chosen_by_several_processes(begin, data, monkeypatch):
    monkeypatch.setattr("geossl.finetuning.finetune.joined", lambda _: nullcontext(Ranks(rank=0, world=2)))
    monkeypatch.setattr("geossl.training.resume.find", lambda *_, **__: None)
    with pytest.raises(UsageError, match="--lr auto: is tried in one process; start it without torchrun, or give"):
        run(begin, data, lr="auto")


def test_a_loss_that_is_not_finite(begin, data):
    with pytest.raises(GeosslError, match=r"the (loss|gradient's norm) is (nan|inf) .*; try a smaller learning rate"):
        run(begin, data, lr=1e30, epochs=4)


def test_unreadable_images_are_told(begin, tmp_path):
    data = make_data(tmp_path / "broken", places=160)
    for name in ("3_1.png", "150_0.png"):
        file = data.parent / name
        file.write_bytes(file.read_bytes()[:300])
    result, _ = run(begin, data, epochs=1, batch=60)
    assert (result.report.train_images, result.report.test_images) == (240, 79)
    train, test = result.report.notes
    assert train.startswith("unreadable training images, which others stood for: 1, the first: ")
    assert "3_1.png" in train
    assert test.startswith("unreadable test images left out: 1, the first: ")
    assert "150_0.png" in test


def test_images_that_moved_and_packs(begin, tmp_path):
    from geossl.cli import main

    data = make_data(tmp_path / "images")
    straight, _ = run(begin, data, epochs=1)
    assert main(["data", "pack", str(data), "-o", str(tmp_path / "planet.pack")]) == 0
    (tmp_path / "moved").mkdir()
    for image in data.parent.glob("*.png"):
        image.rename(tmp_path / "moved" / image.name)
    with pytest.raises(UsageError, match=r"\d_\d\.png"):
        run(begin, data, epochs=1, out=tmp_path / "none")
    for name, where in {"root": tmp_path / "moved", "pack": tmp_path / "planet.pack"}.items():
        result, _ = run(begin, data, epochs=1, out=tmp_path / name, **{name: where})
        assert same(result.out, straight.out)
        assert str(result.report.rows) == str(straight.report.rows)
