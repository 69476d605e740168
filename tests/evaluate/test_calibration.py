import numpy as np
import pytest
import torch
from made_predictions import random_case
from sklearn.calibration import calibration_curve

from geossl.evaluate.calibration import reliability
from geossl.evaluate.guesses import guess_images


def guesses_with(confidence, right):
    """Two classes, of which the first is guessed with such a confidence, above a half."""
    confidence = torch.tensor(confidence, dtype=torch.float64)
    return guess_images(torch.stack([confidence, 1 - confidence], dim=1), 1 - np.array(right, dtype=np.int64))


def test_bins_equal_sklearns():
    probabilities, labels, _ = random_case(n=3000)
    guesses = guess_images(torch.from_numpy(probabilities), labels)
    got = reliability(guesses)
    right, confidence = calibration_curve(guesses.right, guesses.confidence, n_bins=15, strategy="uniform")
    filled = got.count > 0
    np.testing.assert_allclose(got.accuracy[filled], right)
    np.testing.assert_allclose(got.confidence[filled], confidence)
    assert got.count.sum() == 3000
    assert np.isnan(got.accuracy[~filled]).all()
    # Guo et al., equation 3.
    assert got.ece == pytest.approx((got.count[filled] / 3000 * np.abs(right - confidence)).sum())
    assert 0.01 < got.ece < 0.5


def test_by_hand():
    got = reliability(guesses_with([0.95, 0.95, 0.99, 0.55], [1, 0, 1, 1]))
    # Three in the last bin, of which two are right with 0.9633 on average; one, right with 0.55.
    assert got.ece == pytest.approx((3 * (0.96333333 - 2 / 3) + 0.45) / 4)
    assert got.count.tolist() == [0] * 8 + [1] + [0] * 5 + [3]


def test_a_bin_has_its_upper_end():
    got = reliability(guesses_with([0.75, 1.0, np.nextafter(0.75, 1)], [1, 1, 1]), bins=4)
    assert got.count.tolist() == [0, 0, 1, 2]


def test_perfect_and_hopeless():
    assert reliability(guesses_with([1.0, 1.0], [1, 1])).ece == 0
    assert reliability(guesses_with([1.0, 1.0], [0, 0])).ece == 1
