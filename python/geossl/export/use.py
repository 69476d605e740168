"""The code that loads exported weights in the program that they are for, as the model card shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geossl.export.description import bare_name
from geossl.models import torchvision_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geossl.models.weights import LoadedBackbone

_FEATURES = """\
mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
images = torch.rand(2, BANDS, SIZE, SIZE)  # yours, values scaled to 0..1
with torch.no_grad():
    features = model((images - mean) / std)  # [2, WIDTH]
"""
_LOADING = {
    "timm": """\
import timm
import torch

model = timm.create_model("local-dir:.", pretrained=True).eval()  # once on the Hub: "hf-hub:you/name"
""",
    "moco": """\
import torch

import geossl

model = geossl.load_backbone("model.pth").module  # any program for MoCo's checkpoints reads the file too
""",
    "torchgeo": """\
import torch
from torchgeo.trainers import ClassificationTask

task = ClassificationTask(model="NAME", weights="model.ckpt", in_channels=BANDS, num_classes=10)
model = task.model.eval()
model.reset_classifier(0)  # for features; leave it out to finetune
""",
    "onnx": """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
mean, std = (np.float32(values).reshape(-1, 1, 1) for values in (MEAN, STD))
images = np.random.rand(2, BANDS, SIZE, SIZE).astype(np.float32)  # yours, values scaled to 0..1
(features,) = session.run(None, {"images": (images - mean) / std})  # [2, WIDTH]
""",
}


def loading_code(encoder: LoadedBackbone, said: Mapping[str, Any]) -> str:
    """Python that runs in the exported folder, and leaves `images` and their `features`."""
    kind = said["format"]
    loading = _torchvisions(encoder) if kind == "torchvision" else _LOADING[kind]
    code = loading if kind == "onnx" else f"{loading}{_FEATURES}"
    values = {
        "MEAN": str(list(encoder.mean)),
        "STD": str(list(encoder.std)),
        "BANDS": str(encoder.bands),
        "SIZE": str(encoder.size),
        "WIDTH": str(encoder.num_features),
        "NAME": bare_name(encoder.name),
    }
    for name, value in values.items():
        code = code.replace(name, value)
    return code


def _torchvisions(encoder: LoadedBackbone) -> str:
    name = bare_name(encoder.name)
    body = torchvision_models.build(name, bands=encoder.bands, size=encoder.size)
    arguments = torchvision_models.arguments(name, size=encoder.size)
    given = "".join(f", {key}={value!r}" for key, value in arguments.items())
    lines = [
        "import torch",
        "import torchvision",
        "from safetensors.torch import load_file",
        "",
        f'model = torchvision.models.get_model("{name}", weights=None{given})',
        f'model.set_submodule("{body.classifier[0]}", torch.nn.Identity())',
    ]
    if encoder.bands != 3:
        first = body.module.get_submodule(body.first[0])
        lines.append(f'model.set_submodule("{body.first[0]}", torch.nn.{first!r})')
    return "\n".join([*lines, 'model.load_state_dict(load_file("model.safetensors"))', "model.eval()", ""])
