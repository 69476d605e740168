"""Outlines of masks, and SpaceNet's score by building against a search of all pairs."""

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from geossl.transfer.footprints import Found, find_buildings, outlines


def squares(*corners, side=10.0):
    return np.array([shapely.box(x, y, x + side, y + side) for x, y in corners], object)


def by_search(predicted, truth, order, *, iou=0.5):
    """The challenge's loop: every prediction looks at every building that is left."""
    left, right = list(truth), 0
    for i in order:
        overlaps = [predicted[i].intersection(each).area / predicted[i].union(each).area for each in left]
        if overlaps and max(overlaps) >= iou:
            del left[int(np.argmax(overlaps))]
            right += 1
    return Found(right=right, wrong=len(predicted) - right, missed=len(left))


@pytest.mark.parametrize("seed", range(8))
def test_as_a_search_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(8) * 14.0, np.arange(8) * 14.0)
    truth = shapely.box(x.ravel(), y.ravel(), x.ravel() + 10, y.ravel() + rng.uniform(6, 13, 64))
    moved = rng.integers(0, 64, 70)
    dx, dy = rng.normal(0, 1.8, (2, 70))
    predicted = np.array(
        [shapely.affinity.translate(truth[i], a, b) for i, a, b in zip(moved, dx, dy, strict=True)], object
    )
    scores = rng.random(70)
    expected = by_search(predicted, truth, np.argsort(-scores))
    assert find_buildings(predicted, truth, scores=scores) == expected
    assert 0 < expected.right < 64
    by_area = np.argsort(-shapely.area(predicted), kind="stable")
    assert find_buildings(predicted, truth) == by_search(predicted, truth, by_area)


def test_cases_by_hand():
    truth = squares((0, 0), (20, 0), (40, 0))
    assert find_buildings(truth, truth) == Found(right=3, wrong=0, missed=0)
    assert find_buildings(truth[:0], truth) == Found(missed=3)
    assert find_buildings(truth, truth[:0]) == Found(wrong=3)
    # Two predictions of one building: the second is wrong.
    assert find_buildings(squares((0, 0), (0, 1)), truth) == Found(right=1, wrong=1, missed=2)
    # Half of a building is 0.5 exactly, which is enough; less is not.
    half = np.array([shapely.box(0, 0, 10, 5)], object)
    assert find_buildings(half, truth[:1]) == Found(right=1)
    assert find_buildings(np.array([shapely.box(0, 0, 10, 4.9)], object), truth[:1]) == Found(wrong=1, missed=1)
    # Less than 20 square pixels do not count, on either side.
    small = squares((0, 0), side=4)
    assert find_buildings(small, truth[:1]) == Found(missed=1)
    assert find_buildings(truth[:1], small) == Found(wrong=1)


def test_the_surest_takes_the_building():
    truth = squares((0, 0))
    good, poor = shapely.box(0, 0, 10, 9), shapely.box(0, 0, 10, 6)
    both = np.array([good, poor], object)
    for scores in ([0.9, 0.1], [0.1, 0.9]):
        assert find_buildings(both, truth, scores=np.array(scores)) == Found(right=1, wrong=1)


def test_figures_over_all_images():
    total = Found(right=3, wrong=1, missed=2) + Found(right=1, wrong=3)
    assert total == Found(right=4, wrong=4, missed=2)
    assert (total.precision, total.recall) == (4 / 8, 4 / 6)
    assert total.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert Found().f1 == Found(missed=2).f1 == 0


def test_outlines_of_a_mask():
    mask = np.zeros((40, 60), bool)
    mask[5:15, 10:30] = True
    mask[8:10, 15:18] = False  # a court
    mask[20:30, 10:20] = True
    mask[30, 20] = True  # touches at a corner alone
    probability = np.where(mask, 0.6, 0.1)
    probability[20:30] *= 1.5
    found = outlines(mask, probability=probability)
    assert sorted(shapely.area(found.polygons).tolist()) == [100, 194]
    by_area = np.argsort(shapely.area(found.polygons))
    np.testing.assert_allclose(found.scores[by_area], [0.9, 0.6])
    # Without simplifying, and with the smallest ones, the outlines are the mask.
    exact = outlines(mask, least_area=0, tolerance=0)
    np.testing.assert_array_equal(rasterize(exact.polygons.tolist(), out_shape=mask.shape) > 0, mask)
    assert len(exact.polygons) == 3
    assert (exact.scores == 1).all()
    assert len(outlines(np.zeros((5, 5), bool), probability=np.zeros((5, 5))).polygons) == 0


def test_a_slanted_wall_loses_its_steps_and_the_house_is_found():
    house = shapely.affinity.rotate(shapely.box(20, 20, 50, 40), 33)
    mask = rasterize([house], out_shape=(80, 80)) > 0
    found = outlines(mask)
    (polygon,) = found.polygons
    assert polygon.is_valid
    assert len(polygon.exterior.coords) < 20 < len(outlines(mask, tolerance=0).polygons[0].exterior.coords)
    assert polygon.intersection(house).area / polygon.union(house).area > 0.9
    assert find_buildings(found.polygons, np.array([house], object)) == Found(right=1)
