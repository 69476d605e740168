"""Exported encoders: read by the other program's own model, with equal features; what stands beside them; refusals."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
import torchvision
import yaml
from safetensors.torch import load_file

from geossl.cli import app, main
from geossl.config import make_config
from geossl.data.index import Index
from geossl.errors import GeosslError, UsageError
from geossl.export import formats
from geossl.export.encoder import export_encoder
from geossl.models.moco import build_encoder
from geossl.models.weights import CHECKPOINT, load_backbone

SIZE = 64
TINY = "timm/test_vit"
NAMES = ["blue", "green", "red", "nir", "swir1"]


def a_run(folder, name="resnet18", *, bands=3, data="planet.parquet", index_hash="abc", **settings):
    """A run's folder with the checkpoint that `geossl train` would leave, of an encoder with random weights."""
    config = make_config({"data": data, "out": str(folder), "crop": {"size": SIZE}} | settings)
    stem = config.model.stem
    encoder = build_encoder(name, bands=bands, dim=16, seed=3, size=SIZE, stem=stem)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in encoder.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * 0.02)
    state = {f"module.encoder_{which}.{key}": value for which in "qk" for key, value in encoder.state_dict().items()}
    own = {"format": 1, "version": "0.1.0", "config": config.model_dump(mode="json"), "step": 12, "classes": 4}
    own |= {"index_hash": index_hash, "labels_hash": "", "mean": [0.3] * bands, "std": [0.2] * bands, "bands": bands}
    own |= {"band_names": NAMES if bands == 5 else None, "geo_levels": [torch.zeros(4, 2)]}
    head = {"module.layers.1.weight": torch.rand(4, 16), "module.layers.1.bias": torch.rand(4)}
    content = {"epoch": 2, "arch": name, "state_dict": state, "optimizer": {}, "geo_dict": head, "geossl": own}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / CHECKPOINT)
    return folder


