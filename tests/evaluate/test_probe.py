import json
import math
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
from geossl.evaluate import features, linear, probe
from geossl.evaluate.features import extract
from geossl.evaluate.metrics import Scores
from geossl.evaluate.probe import ProbeReport, ProbeRow
from geossl.models.backbone import build_backbone

COLOURS = {"forest": (20, 90, 30), "ice": (230, 235, 240), "sand": (200, 170, 110)}


def fake_loader(images, *, unreadable=()):
    """Stands for the loader: row r is `images[r]`, unreadable rows are left out of their batch."""

    class Fake:
        asked = SimpleNamespace()
        nodata = None

        def __init__(self, index, **options):
            Fake.asked = SimpleNamespace(**options)
            self.parts = torch.from_numpy(options["rows"]).split(options["batch"])

        def __iter__(self):
            for part in self.parts:
                rows = torch.tensor([r for r in part.tolist() if r not in unreadable], dtype=torch.int64)
                gains = torch.ones(1, len(rows), images.shape[1])
                yield SimpleNamespace(images=images[rows][None], rows=rows[None], gains=gains)

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


def report(**changes):
    few = Scores(
        top1=0.5,
        top5=math.nan,
        f1=1 / 3,
        place_top1=1,
        place_top5=math.nan,
        place_f1=0.25,
        images=40,
        places=8,
    )
    fields = {
        "run": "runs/demo",
        "data": "planet.parquet",
        "index_hash": "ab",
        "settings": {"seed": 0, "lr": None},
        "train_images": 1234,
        "train_places": 30,
        "test_images": 40,
        "test_places": 8,
        "classes": 3,
        "rows": [
            ProbeRow(encoder="geo_tp", method="linear", lr=1.0, scores=few),
            ProbeRow(encoder="random", method="knn", lr=None, scores=few),
        ],
        "notes": ["warning: é"],
    }
    return ProbeReport(**(fields | changes))


def test_report_as_text():
    assert report().lines() == [
        "encoder  method  top-1  top-5     F1  place top-1  place top-5  place F1",
        "geo_tp   linear  50.00      -  33.33       100.00            -     25.00",
        "random   knn     50.00      -  33.33       100.00            -     25.00",
        "3 classes: trained on 1,234 images of 30 places, tested on 40 images of 8 places (5.0 views each)",
        "warning: é",
    ]
    assert report().table().row_count == 2


def test_report_as_json(tmp_path):
    report().write(tmp_path / "probe.json")
    got = json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))
    assert got["rows"][0]["scores"]["top5"] is None
    assert got["rows"][0]["scores"]["f1"] == pytest.approx(1 / 3)
    assert got["notes"] == ["warning: é"]
    assert [f.name for f in tmp_path.iterdir()] == ["probe.json"]
    with pytest.raises(GeosslError, match="cannot write the report"):
        report().write(tmp_path / "probe.json" / "below" / "probe.json")


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


def test_probe_from_files_to_report(run, tmp_path):
    data = make_data(tmp_path)
    got = probe.probe(run, data=data, threads=1)
    assert [(row.encoder, row.method) for row in got.rows] == [
        ("tp", "linear"),
        ("tp", "knn"),
        ("random", "linear"),
        ("random", "knn"),
    ]
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
    assert got.rows[0].lr in linear.LR_GRID
    assert got.notes == []
    written = json.loads((run / "probe.json").read_text())
    assert written["rows"][1]["scores"]["top1"] == 1
    assert written["settings"]["size"] == 32
    again = probe.probe(run, data=data, threads=2, random=False)
    assert str(again.rows) == str(got.rows[:2])


