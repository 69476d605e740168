import numpy as np
import pytest

from geossl.finetuning.data import even_batch
from geossl.finetuning.few_labels import few_labels


def places_of(*counts, views=3):
    """Rows of so many places a class, each with as many views, shuffled."""
    labels = np.repeat(np.arange(len(counts)), [count * views for count in counts])
    places = np.repeat(np.arange(sum(counts), dtype=np.int32) * 7, views)
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], places[order]


@pytest.mark.parametrize(
    ("percent", "want"), [(10, [30, 1, 1]), (1, [3, 1, 1]), (0.01, [1, 1, 1]), (100, [300, 12, 1])]
)
def test_every_class_has_its_share_and_a_place_at_least(percent, want):
    labels, places = places_of(300, 12, 1)
    kept = few_labels(labels, places, percent=percent, seed=0)
    assert [len(np.unique(places[kept & (labels == label)])) for label in range(3)] == want
    for place in np.unique(places):
        assert len(np.unique(kept[places == place])) == 1, "a place is kept with all its images"


def test_fewer_labels_are_part_of_more():
    labels, places = places_of(300, 80)
    one, ten, other = (few_labels(labels, places, percent=p, seed=s) for p, s in [(1, 0), (10, 0), (10, 1)])
    assert (one <= ten).all()
    assert not (ten == other).all()
    assert ten.sum() == other.sum()


def test_a_place_of_two_classes_is_one_of_each():
    labels, places = np.array([0, 1, 0, 0]), np.array([5, 5, 6, 7], np.int32)
    kept = few_labels(labels, places, percent=1, seed=0)
    assert kept[:2].all()
    assert set(labels[kept]) == {0, 1}


@pytest.mark.parametrize(
    ("images", "want"),
    [(100, 100), (256, 256), (257, 256), (300, 150), (512, 256), (1000, 250), (363_571, 256), (2, 2)],
)
def test_few_images_are_cut_evenly(images, want):
    batch = even_batch(images, 256)
    assert batch == want
    assert images % batch <= images % 256
