"""What is seen in windows, put together; its scores, beside pycocotools; its files, by their coordinates."""

import contextlib
import io
import json

import numpy as np
import pytest
import rasterio
import shapely
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage
from torch import nn

from geossl.config import TrainConfig
from geossl.data.index import Index
from geossl.transfer.detections import Detections, detect, score
from geossl.transfer.objects import Objects
from geossl.transfer.seen import write_geojson


class Oracle(nn.Module):
    """Sees every bright rectangle of an image, also one that is cut off."""

    def forward(self, images):
        out = []
        for image in images:
            found = ndimage.find_objects(ndimage.label(image[0].numpy() > 0.5)[0])
            boxes = [[x.start, y.start, x.stop, y.stop] for y, x in found]
            out.append(
                {
                    "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                    "labels": torch.zeros(len(boxes), dtype=torch.int64),
                    "scores": torch.linspace(0.9, 0.5, len(boxes)),
                }
            )
        return out


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A GeoTIFF of 500 x 340 pixels with rectangles of at most 20 pixels, and its index."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    pixels, boxes = np.zeros((340, 500), np.uint8), []
    while len(boxes) < 60:
        x, y, w, h = rng.integers([0, 0, 6, 6], [480, 320, 20, 20])
        if not pixels[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2].any():
            pixels[y : y + h, x : x + w] = 255
            boxes.append([x, y, x + w, y + h])
    transform = rasterio.Affine(2.0, 0, 500_000, 0, -2.0, 4_000_000)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 340, "width": 500, "crs": "EPSG:32614"}
    with rasterio.open(folder / "scene.tif", "w", **profile, transform=transform, tiled=True) as file:
        file.write(np.stack([pixels] * 3))
    from geossl.embedding.image import image_index

    return folder, image_index(folder, "scene.tif"), np.array(boxes, float)


def config_of(folder):
    color = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return TrainConfig(data=folder, out=folder, crop={"size": 128, "context": False}, color=color, device="cpu")


def test_each_object_is_seen_once_whatever_the_windows(scene):
    folder, index, boxes = scene
    (found,) = detect(Oracle(), config_of(folder), index=index, rows=np.arange(1), overlap=0.25)
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(map(tuple, boxes.tolist()))
    assert (np.diff(found.scores) <= 0).all()


def test_an_image_that_cannot_be_read_has_nothing(scene, tmp_path):
    folder, index, _ = scene
    copy = Index(index.table, tmp_path, index.content_hash)
    (tmp_path / "scene.tif").write_bytes((folder / "scene.tif").read_bytes()[:3000])
    failures = []
    (found,) = detect(Oracle(), config_of(folder), index=copy, rows=np.arange(1), overlap=0.25, failures=failures)
    assert found.boxes.shape == (0, 4)
    assert failures[0][0].endswith("scene.tif")


def test_boxes_lie_on_the_ground_where_they_were_seen(scene, tmp_path):
    _, index, boxes = scene
    said = [{"category": "a", "score": 0.5}] * len(boxes)
    write_geojson(tmp_path / "s.geojson", shapely.box(*boxes.T), index=index, row=0, properties=said)
    content = json.loads((tmp_path / "s.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32614"
    shape = shapely.from_geojson(json.dumps(content["features"][7]["geometry"]))
    left, top, right, bottom = boxes[7]
    expected = (500_000 + 2 * left, 4_000_000 - 2 * bottom, 500_000 + 2 * right, 4_000_000 - 2 * top)
    assert shape.bounds == pytest.approx(expected)


def random_sets(rng, *, images, classes):
    """Objects, and detections some of which are near one."""
    row, category, boxes, seen = [], [], [], []
    for image in range(images):
        count = int(rng.integers(0, 12))
        corner = rng.uniform(0, 300, (count, 2))
        truth = np.concatenate([corner, corner + rng.uniform(4, 150, (count, 2))], 1)
        labels = rng.integers(0, classes, count)
        row += [image] * count
        category += labels.tolist()
        boxes += truth.tolist()
        near = truth + rng.normal(0, 4, truth.shape)
        other = rng.uniform(0, 300, (5, 2))
        drawn = np.concatenate([near, near + 3, np.concatenate([other, other + rng.uniform(5, 80, (5, 2))], 1)])
        codes = np.concatenate([labels, labels, rng.integers(0, classes, 5)])
        scores = np.sort(rng.uniform(0, 1, len(drawn)))[::-1].astype(np.float32)
        seen.append(Detections(row=image, boxes=drawn.astype(np.float32), categories=codes, scores=scores))
    names = [f"c{code}" for code in range(classes)]
    geometry = shapely.box(*np.array(boxes).T)
    return Objects(image=np.array(row), category=np.array(category), geometry=geometry, categories=names), seen


def coco_scores(objects, seen):
    """AP and AP50 by pycocotools, and AP by category."""
    truth = {
        "images": [{"id": one.row} for one in seen],
        "categories": [{"id": code} for code in range(len(objects.categories))],
        "annotations": [
            {"id": i + 1, "image_id": int(row), "category_id": int(code), "iscrowd": 0}
            | {"bbox": [a, b, c - a, d - b], "area": (c - a) * (d - b)}
            for i, (row, code, (a, b, c, d)) in enumerate(
                zip(objects.image, objects.category, objects.boxes.astype(np.float32).tolist(), strict=True)
            )
        ],
    }
    found = [
        {"image_id": one.row, "category_id": int(code), "score": float(s), "bbox": [a, b, c - a, d - b]}
        for one in seen
        for code, s, (a, b, c, d) in zip(one.categories, one.scores, one.boxes.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), "bbox")
        run.params.maxDets = [1, 100, 10_000]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]  # overlap, recall, category
    there = precision.max((0, 1)) > -1
    return precision[..., there].mean(), precision[0][:, there].mean(), precision.mean((0, 1))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_pycocotools(seed):
    objects, seen = random_sets(np.random.default_rng(seed), images=12, classes=4)
    scores = score(seen, objects)
    ap, ap50, per_class = coco_scores(objects, seen)
    assert 0.05 < ap < 0.95
    assert (scores.ap, scores.ap50) == pytest.approx((ap, ap50), abs=1e-6)
    for name, (value, count) in scores.per_class.items():
        code = objects.categories.index(name)
        assert value == pytest.approx(per_class[code], abs=1e-6)
        assert count == (objects.category == code).sum()


def test_perfect_detections_and_none_at_all():
    objects, seen = random_sets(np.random.default_rng(0), images=6, classes=2)
    perfect, nothing = [], []
    for one in seen:
        there = objects.of(one.row)
        n = there.stop - there.start
        boxes = objects.boxes[there].astype(np.float32)
        perfect.append(
            Detections(row=one.row, boxes=boxes, categories=objects.category[there], scores=np.ones(n, np.float32))
        )
        empty = np.zeros(0, np.float32)
        nothing.append(Detections(row=one.row, boxes=boxes[:0], categories=objects.category[:0], scores=empty))
    assert score(perfect, objects).ap == pytest.approx(1)
    assert score(nothing, objects).ap50 == 0
