"""Networks that give every pixel a class: an encoder of ours under the head of PSPNet or PSANet.

The encoder's deep maps are kept at an eighth of the image by dilation, and an auxiliary classifier reads the map before
the last, as in the authors' code of both heads (hszhao/semseg). The pyramid is segmentation-models-pytorch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from torch import nn
from torch.nn import functional as F
from torchvision.models import ResNet

from geossl.errors import UsageError
from geossl.models.seeds import seeded
from geossl.transfer.masks import IGNORE
from geossl.transfer.psanet import PointwiseAttention

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.models.backbone import Encoder

Head = Literal["pspnet", "psanet"]
STRIDE = 8
"""Pixels of the image for one of the deepest map of a ResNet."""
DROPOUT = 0.1
AUXILIARY_WEIGHT = 0.4
"""Weight of the auxiliary loss beside the main one."""
WIDTH, AUXILIARY_WIDTH = 512, 256
"""Channels before the classifiers."""


class Logits(NamedTuple):
    """Logits of a batch, float32 [B, classes, S, S]; those of the auxiliary classifier too in training."""

    main: Tensor
    auxiliary: Tensor | None


class Segmenter(nn.Module):
    """An encoder with a segmentation head: float32 [B, bands, S, S] -> `Logits`."""

    def __init__(self, encoder: Encoder, *, head: Head, classes: int, size: int) -> None:
        super().__init__()
        if isinstance(encoder.body, ResNet):
            dilate(encoder.body)
        elif not hasattr(encoder.body, "forward_intermediates"):
            raise UsageError(
                f"model.backbone: {encoder.name} has no maps that segmentation could read; torchvision's ResNets have "
                "(resnet50), and most models of timm (timm/convnext_tiny)"
            )
        self.encoder = encoder
        before, deepest = _shapes(encoder, size)
        self.head = _pspnet(deepest) if head == "pspnet" else _psanet(deepest)
        self.classify = nn.Conv2d(WIDTH, classes, kernel_size=1)
        self.auxiliary = nn.Sequential(
            _conv3(before[1], AUXILIARY_WIDTH),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(AUXILIARY_WIDTH, classes, kernel_size=1),
        )

    def forward(self, images: Tensor) -> Logits:
        """Logits at the size of the images."""
        before, deepest = deep_maps(self.encoder, images)
        main = _to(self.classify(self.head(deepest)), images)
        return Logits(main, _to(self.auxiliary(before), images) if self.training else None)


def build_segmenter(encoder: Encoder, *, head: Head, classes: int, size: int, seed: int) -> Segmenter:
    """An encoder with a fresh head.

    The encoder becomes part of the network. The last two stages of torchvision's ResNets are dilated in it, so that
    its deepest map has an eighth of the image's side; its weights, and their names in its state_dict, stay. Other
    models keep their strides.

    Args:
        encoder: what reads the images; its `fc` is not used.
        head: PSPNet's pyramid pooling, or PSANet's attention.
        classes: number of classes, the background among them.
        size: side of the images, pixels, 8 n + 1 for the best fit of a ResNet's maps (semseg takes no others); PSANet
            takes no other size later.
        seed: what the head's weights are drawn from.

    Raises UsageError if the encoder's model has no maps of features, or none at this size.
    """
    with seeded(seed, "segmenter"):
        return Segmenter(encoder, head=head, classes=classes, size=size)


def segmentation_loss(logits: Logits, truth: Tensor) -> Tensor:
    """Mean cross entropy of the pixels, and 0.4 of the auxiliary classifier's; pixels of the class `IGNORE` are not in.

    Args:
        logits: what the network gave.
        truth: int64 [B, S, S].

    Returns:
        float32, a scalar; 0 if every pixel is ignored.

    """
    # A mean over no pixels would be NaN.
    counted = (truth != IGNORE).sum().clamp(min=1)
    losses = [
        F.cross_entropy(given, truth, ignore_index=IGNORE, reduction="sum") for given in logits if given is not None
    ]
    weighted = losses[0] if len(losses) == 1 else losses[0] + AUXILIARY_WEIGHT * losses[1]
    return weighted / counted


def dilate(body: ResNet) -> None:
    """Have a ResNet's last stages keep the resolution of an eighth of the image, by dilation, in place.

    Every 3 x 3 convolution of a stage that would halve the map gets stride 1 and, in turn, dilation 2 and 4, as in
    semseg. (torchvision's `replace_stride_with_dilation` leaves the first of each stage at the dilation before it.)
    """
    # With the stem for small images the second stage has half of the image's side, else an eighth.
    stride = STRIDE if isinstance(body.maxpool, nn.MaxPool2d) else 2
    rate = 1
    for stage in (body.layer3, body.layer4):
        if stride < STRIDE:
            stride *= 2
            continue
        rate *= 2
        for layer in stage.modules():
            if not isinstance(layer, nn.Conv2d):
                continue
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3):
                layer.dilation, layer.padding = (rate, rate), (rate, rate)


def deep_maps(encoder: Encoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """The map of features before the last and the last one, float32 [B, C, h, w] each."""
    body = encoder.body
    if isinstance(body, ResNet):
        x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        before = body.layer3(body.layer2(body.layer1(x)))
        return before, body.layer4(before)
    # timm's models, which have no common type.
    timm_body: Any = body
    before, deepest = timm_body.forward_intermediates(images, indices=2, output_fmt="NCHW", intermediates_only=True)
    return before, deepest


def _shapes(encoder: Encoder, size: int) -> tuple[torch.Size, torch.Size]:
    """Of the two maps of one image, found by trying."""
    training = encoder.training
    first = next(layer for layer in encoder.body.modules() if isinstance(layer, nn.Conv2d))  # sees the bands
    bands = first.in_channels
    encoder.eval()
    try:
        with torch.no_grad():
            before, deepest = deep_maps(encoder, torch.zeros(1, bands, size, size))
    except Exception as e:  # the models' own checks raise what they like
        raise UsageError(f"crop.size: {encoder.name} gives no maps of images of {size} pixels: {e}") from e
    finally:
        encoder.train(training)
    return before.shape, deepest.shape


def _pspnet(shape: torch.Size) -> nn.Module:
    return _Pyramid(PSPDecoder([shape[1]], out_channels=WIDTH, dropout=DROPOUT))


class _Pyramid(nn.Module):
    """smp's decoder, which takes a list of maps, for the deepest map alone."""

    def __init__(self, decoder: PSPDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.decoder([features])
        return out


def _psanet(shape: torch.Size) -> nn.Module:
    _, channels, rows, columns = shape
    return nn.Sequential(
        PointwiseAttention(channels, reduced=WIDTH, size=(rows, columns)),
        _conv3(2 * channels, WIDTH),
        nn.Dropout2d(DROPOUT),
    )


def _conv3(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def _to(logits: Tensor, images: Tensor) -> Tensor:
    """The logits at the size of the images.

    A ResNet's map is of every eighth pixel, the first and, where the side is 8 n + 1, the last among them. At other
    sides, to spread it from edge to edge would shift it more and more; it is shifted by as much everywhere instead,
    which a convolution can undo.
    """
    side, size = logits.shape[2], images.shape[2]
    cornered = side > 1 and (size - 1) % (side - 1) == 0
    return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=cornered)
