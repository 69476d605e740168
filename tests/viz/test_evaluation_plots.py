"""Plots of predictions hold the numbers that scikit-learn gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image
from sklearn.metrics import confusion_matrix

from geossl.evaluate.calibration import reliability
from geossl.evaluate.guesses import Guesses, guess_images
from geossl.viz import evaluation
from geossl.viz.evaluation import draw_calibration, draw_confusion, plot_calibration, plot_confusion
from geossl.viz.summary import PALETTE


def guesses(classes: int = 6, n: int = 500, seed: int = 0) -> Guesses:
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes - 1, size=n, p=np.arange(1, classes) / np.arange(1, classes).sum())
    probabilities = rng.dirichlet(np.full(classes, 0.4), size=n).astype("f4")
    probabilities[np.arange(n), labels] += 0.4
    return guess_images(torch.from_numpy(probabilities / probabilities.sum(1, keepdims=True)), labels)


def test_the_matrix_has_the_shares_of_each_class() -> None:
    made = guesses()
    names = [f"class {i}" for i in range(6)]
    axes = draw_confusion(made, classes=names, title="geo_tp, linear").axes[0]
    matrix = confusion_matrix(made.labels, made.guess, labels=np.arange(6))
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares[:5], 100 * matrix[:5] / matrix[:5].sum(axis=1, keepdims=True))
    assert (shares[5] == 0).all()  # guessed, but never true
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [int(text.get_text()) for text in axes.texts] == matrix.ravel().tolist()
    assert axes.get_title() == "geo_tp, linear"


def test_of_many_classes_the_most_frequent_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CLASSES", 3)
    made = guesses()
    axes = draw_confusion(made, classes=[f"class {i}" for i in range(6)], title="knn").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 2", "class 3", "class 4"]
    matrix = confusion_matrix(made.labels, made.guess, labels=np.arange(6))
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares, 100 * matrix[2:5, 2:5] / matrix[2:5].sum(axis=1, keepdims=True))
    assert axes.get_title() == "knn, the 3 most frequent of 6 classes"


def test_diagrams_have_the_bins() -> None:
    named = {"linear": guesses(), "knn": guesses(seed=1)}
    figure = draw_calibration(named, title="geo_tp")
    above, below = figure.axes[:2], figure.axes[2:]
    for top, bottom, (name, made) in zip(above, below, named.items(), strict=True):
        found = reliability(made)
        assert top.get_title() == f"{name}: ECE {100 * found.ece:.1f} %"
        heights = [bar.get_height() for bar in top.patches if to_hex(bar.get_facecolor()).upper() == PALETTE[0]]
        np.testing.assert_allclose(heights, np.nan_to_num(100 * found.accuracy))
        counts = np.array([bar.get_height() for bar in bottom.patches])
        np.testing.assert_allclose(counts, 100 * found.count / 500)


def test_pictures_are_written(tmp_path: Path) -> None:
    classes = [f"class {i}" for i in range(120)]
    out = plot_confusion(tmp_path / "confusion.png", guesses(120, 3000), classes=classes, title="geo_tp, linear")
    plot_calibration(tmp_path / "calibration.png", {"linear": guesses()}, title="geo_tp")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["calibration.png", "confusion.png"]
    with Image.open(out) as picture:
        assert max(picture.size) < 3000
