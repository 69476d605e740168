"""What one step of an arm computes: the model, the head on top, and the loss with its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from geossl.models.backbone import build_backbone, features, init_backbone, num_features
from geossl.models.heads import GeoHead
from geossl.models.moco import MoCo, build_encoder
from geossl.models.seeds import seeded
from geossl.train import losses
from geossl.train.targets import level_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.train.targets import GeoTargets, Targets


class StepResult(NamedTuple):
    """A step's loss, with its graph, and the figures to log, without."""

    loss: Tensor
    figures: dict[str, Tensor]


class Learner:
    """The model of an arm (`encoder_q` inside it is what is kept), its geo head, and its loss.

    moco, tp, geo, geo_tp: MoCo; geo adds the loss of the geo head on the query. geoloc: an encoder with
    MoCo's projection, and the geo head alone. supervised: an encoder with a linear layer for the categories.
    """

    def __init__(self, config: TrainConfig, *, bands: int, classes: int, geo: GeoTargets | None) -> None:
        """Build for images of `bands` bands.

        Args:
            config: the settings; `model.queue` must be resolved.
            bands: bands of the images.
            classes: how many categories there are; for the arm supervised.
            geo: what the geo head predicts; for the geographic arms.

        """
        self._config = config
        model = config.model
        if config.contrastive:
            if model.queue is None:
                raise ValueError("model.queue must be resolved")
            self.model: nn.Module = MoCo(
                backbone=model.backbone,
                bands=bands,
                dim=model.dim,
                queue=model.queue,
                momentum=model.momentum,
                temperature=model.temperature,
                bn_groups=model.bn_groups,
                seed=config.seed,
            )
        elif config.geographic:
            encoder = build_encoder(model.backbone, bands=bands, dim=model.dim, seed=config.seed)
            self.model = nn.ModuleDict({"encoder_q": encoder})
        else:
            encoder = build_backbone(model.backbone, bands=bands, seed=config.seed)
            with seeded(config.seed, "classifier"):
                encoder.fc = nn.Linear(num_features(encoder), classes)
            self.model = nn.ModuleDict({"encoder_q": encoder})
        self.head: GeoHead | None = None
        self._spacing: Tensor | None = None
        if geo is not None:
            wide = config.geo.feature == "backbone"
            width = num_features(self.model.get_submodule("encoder_q")) if wide else model.dim
            with seeded(config.seed, "geo head"):
                self.head = GeoHead(features=width, target=geo.target, levels=level_vectors(geo.levels))
            if geo.target == "soft":
                self._spacing = losses.spacing(self.head.centroids)

    def start_from(self, path: Path, *, band_names: Sequence[str] | None) -> None:
        """Give the backbone, of MoCo the query's and the key's, the weights of a file; see `init_backbone`."""
        query = self.model.get_submodule("encoder_q")
        init_backbone(query, path, band_names=band_names)
        if isinstance(self.model, MoCo):
            self.model.encoder_k.load_state_dict(query.state_dict())

    def to(self, device: torch.device) -> Learner:
        """Move everything to the device, in channels_last memory."""
        self.model.to(device).to(memory_format=torch.channels_last)
        if self.head is not None:
            self.head.to(device)
        if self._spacing is not None:
            self._spacing = self._spacing.to(device)
        return self

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains; the key encoder is not among it."""
        modules = [self.model] if self.head is None else [self.model, self.head]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def step(self, views: Tensor, *, targets: Targets, shuffle: Tensor | None) -> StepResult:
        """The loss of a batch.

        Args:
            views: float32 [V, B, C, H, W], normalised; query and key for the contrastive arms, one view for
                the others.
            targets: what the queries are to predict.
            shuffle: int64 [B], the order in which the keys are encoded; see `MoCo.forward`.

        """
        if self._config.contrastive:
            return self._contrast(views, targets, shuffle)
        return self._predict(views[0], targets)

    def _contrast(self, views: Tensor, targets: Targets, shuffle: Tensor | None) -> StepResult:
        query, key = views
        out = self.model(query, key, shuffle=shuffle)
        loss = infonce = losses.info_nce(out.logits)
        figures = {"infonce": infonce, "pretext_acc": losses.pretext_top1(out.logits)}
        if self.head is not None:
            geo = self._geo(self.head, out.feature, out.projection, targets, figures)
            alpha, beta = self._config.geo.weights
            loss = alpha * infonce + beta * geo
        return _result(loss, figures, out.projection)

    def _predict(self, images: Tensor, targets: Targets) -> StepResult:
        encoder = self.model.get_submodule("encoder_q")
        feature = features(encoder, images)
        output: Tensor = encoder.get_submodule("fc")(feature)
        figures: dict[str, Tensor] = {}
        if self.head is not None:
            loss = self._geo(self.head, feature, output, targets, figures)
            return _result(loss, figures, output)
        categories = _given(targets.categories)
        loss = losses.known_cross_entropy(output, categories)
        figures["class_acc"] = losses.top1(output, categories)
        return _result(loss, figures, feature)

    def _geo(
        self, head: GeoHead, feature: Tensor, projection: Tensor, targets: Targets, figures: dict[str, Tensor]
    ) -> Tensor:
        """The loss of the geo head; adds its figures."""
        output = head(feature if self._config.geo.feature == "backbone" else projection)
        clusters, points = _given(targets.clusters), _given(targets.points)
        known = points.isfinite().all(1)
        place = head.place(output)
        levels = list(zip(head.by_level(output), clusters.unbind(1), strict=True)) if head.sizes else []
        if head.target == "vector":
            loss = losses.known_cosine_loss(place, points, known)
        elif head.target == "soft":
            shares = losses.soft_labels(points, head.centroids, _given(self._spacing))
            loss = losses.known_soft_cross_entropy(output, shares, known)
        else:
            loss = torch.stack([losses.known_cross_entropy(logits, labels) for logits, labels in levels]).mean()
        figures["geo"] = loss
        for i, (logits, labels) in enumerate(levels, 1):
            name = "geo_acc" if i == len(levels) else f"geo{head.sizes[i - 1]}_acc"
            figures[name] = losses.top1(logits, labels)
        figures["geo_km"] = losses.median_km(place.detach(), points, known)
        return loss


def _given(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("the arm's targets are not given")
    return value


def _result(loss: Tensor, figures: dict[str, Tensor], watched: Tensor) -> StepResult:
    figures = {"loss": loss, **figures, "feature_std": losses.feature_std(watched)}
    return StepResult(loss, {name: value.detach() for name, value in figures.items()})
