import math

import numpy as np
import pytest
import torch
from torch import nn

from geossl.errors import GeosslError
from geossl.evaluate.linear import choose_lr, fit_linear, predict_linear
from geossl.evaluate.split import hold_out
from geossl.evaluate.validation import hold_out_places, merit


def blobs(n, dim, classes, *, seed, spread=1.0):
    """Features around a centre for every class."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=draw)
    centres = torch.randn(classes, dim, generator=draw)
    return centres[y] + spread * torch.randn(n, dim, generator=draw), y


def plain_fit(x, y, *, classes, lr, epochs, batch, milestones, seed):
    """The protocol with torch's own layer, loss, optimizer and schedule, in double precision."""
    draw = torch.Generator().manual_seed(seed)
    layer = nn.Linear(x.shape[1], classes, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.empty(classes, x.shape[1]).normal_(0, 0.01, generator=draw))
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.9, weight_decay=0)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=list(milestones), gamma=0.1)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=draw).split(batch):
            loss = nn.functional.cross_entropy(layer(x[rows].double()), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return layer.weight.detach(), layer.bias.detach()


def test_fit_is_the_protocol():
    x, y = blobs(330, 16, 7, seed=1)  # 330: the last batch is a smaller one
    settings = {"classes": 7, "lr": 1.0, "epochs": 20, "batch": 64, "milestones": (12, 16), "seed": 5}
    weight, bias = fit_linear(x=x, y=y, **settings)
    want_weight, want_bias = plain_fit(x, y, **settings)
    torch.testing.assert_close(weight.double(), want_weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(bias.double(), want_bias, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", [{"milestones": (13, 16)}, {"batch": 65}, {"lr": 1.01}, {"seed": 6}, {"epochs": 19}])
def test_fit_differs_from_other_protocols(change):
    """The tolerance above is tight enough to tell the settings apart."""
    x, y = blobs(330, 16, 7, seed=1)
    settings = {"classes": 7, "lr": 1.0, "epochs": 20, "batch": 64, "milestones": (12, 16), "seed": 5}
    weight, _ = fit_linear(x=x, y=y, **settings)
    want, _ = plain_fit(x, y, **{**settings, **change})
    assert not torch.allclose(weight.double(), want, rtol=1e-3, atol=1e-4)


def test_defaults_are_the_papers():
    x, y = blobs(64, 4, 3, seed=2)
    weight, _ = fit_linear(x=x, y=y, classes=3, lr=0.1, seed=0)
    want, _ = plain_fit(x, y, classes=3, lr=0.1, epochs=100, batch=256, milestones=(60, 80), seed=0)
    torch.testing.assert_close(weight.double(), want, rtol=1e-3, atol=1e-4)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_fit_is_repeatable_and_leaves_its_input(two_threads):
    x, y = blobs(100, 8, 3, seed=3)
    before = x.clone()
    first, second = (fit_linear(x=x, y=y, classes=3, lr=1.0, epochs=3, seed=9) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(x, before)
    assert torch.get_num_threads() == 2


def test_prediction_is_a_softmax():
    x, y = blobs(50, 8, 3, seed=4)
    weight, bias = fit_linear(x=x, y=y, classes=3, lr=1.0, epochs=3, seed=0)
    torch.testing.assert_close(
        predict_linear(x=x, weight=weight, bias=bias), nn.functional.softmax(x @ weight.T + bias, dim=1)
    )


def test_divergence_is_named():
    x, y = blobs(100, 8, 3, seed=3)
    with pytest.raises(GeosslError, match=r"diverged at learning rate 1e\+38.*--lr"):
        fit_linear(x=x * 1e20, y=y, classes=3, lr=1e38, epochs=2, seed=0)


def test_hold_out_draws_whole_places():
    places = torch.from_numpy(np.repeat([40, 7, 9, 3, 5, 100, 11, 2, 1, 0], [1, 9, 2, 3, 1, 1, 4, 2, 1, 5]))
    held = hold_out(places, share=0.2, seed=3)
    for code in places.unique():
        assert len(held[places == code].unique()) == 1
    assert len(places[held].unique()) == 2
    assert not torch.equal(held, hold_out(places, share=0.2, seed=4))
    assert hold_out(torch.tensor([1, 2, 2]), share=0.01, seed=0).any()


def test_choose_lr_takes_the_best_on_held_out_places():
    x, y = blobs(600, 8, 4, seed=6, spread=0.7)
    places = torch.arange(600, dtype=torch.int32) // 3
    grid = (1e-7, 0.1, 1e-6)
    held = hold_out_places(places=places, labels=y, seed=1)
    top1 = []
    for lr in grid:
        weight, bias = plain_fit(
            x[~held], y[~held], classes=4, lr=lr, epochs=100, batch=256, milestones=(60, 80), seed=1
        )
        top1.append(((x[held].double() @ weight.T + bias).argmax(1) == y[held]).double().mean().item())
    assert top1[1] > max(top1[0], top1[2])
    assert choose_lr(x=x, y=y, places=places, classes=4, seed=1, grid=grid) == 0.1


def test_choose_lr_keeps_places_whole():
    """Labels that only the place tells: held-out places stay at chance, however well the rest is learnt."""
    draw = torch.Generator().manual_seed(0)
    places = torch.arange(400, dtype=torch.int32) // 10
    signature = 3 * torch.randn(40, 40, generator=draw)
    x = signature[places.long()] + 0.1 * torch.randn(400, 40, generator=draw)
    y = torch.randint(2, (40,), generator=draw)[places.long()]
    held = hold_out_places(places=places, labels=y, seed=0)
    weight, bias = fit_linear(x=x[~held], y=y[~held], classes=2, lr=1.0, seed=0)
    correct = predict_linear(x=x, weight=weight, bias=bias).argmax(1) == y
    assert correct[~held].double().mean() == 1
    assert correct[held].double().mean() < 0.9


def test_choose_lr_leaves_out_what_diverges():
    x, y = blobs(100, 8, 3, seed=3)
    places = torch.arange(100)
    assert choose_lr(x=x, y=y, places=places, classes=3, seed=0, grid=(float("inf"), 0.1)) == 0.1
    with pytest.raises(GeosslError, match="every learning rate"):
        choose_lr(x=x, y=y, places=places, classes=3, seed=0, grid=(float("inf"),))


def test_each_class_keeps_places_to_learn_from():
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([100, 10, 2, 1]))
    held = hold_out_places(places=torch.arange(113), labels=labels, seed=0)
    assert [int(held[labels == label].sum()) for label in range(4)] == [20, 2, 1, 0]


def test_where_most_classes_have_a_single_place_nothing_is_set_aside():
    def held(*counts):
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        return hold_out_places(places=torch.arange(len(labels)), labels=labels, seed=0)

    assert held(9, 2, 1, 1).sum() == 3
    assert not held(9, 1, 1).any()


def test_of_equals_the_likelier_is_chosen():
    """Where every rate gets the held-out images right, the likelihood decides."""
    x, y = blobs(60, 8, 3, seed=3, spread=0.1)
    places = torch.arange(60)
    grid = (0.001, 0.1, 1000.0)
    held = hold_out_places(places=places, labels=y, seed=0)
    found = []
    for lr in grid:
        weight, bias = fit_linear(x=x[~held], y=y[~held], classes=3, lr=lr, seed=0)
        found.append(predict_linear(x=x[held], weight=weight, bias=bias))
    assert [(each.argmax(1) == y[held]).all().item() for each in found] == [True] * 3
    likelihood = [each[torch.arange(len(each)), y[held]].log().mean().item() for each in found]
    assert choose_lr(x=x, y=y, places=places, classes=3, seed=0, grid=grid) == grid[int(np.argmax(likelihood))]
    assert int(np.argmax(likelihood)) > 0


def test_merit_is_top1_then_log_likelihood():
    labels = torch.tensor([0, 1])
    sure, unsure = torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    assert merit(sure, labels) == (1, pytest.approx((math.log(0.9) + math.log(0.7)) / 2))
    assert merit(sure, labels) > merit(unsure, labels) > merit(sure.flip(1), labels)
    assert math.isfinite(merit(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))[1])


def test_with_a_place_of_each_class_it_is_the_papers_or_the_next_that_converges():
    x, y = blobs(40, 8, 3, seed=3)
    assert choose_lr(x=x, y=y, places=y, classes=3, seed=0) == 1.0
    # Features so long that the fit diverges with the greater rates.
    x = x * 2e19
    for lr in (1.0, 0.1):
        with pytest.raises(GeosslError, match="diverged"):
            fit_linear(x=x, y=y, classes=3, lr=lr, seed=0)
    assert choose_lr(x=x, y=y, places=y, classes=3, seed=0) == 0.01


def test_each_epoch_may_bring_its_own_features():
    x, y = blobs(60, 5, 3, seed=1)
    options = {"x": x, "y": y, "classes": 3, "lr": 0.1, "epochs": 4, "batch": 16, "milestones": (2, 3), "seed": 0}
    weight, bias = fit_linear(**options)
    asked = []

    def same(epoch):
        asked.append(epoch)
        return x

    again = fit_linear(**options, anew=same)
    assert asked == [0, 1, 2, 3]
    assert torch.equal(again[0], weight)
    assert torch.equal(again[1], bias)
    other = fit_linear(**options, anew=lambda epoch: x + epoch)
    assert not torch.allclose(other[0], weight)
