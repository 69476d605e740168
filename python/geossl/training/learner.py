"""What one step of an arm computes: the model, the head on top, and the loss with its parts."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from geossl import losses
from geossl.errors import UsageError
from geossl.models import batch_norm
from geossl.models.backbone import build_backbone, features
from geossl.models.checkpointing import checkpoint_blocks
from geossl.models.compiler import check_compiler
from geossl.models.heads import GeoHead
from geossl.models.moco import MoCo, build_encoder
from geossl.models.precision import autocast
from geossl.models.seeds import seeded
from geossl.models.weights import init_backbone
from geossl.training.figures import alignment, feature_std, uniformity
from geossl.training.ranks import ALONE
from geossl.training.targets import level_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from geossl.config import Precision, TrainConfig
    from geossl.models.backbone import Encoder
    from geossl.models.source import Source
    from geossl.training.ranks import Ranks
    from geossl.training.targets import GeoTargets, Targets


class Outputs(NamedTuple):
    """What the trained modules make of images."""

    feature: Tensor
    """float32 [B, F]: the backbone's feature."""
    projection: Tensor
    """float32 [B, D]: of the encoder as a whole; for the contrastive arms before its normalisation."""
    place: Tensor | None
    """float32 [B, outputs]: the geo head's, see `GeoHead`."""

    @classmethod
    def together(cls, parts: Sequence[Outputs]) -> Outputs:
        """Those of a batch, from those of its parts."""
        place = [part.place for part in parts if part.place is not None]
        return cls(
            torch.cat([part.feature for part in parts]),
            torch.cat([part.projection for part in parts]),
            torch.cat(place) if place else None,
        )

    def detach(self) -> Outputs:
        """Without their graph."""
        place = None if self.place is None else self.place.detach()
        return Outputs(self.feature.detach(), self.projection.detach(), place)


class Trained(nn.Module):
    """All that the optimizer trains, in one forward pass, as wrappers of modules (data-parallel) need it."""

    def __init__(self, encoder: Encoder, head: GeoHead | None, *, reads: str, precision: Precision) -> None:
        super().__init__()
        self.encoder, self.head, self._reads, self._precision = encoder, head, reads, precision

    def forward(self, images: Tensor) -> Outputs:
        """float32 [B, C, H, W] -> outputs; the encoder computes in the given precision."""
        with autocast(self._precision, images.device):
            feature = features(self.encoder, images)
            projection = self.encoder.fc(feature)
        feature, projection = feature.float(), projection.float()
        place = None if self.head is None else self.head(feature if self._reads == "backbone" else projection)
        return Outputs(feature, projection, place)


class Share(NamedTuple):
    """What a micro-batch's means weigh: the sum over the micro-batches, averaged over the processes, is the mean over
    the global batch.
    """

    images: float
    """Weight of a mean over the images."""
    known: Tensor
    """float32 []: weight of a mean over the images whose label or place is known; 0 if none is."""


class Part(NamedTuple):
    """What a micro-batch adds to a step."""

    loss: Tensor
    """With its graph. The sum over the micro-batches, averaged over the processes, is the global batch's loss."""
    figures: dict[str, Tensor]
    """The loss, its parts and accuracies, which add up in the same way."""
    outputs: Outputs
    """Without their graph."""