def images(bands):
    return torch.rand(2, bands, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def shown_code(folder):
    """What the code on the card gives, run in the folder: the images and their features."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own card
    return torch.as_tensor(names["images"]), torch.as_tensor(names["features"])


@pytest.mark.parametrize(
    ("name", "bands", "kind"),
    [
        ("resnet18", 5, "torchvision"),
        ("timm/resnet18", 3, "torchvision"),
        ("mobilenet_v3_small", 5, "torchvision"),
        ("timm/test_resnet", 5, "timm"),
        ("timm/test_vit", 3, "timm"),
        ("timm/test_vit", 5, "timm"),
        ("timm/test_vit", 5, "moco"),
    ],
)
def test_the_code_on_the_card_gives_the_features_of_the_run(name, bands, kind, tmp_path, monkeypatch):
    run = a_run(tmp_path / "run", name, bands=bands)
    trained, out = load_backbone(run), tmp_path / "out"
    export_encoder(run, out=out, format=kind)
    monkeypatch.chdir(out)
    given, got = shown_code(out)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (trained.mean, trained.std))
    with torch.no_grad():
        torch.testing.assert_close(got, trained.module((given - mean) / std))
    # The folder is read as the run is.
    back = load_backbone(out)
    assert (back.mean, back.std, back.size, back.bands) == (trained.mean, trained.std, SIZE, bands)
    assert back.band_names == trained.band_names == (tuple(NAMES) if bands == 5 else None)
    assert back.preparation == trained.preparation
    with torch.no_grad():
        torch.testing.assert_close(back.module(images(bands)), trained.module(images(bands)))


def test_torchvisions_and_timms_models_take_the_weights_strictly(tmp_path):
    run = a_run(tmp_path / "run")
    with torch.no_grad():
        want = load_backbone(run).module(images(3))
    for kind, model in (
        ("torchvision", torchvision.models.resnet18(weights=None)),
        ("timm", timm.create_model("resnet18", num_classes=0)),
    ):
        export_encoder(run, out=tmp_path / kind, format=kind)
        if kind == "torchvision":
            model.fc = torch.nn.Identity()
        model.load_state_dict(load_file(tmp_path / kind / "model.safetensors"), strict=True)
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(images(3)), want)
    first, second = (load_file(tmp_path / kind / "model.safetensors") for kind in ("torchvision", "timm"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert first.keys() == second.keys()


def test_mocos_linear_classifier_reads_the_moco_form(tmp_path):
    """As facebookresearch/moco's main_lincls.py renames the weights, and checks what is missing."""
    run = a_run(tmp_path / "run")
    export_encoder(run, out=tmp_path / "out", format="moco")
    before = torch.load(run / CHECKPOINT, weights_only=True)
    checkpoint = torch.load(tmp_path / "out" / "model.pth", map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    for k in list(state.keys()):
        if k.startswith("module.encoder_q") and not k.startswith("module.encoder_q.fc"):
            state[k[len("module.encoder_q.") :]] = state[k]
        if k.startswith("module.encoder_q.fc"):
            assert torch.equal(state[k], before["state_dict"][k])
        del state[k]
    model = torchvision.models.__dict__[checkpoint["arch"]]()
    message = model.load_state_dict(state, strict=False)
    assert set(message.missing_keys) == {"fc.weight", "fc.bias"}
    assert not message.unexpected_keys
    # The geo head goes along, as in the paper's checkpoints, and how the run would go on does not.
    assert all(torch.equal(value, before["geo_dict"][name]) for name, value in checkpoint["geo_dict"].items())
    assert {"optimizer", "loader", "rng"}.isdisjoint({*checkpoint, *checkpoint["geossl"]})


def test_torchgeos_trainers_find_the_weights(tmp_path, monkeypatch):
    """As torchgeo's `extract_backbone` does (torchgeo/trainers/utils.py), and with its own code where it is there."""
    run = a_run(tmp_path / "run", bands=5)
    export_encoder(run, out=tmp_path / "out", format="torchgeo")
    checkpoint = torch.load(tmp_path / "out" / "model.ckpt", map_location="cpu", weights_only=True)
    assert checkpoint["hyper_parameters"]["model"] == "resnet18"
    state = {k.replace("model.", ""): v for k, v in checkpoint["state_dict"].items() if "model." in k}
    model = timm.create_model("resnet18", in_chans=5, num_classes=0).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(model(images(5)), load_backbone(run).module(images(5)))
    if find_spec("torchgeo") is None:
        pytest.skip("torchgeo is not installed: its trainer was not tried")
    monkeypatch.chdir(tmp_path / "out")
    given, got = shown_code(tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(got, model((given - 0.3) / 0.2))


def test_onnx_gives_the_same_features_for_any_number_of_images(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="geossl[onnx] is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, which runs the graph, is not installed")
    run = a_run(tmp_path / "run", bands=5)
    export_encoder(run, out=tmp_path / "out", format="onnx")
    monkeypatch.chdir(tmp_path / "out")
    given, got = shown_code(tmp_path / "out")
    session = runtime.InferenceSession("model.onnx")
    for batch in (given, images(5)[:1], images(5).repeat(3, 1, 1, 1)):
        with torch.no_grad():
            want = load_backbone(run).module(batch)
        (features,) = session.run(None, {formats.INPUT: batch.numpy()})
        torch.testing.assert_close(torch.from_numpy(features), want, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(got, load_backbone(run).module((given - 0.3) / 0.2), rtol=1e-3, atol=1e-4)
    with pytest.raises(UsageError, match="an ONNX graph is for other programs"):
        load_backbone(tmp_path / "out")


def test_onnx_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    run = a_run(tmp_path / "run", TINY)
    with pytest.raises(GeosslError, match=r"needs onnx and onnxscript; install geossl\[onnx\]"):
        export_encoder(run, out=tmp_path / "out", format="onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run"]


def test_the_papers_checkpoint_becomes_torchvisions_weights(tmp_path):
    encoder = build_encoder("resnet18", bands=3, dim=16, seed=3)
    state = {f"module.encoder_q.{key}": value for key, value in encoder.state_dict().items()}
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state}, tmp_path / "moco_tp.pth.tar")
    done = export_encoder(tmp_path / "moco_tp.pth.tar", out=tmp_path / "out", format="torchvision")
    assert load_file(done.weights).keys() == {key for key in encoder.state_dict() if not key.startswith("fc.")}
    said = done.description
    assert said["geossl"]["from"] == "MoCo's form"
    assert said["settings"] == {}
    assert said["normalisation_from"] == "ImageNet's mean and deviation, by MoCo's form"
    assert "their licence, is for their makers to say" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_says_what_the_weights_are(planet: Path, tmp_path):
    shutil.copytree(planet.parent, tmp_path, dirs_exist_ok=True)
    index = Index.read(tmp_path / planet.name)
    run = a_run(tmp_path / "run", TINY, data=str(tmp_path / planet.name), index_hash=index.content_hash)
    export_encoder(run, out=tmp_path / "early", format="timm")
    assert "`geossl probe` had not been run" in (tmp_path / "early" / "README.md").read_text()
    scores = {"top1": 0.5, "f1": 0.25, "place_top1": 0.75, "place_f1": None}
    row = {"encoder": "geo_tp", "method": "linear", "scores": scores, "intervals": {"top1": [0.4, 0.6]}}
    report = {
        "classes": 10,
        "test_images": 51,
        "test_places": 15,
        "rows": [row, row | {"labels": 10.0}],
        "notes": ["something to know"],
    }
    (run / "probe.json").write_text(json.dumps(report))
    done = export_encoder(run, out=tmp_path / "out", format="timm")
    text = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "timm"
    assert "license" not in front, "that is for the user to choose"
    rows = index.rows(split="train")
    assert f"- images: {len(rows):,} of the split train, of {len(set(index.places[rows])):,} places\n" in text
    lat = [value for value in index.column("lat").take(rows).to_pylist() if value is not None]
    assert f"- latitudes: {min(lat):.2f} to {max(lat):.2f} degrees\n" in text
    assert "| encoder | method | top-1 | macro-F1 | place top-1 | place macro-F1 |" in text
    assert "| geo_tp | linear | 50.00 [40.00, 60.00] | 25.00 | 75.00 | - |" in text
    assert "| geo_tp | linear, 10 % of the labels | 50.00" in text
    assert "- something to know" in text
    assert "- epochs: 2, steps: 12, batch: 256, seed: 0" in text
    said = done.description
    assert said["geossl"]["index_hash"] == index.content_hash
    assert said["license"] is None
    assert json.loads((tmp_path / "out" / "config.json").read_text())["geossl"] == said["geossl"]
    for name in ("README.md", "config.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text(), "where files lie is nobody's business"
    # Without its index the card says less.
    (tmp_path / planet.name).unlink()
    export_encoder(run, out=tmp_path / "late", format="timm")
    assert "- images:" not in (tmp_path / "late" / "README.md").read_text()
    # The hash is of what decides the weights, not of where files are.
    other = a_run(tmp_path / "elsewhere", TINY, data="other.parquet", init_from="weights.pth")
    changed = a_run(tmp_path / "changed", TINY, seed=1)
    hashes = [
        export_encoder(path, out=tmp_path / f"out-{path.name}", format="moco").description["geossl"]["settings_hash"]
        for path in (other, changed)
    ]
    assert hashes[0] == said["geossl"]["settings_hash"] != hashes[1]


def test_what_exists_is_replaced_only_when_asked_and_only_an_exported_folder(tmp_path):
    run, out = a_run(tmp_path / "run", TINY), tmp_path / "out"
    out.mkdir()  # an empty folder is free
    export_encoder(run, out=out, format="timm")
    with pytest.raises(UsageError, match="out: exists already; replace it with --force"):
        export_encoder(run, out=out, format="moco")
    assert (out / "model.safetensors").is_file()
    (tmp_path / ".out.tmp").mkdir()  # of a killed process
    export_encoder(run, out=out, format="moco", force=True)
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "config.json", "model.pth"]
    (out / "mine.txt").touch()
    for folder in (out, run, tmp_path):
        with pytest.raises(UsageError, match="not an exported folder, which alone --force replaces"):
            export_encoder(run, out=folder, format="moco", force=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize(
    ("name", "kind", "settings", "message"),
    [
        (TINY, "torchvision", {}, "torchvision has no model test_vit; moco and onnx are formats that take every model"),
        ("mobilenet_v3_small", "torchgeo", {}, "timm has no model mobilenet_v3_small"),
        ("resnet18", "torchvision", {"model": {"stem": "small"}}, r"has others: .*size mismatch for conv1\.weight"),
        (TINY, "tensorflow", {}, "--format tensorflow: must be one of torchvision, timm, torchgeo, moco, onnx"),
    ],
)
def test_what_a_program_has_no_model_for_is_refused(name, kind, settings, message, tmp_path):
    run = a_run(tmp_path / "run", name, **settings)
    with pytest.raises(UsageError, match=message) as e:
        export_encoder(run, out=tmp_path / "out", format=kind)
    assert "\n" not in str(e.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run"]


def test_the_command_tells_what_it_did(tmp_path, capsys):
    run, out = a_run(tmp_path / "run"), tmp_path / "out"
    assert main(["export", str(run), "--format", "torchvision", "-o", str(out)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"resnet18, 512 features, [\d.]+ MiB, read again: the same features", first)
    assert second == f"-> {out}: README.md, config.json, model.safetensors"
    assert main(["export", str(run), "--format", "torchvision", "-o", str(out)]) == 2
    assert "exists already; replace it with --force" in capsys.readouterr().err
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "plain.pth")
    words = ["export", str(tmp_path / "plain.pth"), "--backbone", "resnet18", "--format", "timm"]
    assert main([*words, "-o", str(tmp_path / "plain")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"weights: {tmp_path / 'plain.pth'}: a state_dict; left out: fc"
    assert told[1] == "normalisation: ImageNet's mean and deviation, assumed: the file does not say"


DOC = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_are_known():
    commands = [line.split()[1:] for line in DOC.splitlines() if line.startswith("geossl ")]
    assert len(commands) >= 9
    for words in commands:
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_description_of_the_page_is_believed(tmp_path):
    (text,) = re.findall(r"```json\n(.*?)```", DOC, flags=re.DOTALL)
    said = json.loads(text) | {"arch": "timm/test_resnet"}
    torch.save(timm.create_model("test_resnet", in_chans=13, num_classes=0).state_dict(), tmp_path / said["weights"])
    (tmp_path / "config.json").write_text(json.dumps(said))
    loaded = load_backbone(tmp_path / said["weights"])
    assert loaded.bands == 13
    assert loaded.std == pytest.approx((10_000 / 65_535,) * 13, rel=1e-4)
