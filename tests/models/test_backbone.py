"""Models of both libraries by name, against the libraries' own."""

import copy
from contextlib import contextmanager

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from geossl.errors import UsageError
from geossl.losses import info_nce
from geossl.models import batch_norm, timm_models, torchvision_models
from geossl.models.backbone import build_backbone, features, full_name, sees_batch
from geossl.models.moco import MoCo, build_encoder
from geossl.models.weights import init_backbone, load_backbone

# Model, side of its images, width of its feature.
MODELS = {
    "resnet18": (32, 512),
    "resnet50": (32, 2048),
    "wide_resnet50_2": (32, 2048),
    "convnext_tiny": (32, 768),
    "densenet121": (32, 1024),
    "mobilenet_v3_small": (32, 1024),
    "efficientnet_b0": (32, 1280),
    "vit_b_32": (32, 768),
    "timm/vit_tiny_patch16_224": (32, 192),
    "timm/resnet18": (32, 512),
    "timm/swin_tiny_patch4_window7_224": (64, 768),
    "timm/mobilenetv3_small_050": (32, 1024),
}
LARGE = {"wide_resnet50_2", "vit_b_32"}
NAMES = ("blue", "green", "red", "nir", "swir1", "swir2", "coastal", "pan")


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


def library_model(name, size):
    """The library's own model with classes, and what it makes of images just before its last layer."""
    if name.startswith("timm/"):
        model = timm.create_model(name.removeprefix("timm/"), **({"img_size": size} if "patch" in name else {}))
        return model, lambda x: model.forward_head(model.forward_features(x), pre_logits=True)
    model = torchvision.models.get_model(name, weights=None, **({"image_size": size} if "vit" in name else {}))
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]

    def before_last(x):
        seen = []
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model(x)
        hook.remove()
        return seen[0]

    return model, before_last


@pytest.mark.parametrize("name", sorted(MODELS.keys() - LARGE))
def test_a_model_of_eight_bands_trains_and_is_loaded_again(name, tmp_path):
    size, width = MODELS[name]
    encoder = build_encoder(name, bands=8, dim=16, seed=1, size=size)
    assert encoder.num_features == width
    sees = sees_batch(name, size=size)
    assert sees == batch_norm.found(encoder)
    moco = MoCo(encoder, dim=16, queue=8, momentum=0.9, temperature=0.2, seed=1)
    if sees:
        batch_norm.convert(moco, groups=2)
    query, key = torch.rand(2, 4, 8, size, size, generator=torch.Generator().manual_seed(0))
    drawn = torch.get_rng_state()
    with deterministic():
        keys = moco.encode_keys(key)
        feature = features(encoder, query)
        loss = info_nce(moco.logits(encoder.fc(feature), keys))
        loss.backward()
    assert torch.equal(drawn, torch.get_rng_state())  # so a step can be done again, and resumed
    assert feature.shape == (4, width)
    assert loss.isfinite()
    assert not [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]

    own = {"mean": [0.5] * 8, "std": [0.2] * 8, "bands": 8, "config": {"crop": {"size": size}}}
    state = {f"module.{key}": value for key, value in moco.state_dict().items()}
    torch.save({"arch": name, "state_dict": state, "geossl": own}, tmp_path / "run.pt")
    loaded = load_backbone(tmp_path / "run.pt")
    assert (loaded.name, loaded.bands, loaded.num_features) == (name, 8, width)
    with torch.no_grad():
        assert torch.equal(loaded.module(query), features(encoder.eval(), query))


@pytest.mark.parametrize("name", MODELS)
def test_the_feature_is_the_librarys_before_its_last_layer(name, tmp_path):
    size, _ = MODELS[name]
    theirs, before_last = library_model(name, size)
    save_file(theirs.eval().state_dict(), tmp_path / "theirs.safetensors")
    images = torch.rand(2, 3, size, size)
    ours = build_backbone(name, bands=3, seed=0, size=size).eval()
    init_backbone(ours, tmp_path / "theirs.safetensors", band_names=None)
    feature = ours(images)
    feature.square().mean().backward()
    assert not [key for key, p in ours.named_parameters() if p.grad is None]
    with torch.no_grad():
        torch.testing.assert_close(feature.detach(), before_last(images))
        # The response to an even image is the same when the weights are spread over one band, or over eight.
        gray = torch.rand(2, 1, size, size)
        want = before_last(gray.expand(-1, 3, -1, -1))
        for bands in () if name in LARGE else (1, 8):
            other = build_backbone(name, bands=bands, seed=0, size=size).eval()
            init_backbone(other, tmp_path / "theirs.safetensors", band_names=NAMES if bands == 8 else None)
            got = other(gray.expand(-1, bands, -1, -1))
            torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-3 * want.abs().max().item())


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    for name in ("resnet18", "timm/vit_tiny_patch16_224"):
        before = torch.get_rng_state()
        one, two, other = (build_backbone(name, bands=4, seed=s, size=32).state_dict() for s in (1, 1, 2))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(one[k], two[k]) for k in one)
        assert any(not torch.equal(one[k], other[k]) for k in one)


