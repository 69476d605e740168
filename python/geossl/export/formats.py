"""The forms of weights that other programs read.

| format | file | what reads it |
|---|---|---|
| torchvision | model.safetensors, torchvision's names | `load_state_dict` of torchvision's model, its classifier taken away |
| timm | model.safetensors, timm's names | `timm.create_model("local-dir:...")`, and `hf-hub:` once it is on the Hub |
| torchgeo | model.ckpt, as its trainers save | `ClassificationTask(weights=...)` (torchgeo: trainers/utils.py, `extract_backbone`) |
| moco | model.pth, `module.encoder_q.` | MoCo's main_lincls.py, and what else reads MoCo's checkpoints; geossl |
| onnx | model.onnx, any number of images at once | ONNX Runtime and others |

A model of one library is written in the other's form where both have it: their weights have the same names and give the
same features, which is tried out each time.
"""  # noqa: E501 - a table

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import save

from geossl import __version__
from geossl.errors import GeosslError, UsageError
from geossl.export.description import bare_name, published_settings
from geossl.files import replacing
from geossl.models import timm_models, torchvision_models
from geossl.models.reading import read
from geossl.models.weights import load_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from geossl.models.weights import LoadedBackbone

Format = Literal["torchvision", "timm", "torchgeo", "moco", "onnx"]
FILES: dict[Format, str] = {
    "torchvision": "model.safetensors",
    "timm": "model.safetensors",
    "torchgeo": "model.ckpt",
    "moco": "model.pth",
    "onnx": "model.onnx",
}
"""Name of the file with the weights."""
ONNX_NEEDS = ("onnx", "onnxscript")
INPUT, OUTPUT = "images", "features"
"""Names in the ONNX graph."""
_KEPT = ("step", "bands", "band_names", "mean", "std", "index_hash", "labels_hash", "classes", "geo_levels")
"""What a checkpoint's own part keeps: what the weights and the geo head are, not how the run would go on."""


def write_weights(path: Path, encoder: LoadedBackbone, content: Mapping[str, Any], *, kind: Format) -> None:
    """Write the weights of an encoder, and try them in the program's own model.

    Args:
        path: the file.
        encoder: the encoder.
        content: the contents of the file that it was loaded from.
        kind: the form.

    Raises:
        UsageError: the other program has no such model, or makes something else of the weights.
        GeosslError: what the format needs is not installed.

    """
    if kind == "onnx":
        _write_onnx(path, encoder)
        return
    fresh = None if kind == "moco" else _fresh(encoder, kind=kind)
    weights = {name: value.contiguous() for name, value in encoder.module.body.state_dict().items()}
    with replacing(path) as file:
        if kind == "moco":
            torch.save(_in_mocos_form(encoder, content), file)
        elif kind == "torchgeo":
            settings = {"model": bare_name(encoder.name), "in_channels": encoder.bands}
            torch.save({"hyper_parameters": settings, "state_dict": _named("model.", weights)}, file)
        else:
            file.write(save(weights, metadata={"format": "pt"}))  # what other readers of safetensors look for
    _check_same(path, encoder, fresh, kind=kind)


def _fresh(encoder: LoadedBackbone, *, kind: Format) -> nn.Module:
    """The other program's own model, with weights of its own."""
    library, models = ("torchvision", torchvision_models) if kind == "torchvision" else ("timm", timm_models)
    name = bare_name(encoder.name)
    if name not in models.names():
        raise UsageError(
            f"--format {kind}: {library} has no model {name}; moco and onnx are formats that take every model"
        )
    module: nn.Module = models.build(name, bands=encoder.bands, size=encoder.size).module
    return module.eval()


def _check_same(path: Path, encoder: LoadedBackbone, fresh: nn.Module | None, *, kind: Format) -> None:
    """Read the weights again. Raises UsageError unless the model takes them all, and gives the same features."""
    told = f"--format {kind}: the weights are of a {encoder.name}, and the model of that name there"
    if fresh is None:
        fresh = load_backbone(path).module
    else:
        _, content = read(path)
        weights = {name.removeprefix("model."): value for name, value in content.get("state_dict", content).items()}
        try:
            fresh.load_state_dict(weights)
        except RuntimeError as e:
            why = " ".join(str(e).split())
            raise UsageError(f"{told} has others: {why[:200]}; moco and onnx are formats that take every model") from e
    images = torch.rand(2, encoder.bands, encoder.size, encoder.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want, got = encoder.module(images), fresh(images)
    if want.shape != got.shape or not torch.allclose(want, got, rtol=1e-3, atol=1e-4 * want.abs().max().item()):
        raise UsageError(f"{told} gives other features with them; moco and onnx are formats that take every model")


def _in_mocos_form(encoder: LoadedBackbone, content: Mapping[str, Any]) -> dict[str, Any]:
    """The query encoder as MoCo saves it, a run's projection and geo head with it; geossl's part says what it is."""
    own = content.get("geossl")
    state = _named("module.encoder_q.", encoder.module.state_dict())
    if own is None:
        kept: dict[str, Any] = {"bands": encoder.bands, "mean": list(encoder.mean), "std": list(encoder.std)}
    else:
        head = "module.encoder_q.fc."
        state |= {name: value for name, value in content["state_dict"].items() if name.startswith(head)}
        kept = {key: own[key] for key in _KEPT if key in own}
    settings = published_settings(encoder.settings) or {"crop": {"size": encoder.size}}
    made = {
        "epoch": content.get("epoch"),
        "arch": encoder.name,
        "state_dict": state,
        "geossl": kept | {"version": __version__, "config": settings},
    }
    return made | ({"geo_dict": content["geo_dict"]} if "geo_dict" in content else {})


def _named(before: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {before + name: value for name, value in weights.items()}


def _write_onnx(path: Path, encoder: LoadedBackbone) -> None:
    missing = [name for name in ONNX_NEEDS if find_spec(name) is None]
    if missing:
        raise GeosslError(f"--format onnx: needs {' and '.join(missing)}; install geossl[onnx]")
    images = torch.zeros(2, encoder.bands, encoder.size, encoder.size)
    program = torch.onnx.export(
        encoder.module,
        (images,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise GeosslError("--format onnx: torch gave no graph")
    with replacing(path) as file:
        file.write(program.model_proto.SerializeToString())
