import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_linear import blobs

from geossl.evaluate import logistic
from geossl.evaluate.logistic import choose_c, fit_logistic
from geossl.evaluate.validation import hold_out_places


def plain(x, y, *, c):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x.numpy(), y.numpy())


def test_equals_sklearns_pipeline():
    x, y = blobs(200, 8, 4, seed=0)
    x = x * torch.logspace(-3, 3, 8)  # of no common scale
    train, test = slice(0, 150), slice(150, 200)
    predict, converged = fit_logistic(x=x[train], y=y[train], classes=4, c=0.1)
    want = plain(x[train], y[train], c=0.1).predict_proba(x[test].numpy())
    np.testing.assert_allclose(predict(x[test]).numpy(), want, rtol=1e-5, atol=1e-7)
    assert predict(x[test]).dtype == torch.float32
    assert converged


def test_it_minimises_the_multinomial_loss():
    """The gradient of sum of cross-entropies times C plus half the squared weights is none."""
    x, y = blobs(120, 5, 3, seed=1)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    predict, _ = fit_logistic(x=x, y=y, classes=3, c=0.5)
    model = plain(x, y, c=0.5)[-1]
    error = predict(x).double() - torch.nn.functional.one_hot(y, 3)
    gradient = 0.5 * error.T @ x.double() + torch.from_numpy(model.coef_)
    assert gradient.abs().max() < 0.02
    assert error.sum(0).abs().max() < 0.05  # the intercept is not penalised


def test_classes_that_were_not_there_have_no_probability():
    x, y = blobs(60, 5, 3, seed=2)
    predict, _ = fit_logistic(x=x, y=2 * y, classes=6, c=1.0)
    got = predict(x)
    assert got.shape == (60, 6)
    assert (got[:, [1, 3, 5]] == 0).all()
    torch.testing.assert_close(got.sum(1), torch.ones(60))


def test_a_single_class_is_all_there_is():
    predict, converged = fit_logistic(x=torch.randn(5, 3), y=torch.full((5,), 2), classes=4, c=1.0)
    assert predict(torch.randn(2, 3)).tolist() == [[0, 0, 1, 0]] * 2
    assert converged


def test_a_fit_that_is_stopped_says_so(monkeypatch):
    monkeypatch.setattr(logistic, "MAX_ITER", 2)
    x, y = blobs(60, 5, 3, seed=2)
    _, converged = fit_logistic(x=x, y=y, classes=3, c=100.0)
    assert not converged


def test_choose_c_takes_the_best_on_held_out_places():
    # Forty features of noise beside four of signal: a weak penalty fits the noise.
    x, y = blobs(160, 4, 3, seed=3, spread=1.5)
    x = torch.cat([x, torch.randn(160, 40, generator=torch.Generator().manual_seed(0))], dim=1)
    places = torch.arange(160) // 2
    places = torch.unique(places * 3 + y, return_inverse=True)[1]  # a place has one class
    held = hold_out_places(places=places, labels=y, seed=1)
    grid = (1e-5, 1e-2, 1e3)
    top1 = [plain(x[~held], y[~held], c=c).score(x[held].numpy(), y[held].numpy()) for c in grid]
    assert max(top1) > min(top1)
    got = choose_c(x=x, y=y, places=places, classes=3, seed=1, grid=grid)
    assert got == grid[int(np.argmax(top1))]


def test_with_a_place_of_each_class_there_is_no_choice():
    x, y = blobs(30, 5, 3, seed=4)
    assert choose_c(x=x, y=y, places=y, classes=3, seed=0, grid=(1e-5,)) == logistic.DEFAULT_C


@pytest.mark.parametrize("seed", [0, 1])
def test_the_places_are_those_of_the_linear_classifier(seed, monkeypatch):
    x, y = blobs(60, 5, 3, seed=5)
    asked = []

    def spy(**options):
        asked.append(options["seed"])
        return hold_out_places(**options)

    monkeypatch.setattr(logistic, "hold_out_places", spy)
    choose_c(x=x, y=y, places=torch.arange(60) // 2, classes=3, seed=seed, grid=(1.0,))
    assert asked == [seed]