def test_torchvisions_resnets_have_torchvisions_names():
    ours = build_encoder("resnet18", bands=3, dim=16, seed=0)
    theirs = resnet18(weights=None)
    theirs.fc = ours.fc
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 48, 48)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
    twin = build_encoder("resnet18", bands=3, dim=16, seed=1)
    twin.load_state_dict(theirs.state_dict())
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in twin.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "densenet121", "vit_b_32", "regnet_y_400mf"])
def test_a_first_convolution_for_other_bands_is_drawn_as_the_models_own(name):
    three, six = (build_backbone(name, bands=bands, seed=0, size=32) for bands in (3, 6))
    (first,) = three.first
    images = torch.randn(4, 6, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want, got = three.body.get_submodule(first)(images[:, :3]), six.body.get_submodule(first)(images)
    # ResNets' rule keeps the size of the gradient, not that of the response.
    assert got.std() / want.std() == pytest.approx(2**0.5 if name == "resnet18" else 1, rel=0.1)


def test_the_small_stem_keeps_the_resolution():
    images = torch.rand(2, 5, 16, 16)
    for name in ("resnet18", "timm/resnet18"):
        body = build_backbone(name, bands=5, seed=0, size=16, stem="small").body
        shapes = []
        body.layer1.register_forward_hook(lambda _, inputs, output, shapes=shapes: shapes.append(output.shape))
        assert body(images).shape == (2, 512)
        assert shapes == [(2, 64, 16, 16)]
        assert body.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    for name in ("convnext_tiny", "densenet121", "timm/resnet26d"):
        with pytest.raises(UsageError, match=r"model\.stem: .* only ResNets have"):
            build_backbone(name, bands=3, seed=0, size=32, stem="small")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet19", 32, "neither torchvision nor timm has a model resnet19; did you mean resnet1"),
        ("timm/resnet", 32, "did you mean timm/"),
        ("hf-hub:timm/resnet18", 32, "neither torchvision nor timm"),
        ("mnasnet1_0", 32, "did you mean"),
        ("zzz", 32, "neither torchvision nor timm has a model zzz; resnet50 and"),
        ("vit_b_32", 48, "cannot be built for 48 pixels: .* patch size"),
        ("timm/vit_tiny_patch16_224", 40, "patches of 16 pixels, and 40 is no multiple"),
        ("inception_v3", 32, r"crop\.size: inception_v3 takes no images of 32 pixels"),
        ("maxvit_t", 64, r"crop\.size: maxvit_t cannot be built for 64"),
    ],
)
def test_what_cannot_be_built_gives_one_line(name, size, message):
    with pytest.raises(UsageError, match=message) as e:
        build_backbone(name, bands=3, seed=0, size=size)
    assert "\n" not in str(e.value)


def test_names():
    assert full_name("resnet50") == "resnet50"
    assert full_name("timm/resnet50") == "timm/resnet50"
    assert full_name("vit_tiny_patch16_224") == "timm/vit_tiny_patch16_224"
    assert full_name("timm/resnet50.a1_in1k") == "timm/resnet50.a1_in1k"
    assert len(torchvision_models.names()) > 70
    assert len(timm_models.names()) > 1000


def test_layers_that_would_not_see_groups_are_refused():
    with pytest.raises(UsageError, match="levit_128 cannot be trained here: its BatchNorm1d"):
        sees_batch("timm/levit_128")


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny", "timm/swin_tiny_patch4_window7_224"])
def test_nothing_is_dropped_at_random(name):
    body = build_backbone(name, bands=3, seed=0, size=64).body
    twin = copy.deepcopy(body)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(body.train()(images), twin.train()(images))
