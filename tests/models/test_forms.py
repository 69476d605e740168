"""Files in others' forms: which weights are taken, what is said of them, and what is refused."""

import json

import numpy as np
import pytest
import timm
import torch
from published import (
    MLP,
    densecl,
    dino,
    features_of,
    lightly,
    moco,
    moco_v1,
    moco_v2,
    moco_v3,
    named,
    of_module,
    seco,
    simsiam,
    solo_learn,
    the_papers,
    timms_training,
    tiny_vit,
    torchgeos_trainer,
    torchgeos_weights,
    trained,
    vissl,
)
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, resnet18

from geossl.cli import main
from geossl.errors import UsageError
from geossl.models.backbone import build_backbone
from geossl.models.forms import recognise
from geossl.models.imagenet import IMAGENET
from geossl.models.source import IMAGENET_MEAN, IMAGENET_STD
from geossl.models.weights import init_backbone, load_backbone

OTHERS = "the form of lightly, solo-learn and DenseCL"
BY_FORM = "ImageNet's mean and deviation, by "
ASSUMED = "ImageNet's mean and deviation, assumed: the file does not say"
# How a file is made, whether it names its model, what is said of it.
FORMS = {
    moco_v1: (True, "MoCo's form", "the query encoder", "fc encoder_k queue queue_ptr", BY_FORM),
    moco_v2: (True, "MoCo's form", "the query encoder", "fc encoder_k queue queue_ptr", BY_FORM),
    the_papers: (True, "MoCo's form", "the query encoder", "fc encoder_k queue queue_ptr geo_dict", BY_FORM),
    moco_v3: (True, "MoCo-v3's form", "the base encoder", "fc momentum_encoder predictor", BY_FORM),
    seco: (True, "SeCo's form", "the query encoder", "queue queue_ptr encoder_k heads_q heads_k", BY_FORM),
    vissl: (False, "VISSL's form", None, "heads", BY_FORM),
    simsiam: (True, "SimSiam's form", None, "fc predictor", BY_FORM),
    dino: (True, "DINO's form", "the teacher", "head student dino_loss", BY_FORM),
    lightly: (False, OTHERS, None, "backbone_momentum projection_head", ASSUMED),
    solo_learn: (
        False,
        "the form of lightly, solo-learn and DenseCL",
        None,
        "momentum_backbone projector classifier queue",
        ASSUMED,
    ),
    densecl: (False, OTHERS, None, "neck queue", ASSUMED),
    torchgeos_trainer: (True, "the form of torchgeo's trainers", None, "fc", ASSUMED),
    torchgeos_weights: (False, "a state_dict", None, "", ASSUMED),
    timms_training: (True, "a state_dict", None, "fc", ASSUMED),
}
IMAGES = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", FORMS)
def test_the_encoder_of_a_form_is_the_one_that_was_trained(make, tmp_path):
    model = trained()
    names_it, form, encoder, dropped, normalisation = FORMS[make]
    torch.save(make(model), tmp_path / "weights.pth")
    loaded = load_backbone(tmp_path / "weights.pth", backbone=None if names_it else "resnet18")
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(IMAGES), features_of(model, IMAGES))
    source = loaded.source
    assert source.form == form
    assert source.encoder == encoder
    assert " ".join(source.dropped) == dropped
    assert source.normalisation == normalisation + (form if normalisation == BY_FORM else "")
    assert (loaded.mean, loaded.std, loaded.size) == (IMAGENET_MEAN, IMAGENET_STD, 224)
    weights, normalised = source.lines()
    assert str(tmp_path) in weights
    assert ("left out: " in weights) == bool(dropped)
    assert normalised == f"normalisation: {source.normalisation}"
    if not names_it:
        with pytest.raises(UsageError, match="does not say which model it is of; name it, as with --backbone"):
            load_backbone(tmp_path / "weights.pth")


@pytest.mark.parametrize("make", [moco_v2, lightly, vissl, dino])
def test_a_weight_that_is_missing_or_too_many_is_refused(make, tmp_path):
    for change, message in (("missing", "Missing key"), ("more", "Unexpected key")):
        content = make(trained())
        weights = next(
            inner
            for inner in (
                content.get("state_dict"),
                content.get("teacher"),
                content.get("classy_state_dict", {}).get("base_model", {}).get("model", {}).get("trunk"),
                content,
            )
            if inner is not None
        )
        name = next(key for key in weights if key.endswith(("layer2.0.bn1.running_mean", "5.0.bn1.running_mean")))
        value = weights.pop(name)
        if change == "more":
            weights |= {name: value, name.replace("running_mean", "extra"): value}
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(UsageError, match=rf"do not fit a resnet18: .*{message}") as e:
            load_backbone(tmp_path / "weights.pth", backbone="resnet18")
        assert "\n" not in str(e.value)


