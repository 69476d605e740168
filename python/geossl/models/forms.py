"""The forms in which others publish weights, told by the names in the file.

| form | the weights' names | from |
|---|---|---|
| MoCo v1, v2, the paper's, geossl | `module.encoder_q.`; the head is `fc` | facebookresearch/moco: main_lincls.py; sustainlab-group/geography-aware-ssl: moco_fmow/main_lincls.py |
| SeCo | `encoder_q.` and the number of the layer: a Sequential of a ResNet's children | ServiceNow/seasonal-contrast: models/moco2_module.py |
| MoCo v3 | `module.base_encoder.`; the head is `fc` or `head` | facebookresearch/moco-v3: main_lincls.py, moco/builder.py |
| SimSiam | `module.encoder.`; the head is `fc` | facebookresearch/simsiam: main_lincls.py |
| DINO | `backbone.` in `teacher`, of a ResNet `module.backbone.` | facebookresearch/dino: main_dino.py, utils.py |
| VISSL | `_feature_blocks.` in `classy_state_dict/base_model/model/trunk` | facebookresearch/vissl: extra_scripts/convert_vissl_to_torchvision.py |
| lightly | `backbone.`, by a layer's name or number | lightly-ai/lightly: examples/pytorch_lightning/moco.py, benchmarks/imagenet/resnet50 |
| solo-learn | `backbone.` | vturrisi/solo-learn: main_linear.py |
| DenseCL | `backbone.`, or a state_dict | WXinlong/DenseCL: tools/extract_backbone_weights.py |
| torchgeo's trainers | `model.`, and `hyper_parameters` that name the model | torchgeo/torchgeo: torchgeo/trainers/utils.py |
| a state_dict | the model's own: torchvision, timm, torchgeo's `ResNet50_Weights` and `ViT_Weights` | torchgeo/torchgeo: torchgeo/models/resnet.py |

`module.` (DataParallel) and `_orig_mod.` (torch.compile) may stand before any of them.
"""  # noqa: E501 - a table

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor, nn

STATE_DICT = "a state_dict"
"""The form of a model's own names, which says nothing of how its images were prepared."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The weights of the encoder in a file, and what else there was."""

    form: str
    """Whose form it is, such as "MoCo's form"."""
    encoder: str | None
    """Which of several encoders was taken, in words; None where there is one."""
    weights: dict[str, Tensor]
    """By their names in the encoder. The model's own classifier may be among them."""
    dropped: tuple[str, ...]
    """What was left: other encoders, heads, queues, by the first part of their names."""
    arch: str | None
    """The model, where the file names it; as `build_backbone` takes it, if the form's names are not those."""


class _Form(NamedTuple):
    name: str
    encoder: str | None
    before: str
    """Pattern of what stands before the encoder's own names."""
    heads: tuple[str, ...] = ()
    """What the form's head is called, in place of the encoder's classifier."""


_FORMS = (
    _Form("MoCo's form", "the query encoder", r"encoder_q\.", ("fc",)),
    _Form("MoCo-v3's form", "the base encoder", r"base_encoder\.", ("fc", "head")),
    _Form("VISSL's form", None, r"(?:trunk\.)?(?:base_model\.)?_feature_blocks\."),
    _Form("the form of lightly, solo-learn and DenseCL", None, r"backbone\."),
)
_SIMSIAM = _Form("SimSiam's form", None, r"encoder\.", ("fc",))
_TRAINERS = _Form("the form of torchgeo's trainers", None, r"model\.")
_PLACES = (
    ("classy_state_dict", "base_model", "model", "trunk"),
    ("model_state_dict",),
    ("state_dict",),
    ("model",),
    ("teacher",),
)
"""Where a file has its weights, by the names of its dicts, one in another; if nowhere there, it is all weights."""


