"""The protocol beside a plain PyTorch loop, whose images are read with Pillow."""

import io
import math

import numpy as np
import pytest
import timm
import torch
from finetune_data import MEAN, SIZE, STD, make_data, make_run
from PIL import Image
from rich.console import Console
from torch import nn
from torchvision.transforms import v2

from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.finetuning import classifier
from geossl.finetuning.config import make_config
from geossl.finetuning.data import read_labelled
from geossl.models.backbone import build_backbone
from geossl.models.seeds import generator
from geossl.models.weights import IMAGENET_MEAN, load_backbone
from geossl.training.log import read_metrics

CLASSES, LR = 3, 1e-2
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("tiny") / "run")


def settings(begin, data, out, **changes):
    fields = {"run": begin, "data": data, "out": out, "device": "cpu", "threads": 1, "batch": 8, "epochs": 5}
    return make_config(**fields | changes).settled()


def begin(config, *, lr=LR):
    config.folder.mkdir(parents=True)
    return classifier.begin(config, read_labelled(config), lr=lr)


def order_of(data, config):
    """Rows of each batch of an epoch, as the loader draws them."""
    index = Index.read(data)
    loader = Loader(
        index,
        rows=index.rows(split="train"),
        batch=config.batch,
        views=1,
        temporal=False,
        crop=CropConfig(size=SIZE),
        color=None,
        seed=config.seed,
        train=True,
        cut="random",
        loader=LoaderConfig(threads=1),
    )
    while True:
        yield [batch.rows[0] for batch in loader]


