"""Windows of images, and what their boxes become: against the loader, and by counting pixels."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import shapely
import torch
from PIL import Image

from geossl.config import CropConfig, LoaderConfig
from geossl.data.listing import listed
from geossl.data.loader import Loader
from geossl.data.stored import Index
from geossl.data.table import content_hash
from geossl.transfer.boxes import BoxTargets
from geossl.transfer.chips import draw_chips, lay_chips, starts, zones
from geossl.transfer.objects import Objects

SIZES = [(300, 200), (64, 64), (40, 90), (257, 130)]  # width, height


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An index of black images, in each a white rectangle, and the rectangles."""
    folder = tmp_path_factory.mktemp("images")
    boxes = []
    for number, (width, height) in enumerate(SIZES):
        pixels = np.zeros((height, width, 3), np.uint8)
        left, top, right, bottom = width // 4, height // 3, width // 4 + 16, height // 3 + 12
        pixels[top:bottom, left:right] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        boxes.append([left, top, right, bottom])
    paths = pa.array([f"{number}.png" for number in range(len(SIZES))])
    table = listed(folder, {"path": paths}, root=folder, threads=1).table
    return Index(table, folder, content_hash(table)), np.array(boxes, float)


def targets_of(images, chips):
    _, boxes = images
    objects = Objects(
        image=np.arange(len(SIZES)),
        category=np.arange(len(SIZES)),
        geometry=shapely.box(*boxes.T),
        categories=["a"] * 4,
    )
    return BoxTargets(objects=objects, boxes=objects.boxes, chips=chips)


def test_drawn_windows_lie_apart_and_inside(images):
    index, _ = images
    rows = np.arange(4)
    chips = draw_chips(index, rows, size=64, most=5, seed=0)
    assert (np.bincount(chips.image, minlength=4) <= 5).all()
    for image, (x, y, w, h) in zip(chips.image, chips.window.tolist(), strict=True):
        width, height = SIZES[image]
        assert w == h == min(64, width, height)
        assert 0 <= x <= width - w
        assert 0 <= y <= height - h
    for row in rows:
        own = chips.window[chips.of(row)]
        for i, (x, y, side, _) in enumerate(own):
            for x2, y2, *_ in own[:i]:
                assert max(0, side - abs(x - x2)) * max(0, side - abs(y - y2)) < 0.25 * side**2
    again = draw_chips(index, rows[2:], size=64, most=5, seed=0)
    assert (again.window == chips.window[chips.image >= 2]).all(), "an image's windows do not depend on the others"
    assert len(draw_chips(index, rows[:1], size=64, most=5, seed=1)) == 5
    assert (draw_chips(index, rows[:1], size=64, most=5, seed=1).window != chips.window[:5]).any()


@pytest.mark.parametrize("length", [1, 31, 32, 33, 40, 63, 64, 200, 257])
def test_rows_of_windows_cover_and_overlap(length):
    at = starts(length, side=32, overlap=8)
    assert at[0] == 0
    assert at[-1] + 32 == max(length, 32)
    assert all(a < b <= a + 24 for a, b in itertools.pairwise(at))
    assert len(at) == (1 if length <= 32 else -(-(length - 8) // 24)), "no more of them than are needed"


def test_zones_part_the_image(images):
    index, _ = images
    chips = lay_chips(index, np.arange(4), size=64, overlap=16)
    zone = zones(chips, index)
    for row, (width, height) in enumerate(SIZES):
        count = np.zeros((2 * height, 2 * width), int)
        for chip in range(*chips.of(row).indices(len(chips))):
            left, top, right, bottom = np.rint(2 * zone[chip]).astype(int)
            count[top:bottom, left:right] += 1
            x, y, side, _ = chips.window[chip]
            assert x <= zone[chip, 0] < zone[chip, 2] <= x + side
            assert y <= zone[chip, 1] < zone[chip, 3] <= y + side
        assert (count == 1).all()


@pytest.mark.parametrize("size", [64, 96])
def test_a_box_lies_where_the_loader_shows_the_object(images, size):
    """The white pixels that the network sees begin and end at the box; windows of small images are enlarged."""
    index, _ = images
    chips = lay_chips(index, np.arange(4), size=size, overlap=size // 2)
    targets = targets_of(images, chips)
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
    seen = 0
    for chip, image in zip(batch.rows[0].tolist(), batch.images[0, :, 0].numpy(), strict=True):
        boxes, labels = targets.of(chip)
        if not len(labels):
            continue
        seen += 1
        assert labels.tolist() == [chips.image[chip]]
        # Half bright and more; half a pixel is what an enlarged edge may be blurred by.
        rows, columns = np.nonzero(image >= 128)
        shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert shown == pytest.approx(boxes[0].tolist(), abs=1e-6 if chips.scale(chip) == 1 else 1)
        mirrored = targets.batch(torch.tensor([chip]), torch.tensor([True]), torch.device("cpu"))[0]["boxes"][0]
        flipped = np.nonzero(image[:, ::-1] >= 128)[1]
        assert [flipped.min(), flipped.max() + 1] == pytest.approx(
            mirrored[[0, 2]].tolist(), abs=1e-6 if chips.scale(chip) == 1 else 1
        )
    assert seen >= 4


def test_objects_of_which_little_is_seen_are_none(images):
    index, boxes = images
    chips = lay_chips(index, np.arange(1), size=64, overlap=0)
    targets = targets_of(images, chips)
    found = 0
    for chip in range(len(chips)):
        x, y, side, _ = chips.window[chip]
        inside = np.clip(boxes[0], [x, y, x, y], [x + side, y + side, x + side, y + side])
        share = np.prod(inside[2:] - inside[:2]) / (16 * 12)
        shown, _ = targets.of(chip)
        assert len(shown) == (share >= 0.5)
        found += len(shown)
    assert found >= 1
