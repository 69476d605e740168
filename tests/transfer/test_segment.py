"""Segmentation from its files to its report; whole images window by window; masks beside the loader's pixels."""

import io
import json
import os
import signal

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
import torch
from rich.console import Console
from scipy import ndimage
from shapely.geometry import shape
from torch import nn

from geossl.cli import main
from geossl.config import CropConfig, LoaderConfig, TrainConfig
from geossl.data.index import Index
from geossl.data.listing import listed
from geossl.data.loader import Loader
from geossl.data.spacenet import index_spacenet
from geossl.data.synth.spacenet import make_spacenet
from geossl.data.table import content_hash
from geossl.models.backbone import build_backbone
from geossl.models.seeds import seeded
from geossl.models.weights import CHECKPOINT
from geossl.training.log import read_metrics
from geossl.transfer.chips import draw_chips
from geossl.transfer.config import make_config
from geossl.transfer.learner import TransferStepper
from geossl.transfer.objects import Objects, read_objects
from geossl.transfer.segmentation_net import SegmentationNet
from geossl.transfer.segmentations import MaskTargets, score, segment, whole_mask
from geossl.transfer.transfer import transfer

TINY = {
    "task": "segment",
    "backbone": "resnet18",
    "from_scratch": True,
    "size": 65,
    "chips": 2,
    "epochs": 2,
    "batch": 4,
}
GROUND = rasterio.Affine(0.5, 0, 680_000, 0, -0.5, 7_460_000)


def run(data, out, *, resume=None, **more):
    said = io.StringIO()
    config = make_config(**(TINY | {"data": data, "out": out, "device": "cpu"} | more))
    return transfer(config, resume=resume, console=Console(file=said, width=200)), said.getvalue()


def load(out):
    return torch.load(out / CHECKPOINT, weights_only=True)


@pytest.fixture(scope="module")
def done(spacenet, tmp_path_factory):
    return run(spacenet, tmp_path_factory.mktemp("done") / "run")


class Oracle(nn.Module):
    """Knows that bright pixels are class 1, and is as sure as they are bright."""

    def forward(self, images):
        bright = images[:, 0]
        return torch.stack([0.5 - bright, bright - 0.5], 1) * 20


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A GeoTIFF with bright polygons on black, as rasterio burns them."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    polygons = np.array([shapely.Point(*rng.uniform([0, 0], [300, 210])).buffer(rng.uniform(5, 25)) for _ in range(25)])
    polygons = np.append(polygons, [shapely.box(20, 30, 60, 90)])
    polygons = shapely.intersection(polygons, shapely.box(0, 0, 300, 210))
    mask = rasterio.features.rasterize(list(polygons), out_shape=(210, 300), default_value=255, dtype="uint8")
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 210, "width": 300, "crs": "EPSG:32723"}
    with rasterio.open(folder / "scene.tif", "w", **profile, transform=GROUND, tiled=True) as file:
        file.write(np.stack([mask] * 3))
    table = listed(folder, {"path": pa.array(["scene.tif"])}, root=folder, threads=1).table
    objects = Objects(
        image=np.zeros(len(polygons), np.int64),
        category=np.zeros(len(polygons), np.int64),
        geometry=polygons,
        categories=["building"],
    )
    return Index(table, folder, content_hash(table)), objects, mask > 0


def settings(folder, size):
    color = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return TrainConfig(data=folder, out=folder, crop={"size": size, "context": False}, color=color, device="cpu")


@pytest.mark.parametrize("size", [64, 97])
def test_whole_images_are_those_of_their_windows(scene, size):
    index, objects, mask = scene
    (found,) = segment(Oracle(), settings(index.root, size), index=index, rows=np.arange(1), overlap=0.3)
    assert (found.classes == mask).all()
    assert (whole_mask(objects.geometry, objects.category, shape=(210, 300)) == mask).all()
    drawn = []
    scores = score([found], objects, found=drawn)
    assert scores.pixels.mean_iou == 1
    assert drawn == [found]
    assert scores.footprints["building"].right + scores.footprints["building"].missed == len(objects)
    assert scores.footprints["building"].precision > 0.5, "those that touch are one outline"


@pytest.mark.parametrize("size", [48, 300])
def test_masks_are_where_the_loader_shows_the_objects(scene, size):
    """Also mirrored, and of windows that are enlarged."""
    index, objects, _ = scene
    chips = draw_chips(index, np.arange(1), size=size, most=6, seed=0)
    loader = Loader(
        chips.index(index),
        rows=np.arange(len(chips)),
        batch=len(chips),
        views=1,
        temporal=False,
        crop=CropConfig(size=size, context=False),
        color=None,
        seed=0,
        train=False,
        loader=LoaderConfig(threads=1),
    )
    (batch,) = loader
    targets = MaskTargets(objects=objects, chips=chips)
    bright = batch.images[0, :, 0] >= 128
    for mirror in (False, True):
        mirrored = torch.full((len(chips),), mirror)
        masks = targets.batch(batch.rows[0], mirrored, torch.device("cpu")) > 0
        shown = bright.flip(-1) if mirror else bright
        agreement = (masks == shown).float().mean().item()
        assert agreement == 1 if size == 48 else agreement > 0.98