def test_no_choice_depends_on_test_labels(run, tmp_path, monkeypatch):
    """Poisoned test labels: the same learning rate and the same weights, other scores."""
    data = make_data(tmp_path)
    fits = []
    fit = linear.fit_linear
    monkeypatch.setattr(linear, "fit_linear", lambda **k: fits.append(fit(**k)) or fits[-1])
    monkeypatch.setattr(probe, "fit_linear", lambda **k: fits.append(fit(**k)) or fits[-1])
    honest = probe.probe(run, data=data, random=False)
    index = Index.read(data)
    category = np.array(index.table["category"].to_pylist())
    test = index.rows(split="val")
    category[test] = [sorted(COLOURS)[(sorted(COLOURS).index(c) + 1) % 3] for c in category[test]]
    where = index.table.column_names.index("category")
    poisoned = index.table.set_column(where, index.table.schema.field("category"), pa.array(category, pa.string()))
    Index(table=poisoned, root=index.root, content_hash="1", source=None).write(data)
    got = probe.probe(run, data=data, random=False)
    assert got.rows[0].lr == honest.rows[0].lr
    assert got.rows[0].scores.top1 == 0
    assert len(fits) == 2 * (len(linear.LR_GRID) + 1)
    half = len(fits) // 2
    for (weight, bias), (other_weight, other_bias) in zip(fits[:half], fits[half:], strict=True):
        assert torch.equal(weight, other_weight)
        assert torch.equal(bias, other_bias)


def test_probe_without_splits(run, tmp_path):
    got = probe.probe(run, data=make_data(tmp_path, split=False), random=False, lr=1.0, seed=3)
    assert (got.train_places, got.test_places) == (13, 3)
    assert got.notes == ["the index has no splits: 20% of the places, drawn with seed 3, test"]
    assert got.rows[0].lr == 1.0


def test_probe_of_a_checkpoint_file_reports_beside_it(run, tmp_path):
    (tmp_path / "encoder.pt").write_bytes((run / "checkpoints" / "last.pt").read_bytes())
    probe.probe(tmp_path / "encoder.pt", data=make_data(tmp_path), random=False, lr=1.0)
    assert (tmp_path / "probe.json").is_file()


def test_probe_of_a_librarys_file_whose_model_is_named(tmp_path):
    data, weights = make_data(tmp_path), tmp_path / "vit.safetensors"
    save_file(build_backbone("timm/vit_tiny_patch16_224", bands=3, seed=7).state_dict(), weights)
    named = {"backbone": "timm/vit_tiny_patch16_224", "random": False, "lr": 1.0}
    got = probe.probe(weights, data=data, threads=1, **named)
    assert [row.encoder for row in got.rows] == ["trained", "trained"]
    assert (got.settings["backbone"], got.settings["size"]) == ("timm/vit_tiny_patch16_224", 224)
    with pytest.raises(UsageError, match="name it, as with --backbone"):
        probe.probe(weights, data=data, threads=1)


def test_unreadable_images_are_left_out_and_named(run, tmp_path):
    data = make_data(tmp_path, places=160)
    broken = tmp_path / "3_1.png"
    broken.write_bytes(broken.read_bytes()[:300])
    got = probe.probe(run, data=data, random=False, lr=1.0)
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
    assert probe.probe(run, data=data, lr=1.0, random=False, root=tmp_path / "moved").train_images == 12


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
    ]
    (run / "probe.json").unlink(missing_ok=True)
    for change, message in cases:
        options = {"run": run, "data": data} | change
        with pytest.raises(UsageError, match=message) as caught:
            probe.probe(options.pop("run"), **options)
        assert "\n" not in str(caught.value)
    assert not (run / "probe.json").exists()


def test_random_crops_are_drawn_anew_for_every_epoch_of_the_fit(run, tmp_path, monkeypatch):
    seen = []
    plain = probe.extract

    def spy(module, **options):
        seen.append((options.get("cut", "center"), options.get("epoch", 0)))
        return plain(module, **options)

    def short_fit(*, anew, x, classes, **_):
        if anew is not None:
            assert not torch.equal(anew(0), anew(1)), "other crops of the oblong images"
            assert torch.equal(anew(1), anew(1))
        return torch.zeros(classes, x.shape[1]), torch.zeros(classes)

    monkeypatch.setattr(probe, "extract", spy)
    monkeypatch.setattr(probe, "fit_linear", short_fit)
    data = make_data(tmp_path, width=64)
    got = probe.probe(run, data=data, crops="random", lr=1.0, random=False, device="cpu", threads=1)
    assert seen == [("center", 0), ("center", 0), ("random", 0), ("random", 1), ("random", 1), ("random", 1)]
    assert got.notes == []
    assert got.settings["crops"] == "random"
    centre = probe.probe(run, data=data, lr=1.0, random=False, device="cpu", threads=1)
    assert "24 of 24 training boxes are not square" in centre.notes[0]
