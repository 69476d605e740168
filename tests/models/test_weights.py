"""Weights from files: runs, the authors' checkpoints, and the libraries' state_dicts."""

import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn
from torchvision.models import resnet18, vit_b_32

from geossl.errors import UsageError
from geossl.models.backbone import build_backbone, features
from geossl.models.moco import build_encoder
from geossl.models.weights import (
    CHECKPOINT,
    IMAGENET_MEAN,
    inflate,
    init_backbone,
    load_backbone,
    random_backbone,
)


def moco_form(bands=3, name="resnet18"):
    """A checkpoint as the authors' code writes it."""
    encoder = build_encoder(name, bands=bands, dim=16, seed=3)
    state = {f"module.encoder_{which}.{k}": v for which in "qk" for k, v in encoder.state_dict().items()}
    state |= {"module.queue": torch.zeros(16, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {"epoch": 7, "arch": name, "state_dict": state, "optimizer": {}}


def test_load_a_checkpoint_in_the_authors_form(tmp_path):
    torch.save(moco_form(), tmp_path / "model.pth.tar")
    loaded = load_backbone(tmp_path / "model.pth.tar")
    want = build_backbone("resnet18", bands=3, seed=3)
    assert all(torch.equal(v, want.state_dict()[k]) for k, v in loaded.module.state_dict().items())
    assert not loaded.module.training
    assert not any(p.requires_grad for p in loaded.module.parameters())
    assert (loaded.name, loaded.bands, loaded.size, loaded.mean) == ("resnet18", 3, 224, IMAGENET_MEAN)
    assert loaded.num_features == 512


def test_load_a_run_folder_with_its_normalisation(tmp_path):
    own = {"mean": [0.1] * 4, "std": [0.2] * 4, "bands": 4, "config": {"crop": {"size": 64}}}
    (tmp_path / "checkpoints").mkdir()
    torch.save(moco_form(bands=4) | {"geossl": own}, tmp_path / CHECKPOINT)
    loaded = load_backbone(tmp_path)
    assert (loaded.bands, loaded.size, loaded.mean, loaded.std) == (4, 64, (0.1,) * 4, (0.2,) * 4)
    assert loaded.settings == {"crop": {"size": 64}}


def test_random_backbone_differs_in_its_weights_alone(tmp_path):
    torch.save(moco_form(), tmp_path / "a.pt")
    loaded = load_backbone(tmp_path / "a.pt")
    random = random_backbone(loaded, seed=1)
    assert not torch.equal(random.module.body.conv1.weight, loaded.module.body.conv1.weight)
    assert not random.module.training
    assert (random.name, random.mean, random.size) == (loaded.name, loaded.mean, loaded.size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such run or checkpoint"),
        (lambda p: p.mkdir(), "no checkpoint yet"),
        (lambda p: p.write_bytes(b"hello"), "not a checkpoint"),
        (lambda p: p.write_bytes(b""), "not a checkpoint"),
        (lambda p: torch.save({"a": 1}, p), "there are no weights in it"),
        (lambda p: torch.save(["a"], p), "it has no state_dict"),
        (lambda p: torch.save(moco_form() | {"state_dict": {}}, p), "there are no weights in it"),
        (
            lambda p: torch.save(moco_form() | {"arch": "timm/vit_tiny_patch16_224"}, p),
            "none of its names is the model's",
        ),
        (lambda p: torch.save(moco_form() | {"arch": "resnet17"}, p), "did you mean resnet1"),
        (lambda p: torch.save(resnet18().state_dict(), p), "does not say which model it is of"),
        (lambda p: torch.save(moco_form() | {"arch": "resnet34"}, p), "do not fit a resnet34"),
        (lambda p: torch.save(moco_form(bands=4), p), "no normalisation"),
        (lambda p: torch.save(moco_form() | {"geossl": Exception}, p), r"holds exceptions\.Exception beside"),
    ],
)
def test_what_is_no_checkpoint_gives_one_line(tmp_path, make, message):
    path = tmp_path / "run"
    make(path)
    with pytest.raises(UsageError, match=message) as e:
        load_backbone(path)
    assert "\n" not in str(e.value)
    assert str(path) in str(e.value)


def test_a_truncated_checkpoint_gives_one_line(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(moco_form(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UsageError, match="damaged"):
        load_backbone(path)


NAMES = ("blue", "green", "red", "nir", "swir1")


@pytest.mark.parametrize("names", [None, NAMES])
def test_the_response_to_an_even_image_stays(names):
    weight = torch.randn(64, 3, 7, 7)
    image = torch.full((1, 3, 16, 16), 0.7)
    spread = inflate(weight, names, bands=5)
    got = torch.nn.functional.conv2d(torch.full((1, 5, 16, 16), 0.7), spread)
    even = weight.mean(1, keepdim=True).expand_as(weight)
    if names is None:
        torch.testing.assert_close(got, torch.nn.functional.conv2d(image, weight), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(spread, even[:, :1].expand_as(spread) * 3 / 5)
    # The bands that are not RGB's take their mean, so that the sum is the same with names too.
    torch.testing.assert_close(spread.sum(1), weight.sum(1), rtol=1e-4, atol=1e-4)


def test_bands_take_their_colours_by_name():
    weight = torch.randn(64, 3, 7, 7)
    spread = inflate(weight, NAMES, bands=5)
    for band, colour in ((2, 0), (1, 1), (0, 2)):
        torch.testing.assert_close(spread[:, band], weight[:, colour] * 3 / 5)
    torch.testing.assert_close(spread[:, 3], weight.mean(1) * 3 / 5)
    assert torch.equal(inflate(weight, None, bands=3), weight)
    assert torch.equal(inflate(weight, ("red", "green", "blue"), bands=3), weight)
    assert torch.equal(inflate(weight, ("blue", "green", "red"), bands=3), weight.flip(1))
    with pytest.raises(ValueError, match="2 names for 5 bands"):
        inflate(weight, ("red", "nir"), bands=5)


def test_start_from_torchvisions_weights(tmp_path):
    theirs = resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    images = torch.rand(2, 3, 48, 48)
    own = build_backbone("resnet18", bands=3, seed=0).eval()
    init_backbone(own, tmp_path / "resnet18.pth", band_names=None)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(own(images), theirs.eval()(images))
        five = build_encoder("resnet18", bands=5, dim=16, seed=0).eval()
        head = five.fc[0].weight.clone()
        init_backbone(five, tmp_path / "resnet18.pth", band_names=NAMES)
        gray = torch.rand(2, 1, 48, 48)
        torch.testing.assert_close(
            features(five, gray.expand(-1, 5, -1, -1)),
            theirs(gray.expand(-1, 3, -1, -1)),
            rtol=1e-3,
            atol=1e-4,
        )
    assert torch.equal(five.fc[0].weight, head)


def test_start_from_a_run_and_from_the_authors_form(tmp_path):
    torch.save(moco_form(), tmp_path / "authors.pth.tar")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save(moco_form(bands=4) | {"geossl": {}}, tmp_path / "run" / CHECKPOINT)
    for path, bands, names in (("authors.pth.tar", 3, None), ("run", 4, NAMES[:4])):
        own = build_backbone("resnet18", bands=bands, seed=0)
        init_backbone(own, tmp_path / path, band_names=names)
        want = build_backbone("resnet18", bands=bands, seed=3).state_dict()
        assert all(torch.equal(value, want[name]) for name, value in own.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such run or checkpoint"),
        (lambda p: p.write_bytes(b"hello"), "not a checkpoint"),
        (lambda p: torch.save({"weight": torch.zeros(3)}, p), "none of its names is the model's"),
        (
            lambda p: torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, p),
            r'do not fit model\.backbone: .* Missing key\(s\) in state_dict: "bn1\.weight", .* "layer4\.1\.bn2\.bias"',
        ),
        (
            lambda p: torch.save(resnet18().state_dict() | {"more.weight": torch.zeros(3)}, p),
            r'Unexpected key\(s\) in state_dict: "more\.weight"\.$',
        ),
        (lambda p: torch.save(moco_form(name="resnet34"), p), "do not fit model.backbone"),
        (lambda p: torch.save(moco_form(bands=4), p), "weights for 4 bands, and the images have 5"),
    ],
)
def test_what_does_not_fit_gives_one_line(tmp_path, make, message):
    path = tmp_path / "weights.pth"
    make(path)
    module = build_backbone("resnet18", bands=5, seed=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(UsageError, match=message) as e:
        init_backbone(module, path, band_names=None)
    assert "\n" not in str(e.value)
    assert str(path) in str(e.value)
    if "bands" in message:
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_librarys_file_is_loaded_when_its_model_is_named(tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32).eval()
    save_file(theirs.state_dict(), tmp_path / "a.safetensors")
    loaded = load_backbone(tmp_path / "a.safetensors", backbone="timm/vit_tiny_patch16_224")
    assert (loaded.name, loaded.size, loaded.mean) == ("timm/vit_tiny_patch16_224", 224, (0.5, 0.5, 0.5))
    torch.save({"model": resnet18().state_dict()}, tmp_path / "b.pth")
    loaded = load_backbone(tmp_path / "b.pth", backbone="resnet18")
    assert (loaded.bands, loaded.size, loaded.mean) == (3, 224, IMAGENET_MEAN)
    torch.save(moco_form(), tmp_path / "c.pt")
    with pytest.raises(UsageError, match=r"c\.pt: is of a resnet18, not of a resnet50"):
        load_backbone(tmp_path / "c.pt", backbone="resnet50")


def test_position_embeddings_of_another_size_are_resized(tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=64)
    nn.init.normal_(theirs.pos_embed)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = build_backbone("timm/vit_tiny_patch16_224", bands=3, seed=0, size=96)
    init_backbone(ours, tmp_path / "timm.pth", band_names=None)
    torch.testing.assert_close(ours.body.pos_embed, resample_abs_pos_embed(theirs.pos_embed, [6, 6]))

    theirs = vit_b_32(image_size=64)
    # A ramp stays a ramp under bicubic interpolation between its corners.
    ramp = torch.arange(2.0).view(1, 2, 1, 1) + torch.arange(2.0).view(1, 1, 2, 1) * 10
    theirs.encoder.pos_embedding.data[:, 1:] = ramp.expand(1, 2, 2, 768).reshape(1, 4, 768)
    torch.save(theirs.state_dict(), tmp_path / "torchvision.pth")
    ours = build_backbone("vit_b_32", bands=3, seed=0, size=96)
    init_backbone(ours, tmp_path / "torchvision.pth", band_names=None)
    grid = ours.body.encoder.pos_embedding[:, 1:].view(3, 3, 768)
    torch.testing.assert_close(grid[[0, 0, -1, -1], [0, -1, 0, -1]], ramp.expand(1, 2, 2, 768).reshape(4, 768))
    torch.testing.assert_close(grid[1, 1, 0], ramp.mean())
    torch.testing.assert_close(ours.body.encoder.pos_embedding[:, 0], theirs.encoder.pos_embedding[:, 0])


def test_a_window_of_another_size_is_resized(tmp_path):
    small, large = ({"size": 64}, {"size": 224})
    name = "timm/swin_tiny_patch4_window7_224"
    donor = build_backbone(name, bands=3, seed=3, **large)
    torch.save(donor.state_dict(), tmp_path / "a.pth")
    ours = build_backbone(name, bands=3, seed=0, **small)
    init_backbone(ours, tmp_path / "a.pth", band_names=None)
    assert torch.equal(ours.body.layers[0].blocks[0].mlp.fc1.weight, donor.body.layers[0].blocks[0].mlp.fc1.weight)


def test_densenets_old_names_in_torchvisions_files(tmp_path):
    ours = build_backbone("densenet121", bands=3, seed=0, size=32)
    want = {name: torch.full_like(value, 3) for name, value in ours.state_dict().items()}
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in want.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old | {"classifier.weight": torch.zeros(1000, 1024)}, tmp_path / "densenet121-a639ec97.pth")
    init_backbone(ours, tmp_path / "densenet121-a639ec97.pth", band_names=None)
    assert all(torch.equal(value, want[name]) for name, value in ours.state_dict().items())


def test_the_small_stem_does_not_take_the_large_ones_weights(tmp_path):
    torch.save(moco_form(), tmp_path / "a.pt")
    ours = build_backbone("resnet18", bands=3, seed=0, size=32, stem="small")
    with pytest.raises(UsageError, match=r"size mismatch for conv1\.weight"):
        init_backbone(ours, tmp_path / "a.pt", band_names=None)
