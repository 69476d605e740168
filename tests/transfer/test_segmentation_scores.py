"""Scores of segmentations are those of scikit-learn, torchmetrics and semseg's formulas."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.segmentation import mean_iou

from geossl.transfer.masks import IGNORE
from geossl.transfer.segmentation_scores import SegmentationScores, confusion


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (6, 20, 20))
    predicted = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape))
    truth[rng.random(truth.shape) < 0.05] = IGNORE
    return predicted, truth


def test_as_scikit_learn_counts(made):
    predicted, truth = (torch.from_numpy(values) for values in made)
    matrix = sum(confusion(predicted[i : i + 2], truth[i : i + 2], classes=4) for i in (0, 2, 4))
    kept = made[1] != IGNORE
    flat = made[1][kept], made[0][kept]
    np.testing.assert_array_equal(matrix.numpy(), metrics.confusion_matrix(*flat))
    scores = SegmentationScores(confusion=matrix)
    np.testing.assert_allclose(scores.iou, metrics.jaccard_score(*flat, average=None), rtol=1e-12)
    assert scores.mean_iou == pytest.approx(metrics.jaccard_score(*flat, average="macro"), abs=1e-12)
    np.testing.assert_allclose(scores.accuracy, metrics.recall_score(*flat, average=None), rtol=1e-12)
    assert scores.mean_accuracy == pytest.approx(metrics.balanced_accuracy_score(*flat), abs=1e-12)
    assert scores.overall_accuracy == pytest.approx(metrics.accuracy_score(*flat), abs=1e-12)


def test_as_torchmetrics_counts():
    generator = torch.Generator().manual_seed(0)
    truth, predicted = (torch.randint(0, 2, (1, 64, 64), generator=generator) for _ in range(2))
    theirs = mean_iou(predicted, truth, num_classes=2, per_class=True, input_format="index")[0]
    scores = SegmentationScores(confusion=confusion(predicted, truth, classes=2))
    np.testing.assert_allclose(scores.iou, theirs.numpy(), rtol=1e-6)


def test_intersections_are_summed_before_the_mean():
    # One image all right, one with a building of one pixel missed: means of images would give another figure.
    truth, predicted = torch.zeros(2, 10, 10, dtype=torch.long), torch.zeros(2, 10, 10, dtype=torch.uint8)
    truth[0, :5] = predicted[0, :5] = 1
    truth[1, 0, 0] = 1
    scores = SegmentationScores(confusion=confusion(predicted, truth, classes=2))
    assert scores.iou == pytest.approx([149 / 150, 50 / 51])
    assert scores.mean_iou == pytest.approx((149 / 150 + 50 / 51) / 2)


def test_a_class_that_is_nowhere_counts_as_0_as_in_semseg():
    same = torch.zeros(3, 3, dtype=torch.long)
    assert SegmentationScores(confusion=confusion(same, same, classes=2)).iou == [1.0, 0.0]


def test_what_cannot_be_counted_is_an_error():
    truth = torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="shape"):
        confusion(truth[0], truth, classes=2)
    with pytest.raises(ValueError, match="not among 0 to 1"):
        confusion(truth + 2, truth, classes=2)
    assert confusion(truth + 2, truth + IGNORE, classes=2).sum() == 0