def test_dinos_vit_has_the_normalisation_of_dino_not_that_of_timms_model(tmp_path):
    model = trained(tiny_vit)
    torch.save(dino(model, "vit_tiny"), tmp_path / "dino.pth")
    loaded = load_backbone(tmp_path / "dino.pth")
    assert loaded.name == "timm/vit_tiny_patch16_224"
    assert loaded.mean == IMAGENET_MEAN
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(images), features_of(model, images))
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    plain = load_backbone(tmp_path / "timm.pth", backbone="vit_tiny_patch16_224")
    assert plain.mean == (0.5, 0.5, 0.5)
    assert plain.source.normalisation == (
        "timm's of timm/vit_tiny_patch16_224, mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5, assumed: the file does not say"
    )


def test_moco_v3s_transformers_by_timms_names(tmp_path):
    def form(arch, width):
        state = named("module.base_encoder.", {"cls_token": torch.zeros(1, 1, width)})
        return {"arch": arch, "state_dict": state}

    assert recognise(tmp_path, form("vit_base", 768)).arch == "timm/vit_base_patch16_224"
    with pytest.raises(UsageError, match="MoCo-v3's ViT-Small has 12 heads of attention, and timm's has 6"):
        recognise(tmp_path, form("vit_small", 384))


def test_wrappers_before_the_names_and_weights_of_old_versions(tmp_path):
    """DataParallel's and torch.compile's prefixes; torchvision's first files have no num_batches_tracked."""
    model = trained()
    old = {name: value for name, value in model.state_dict().items() if "num_batches" not in name}
    torch.save(named("module._orig_mod.", old), tmp_path / "a.pth")
    loaded = load_backbone(tmp_path / "a.pth", backbone="resnet18")
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(IMAGES), features_of(model, IMAGES))


def test_files_from_before_torch_1_6(tmp_path):
    """MoCo's own files are of such a version."""
    torch.save(moco_v2(trained()), tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert load_backbone(tmp_path / "old.pth.tar").name == "resnet18"


def test_torchvisions_and_timms_names_of_one_model(tmp_path):
    """A file's `arch` is a name that both libraries may have; which is meant can be said."""
    model = trained(lambda: timm.create_model("mobilenetv3_small_050", num_classes=10))
    torch.save({"arch": "mobilenetv3_small_050", "state_dict": model.state_dict()}, tmp_path / "a.pth")
    assert load_backbone(tmp_path / "a.pth").name == "timm/mobilenetv3_small_050"
    torch.save(moco_v2(trained()), tmp_path / "b.pth")
    assert load_backbone(tmp_path / "b.pth", backbone="timm/resnet18").name == "timm/resnet18"
    torch.save(moco_v2(trained()) | {"arch": "xcit_s"}, tmp_path / "c.pth")
    assert load_backbone(tmp_path / "c.pth", backbone="resnet18").name == "resnet18"
    with pytest.raises(UsageError, match=r"c\.pth: model\.backbone: neither torchvision nor timm has a model xcit_s"):
        load_backbone(tmp_path / "c.pth")


class Prints:
    """Does something when it is unpickled."""

    def __reduce__(self):
        return print, ("run",)


def test_numpys_scalars_and_namespaces_are_read_and_nothing_else(tmp_path):
    model = trained()
    content = moco_v2(model) | {"best": [np.float32(3), np.int64(4), np.bool_(True)]}
    torch.save(content, tmp_path / "a.pth")
    assert load_backbone(tmp_path / "a.pth").name == "resnet18"
    trainer = of_module("somebodys.program", "Trainer")
    torch.save({"state_dict": model.state_dict(), "trainer": trainer()}, tmp_path / "b.pth")
    torch.save({"state_dict": Prints()}, tmp_path / "c.pth")
    for file, what in (("b.pth", r"somebodys\.program\.Trainer"), ("c.pth", r"print")):
        with pytest.raises(UsageError, match=rf"{file}: holds {what} beside its weights") as e:
            load_backbone(tmp_path / file, backbone="resnet18")
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("how", ["own keys", "timm's"])
def test_a_description_beside_the_weights_is_believed(tmp_path, how):
    model = trained(lambda: timm.create_model("resnet18", in_chans=5, num_classes=0))
    mean, std = [0.1, 0.2, 0.3, 0.4, 0.5], [0.1525902] * 5
    if how == "own keys":
        file = tmp_path / "resnet18_sentinel2.pth"
        torch.save(model.state_dict(), file)
        said = {"weights": file.name, "arch": "timm/resnet18", "mean": mean, "std": std, "size": 64}
    else:
        file = tmp_path / "model.safetensors"
        save_file(model.state_dict(), file)
        cfg = {"mean": mean, "std": std, "input_size": [5, 64, 64]}
        said = {"architecture": "resnet18", "pretrained_cfg": cfg, "model_args": {"in_chans": 5}}
    with pytest.raises(UsageError, match=r"5 bands, and no normalisation is stored .* config\.json beside"):
        load_backbone(file, backbone="timm/resnet18")
    (tmp_path / "config.json").write_text(json.dumps(said))
    images = torch.rand(2, 5, 64, 64)
    for path in (file, tmp_path):
        loaded = load_backbone(path)
        assert (loaded.name, loaded.bands, loaded.size) == ("timm/resnet18", 5, 64)
        assert (loaded.mean, loaded.std) == (tuple(mean), tuple(std))
        assert loaded.source.normalisation == "as config.json beside it has it"
        with torch.no_grad():
            torch.testing.assert_close(loaded.module(images), model(images))
    # Five bands that have no names: they are no run's, and the images' own all the same.
    encoder = build_backbone("resnet18", bands=5, seed=0)
    assert init_backbone(encoder, tmp_path, band_names=None).mean == tuple(mean)
    assert torch.equal(encoder.body.conv1.weight, model.conv1.weight)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "config.json: not JSON"),
        ("[]", "not a description of weights: it is a list"),
        ('{"weights": "other.pth"}', r"none of the weights that config\.json is for \(other\.pth\)"),
        ('{"weights": "a.pth", "arch": "resnet18", "mean": [0.1], "std": [1, 1]}', "mean, std and the bands do not go"),
        ('{"weights": "a.pth", "arch": "resnet18", "mean": [0.1, 0.1, 0.1]}', "mean, std and the bands do not go"),
        ('{"weights": "a.onnx"}', "an ONNX graph is for other programs"),
    ],
)
def test_a_wrong_description_gives_one_line(tmp_path, said, message):
    torch.save(resnet18().state_dict(), tmp_path / "a.pth")
    (tmp_path / "a.onnx").touch()
    (tmp_path / "config.json").write_text(said)
    with pytest.raises(UsageError, match=message) as e:
        load_backbone(tmp_path)
    assert "\n" not in str(e.value)