def recognise(file: Path, content: Mapping[str, Any]) -> Found:
    """Find the encoder's weights in the contents of a file.

    Args:
        file: where they are from, for messages.
        content: the contents.

    Raises:
        UsageError: there are no weights in it, or such as no model here can take.

    """
    place = next((place for place in _PLACES if _tensors(_inside(content, place))), ())
    tensors = _tensors(_inside(content, place))
    if not tensors:
        raise UsageError(f"{file}: not a checkpoint or a state_dict: there are no weights in it")
    weights = {re.sub(r"^(?:module\.|_orig_mod\.)+", "", name): value for name, value in tensors.items()}
    form = _form(weights, content)
    if form is None:
        return Found(form=STATE_DICT, encoder=None, weights=weights, dropped=_beside(content, place), arch=None)
    taken, rest = {}, []
    for name, value in weights.items():
        own = re.sub(rf"^{form.before}", "", name)
        if own == name or own.startswith(tuple(f"{head}." for head in form.heads)):
            rest.append(own)
        else:
            taken[own] = value
    name, encoder, arch = form.name, form.encoder, None
    settings = content.get("hyper_parameters")
    if form.before.startswith("encoder_q") and by_number(taken):
        name = "SeCo's form"
        arch = settings.get("base_encoder") if isinstance(settings, Mapping) else None
    elif place == ("teacher",):
        name, encoder, arch = "DINO's form", "the teacher", _dinos_arch(content.get("args"))
    elif form is _TRAINERS:
        arch = f"timm/{settings['model']}" if isinstance(settings, Mapping) else None
    elif form.before.startswith("base_encoder"):
        arch = _moco_v3s_arch(file, content.get("arch"), taken)
    return Found(
        form=name,
        encoder=encoder,
        weights=taken,
        dropped=tuple(dict.fromkeys([*_first_parts(rest), *_beside(content, place)])),
        arch=None if arch is None else str(arch),
    )


def by_number(weights: Iterable[str]) -> bool:
    """Whether all names begin with a number: those of a Sequential of a model's layers."""
    return all(name.partition(".")[0].isdecimal() for name in weights)


def named_by_layer(weights: Mapping[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """Names that begin with a layer's number, as in `nn.Sequential(*model.children())`, by the layer's own name."""
    layers = [name for name, _ in body.named_children()]
    found = {}
    for name, value in weights.items():
        number, _, rest = name.partition(".")
        found[f"{layers[int(number)]}.{rest}" if int(number) < len(layers) else name] = value
    return found


def _form(weights: Mapping[str, Tensor], content: Mapping[str, Any]) -> _Form | None:
    for form in _FORMS:
        if any(re.match(form.before, name) for name in weights):
            return form
    first = set(_first_parts(weights))
    # torchvision's ViT has an encoder too.
    if "encoder" in first and first & {"predictor", "projector"}:
        return _SIMSIAM
    settings = content.get("hyper_parameters")
    if "model" in first and isinstance(settings, Mapping) and "model" in settings:
        return _TRAINERS
    return None


def _inside(content: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    inner: Any = content
    for key in place:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return inner


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _beside(content: Mapping[str, Any], place: tuple[str, ...]) -> tuple[str, ...]:
    """Other sets of weights in the file, by their names."""
    if not place:
        return ()
    around = _inside(content, place[:-1])
    return tuple(str(name) for name, value in around.items() if name != place[-1] and _tensors(value))


def _first_parts(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def _dinos_arch(args: Any) -> str | None:
    """DINO's models by their names here (facebookresearch/dino: vision_transformer.py)."""
    arch, patch = getattr(args, "arch", None), getattr(args, "patch_size", 16)
    return f"timm/{arch}_patch{patch}_224" if str(arch) in {"vit_tiny", "vit_small", "vit_base"} else arch


def _moco_v3s_arch(file: Path, arch: Any, weights: Mapping[str, Tensor]) -> str | None:
    """MoCo-v3's models by their names here (facebookresearch/moco-v3: vits.py)."""
    token = weights.get("cls_token")
    if token is not None and token.shape[-1] == 384:
        raise UsageError(
            f"{file}: MoCo-v3's ViT-Small has 12 heads of attention, and timm's has 6: its weights would load there, "
            "and give other features; it cannot be used"
        )
    return "timm/vit_base_patch16_224" if arch == "vit_base" else arch
