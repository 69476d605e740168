import math

import numpy as np
import pytest
import torch
from made_predictions import random_case
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from geossl.evaluate.guesses import guess_images
from geossl.evaluate.metrics import count_confusions, score, score_classes


def run(probabilities, labels, places):
    return score(
        probabilities=torch.tensor(np.asarray(probabilities, dtype="f4")),
        labels=torch.tensor(np.asarray(labels)),
        places=torch.tensor(np.asarray(places)),
    )


def test_images_equal_sklearn():
    probabilities, labels, places = random_case()
    got = run(probabilities, labels, places)
    guess = probabilities.argmax(axis=1)
    assert got.top1 == pytest.approx(accuracy_score(labels, guess))
    assert got.top5 == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(9)))
    assert got.f1 == pytest.approx(f1_score(labels, guess, average="macro"))
    assert got.f1_weighted == pytest.approx(f1_score(labels, guess, average="weighted"))
    assert got.images == 400


def test_places_equal_sklearn_on_summed_probabilities():
    probabilities, labels, places = random_case(seed=1)
    got = run(probabilities, labels, places)
    codes = sorted(set(places.tolist()))
    summed = np.array([sum(probabilities[i].astype(float) for i in np.flatnonzero(places == c)) for c in codes])
    label = np.array([labels[places == c][0] for c in codes])
    assert got.place_top1 == pytest.approx(accuracy_score(label, summed.argmax(axis=1)))
    assert got.place_top5 == pytest.approx(top_k_accuracy_score(label, summed, k=5, labels=np.arange(9)))
    assert got.place_f1 == pytest.approx(f1_score(label, summed.argmax(axis=1), average="macro"))
    assert got.place_f1_weighted == pytest.approx(f1_score(label, summed.argmax(axis=1), average="weighted"))
    assert got.places == len(codes)
    views = np.bincount(places)[codes]
    assert (got.views_mean, got.views_median) == pytest.approx((views.mean(), np.median(views)))


def test_places_by_hand():
    """Three views outvoted by the sure one, a single view, and a place whose views lie apart in the table."""
    probabilities = [[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.55, 0.45], [0.3, 0.7], [0.45, 0.55]]
    labels = [1, 0, 1, 1, 0, 1]
    places = [77, 5, 77, 77, 2, 2_000_000]
    got = run(probabilities, labels, places)
    # 77: 1.25 to 1.75 -> 1, right; 5 -> 0, right; 2 -> 1, wrong; 2,000,000 -> 1, right.
    assert got.place_top1 == pytest.approx(3 / 4)
    assert got.top1 == pytest.approx(3 / 6)
    # Places, class 0: precision 1, recall 1/2; class 1: precision 2/3, recall 1.
    assert got.place_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert (got.images, got.places) == (6, 4)


def test_a_sum_is_no_vote():
    """Two weak views against a sure one: the sum follows the sure one, a majority would not."""
    got = run([[0.51, 0.49], [0.51, 0.49], [0.0, 1.0]], [1, 1, 1], [0, 0, 0])
    assert got.place_top1 == 1


def test_the_place_of_mixed_categories_has_the_most_frequent():
    got = run([[1, 0, 0], [1, 0, 0], [1, 0, 0]], [2, 0, 0], [4, 4, 4])
    assert got.place_top1 == 1
    assert got.top1 == pytest.approx(2 / 3)


def test_single_views_make_both_the_same():
    probabilities, labels, _ = random_case(seed=2)
    got = run(probabilities, labels, np.arange(400)[::-1].copy())
    assert (got.place_top1, got.place_top5, got.place_f1) == pytest.approx((got.top1, got.top5, got.f1))
    assert got.places == got.images


def test_classes_without_test_rows():
    """Class 2 is neither true nor predicted: macro-F1 leaves it out; class 3 is predicted: it counts as 0."""
    got = run([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], [0, 1, 1], [0, 1, 2])
    assert got.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_top5_needs_more_than_five_classes():
    few = run(np.eye(5), np.arange(5), np.arange(5))
    assert math.isnan(few.top5)
    assert math.isnan(few.place_top5)
    six = run(np.linspace(1, 0.5, 6)[None].repeat(6, axis=0), np.arange(6), np.arange(6))
    assert six.top5 == pytest.approx(5 / 6)


def test_equals_are_ranked_by_class():
    got = run(np.full((6, 6), 1 / 6), np.arange(6), np.arange(6))
    assert (got.top1, got.top5) == pytest.approx((1 / 6, 5 / 6))


def test_figures_of_classes_equal_sklearn():
    probabilities, labels, _ = random_case(seed=3, classes=12)
    labels = np.minimum(labels, 10)  # the last class has no test images
    guesses = guess_images(torch.from_numpy(probabilities), labels)
    got = score_classes(guesses)
    want = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(12), average=None, zero_division=0
    )
    for name, column in zip(("precision", "recall", "f1", "support"), want, strict=True):
        np.testing.assert_allclose(getattr(got, name), column)
    assert got.support[11] == 0


def test_confusions_are_the_entries_of_sklearns_matrix():
    probabilities, labels, _ = random_case(seed=4)
    guesses = guess_images(torch.from_numpy(probabilities), labels)
    matrix = np.zeros((9, 9), dtype=int)
    true, guess, count = count_confusions(guesses)
    matrix[true, guess] = count
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(9)))
    assert (count > 0).all()
