"""A transfer from its files to its report: what it leaves, how it goes on, what it refuses, what its steps are."""

import io
import json
import os
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import torch
from rich.console import Console
from torchvision.models.detection.retinanet import RetinaNet

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.synth.detection import make_detection
from geossl.data.xview import read_xview
from geossl.errors import UsageError
from geossl.models.backbone import build_backbone
from geossl.models.weights import CHECKPOINT
from geossl.training.log import read_metrics
from geossl.transfer.config import make_config
from geossl.transfer.data import read_data
from geossl.transfer.detector import Detector
from geossl.transfer.learner import TransferStepper
from geossl.transfer.objects import read_objects
from geossl.transfer.transfer import transfer

TINY = {"task": "detect", "backbone": "resnet18", "from_scratch": True, "size": 96, "chips": 4, "epochs": 2}


def run(data, out, *, resume=None, **more):
    said = io.StringIO()
    config = make_config(**(TINY | {"data": data, "out": out, "lr": 1e-4, "device": "cpu"} | more))
    return transfer(config, resume=resume, console=Console(file=said, width=200)), said.getvalue()


def load(out):
    return torch.load(out / CHECKPOINT, weights_only=True)


@pytest.fixture(scope="module")
def done(xview, tmp_path_factory):
    return run(xview, tmp_path_factory.mktemp("done") / "run")


def test_from_files_to_report(done, xview):
    result, said = done
    assert "detect: resnet18 at 96 pixels on cpu, random weights" in said
    assert "images, 4 classes; " in said
    names = {"checkpoints", "config.yaml", "detect.json", "metrics.csv", "metrics.jsonl", "tensorboard", "test"}
    assert {path.name for path in result.out.iterdir()} == names
    written = json.loads((result.out / "detect.json").read_text())
    assert written["scores"]["ap50"] == result.scores.ap50
    assert result.scores.images == 2
    objects = read_objects(Index.read(xview))
    index = Index.read(xview)
    assert result.scores.objects == sum(
        objects.of(row).stop - objects.of(row).start for row in index.rows(split="val").tolist()
    )
    seen = pq.read_table(result.out / "test" / "seen.parquet")
    assert set(seen["path"].to_pylist()) <= {index.column("path")[int(row)].as_py() for row in index.rows(split="val")}
    assert shapely.from_wkb(seen["geometry"].to_numpy(zero_copy_only=False)).shape == (len(seen),)
    assert (result.out / "test" / "picture-1.png").stat().st_size > 10_000
    row = read_metrics(result.out)[-1]
    assert row["loss"] == pytest.approx(row["classification"] + row["bbox_regression"], rel=1e-5)
    assert {"grad_norm", "images_per_sec", "loader_wait"} <= row.keys()


def test_a_step_is_torchvisions(xview, tmp_path):
    """Two steps of Adam on the losses of a RetinaNet with the same weights, in a plain loop."""
    taken = []

    class Plain(TransferStepper):
        def step(self, batch, *, number, logged=True):
            images, chips = self.prepare(batch, number=number)
            taken.append((images[0].clone(), self._targets(chips, self._mirrored(len(chips), number), self._device)))
            return super().step(batch, number=number, logged=logged)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geossl.transfer.run.TransferStepper", Plain)
        result, _ = run(xview, tmp_path / "run", epochs=1)
    state = load(result.out)["state_dict"]
    encoder = build_backbone("resnet18", bands=3, seed=0, size=96)
    model = Detector(encoder, classes=4, bands=3, size=96, seed=0).train()
    assert isinstance(model.net, RetinaNet)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    losses = []
    for images, targets in taken:
        optimizer.zero_grad()
        loss = sum(model(images, targets).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row["loss"] for row in read_metrics(result.out)] == pytest.approx(losses, rel=1e-4)
    for name, value in model.state_dict().items():
        assert torch.allclose(state[f"module.{name}"].float(), value.float(), rtol=1e-3, atol=2e-4), name


