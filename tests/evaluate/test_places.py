import numpy as np
import pytest
import torch
from made_predictions import random_case

from geossl.evaluate import guesses
from geossl.evaluate.guesses import guess_images, guess_places
from geossl.evaluate.places import group_places


def test_places_are_grouped_whatever_their_codes_and_order():
    places = np.array([77, 5, 77, 2, 77, 5, 2_000_000])
    got = group_places(places=places, labels=np.array([4, 1, 0, 2, 4, 0, 3]))
    assert got.of_row.tolist() == [2, 1, 2, 0, 2, 1, 3]
    assert got.views.tolist() == [1, 2, 3, 1]
    # 2: its only image's; 5: as often 1 as 0, so the lower; 77: the most frequent; 2,000,000: its only image's.
    assert got.labels.tolist() == [2, 0, 4, 3]
    assert len(got) == 4
    part = got.take(np.array([False, True, False, True]))
    assert (part.of_row.tolist(), part.labels.tolist(), part.views.tolist()) == ([0, 0, 1], [0, 3], [2, 1])


def test_the_class_of_a_place_equals_a_plain_count():
    rng = np.random.default_rng(0)
    places, labels = rng.integers(0, 50, 400), rng.integers(0, 4, 400)
    got = group_places(places=places, labels=labels)
    want = [np.bincount(labels[places == code]).argmax() for code in np.unique(places)]
    assert got.labels.tolist() == want


def test_the_mean_feature_of_a_place():
    probabilities, labels, places = random_case(n=90, places=20)
    got = group_places(places=places, labels=labels).mean(torch.from_numpy(probabilities))
    want = np.stack([probabilities[places == code].mean(axis=0) for code in np.unique(places)])
    torch.testing.assert_close(got, torch.from_numpy(want))
    assert got.dtype == torch.float32


def test_votes_by_hand():
    probabilities = torch.tensor(
        [
            [0.51, 0.49, 0.0],  # place 0: two weak voices against a sure one: the vote follows the two
            [0.51, 0.49, 0.0],
            [0.0, 1.0, 0.0],
            [0.6, 0.4, 0.0],  # place 1: a voice each: the sum, 0.6 to 1.4, decides
            [0.0, 1.0, 0.0],
            [0.2, 0.4, 0.4],  # place 2: a single image; of equals the lower class
        ]
    )
    labels = np.array([0, 0, 0, 1, 1, 2])
    places = group_places(places=np.array([0, 0, 0, 1, 1, 2]), labels=labels)
    by_sum, by_vote = guess_places(probabilities, places)
    assert by_sum.guess.tolist() == [1, 1, 1]
    assert by_vote.guess.tolist() == [0, 1, 1]
    assert by_vote.right.tolist() == [True, True, False]
    # Behind class 1 with its voice, class 2 has none, but a greater sum than class 0.
    assert by_vote.rank.tolist() == [0, 0, 1]
    assert by_vote.confidence.tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert by_sum.confidence.tolist() == pytest.approx([1.98 / 3, 0.7, 0.4])


def test_votes_equal_a_plain_count():
    probabilities, labels, places = random_case(seed=5)
    grouped = group_places(places=places, labels=labels)
    _, got = guess_places(torch.from_numpy(probabilities), grouped)
    for code, guess, confidence in zip(np.unique(places), got.guess, got.confidence, strict=True):
        own = probabilities[places == code]
        voices = np.bincount(own.argmax(axis=1), minlength=9)
        best = np.flatnonzero(voices == voices.max())
        assert guess == best[own.sum(axis=0)[best].argmax()]
        assert confidence == pytest.approx(voices.max() / len(own))


@pytest.mark.parametrize("values", [1, 9, 50, 2000])
def test_blocks_change_nothing(monkeypatch, values):
    probabilities, labels, places = random_case(seed=6)
    grouped = group_places(places=places, labels=labels)
    tensor = torch.from_numpy(probabilities)
    whole = guess_images(tensor, labels), *guess_places(tensor, grouped)
    monkeypatch.setattr(guesses, "BLOCK_VALUES", values)
    parts = guess_images(tensor, labels), *guess_places(tensor, grouped)
    for one, other in zip(whole, parts, strict=True):
        for name in ("labels", "guess", "rank", "confidence"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_taking_some_guesses():
    probabilities, labels, _ = random_case(seed=7)
    chosen = labels == 3
    got = guess_images(torch.from_numpy(probabilities), labels).take(chosen)
    want = guess_images(torch.from_numpy(probabilities[chosen]), labels[chosen])
    assert len(got) == chosen.sum()
    assert got.right.tolist() == want.right.tolist()
    assert got.confidence.tolist() == want.confidence.tolist()
