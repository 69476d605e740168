import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.data.table import SCHEMA
from geossl.errors import GeosslError, UsageError
from geossl.evaluate import classifiers, features, linear, probe
from geossl.evaluate.features import extract
from geossl.evaluate.predictions import read_predictions
from geossl.models.backbone import build_backbone

COLOURS = {"forest": (20, 90, 30), "ice": (230, 235, 240), "sand": (200, 170, 110)}


def fake_loader(images, *, unreadable=(), nodata=None, gains=None):
    """Stands for the loader: row r is `images[r]`, unreadable rows are left out of their batch."""
    value = nodata

    class Fake:
        asked = SimpleNamespace()
        nodata = value

        def __init__(self, index, **options):
            Fake.asked = SimpleNamespace(**options)
            self.parts = torch.from_numpy(options["rows"]).split(options["batch"])

        def __iter__(self):
            for part in self.parts:
                rows = torch.tensor([r for r in part.tolist() if r not in unreadable], dtype=torch.int64)
                factors = torch.ones(1, len(rows), images.shape[1]) if gains is None else gains
                yield SimpleNamespace(images=images[rows][None], rows=rows[None], gains=factors)

        def set_epoch(self, epoch):
            Fake.asked.epoch = epoch

        def failures(self):
            return [(f"{r}.jpg", "cut short") for r in unreadable]

    return Fake


class Mean(nn.Module):
    """An encoder: the mean of each band."""

    def forward(self, x):
        return x.mean(dim=(2, 3))


