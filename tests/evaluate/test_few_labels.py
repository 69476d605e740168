import numpy as np
import pytest
import torch

from geossl.evaluate.few_labels import draw_places


def case(*, seed=0, counts=(200, 57, 8, 1)):
    """Rows of places of four classes, with one to four images each, in any order."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(counts)), counts)
    place = np.repeat(np.arange(len(label)), rng.integers(1, 5, len(label)))
    order = rng.permutation(len(place))
    return torch.from_numpy(place[order] * 7 + 3), torch.from_numpy(label[place[order]])


def drawn(places, labels, share, *, seed=0, use="labels", **options):
    return draw_places(places=places, labels=labels, share=share, seed=seed, use=use, **options)


def count(places, labels, mine):
    return [len(places[mine & (labels == label)].unique()) for label in labels.unique()]


@pytest.mark.parametrize(
    ("share", "want"), [(0.01, [2, 1, 1, 1]), (0.1, [20, 6, 1, 1]), (0.5, [100, 28, 4, 1]), (1.0, [200, 57, 8, 1])]
)
def test_each_class_has_its_share_and_one_at_least(share, want):
    places, labels = case()
    assert count(places, labels, drawn(places, labels, share)) == want


def test_places_are_whole():
    places, labels = case()
    mine = drawn(places, labels, 0.3)
    for place in places.unique():
        assert len(mine[places == place].unique()) == 1


def test_more_labels_have_those_of_fewer():
    places, labels = case()
    one, ten, half = (drawn(places, labels, share) for share in (0.01, 0.1, 0.5))
    assert (ten | one).equal(ten)
    assert (half | ten).equal(half)


def test_the_seed_and_the_use_draw():
    places, labels = case()
    mine = drawn(places, labels, 0.1)
    assert mine.equal(drawn(places, labels, 0.1))
    assert not mine.equal(drawn(places, labels, 0.1, seed=1))
    assert not mine.equal(drawn(places, labels, 0.1, use="held out"))


def test_every_place_is_as_likely():
    places, labels = torch.arange(20), torch.zeros(20, dtype=torch.int64)
    found = sum(drawn(places, labels, 0.25, seed=seed).double() for seed in range(400))
    # 400 draws of 5 of 20: 100 each, with a standard deviation of 8.7.
    assert found.sum() == 2000
    assert (found - 100).abs().max() < 35


def test_spare_places_are_never_drawn():
    places, labels = case()
    assert count(places, labels, drawn(places, labels, 0.2, spare=1)) == [40, 11, 2, 0]
    assert count(places, labels, drawn(places, labels, 1.0, spare=1)) == [199, 56, 7, 0]


def test_the_class_of_a_place_of_several_is_the_most_frequent():
    places = torch.tensor([0, 0, 0, 1, 2, 3])
    labels = torch.tensor([0, 1, 1, 1, 0, 0])
    for seed in range(8):
        mine = drawn(places, labels, 0.01, seed=seed)
        assert len(places[mine].unique()) == 2  # one of 0 and 1, one of 2 and 3
        assert mine[:3].unique().numel() == 1
        assert mine[0] != mine[3]