def test_a_stopped_run_goes_on_bit_for_bit(done, xview, tmp_path):
    whole, _ = done
    steps = read_metrics(whole.out)[-1]["step"]
    step = TransferStepper.step

    def stop(self, batch, **rest):
        made = step(self, batch, **rest)
        if rest["number"] + 1 == steps // 2 + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferStepper, "step", stop)
        stopped, said = run(xview, tmp_path / "run")
    assert stopped.scores is None
    assert "stopped by SIGTERM and saved" in said
    resumed, said = run(xview, tmp_path / "run", resume="auto", threads=2)
    assert "going on after step" in said
    ours, theirs = load(resumed.out), load(whole.out)
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert resumed.scores == whole.scores
    again, said = run(xview, tmp_path / "run", resume="auto")
    assert "already trained" in said
    assert again.scores == whole.scores
    with pytest.raises(UsageError, match="cannot resume with changed settings"):
        run(xview, tmp_path / "run", resume="auto", lr=1e-3)


def test_a_frozen_encoder_stays_as_it_is(done, xview, tmp_path):
    whole, _ = done
    torch.save(build_backbone("resnet18", bands=3, seed=5, size=96).state_dict(), tmp_path / "w.pth")
    result, said = run(xview, tmp_path / "run", run=tmp_path / "w.pth", from_scratch=False, frozen=True, epochs=1)
    assert "frozen" in said
    weights, state = torch.load(tmp_path / "w.pth", weights_only=True), load(result.out)["state_dict"]
    for name, value in weights.items():
        assert torch.equal(state[f"module.net.backbone.pyramid.body.{name}"], value), name
    head = "module.net.head.classification_head.cls_logits.weight"
    assert not torch.equal(state[head], load(whole.out)["state_dict"][head])


def test_fewer_labels_are_a_part_of_more(xview):
    configs = [make_config(**TINY, data=xview, out="run", labels=share).settled() for share in (40, 70, 100)]
    data = [read_data(config) for config in configs]
    drawn = [set(one.train.tolist()) for one in data]
    there = len(drawn[2])
    index, objects = Index.read(xview), read_objects(Index.read(xview))
    assert drawn[2] == set(index.rows(split="train").tolist()) & set(objects.image.tolist())
    assert [len(rows) for rows in drawn] == [round(0.4 * there), round(0.7 * there), there]
    assert drawn[0] < drawn[1] < drawn[2]
    assert data[0].notes == [f"40 % of the labels: {len(drawn[0])} of {there} training images"]
    assert set(data[0].chips.image.tolist()) <= drawn[0]


def test_predictions_lie_on_the_ground(done, xview, tmp_path, capsys):
    whole, _ = done
    folder = xview.parent / "xview" / "train_images"
    # A network that sees objects everywhere.
    content = load(whole.out)
    content["state_dict"]["module.net.head.classification_head.cls_logits.bias"].zero_()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save(content, tmp_path / "run" / CHECKPOINT)
    words = [
        str(tmp_path / "run"),
        str(folder),
        "-o",
        str(tmp_path / "seen"),
        "--score",
        "0",
        "--device",
        "cpu",
        "--draw",
    ]
    assert main(["predict", *words]) == 0
    files = sorted((tmp_path / "seen").glob("*.geojson"))
    assert len(files) == 8
    assert len(list((tmp_path / "seen").glob("*.png"))) == 8
    content = json.loads(files[0].read_text())
    with rasterio.open(folder / f"{files[0].stem}.tif") as image:
        bounds = image.bounds
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::4326"
    middles = np.array([np.mean(feature["geometry"]["coordinates"][0][:4], axis=0) for feature in content["features"]])
    assert len(middles)
    assert (middles > [bounds.left, bounds.bottom]).all()
    assert (middles < [bounds.right, bounds.top]).all()
    changed = files[0].stat().st_mtime_ns
    files[1].unlink()
    capsys.readouterr()
    assert main(["predict", *words]) == 0
    assert "7 of 8 images are there already" in capsys.readouterr().out
    assert files[0].stat().st_mtime_ns == changed
    assert files[1].exists()


def test_what_is_wrong_is_said(done, xview, tmp_path, planet):
    whole, _ = done
    with pytest.raises(UsageError, match="no run to begin with"):
        run(xview, tmp_path / "a", from_scratch=False)
    with pytest.raises(UsageError, match="--frozen: would leave random weights"):
        run(xview, tmp_path / "a", frozen=True)
    with pytest.raises(UsageError, match="its rows are parts of images"):
        run(planet, tmp_path / "a")
    with pytest.raises(UsageError, match="no images of the split test; it has train, val"):
        run(xview, tmp_path / "a", split_test="test")
    with pytest.raises(UsageError, match="fewer than a batch of 500; give --batch"):
        run(xview, tmp_path / "a", batch=500)
    with pytest.raises(UsageError, match="vgg11: gives no feature maps here"):
        run(xview, tmp_path / "a", backbone="vgg11")
    with pytest.raises(UsageError, match="exists already"):
        run(xview, whole.out)
    assert main(["predict", str(tmp_path), str(xview), "-o", str(tmp_path / "o")]) == 2
    assert main(["predict", str(whole.out), str(tmp_path / "no"), "-o", str(tmp_path / "o")]) == 2
    assert not (tmp_path / "a").exists()