def plain_loop(begin, data, config, *, head, lr):
    """timm's own model, torch's loss, optimizer and schedule, and images as Pillow and torchvision read them."""
    model = timm.create_model("test_resnet", num_classes=CLASSES)
    state = torch.load(begin / "checkpoints" / "last.pt", weights_only=True)["state_dict"]
    model.load_state_dict({k.removeprefix("module.encoder_q."): v for k, v in state.items()} | head)
    model.to(memory_format=torch.channels_last).train(config.bn == "train")
    body = [value for name, value in model.named_parameters() if not name.startswith("fc.")]
    groups = [{"params": body}, {"params": model.fc.parameters(), "lr": config.head_lr or lr}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=config.weight_decay)
    milestones = [math.ceil(0.6 * config.epochs), math.ceil(0.8 * config.epochs)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
    read = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    index = Index.read(data)
    paths, labels = index.table["path"].to_pylist(), torch.from_numpy(index.labels)
    losses, epochs, step = [], order_of(data, config), 0
    for _ in range(config.epochs):
        for rows in next(epochs):
            images = torch.stack([read(Image.open(data.parent / paths[row])) for row in rows])
            mirrored = torch.rand(len(rows), generator=generator(config.seed, "mirror", step)) < config.flip
            images = torch.stack([v2.functional.hflip(x) if m else x for x, m in zip(images, mirrored, strict=True)])
            loss = nn.functional.cross_entropy(model(images), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        schedule.step()
    return model, losses


def heads(state):
    return {name: value.clone() for name, value in state.learner.encoder.state_dict().items() if name.startswith("fc.")}


def distance(got, want, before):
    """How far two trained encoders are from each other, over how far the second has come."""

    def joined(state):
        return torch.cat([state[name].flatten().double() for name in before if not name.endswith("tracked")])

    return ((joined(got) - joined(want)).norm() / (joined(want) - joined(before)).norm()).item()


@pytest.mark.parametrize(
    "changes",
    [
        {"bn": "eval", "flip": 0},
        {"bn": "eval", "flip": 0.5, "head_lr": 0.03, "weight_decay": 0.01, "batch": 6, "seed": 3},
        # Two steps: with so few values a channel, rounding grows tenfold in each.
        {"bn": "train", "flip": 0.5, "batch": 24, "epochs": 2},
    ],
)
def test_training_is_a_plain_loop(tiny, data, tmp_path, changes):
    config = settings(tiny, data, tmp_path / "out", **changes)
    state = begin(config)
    head = heads(state)
    want, losses = plain_loop(tiny, data, config, head=head, lr=LR)
    assert classifier.train(config, state, console=QUIET)
    assert state.step == len(losses) == config.epochs * (24 // config.batch)
    assert [row["loss"] for row in read_metrics(config.folder)] == pytest.approx(losses, rel=2e-3)
    before, got = load_backbone(tiny).module.state_dict(), state.learner.encoder.state_dict()
    assert distance(got, want.state_dict(), before) < 2e-3
    assert distance(got, want.state_dict(), head) < 2e-3


@pytest.mark.parametrize(
    "change",
    [{"lr": 1.1 * LR}, {"seed": 1}, {"flip": 0.25}, {"bn": "train"}, {"weight_decay": 0.01}, {"head_lr": 0.02}],
)
def test_other_settings_are_other_loops(tiny, data, tmp_path, change):
    """The tolerance above is tight enough to tell the settings apart."""
    config = settings(tiny, data, tmp_path / "out", batch=12, epochs=3)
    state = begin(config)
    other = settings(tiny, data, tmp_path / "out", **{"batch": 12, "epochs": 3, "lr": LR} | change)
    want, _ = plain_loop(tiny, data, other, head=heads(state), lr=other.lr)
    assert classifier.train(config, state, console=QUIET)
    before = load_backbone(tiny).module.state_dict()
    assert distance(state.learner.encoder.state_dict(), want.state_dict(), before) > 1e-2


def test_the_schedule_is_the_published_one():
    rates = [classifier.step_lr(2.0, epoch=epoch, epochs=100) for epoch in range(100)]
    assert rates == pytest.approx([2.0] * 60 + [0.2] * 20 + [0.02] * 20)
    short = [classifier.step_lr(1.0, epoch=epoch, epochs=7) for epoch in range(7)]
    assert short == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.01])


def test_the_classifier_begins_small(tiny, data, tmp_path):
    state = begin(settings(tiny, data, tmp_path / "a"))
    weight, bias = state.learner.encoder.fc.weight, state.learner.encoder.fc.bias
    assert weight.shape[0] == CLASSES
    assert weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert weight.mean().abs() < 0.003
    assert not bias.any()
    other = begin(settings(tiny, data, tmp_path / "b", seed=1))
    assert not torch.equal(weight, other.learner.encoder.fc.weight)


def statistics(encoder):
    return {k: v.clone() for k, v in encoder.state_dict().items() if "running_" in k or "num_batches" in k}


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_statistics_of_batch_normalisation(tiny, data, tmp_path, bn):
    config = settings(tiny, data, tmp_path / "out", bn=bn, epochs=1)
    state = begin(config)
    before = statistics(state.learner.encoder)
    assert before
    classifier.train(config, state, console=QUIET)
    after = statistics(state.learner.encoder)
    assert all(torch.equal(after[name], value) for name, value in before.items()) == (bn == "eval")
    weights = load_backbone(tiny).module.state_dict()
    learnt = state.learner.encoder.state_dict()
    changed = [name for name in weights if name.endswith(".weight") and not torch.equal(weights[name], learnt[name])]
    assert len(changed) == sum(name.endswith(".weight") for name in weights), "all of it is trained"


def test_it_begins_with_the_runs_weights(tiny, data, tmp_path):
    state = begin(settings(tiny, data, tmp_path / "out"))
    want = load_backbone(tiny).module.state_dict()
    got = state.learner.encoder.state_dict()
    assert all(torch.equal(got[name], value) for name, value in want.items())
    assert (state.config.color.mean, state.config.color.std) == (tuple(MEAN), tuple(STD))
    assert state.config.crop.size == SIZE
    assert state.notes["finetune"]["encoder"] == "tp"


@pytest.mark.parametrize("given", ["run", "backbone"])
def test_from_scratch_it_begins_with_fresh_weights(tiny, data, tmp_path, given):
    name = "timm/test_resnet"
    how = {"run": tiny} if given == "run" else {"run": None, "backbone": name, "size": SIZE}
    config = settings(how.pop("run"), data, tmp_path / "out", from_scratch=True, seed=5, **how)
    state = begin(config)
    want = build_backbone(name, bands=3, seed=5, size=SIZE).state_dict()
    got = state.learner.encoder.state_dict()
    assert all(torch.equal(got[name], value) for name, value in want.items())
    assert config.bn == "train"
    assert state.learner.encoder.training
    assert state.config.color.mean == (tuple(MEAN) if given == "run" else IMAGENET_MEAN)
    assert state.config.init_from is None


def test_oblong_images_are_cropped_anew_in_every_epoch(tiny, tmp_path):
    data = make_data(tmp_path / "oblong", shape=(SIZE, 2 * SIZE))
    state = begin(settings(tiny, data, tmp_path / "out", flip=0, batch=24))
    index, seen = Index.read(data), []
    for _ in range(2):
        (batch,) = state.loader
        order = batch.rows[0].argsort()
        seen.append(batch.images[0][order].clone())
        whole = np.asarray(Image.open(data.parent / index.table["path"][int(batch.rows[0, 0])].as_py()), np.float32)
        whole = (torch.from_numpy(whole) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        view = batch.images[0, 0].permute(1, 2, 0)
        fits = [(view - whole[:, x : x + SIZE]).abs().max() < 1e-4 for x in range(SIZE + 1)]
        assert sum(fits) == 1, "a square of the image, as it is"
    assert not torch.equal(*seen)
