import time

import numpy as np
import pytest
from made_predictions import guessed, predictions, random_case
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from geossl.errors import UsageError
from geossl.evaluate import bootstrap
from geossl.evaluate.bootstrap import METRICS, compare, intervals


def scipys(data, statistic, *, seed, resamples, **options):
    """scipy's percentile interval, with the same draws: it takes its rows from the generator as we do."""
    found = stats.bootstrap(
        data, statistic, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed), **options
    )
    return tuple(found.confidence_interval)


def macro_f1(guesses, rows):
    return f1_score(guesses.labels[rows], guesses.guess[rows], average="macro", zero_division=0)


def test_intervals_equal_scipys():
    case = guessed(*random_case(n=200, places=40))
    images, by_sum, places = case.images, case.by_sum, case.places
    got = intervals(case, seed=3, resamples=300)
    draw = {"seed": 3, "resamples": 300}
    assert got["place_top1"] == pytest.approx(scipys((by_sum.right.astype(float),), np.mean, **draw))

    right = np.bincount(places.of_row, weights=images.right)
    ratio = scipys((right, places.views), lambda r, n, axis: r.sum(axis) / n.sum(axis), paired=True, **draw)
    assert got["top1"] == pytest.approx(ratio)

    def image_f1(drawn):
        return macro_f1(images, np.concatenate([np.flatnonzero(places.of_row == p) for p in drawn]))

    one_by_one = {"vectorized": False, **draw}
    assert got["f1"] == pytest.approx(scipys((np.arange(40),), image_f1, **one_by_one))
    assert got["place_f1"] == pytest.approx(scipys((np.arange(40),), lambda p: macro_f1(by_sum, p), **one_by_one))


def test_draws_equal_a_plain_loop():
    """All images of a drawn place come along, as often as it is drawn."""
    case = guessed(*random_case(n=90, places=17, seed=1))
    images, by_sum, places = case.images, case.by_sum, case.places
    got = bootstrap.resample(case, seed=5, resamples=40)
    random = np.random.default_rng(5)
    for number in range(40):
        drawn = random.integers(0, 17, 17)
        rows = np.concatenate([np.flatnonzero(places.of_row == place) for place in drawn])
        assert got["top1"][number] == pytest.approx(accuracy_score(images.labels[rows], images.guess[rows]))
        assert got["f1"][number] == pytest.approx(macro_f1(images, rows))
        assert got["place_top1"][number] == pytest.approx(accuracy_score(by_sum.labels[drawn], by_sum.guess[drawn]))
        assert got["place_f1"][number] == pytest.approx(macro_f1(by_sum, drawn))


def test_intervals_over_places_are_wider_than_over_images():
    """Ten images of a place that are right or wrong together are one sample, not ten."""
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(80), 10)
    labels = rng.integers(0, 2, 80)[places]
    guess = np.where(rng.random(80)[places] < 0.7, labels, 1 - labels)
    probabilities = np.eye(2, dtype="f4")[guess]
    by_place = intervals(guessed(probabilities, labels, places), seed=0)["top1"]
    by_image = intervals(guessed(probabilities, labels, np.arange(800)), seed=0)["top1"]
    assert by_place.high - by_place.low > 2.5 * (by_image.high - by_image.low)


def test_blocks_of_draws_change_nothing(monkeypatch):
    case = guessed(*random_case(seed=2))
    whole = bootstrap.resample(case, seed=1, resamples=50)
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 400)
    parts = bootstrap.resample(case, seed=1, resamples=50)
    assert all(np.array_equal(whole[name], parts[name]) for name in METRICS)
    other = bootstrap.resample(case, seed=2, resamples=50)
    assert not np.array_equal(whole["top1"], other["top1"])


def test_a_single_place_has_no_interval():
    probabilities, labels, _ = random_case(n=5, places=5)
    got = intervals(guessed(probabilities, labels, np.zeros(5, int)), seed=0)
    assert np.isnan([bound for interval in got.values() for bound in interval]).all()


def test_differences_are_taken_draw_by_draw():
    first, labels, places = random_case(n=300, places=50, seed=3)
    second = random_case(n=300, places=50, seed=4)[0]
    got = compare(predictions(first, labels, places), predictions(second, labels, places), seed=7, resamples=200)
    own = [guessed(each, labels, places) for each in (first, second)]
    random = np.random.default_rng(7)
    draws = random.integers(0, 50, (200, 50))
    grouped = own[0].places
    rows = [np.concatenate([np.flatnonzero(grouped.of_row == place) for place in drawn]) for drawn in draws]

    def low_and_high(values):
        return np.percentile(values, [2.5, 97.5])

    f1 = [[macro_f1(each.images, chosen) for chosen in rows] for each in own]
    assert got["f1"][1:] == pytest.approx(low_and_high(np.subtract(f1[1], f1[0])))
    top1 = [[each.by_sum.right[drawn].mean() for drawn in draws] for each in own]
    assert got["place_top1"][1:] == pytest.approx(low_and_high(np.subtract(top1[1], top1[0])))
    right = [each.images.right.mean() for each in own]
    assert got["top1"].value == pytest.approx(right[1] - right[0])
    assert got["f1"].value == pytest.approx(macro_f1(own[1].images, slice(None)) - macro_f1(own[0].images, slice(None)))


def test_predictions_have_no_difference_to_themselves():
    """What is hard for both is no part of the interval, however wide that of each is."""
    made = predictions(*random_case(seed=8))
    for difference in compare(made, made).values():
        assert tuple(difference) == (0, 0, 0)


def test_other_images_cannot_be_compared():
    probabilities, labels, places = random_case()
    made = predictions(probabilities, labels, places)
    with pytest.raises(UsageError, match="same test images alone: their rows differ"):
        compare(made, predictions(probabilities, labels, places, rows=np.arange(400)[::-1].copy()))
    with pytest.raises(UsageError, match="their places differ"):
        compare(made, predictions(probabilities, labels, places + 1))
    with pytest.raises(UsageError, match="same classes alone"):
        compare(made, predictions(np.pad(probabilities, ((0, 0), (0, 1))), labels, places))


def test_a_large_test_set_takes_seconds():
    """50,000 images, 2,000 draws; a loop over the draws would take half an hour."""
    case = guessed(*random_case(n=50_000, classes=62, places=12_000))
    before = time.process_time()
    intervals(case, seed=0)
    assert time.process_time() - before < 30