def test_weights_for_rgb_detect_in_four_bands(tmp_path):
    """Their first layer is spread over the bands, and a run says so and predicts in those bands."""
    make_detection(tmp_path / "xview", images=8, size=320)
    for file in (tmp_path / "xview" / "train_images").glob("*.tif"):
        with rasterio.open(file) as image:
            pixels, profile = image.read(), image.profile | {"count": 4, "photometric": "minisblack"}
        with rasterio.open(file, "w", **profile) as image:
            image.write(np.concatenate([pixels, pixels[1:2]]))
    read_xview(tmp_path / "xview", test=2).write(tmp_path / "xview.parquet")
    torch.save(build_backbone("resnet18", bands=3, seed=5, size=96).state_dict(), tmp_path / "w.pth")
    how = {"run": tmp_path / "w.pth", "from_scratch": False, "epochs": 1, "chips": 4, "frozen": True}
    with pytest.raises(UsageError, match=r"images of 4 bands; the encoder of .* reads 3: choose three with --bands"):
        run(tmp_path / "xview.parquet", tmp_path / "a", **how)
    result, _ = run(tmp_path / "xview.parquet", tmp_path / "a", bands="1,2,3,4", **how)
    content = load(result.out)
    assert content["geossl"]["bands"] == 4
    rgb = torch.load(tmp_path / "w.pth", weights_only=True)["conv1.weight"]
    spread = content["state_dict"]["module.net.backbone.pyramid.body.conv1.weight"]
    assert spread.shape[1] == 4
    torch.testing.assert_close(spread.sum(1), torch.cat([rgb, rgb.mean(1, keepdim=True)], 1).sum(1) * 3 / 4)
    assert "weights for RGB, spread over" in json.loads((result.out / "detect.json").read_text())["notes"][0]
    images = tmp_path / "xview" / "train_images"
    assert main(["predict", str(result.out), str(images), "-o", str(tmp_path / "seen"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "seen").glob("*.geojson"))) == 8
    three, _ = run(tmp_path / "xview.parquet", tmp_path / "b", bands="3,2,1", **how)
    assert load(three.out)["geossl"]["bands"] == 3


def test_a_pack_stands_for_the_images(done, xview, tmp_path):
    """Also in the test and the pictures; the images may be gone. A resized one has no windows."""
    whole, _ = done
    assert main(["data", "pack", str(xview), "-o", str(tmp_path / "pack")]) == 0
    folder = shutil.copytree(xview.parent, tmp_path / "moved")
    shutil.rmtree(folder / "xview" / "train_images")
    result, _ = run(folder / "xview.parquet", tmp_path / "run", pack=tmp_path / "pack")
    ours, theirs = load(result.out)["state_dict"], load(whole.out)["state_dict"]
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert result.scores == whole.scores
    pictures = [one.out / "test" / "picture-1.png" for one in (result, whole)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    seen = tmp_path / "seen"
    images = xview.parent / "xview" / "train_images"
    assert main(["predict", str(result.out), str(next(images.glob("*.tif"))), "-o", str(seen), "--device", "cpu"]) == 0
    assert main(["data", "pack", str(xview), "-o", str(tmp_path / "small"), "--short-side", "64"]) == 0
    with pytest.raises(UsageError, match="was resized, and windows are of whole images; pack without --short-side"):
        run(xview, tmp_path / "other", pack=tmp_path / "small")


def test_training_beats_random_weights_by_far(tmp_path):
    """A network that has learnt nothing finds next to nothing: mAP has no constant that does better."""
    make_detection(tmp_path / "xview", images=20, size=320)
    read_xview(tmp_path / "xview", test=4).write(tmp_path / "xview.parquet")
    nothing, _ = run(tmp_path / "xview.parquet", tmp_path / "nothing", epochs=1, lr=1e-9)
    result, _ = run(tmp_path / "xview.parquet", tmp_path / "run", chips=12, epochs=10, lr=1e-3)
    assert nothing.scores.ap50 < 0.02
    assert result.scores.ap50 > 0.1