def test_a_description_of_something_else_is_left_alone(tmp_path):
    torch.save(moco_v2(trained()), tmp_path / "a.pth")
    (tmp_path / "config.json").write_text(json.dumps({"weights": "b.pth", "arch": "resnet50"}))
    assert load_backbone(tmp_path / "a.pth").mean == IMAGENET_MEAN


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torchvision's cache, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_imagenets_weights_from_torchvisions_cache(cache, monkeypatch):
    monkeypatch.chdir(cache)
    model = trained()
    url = ResNet18_Weights.IMAGENET1K_V1.url
    with pytest.raises(UsageError) as e:
        load_backbone(IMAGENET, backbone="resnet18")
    said = str(e.value)
    assert url in said
    assert str(cache / url.rpartition("/")[2]) in said
    assert "nothing is downloaded" in said
    torch.save(model.state_dict(), cache / url.rpartition("/")[2])
    loaded = load_backbone(IMAGENET, backbone="resnet18")
    assert loaded.source.normalisation == "torchvision's, of IMAGENET1K_V1"
    assert loaded.mean == IMAGENET_MEAN
    encoder = build_backbone("resnet18", bands=3, seed=0).eval()
    init_backbone(encoder, IMAGENET, band_names=None)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(IMAGES), features_of(model, IMAGES))
        torch.testing.assert_close(encoder(IMAGES), features_of(model, IMAGES))
    for backbone, message in (
        (None, "of which model"),
        ("timm/resnet18", "these are torchvision's weights, and timm/resnet18 is not"),
        ("vit_h_14", "torchvision has no IMAGENET1K_V1 of vit_h_14"),
    ):
        with pytest.raises(UsageError, match=message):
            load_backbone(IMAGENET, backbone=backbone)


def test_the_probe_says_what_the_weights_are(planet, tmp_path, capsys):
    model = trained(lambda: timm.create_model("test_resnet", num_classes=10))
    torch.save(moco(model, head=MLP, arch="timm/test_resnet"), tmp_path / "moco.pth.tar")
    assert main(["probe", str(tmp_path / "moco.pth.tar"), "--data", str(planet), "--lr", "0.1"]) == 0
    said = capsys.readouterr().out
    assert f"weights: {tmp_path / 'moco.pth.tar'}: MoCo's form, the query encoder; left out: fc, encoder_k" in said
    assert "normalisation: ImageNet's mean and deviation, by MoCo's form\n" in said