def test_from_files_to_report(done, spacenet):
    result, said = done
    assert "segment: resnet18 at 65 pixels on cpu, random weights" in said
    names = {"checkpoints", "config.yaml", "segment.json", "metrics.csv", "metrics.jsonl", "tensorboard", "test"}
    assert {path.name for path in result.out.iterdir()} == names
    written = json.loads((result.out / "segment.json").read_text())
    assert written["scores"]["mean_iou"] == result.scores.pixels.mean_iou
    index = Index.read(spacenet)
    test = index.rows(split="val")
    assert result.scores.images == len(test)
    sizes = [index.column(name).to_numpy()[test] for name in ("width", "height")]
    assert result.scores.pixels.confusion.sum() == (sizes[0] * sizes[1]).sum(), "every pixel once"
    truth = result.scores.pixels.confusion.sum(1)
    objects = read_objects(index)
    expected = sum(
        (whole_mask(objects.geometry[objects.of(row)], objects.category[objects.of(row)], shape=(h, w)) > 0).sum()
        for row, w, h in zip(test.tolist(), *(size.tolist() for size in sizes), strict=True)
    )
    assert truth[1] == expected
    assert (result.out / "test" / "picture-1.png").stat().st_size > 10_000
    assert "building" in (result.out / "test" / "categories.csv").read_text()


def test_steps_are_those_of_a_plain_loop(spacenet, tmp_path):
    """SGD with ten times the rate for what is new, falling as a polynomial."""
    taken = []

    class Plain(TransferStepper):
        def step(self, batch, *, number, logged=True):
            images, chips = self.prepare(batch, number=number)
            taken.append((images[0].clone(), self._targets(chips, self._mirrored(len(chips), number), self._device)))
            return super().step(batch, number=number, logged=logged)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geossl.transfer.run.TransferStepper", Plain)
        result, _ = run(spacenet, tmp_path / "run", lr=0.01)
    rows = read_metrics(result.out)
    an_epoch = len(taken) // 2
    encoder = build_backbone("resnet18", bands=3, seed=0, size=65)
    model = SegmentationNet(encoder, head="pspnet", classes=2, size=65, seed=0).train()
    old = list(encoder.body.parameters())
    new = [p for p in model.parameters() if all(p is not other for other in old)]
    optimizer = torch.optim.SGD([{"params": old}, {"params": new}], lr=1, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step, (images, truth) in enumerate(taken):
        rate = 0.01 * (1 - (step // an_epoch) / 2) ** 0.9
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, 10 * rate
        optimizer.zero_grad()
        with seeded(0, f"step {step}"):  # what the head drops at random
            loss = model(images, truth)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row["lr"] for row in rows] == pytest.approx([0.01] * an_epoch + [0.01 * 0.5**0.9] * an_epoch)
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-3)


def test_a_stopped_run_goes_on_bit_for_bit(done, spacenet, tmp_path):
    whole, _ = done
    step = TransferStepper.step

    def stop(self, batch, **rest):
        made = step(self, batch, **rest)
        if rest["number"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferStepper, "step", stop)
        stopped, said = run(spacenet, tmp_path / "run")
    assert stopped.scores is None
    assert "stopped by SIGTERM and saved" in said
    resumed, _ = run(spacenet, tmp_path / "run", resume="auto")
    ours, theirs = load(resumed.out)["state_dict"], load(whole.out)["state_dict"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_predictions_lie_on_the_ground(done, scene, tmp_path):
    """The GeoTIFF has the image's georeference, and the outlines are around its classes."""
    whole, _ = done
    index, *_ = scene
    out = tmp_path / "seen"
    assert main(["predict", str(whole.out), str(index.root / "scene.tif"), "-o", str(out), "--device", "cpu"]) == 0
    with rasterio.open(out / "scene.tif") as file, rasterio.open(index.root / "scene.tif") as image:
        assert (file.transform, file.crs, file.shape) == (image.transform, image.crs, image.shape)
        assert file.tags()["CATEGORIES"] == "background,building"
        classes = file.read(1)
    content = json.loads((out / "scene.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32723"
    polygons = [shape(feature["geometry"]) for feature in content["features"]]
    numbered, count = ndimage.label(classes > 0)  # pixels that touch by a side are one, here as there
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    assert len(polygons) == (sizes >= 20).sum()
    for polygon in polygons:
        column, row = ~GROUND @ polygon.representative_point().coords[0]
        assert classes[max(int(row) - 1, 0) : int(row) + 2, max(int(column) - 1, 0) : int(column) + 2].any()


def test_predictions_never_take_the_place_of_images(done, scene, tmp_path, capsys):
    whole, _ = done
    image = scene[0].root / "scene.tif"
    before = image.read_bytes()
    words = ["predict", str(whole.out), "--device", "cpu"]
    assert main([*words, str(image), "-o", str(image.parent)]) == 2
    assert "has the images themselves" in capsys.readouterr().err
    assert image.read_bytes() == before
    both = tmp_path / "both"
    both.mkdir()
    for name in ("a.tif", "a.tiff"):
        (both / name).write_bytes(before)
    assert main([*words, str(both), "-o", str(tmp_path / "seen")]) == 2
    assert "a.tiff and a.tif would both be written to" in capsys.readouterr().err


def test_training_beats_a_constant_by_far(tmp_path):
    make_spacenet(tmp_path / "town", images=30, size=192)
    index_spacenet(tmp_path / "town", out=tmp_path / "town.parquet", images="rgb", test=0.2, seed=0)
    how = {"size": 129, "chips": 3, "batch": 4, "lr": 0.02, "epochs": 6}
    result, _ = run(tmp_path / "town.parquet", tmp_path / "run", **how)
    pixels = result.scores.pixels
    of_class = pixels.confusion.sum(1)
    constant = (of_class.max() / of_class.sum()).item() / 2  # all background: its share, and nothing of the buildings
    assert pixels.mean_iou > constant + 0.15
    assert result.scores.footprints["building"].f1 > 0.3