class Learner:
    """The model of an arm (`encoder_q` inside it is what is kept), its geo head, and its loss.

    moco, tp, geo, geo_tp: MoCo; geo adds the loss of the geo head on the query. geoloc: an encoder with
    MoCo's projection, and the geo head alone. supervised: an encoder with a linear layer for the categories.
    """

    def __init__(
        self, config: TrainConfig, *, bands: int, classes: int, geo: GeoTargets | None, ranks: Ranks = ALONE
    ) -> None:
        """Build for images of `bands` bands.

        Args:
            config: the settings; `model.queue` must be resolved.
            bands: bands of the images.
            classes: how many categories there are; for the arm supervised.
            geo: what the geo head predicts; for the geographic arms.
            ranks: the processes that train together.

        Raises:
            UsageError: the groups of batch normalisation do not fit the processes and micro-batches.

        """
        self._config, self._ranks = config, ranks
        model = config.model
        self.encoder = _build(config, bands=bands, classes=classes)
        """The query encoder."""
        if config.contrastive:
            if model.queue is None:
                raise ValueError("model.queue must be resolved")
            self.model: nn.Module = MoCo(
                self.encoder,
                dim=model.dim,
                queue=model.queue,
                momentum=model.momentum,
                temperature=model.temperature,
                seed=config.seed,
            )
        else:
            self.model = nn.ModuleDict({"encoder_q": self.encoder})
        self.head: GeoHead | None = None
        self._spacing: Tensor | None = None
        if geo is not None:
            width = self.encoder.num_features if config.geo.feature == "backbone" else model.dim
            with seeded(config.seed, "geo head"):
                self.head = GeoHead(features=width, target=geo.target, levels=level_vectors(geo.levels))
            if geo.target == "soft":
                self._spacing = losses.spacing(self.head.centroids)
        self.shuffles = False
        """Whether keys are to be encoded in another order than the queries'."""
        if batch_norm.found(self.encoder):
            # The other arms have no keys; a single group is the whole batch, in any order.
            self.shuffles = config.contrastive and model.bn_groups > 1
            self._group(model.bn_groups, parts=config.accumulate)
        if model.checkpointing:
            checkpoint_blocks(self.encoder)
        self.trained: nn.Module = Trained(self.encoder, self.head, reads=config.geo.feature, precision=config.precision)
        """What a forward pass with gradients goes through; calling it gives `Outputs`."""

    def start_from(self, path: Path, *, band_names: Sequence[str] | None) -> Source:
        """Give the backbone, of MoCo the query's and the key's, the weights of a file; see `init_backbone`."""
        source = init_backbone(self.encoder, path, band_names=band_names)
        if isinstance(self.model, MoCo):
            self.model.encoder_k.load_state_dict(self.encoder.state_dict())
        return source

    def to(self, device: torch.device) -> Learner:
        """Move everything to the device, in channels_last memory."""
        self.model.to(device).to(memory_format=torch.channels_last)
        if self.head is not None:
            self.head.to(device)
        if self._spacing is not None:
            self._spacing = self._spacing.to(device)
        return self

    def compile(self) -> None:
        """Have the encoders compiled, in place, where they are. Raises UsageError where torch cannot compile."""
        check_compiler(next(self.encoder.parameters()).device)
        self.trained.compile()
        if isinstance(self.model, MoCo):
            self.model.encoder_k.compile()

    def distribute(self) -> None:
        """Average the gradients over the processes, during the backward pass. After `to`."""
        if self._ranks.world > 1:
            # Gradients would be summed in another order from the second step on, and a resumed run would differ by
            # rounding; this flag keeps the order. Sums of two have one order, and GPUs promise no bits.
            cpu = next(self.trained.parameters()).device.type == "cpu"
            with warnings.catch_warnings():
                # Newer versions of torch prefer another name, which 2.6 has not.
                warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
                self.trained = DistributedDataParallel(
                    self.trained, broadcast_buffers=False, find_unused_parameters=cpu and self._ranks.world > 2
                )

    def gathering(self) -> AbstractContextManager[None]:
        """A context for all micro-batches of a step but the last, whose gradients are only added up."""
        apart: AbstractContextManager[None] = nullcontext()
        return self.trained.no_sync() if isinstance(self.trained, DistributedDataParallel) else apart

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains; the key encoder is not among it."""
        return [p for p in self.trained.parameters() if p.requires_grad]

    def part(self, images: Tensor, *, keys: Tensor | None, targets: Targets, share: Share) -> Part:
        """The forward pass of a micro-batch.

        Args:
            images: float32 [B, C, H, W], normalised; for the contrastive arms the queries.
            keys: float32 [B, dim], what `encode_keys` of the model gave for them; None for the other arms.
            targets: what the images are to predict.
            share: what the micro-batch is of the global batch.

        """
        out: Outputs = self.trained(images)
        figures: dict[str, Tensor] = {}
        if isinstance(self.model, MoCo):
            logits = self.model.logits(out.projection, _given(keys))
            loss = figures["infonce"] = losses.info_nce(logits) * share.images
            figures["pretext_acc"] = losses.pretext_top1(logits) * share.images
            if self.head is not None:
                geo = self._geo(self.head, out, targets, share, figures)
                alpha, beta = self._config.geo.weights
                loss = alpha * loss + beta * geo
        elif self.head is not None:
            loss = self._geo(self.head, out, targets, share, figures)
        else:
            categories = _given(targets.categories)
            loss = losses.known_cross_entropy(out.projection, categories) * share.known
            figures["class_acc"] = losses.top1(out.projection, categories) * share.known
        figures = {"loss": loss, **figures}
        return Part(loss, {name: value.detach() for name, value in figures.items()}, out.detach())

    def watch(self, outputs: Outputs, targets: Targets, keys: Tensor | None) -> dict[str, Tensor]:
        """The figures that are no means over images, of the global batch; for rows of metrics.

        Args:
            outputs: for this process's part of the batch.
            targets: its own.
            keys: of the global batch.

        """
        gather = self._ranks.gather
        # The categories' logits may well collapse.
        watched = gather(outputs.feature if self._config.arm == "supervised" else outputs.projection)
        figures = {"feature_std": feature_std(watched)}
        if keys is not None:
            queries = F.normalize(watched)
            figures["alignment"] = alignment(queries, keys)
            figures["uniformity"] = (uniformity(queries) + uniformity(keys)) / 2
        if self.head is not None:
            place, points = gather(self.head.place(_given(outputs.place))), gather(_given(targets.points))
            figures["geo_km"] = losses.median_km(place, points, points.isfinite().all(1))
        return figures

    def _geo(self, head: GeoHead, out: Outputs, targets: Targets, share: Share, figures: dict[str, Tensor]) -> Tensor:
        """The loss of the geo head; adds its figures."""
        output, clusters, points = _given(out.place), _given(targets.clusters), _given(targets.points)
        known = _given(targets.known)
        levels = list(zip(head.by_level(output), clusters.unbind(1), strict=True)) if head.sizes else []
        if head.target == "vector":
            loss = losses.known_cosine_loss(head.place(output), points, known)
        elif head.target == "soft":
            shares = losses.soft_labels(points, head.centroids, _given(self._spacing))
            loss = losses.known_soft_cross_entropy(output, shares, known)
        else:
            loss = torch.stack([losses.known_cross_entropy(logits, labels) for logits, labels in levels]).mean()
        figures["geo"] = loss = loss * share.known
        for i, (logits, labels) in enumerate(levels, 1):
            name = "geo_acc" if i == len(levels) else f"geo{head.sizes[i - 1]}_acc"
            figures[name] = losses.top1(logits, labels) * share.known
        return loss

    def _group(self, groups: int, *, parts: int) -> None:
        """Have batch normalisation see these groups of the global batch, wherever its parts are computed."""
        ranks = self._ranks
        pieces = ranks.world * parts
        if groups % pieces == 0:
            if groups > pieces:
                batch_norm.convert(self.model, groups=groups // pieces)
        elif parts == 1 and ranks.world % groups == 0:
            group, device = ranks.subset(ranks.world // groups), torch.device(self._config.device)
            batch_norm.synchronize(self.model, group=group, device=device)
        else:
            fits = f"a multiple of {pieces}" + (f", or a divisor of {ranks.world}" if parts == 1 else "")
            work = f"{ranks.world} processes x {parts} micro-batches (accumulate)"
            raise UsageError(f"model.bn_groups: {groups} groups cannot be seen by {work}; use {fits}")


def _build(config: TrainConfig, *, bands: int, classes: int) -> Encoder:
    """The encoder of the arm, with what it has as its `fc`."""
    model, size = config.model, config.crop.size
    if config.contrastive or config.geographic:
        encoder = build_encoder(
            model.backbone, bands=bands, dim=model.dim, seed=config.seed, size=size, stem=model.stem
        )
        if not config.contrastive and config.geo.feature == "backbone":
            # No loss reads the projection. (Data-parallel wrappers wait for the gradient of all that is trained.)
            encoder.fc.requires_grad_(requires_grad=False)
        return encoder
    encoder = build_backbone(model.backbone, bands=bands, seed=config.seed, size=size, stem=model.stem)
    with seeded(config.seed, "classifier"):
        encoder.fc = nn.Linear(encoder.num_features, classes)
    return encoder


def _given(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("the arm's targets are not given")
    return value