def extract_fake(monkeypatch, *, rows, unreadable=(), images=None, **options):
    draw = torch.Generator().manual_seed(0)
    if images is None:
        images = torch.randint(256, (12, 3, 4, 4), dtype=torch.uint8, generator=draw)
    fake = fake_loader(images, unreadable=unreadable)
    monkeypatch.setattr(features, "Loader", fake)
    index = SimpleNamespace(labels=np.arange(12) + 100, places=np.arange(12, dtype=np.int32) // 2)
    settings = {"size": 16, "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3), "batch": 5} | options
    got = extract(
        Mean(),
        index=index,
        rows=np.array(rows),
        device=torch.device("cpu"),
        loader=LoaderConfig(),
        **settings,
    )
    return got, images, fake.asked


def test_extract_keeps_rows_with_their_features(monkeypatch, capsys):
    rows = [7, 3, 11, 0, 1, 2, 9]
    got, images, asked = extract_fake(monkeypatch, rows=rows)
    want = images[rows].double().mean(dim=(2, 3)) / 255
    want = (want - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(got.x.double(), want, rtol=1e-4, atol=1e-5)
    assert got.rows.tolist() == rows
    assert got.labels.tolist() == [r + 100 for r in rows]
    assert got.places.tolist() == [r // 2 for r in rows]
    assert (got.x.dtype, got.labels.dtype, got.places.dtype) == (torch.float32, torch.int64, torch.int32)
    assert (asked.train, asked.views, asked.temporal, asked.color) == (False, 1, False, None)
    assert (asked.crop.size, asked.crop.context) == (16, True)
    assert capsys.readouterr() == ("", "")


def test_extract_leaves_out_what_cannot_be_read(monkeypatch):
    got, images, _ = extract_fake(monkeypatch, rows=range(12), unreadable=(0, 6, 10, 11))
    readable = [r for r in range(10) if r not in {0, 6}]
    assert got.rows.tolist() == readable
    assert len(got.x) == len(got.labels) == len(got.places) == 8
    whole, _, _ = extract_fake(monkeypatch, rows=readable, images=images)
    torch.testing.assert_close(got.x, whole.x)
    assert got.failures == [(f"{r}.jpg", "cut short") for r in (0, 6, 10, 11)]


def test_extract_refuses_nothing_and_nan(monkeypatch):
    with pytest.raises(GeosslError, match=r"none of the 2 images could be read: 3\.jpg: cut short"):
        extract_fake(monkeypatch, rows=[3, 4], unreadable=(3, 4))
    with pytest.raises(GeosslError, match="not finite"):
        extract_fake(monkeypatch, rows=[1], std=(float("nan"), 1, 1))


def test_an_encoder_may_be_told_where_there_is_no_data(monkeypatch):
    images = torch.randint(1, 256, (12, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[2, 1, 0, 0] = 0  # the value of no data
    gains = torch.ones(1, 2, 3)
    gains[0, 1, 2] = 0  # the second image lacks a band
    fake = fake_loader(images, nodata=0.0, gains=gains)
    monkeypatch.setattr(features, "Loader", fake)
    index = SimpleNamespace(labels=np.arange(12), places=np.arange(12, dtype=np.int32))
    options = {
        "index": index,
        "rows": np.array([2, 3]),
        "size": 16,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.1, 0.2, 0.3),
        "device": torch.device("cpu"),
        "loader": LoaderConfig(),
    }
    seen = []

    def spy(x):
        seen.append(x.clone())
        return x.nan_to_num().flatten(1)

    for keep in (True, False):
        extract(spy, keep_nodata=keep, **options)
    want = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    want[0, 1, 0, 0] = want[1, 2] = True
    assert torch.equal(seen[0].isnan(), want)
    assert not seen[1].isnan().any()
    assert torch.equal(seen[0].nan_to_num(), seen[1])


def make_data(folder, *, places=16, views=2, bands=3, split=True, category=True, width=40):
    """Images whose colour tells the class, and their index."""
    rng = np.random.default_rng(0)
    names = sorted(COLOURS)
    rows = []
    for place in range(places):
        for view in range(views):
            name = names[place % 3]
            pixels = np.clip(rng.normal(COLOURS[name], 12, (40, width, 3)), 0, 255).astype("u1")
            path = f"{place}_{view}.png"
            Image.fromarray(pixels).save(folder / path)
            rows.append(
                {
                    "path": path,
                    "location_id": f"place {place}",
                    "category": name if category else None,
                    "split": ("train" if place < places * 3 // 4 else "val") if split else None,
                    "width": width,
                    "height": 40,
                    "bands": bands,
                    "dtype": "uint8",
                }
            )
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    Index(table=table, root=folder, content_hash="0", source=None).write(folder / "planet.parquet")
    return folder / "planet.parquet"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run whose encoder has random weights."""
    folder = tmp_path_factory.mktemp("run")
    state = {f"module.encoder_q.{k}": v for k, v in build_backbone("resnet18", bands=3, seed=7).state_dict().items()}
    own = {
        "config": {"arm": "tp", "crop": {"size": 32, "context": True}},
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
    (folder / "checkpoints").mkdir()
    torch.save({"arch": "resnet18", "state_dict": state, "geossl": own}, folder / "checkpoints" / "last.pt")
    return folder


def made_by(report):
    return [(row.fit.encoder, row.fit.method) for row in report.rows]


def test_probe_from_files_to_report(run, tmp_path):
    data = make_data(tmp_path)
    got = probe.probe(run, data=data, threads=1)
    assert made_by(got) == [("tp", "linear"), ("tp", "knn"), ("random", "linear"), ("random", "knn")]
    assert (got.train_images, got.train_places, got.test_images, got.test_places, got.classes) == (
        24,
        12,
        8,
        4,
        3,
    )
    # Colours as far apart as these are told apart even by random convolutions.
    assert min(row.scores.top1 for row in got.rows) == 1
    assert min(row.scores.place_f1 for row in got.rows) == 1
    assert all(math.isnan(row.scores.top5) for row in got.rows)
    assert got.rows[0].fit.lr in linear.LR_GRID
    assert got.rows[0].fit.validation_places == 3  # of four of each class one
    assert got.notes == []
    assert got.geo is None
    written = json.loads((run / "probe.json").read_text())
    assert written["rows"][1]["scores"]["top1"] == 1
    assert written["settings"]["size"] == 32
    predictions, classes = read_predictions(run / "probe" / "predictions.parquet")
    assert classes == sorted(COLOURS)
    assert [(each.fit.encoder, each.fit.method) for each in predictions] == made_by(got)
    index = Index.read(data)
    for each in predictions:
        assert each.rows.tolist() == index.rows(split="val").tolist()
        assert each.labels.tolist() == index.labels[each.rows].tolist()
    again = probe.probe(run, data=data, threads=2, baselines=())
    assert str(again.rows) == str(got.rows[:2])


def test_every_method_with_every_baseline_and_few_labels(run, tmp_path):
    data = make_data(tmp_path, places=40)
    got = probe.probe(
        run,
        data=data,
        methods=("logistic", "knn"),
        labels=(100, 30, 1),
        baselines=("statistics", "random_conv"),
        threads=1,
    )
    shares = [1.0, 30.0, 100.0]
    assert [(row.fit.encoder, row.fit.method, row.fit.labels) for row in got.rows] == [
        (encoder, method, share)
        for encoder in ("tp", "statistics", "random_conv")
        for method in ("logistic", "knn")
        for share in shares
    ]
    assert [row.fit.train_places for row in got.rows[:3]] == [3, 9, 30]
    assert [row.fit.train_images for row in got.rows[:3]] == [6, 18, 60]
    assert [row.fit.validation_places for row in got.rows[:3]] == [0, 3, 6]
    assert [row.fit.c for row in got.rows[3:6]] == [None] * 3
    # The mean of a band is all that it takes.
    assert min(row.scores.top1 for row in got.rows if row.fit.encoder == "statistics" and row.fit.labels == 100) == 1
    assert min(row.place_variants["mean_feature"].top1 for row in got.rows if row.fit.labels == 100) == 1
    again = probe.probe(run, data=data, methods=("knn",), baselines=("random_conv",), threads=1)
    assert str(again.rows[1].scores) == str(got.rows[-1].scores)


def test_features_of_no_common_scale_are_standardised_by_the_training_images(run, tmp_path, monkeypatch):
    data = make_data(tmp_path, places=32)
    asked = []
    plain = classifiers.predict_knn
    monkeypatch.setattr(classifiers, "predict_knn", lambda **options: asked.append(options) or plain(**options))
    probe.probe(run, data=data, methods=("knn",), baselines=("statistics", "random_conv"), threads=1)
    trained, statistics, random_conv = (options for options in asked[::2])
    assert [options["train_x"].shape[1] for options in (trained, statistics, random_conv)] == [512, 39, 1024]
    for options in (statistics, random_conv):
        torch.testing.assert_close(options["train_x"].mean(0), torch.zeros(options["train_x"].shape[1]))
        deviation = options["train_x"].std(0, correction=0)
        assert ((deviation - 1).abs().lt(1e-4) | (deviation == 0)).all()
        assert options["test_x"].mean(0).abs().max() > 1e-3
    assert trained["train_x"].mean(0).abs().max() > 0.1


def test_mean_features_and_votes_of_places(run, tmp_path, monkeypatch):
    """The mean of the places' features, as the classifier sees it, and the votes of their images."""
    data = make_data(tmp_path, places=16, views=3)
    asked = []
    plain = classifiers.predict_knn
    monkeypatch.setattr(classifiers, "predict_knn", lambda **options: asked.append(options) or plain(**options))
    got = probe.probe(run, data=data, methods=("knn",), baselines=(), threads=1)
    images, places = (options["test_x"] for options in asked)
    index = Index.read(data)
    test = index.rows(split="val")
    for number, place in enumerate(np.unique(index.places[test])):
        torch.testing.assert_close(places[number], images[torch.from_numpy(index.places[test] == place)].mean(0))
    assert set(got.rows[0].place_variants) == {"vote", "mean_feature"}


@pytest.mark.parametrize("method", ["linear", "logistic"])
def test_no_choice_depends_on_test_labels(run, tmp_path, monkeypatch, method):
    """Poisoned test labels: the same settings and the same predictions, other scores."""
    data = make_data(tmp_path)
    honest = probe.probe(run, data=data, methods=(method,), baselines=())
    (before,), _ = read_predictions(run / "probe" / "predictions.parquet")
    index = Index.read(data)
    category = np.array(index.table["category"].to_pylist())
    test = index.rows(split="val")
    category[test] = [sorted(COLOURS)[(sorted(COLOURS).index(c) + 1) % 3] for c in category[test]]
    where = index.table.column_names.index("category")
    poisoned = index.table.set_column(where, index.table.schema.field("category"), pa.array(category, pa.string()))
    Index(table=poisoned, root=index.root, content_hash="1", source=None).write(data)
    got = probe.probe(run, data=data, methods=(method,), baselines=())
    assert got.rows[0].fit == honest.rows[0].fit
    assert got.rows[0].scores.top1 == 0
    (after,), _ = read_predictions(run / "probe" / "predictions.parquet")
    assert torch.equal(before.probabilities, after.probabilities)


def test_probe_without_splits(run, tmp_path):
    got = probe.probe(run, data=make_data(tmp_path, split=False), baselines=(), lr=1.0, seed=3)
    assert (got.train_places, got.test_places) == (13, 3)
    assert got.notes == ["the index has no splits: 20% of the places, drawn with seed 3, test"]
    assert got.rows[0].fit.lr == 1.0


def test_probe_of_a_checkpoint_file_reports_beside_it(run, tmp_path):
    (tmp_path / "encoder.pt").write_bytes((run / "checkpoints" / "last.pt").read_bytes())
    probe.probe(tmp_path / "encoder.pt", data=make_data(tmp_path), baselines=(), lr=1.0)
    assert (tmp_path / "probe.json").is_file()


def test_probe_of_a_librarys_file_whose_model_is_named(tmp_path):
    data, weights = make_data(tmp_path), tmp_path / "vit.safetensors"
    save_file(build_backbone("timm/vit_tiny_patch16_224", bands=3, seed=7).state_dict(), weights)
    named = {"backbone": "timm/vit_tiny_patch16_224", "baselines": (), "lr": 1.0}
    got = probe.probe(weights, data=data, threads=1, **named)
    assert [row.fit.encoder for row in got.rows] == ["trained", "trained"]
    assert (got.settings["backbone"], got.settings["size"]) == ("timm/vit_tiny_patch16_224", 224)
    with pytest.raises(UsageError, match="name it, as with --backbone"):
        probe.probe(weights, data=data, threads=1)


def test_unreadable_images_are_left_out_and_named(run, tmp_path):
    data = make_data(tmp_path, places=160)
    broken = tmp_path / "3_1.png"
    broken.write_bytes(broken.read_bytes()[:300])
    got = probe.probe(run, data=data, baselines=(), lr=1.0)
    assert (got.train_images, got.test_images) == (239, 80)
    (note,) = got.notes
    assert note.startswith("unreadable images left out: 1, the first: ")
    assert "3_1.png" in note


def test_images_that_moved(run, tmp_path):
    data = make_data(tmp_path, places=8)
    (tmp_path / "moved").mkdir()
    for image in tmp_path.glob("*.png"):
        image.rename(tmp_path / "moved" / image.name)
    with pytest.raises(UsageError, match=r"\d_\d\.png") as caught:
        probe.probe(run, data=data, lr=1.0)
    assert "\n" not in str(caught.value)
    assert probe.probe(run, data=data, lr=1.0, baselines=(), root=tmp_path / "moved").train_images == 12


def test_wrong_inputs_leave_nothing(run, tmp_path):
    data = make_data(tmp_path, places=8)
    four, no_classes = tmp_path / "four", tmp_path / "no_classes"
    four.mkdir()
    no_classes.mkdir()
    cases = [
        ({"run": tmp_path / "nowhere"}, "nowhere"),
        ({"data": tmp_path / "no.parquet"}, r"no\.parquet"),
        ({"data": make_data(four, bands=4)}, r"images of 4 bands; the encoder of .* reads 3"),
        ({"data": make_data(no_classes, category=False)}, "no image has a category"),
        ({"split_test": "test"}, "no split 'test'"),
        ({"lr": 0.0}, "--lr 0"),
        ({"lr": math.nan}, "--lr nan"),
        ({"batch": 0}, "--batch 0"),
        ({"device": "cuda:9"}, "cuda:9 is not there"),
        ({"device": "gpu"}, "unknown device gpu"),
        ({"methods": ("linear", "svm")}, "--methods linear,svm: give some of: linear, knn, logistic"),
        ({"methods": ()}, "--methods : give some of"),
        ({"baselines": ("none", "random")}, "--baselines none,random: give some of: random, statistics, random_conv"),
        ({"labels": (1, 0)}, "--labels 1,0: give shares of the training places in per cent, above 0 to 100"),
        ({"labels": (101,)}, "--labels 101: give shares"),
        ({"labels": (math.nan,)}, "--labels nan: give shares"),
        ({"labels": ()}, "--labels : give shares"),
    ]
    (run / "probe.json").unlink(missing_ok=True)
    shutil.rmtree(run / "probe", ignore_errors=True)
    for change, message in cases:
        options = {"run": run, "data": data} | change
        with pytest.raises(UsageError, match=message) as caught:
            probe.probe(options.pop("run"), **options)
        assert "\n" not in str(caught.value)
    assert [file.name for file in run.iterdir()] == ["checkpoints"]


def test_random_crops_are_drawn_anew_for_every_epoch_of_the_fit(run, tmp_path, monkeypatch):
    seen = []
    plain = probe.extract

    def spy(module, **options):
        seen.append((options.get("cut", "center"), options.get("epoch", 0), len(options["rows"])))
        return plain(module, **options)

    def short_fit(*, anew, x, classes, **_):
        if anew is not None:
            assert not torch.equal(anew(0), anew(1)), "other crops of the oblong images"
            assert torch.equal(anew(1), anew(1))
            assert anew(0).shape == x.shape
        return torch.zeros(classes, x.shape[1]), torch.zeros(classes)

    monkeypatch.setattr(probe, "extract", spy)
    monkeypatch.setattr(classifiers, "fit_linear", short_fit)
    data = make_data(tmp_path, width=64)
    options = {"methods": ("linear",), "lr": 1.0, "baselines": (), "device": "cpu", "threads": 1}
    got = probe.probe(run, data=data, crops="random", labels=(50, 100), **options)
    centre = [("center", 0, 24), ("center", 0, 8)]
    anew = [("random", 0), ("random", 1), ("random", 1), ("random", 1), ("random", 0)]
    assert seen == centre + [(*each, 12) for each in anew] + [(*each, 24) for each in anew]
    assert got.notes == []
    assert got.settings["crops"] == "random"
    assert got.rows[0].fit.validation_places is None  # the learning rate was given
    centre = probe.probe(run, data=data, **options)
    assert "24 of 24 training boxes are not square" in centre.notes[0]
