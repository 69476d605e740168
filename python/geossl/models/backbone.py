"""The encoders: any classification model of torchvision or timm, by its name, with fresh weights."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torchvision.ops import StochasticDepth

from geossl.errors import UsageError
from geossl.models import torchvision_models
from geossl.models.seeds import seeded

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.models.library import Body

TIMM = "timm/"
"""What a name begins with that is timm's."""
Stem = Literal["imagenet", "small"]


class Encoder(nn.Module):
    """A model that gives the pooled feature (`body`), and what reads the feature (`fc`).

    `fc` is the identity at first; a projection or a classifier takes its place. In the state_dict the names of the
    body have nothing before them: with a ResNet of torchvision they are those of the paper's checkpoints.
    """

    def __init__(self, body: Body, *, name: str, num_features: int) -> None:
        super().__init__()
        self.name = name
        """The model, with its library: torchvision's own name, or `timm/NAME`."""
        self.body = body.module
        self.fc: nn.Module = nn.Identity()
        self.num_features = num_features
        """Width of the feature."""
        self.first = body.first
        """Names, in the body, of the convolutions that see the image's bands."""
        self.left_out = tuple(f"{name}." for name in body.classifier)
        """What the names of weights begin with that the body has no place for: its classifiers'."""
        self.register_state_dict_post_hook(_without_body)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_body)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """float32 [B, bands, H, W] -> what `fc` makes of the feature, [B, D]."""
        output: Tensor = self.fc(self.body(images))
        return output


def build_backbone(name: str, *, bands: int, seed: int, size: int = 224, stem: Stem = "imagenet") -> Encoder:
    """A model with fresh weights drawn from the seed; torch's global generator is left alone.

    It gives the pooled feature, float32 [B, bands, size, size] -> [B, num_features]. What a model drops at random in
    training it keeps here, so that a step's result depends on the weights and the batch alone.

    Args:
        name: a model of torchvision, else of timm; `timm/NAME` is timm's.
        bands: bands of the images.
        seed: what the weights are drawn from.
        size: side of the images, pixels. Models without position embeddings take others too.
        stem: `small` begins with a convolution of 3 x 3, stride 1, and does not pool after it (ResNets only).

    Raises:
        UsageError: there is no such model, it takes no such images, or it has no such stem.

    """
    name = full_name(name)
    with seeded(seed, "backbone"):
        body = _build(name, bands=bands, size=size)
        if stem == "small":
            _make_small(body.module, name=name, bands=bands)
    _drop_nothing(body.module)
    return Encoder(body, name=name, num_features=_width(body.module, name=name, bands=bands, size=size))


def full_name(name: str) -> str:
    """The name that says which library's model it is: torchvision's own, or `timm/NAME`.

    Raises UsageError, with what is meant perhaps, for a name that neither has.
    """
    ours = torchvision_models.names()
    if name in ours:
        return name
    from geossl.models import timm_models

    theirs = timm_models.names()
    bare = name.removeprefix(TIMM)
    # What follows a point names timm's weights, not the model.
    if bare.partition(".")[0] in theirs:
        return TIMM + bare
    known = [TIMM + each for each in theirs] if bare != name else sorted({*ours, *theirs})
    close = ", ".join(difflib.get_close_matches(name, known, n=3))
    hint = f"did you mean {close}?" if close else "resnet50 and timm/convnext_tiny are names"
    raise UsageError(f"model.backbone: neither torchvision nor timm has a model {name}; {hint}")


def features(encoder: Encoder, images: Tensor) -> Tensor:
    """The pooled feature, float32 [B, num_features], whatever the encoder's `fc` is."""
    feature: Tensor = encoder.body(images)
    return feature


def sees_batch(name: str, *, size: int = 224) -> bool:
    """Whether the model has batch normalisation; nothing is drawn or computed to tell.

    Raises UsageError where `geossl.models.batch_norm` does not know the layers: it would leave them as they are.
    """
    name = full_name(name)
    # torchvision's RegNets work out their widths with tensors, which have to have values.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        module = _build(name, bands=3, size=size).module
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    if other := {type(layer).__name__ for layer in layers if not isinstance(layer, nn.BatchNorm2d)}:
        raise UsageError(f"model.backbone: {name} cannot be trained here: its {', '.join(other)} cannot see groups")
    return bool(layers)


def _build(name: str, *, bands: int, size: int) -> Body:
    try:
        if not name.startswith(TIMM):
            return torchvision_models.build(name, bands=bands, size=size)
        from geossl.models import timm_models

        return timm_models.build(name.removeprefix(TIMM), bands=bands, size=size)
    except UsageError:
        raise
    except Exception as e:  # the models' own checks raise what they like
        raise UsageError(f"crop.size: {name} cannot be built for {size} pixels: {_said(e)}") from e


def _width(module: nn.Module, *, name: str, bands: int, size: int) -> int:
    """Width of the feature, found by trying, which also shows whether the model takes such images."""
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and first.kernel_size == first.stride and size % first.stride[0]:
        patch = first.stride[0]
        raise UsageError(f"crop.size: {name} cuts images into patches of {patch} pixels, and {size} is no multiple")
    module.eval()
    try:
        with torch.no_grad():
            feature = module(torch.zeros(1, bands, size, size))
    except Exception as e:
        raise UsageError(f"crop.size: {name} takes no images of {size} pixels and {bands} bands: {_said(e)}") from e
    finally:
        module.train()
    if not isinstance(feature, torch.Tensor) or feature.ndim != 2:
        raise UsageError(f"model.backbone: {name} does not give one feature an image")
    return feature.shape[1]


def _make_small(module: nn.Module, *, name: str, bands: int) -> None:
    """Give a ResNet the stem for small images."""
    conv, pool = getattr(module, "conv1", None), getattr(module, "maxpool", None)
    if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (7, 7) or not isinstance(pool, nn.MaxPool2d):
        raise UsageError(f"model.stem: {name} has no 7 x 7 convolution and pooling to replace; only ResNets have")
    module.conv1 = nn.Conv2d(bands, conv.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(module.conv1.weight, mode="fan_out", nonlinearity="relu")
    module.maxpool = nn.Identity()


def _drop_nothing(module: nn.Module) -> None:
    """Set every rate of dropout and of dropped paths to 0."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd | StochasticDepth):  # noqa: SLF001 - what all dropouts are
            layer.p = 0.0
        elif hasattr(layer, "drop_prob"):  # timm's, of paths and of blocks
            layer.drop_prob = 0.0  # type: ignore[assignment]


def _without_body(_: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + name.removeprefix(prefix).removeprefix("body.")] = state.pop(name)


def _with_body(_: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        own = name.removeprefix(prefix)
        state[name if own.startswith("fc.") else f"{prefix}body.{own}"] = state.pop(name)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
