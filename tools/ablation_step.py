"""Steps of MoCo with what the paper leaves on the table, as a research loop of the product's building blocks.

An option that earns its place in `results_ablations.py` moves into the product; the others stay here, so that their
figures can be made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geossl import losses
from geossl.data.coordinates import place_coordinates, unit_vectors
from geossl.geo import EARTH_RADIUS_KM
from geossl.models import batch_norm
from geossl.models.backbone import features
from geossl.models.heads import GeoHead, projection_head
from geossl.models.moco import MoCo, build_encoder
from geossl.models.seeds import generator, seeded
from geossl.training.targets import level_vectors

if TYPE_CHECKING:
    from geossl.config import TrainConfig
    from geossl.models.backbone import Encoder
    from geossl.training.data import TrainData

MONTHS = 12
DAY_US = 86_400_000_000
PROTOTYPES = 1024
"""Outputs of DINO's head; the paper has 65,536 for a thousand times as many images."""
V3_TEMPERATURE = 0.2
"""MoCo-v3's."""
NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing changed in the published method."""

    what: str
    """What it is, for the table."""
    arm: Literal["tp", "geo"]
    """The method that it changes."""
    base: str | None = None
    """The option that it is compared with; by default the one called as the arm."""
    real_keys: bool = False
    """The queue begins empty, not with noise: what is in it are keys of images."""
    mask_km: float | None = None
    """Keys of the queue from the query's own place, and from nearer than this, are no negatives."""
    symmetric: bool = False
    """Both views are query and key."""
    positives: int = 1
    """Other dates that are keys of a query."""
    gap_days: float | None = None
    """InfoNCE is weighted by exp(-gap / days) of the two dates; by 1 - exp(-gap / days) where negative."""
    variance: float = 0.0
    """Weight of a floor under the spread of the features (VICReg's hinge, arXiv 2105.04906, on unit vectors)."""
    one_a_place: bool = False
    """Of images of one place in a batch, the first alone counts, in the loss and in the queue."""
    small: int = 0
    """Small crops of other dates that are queries too, beside the large one (multi-crop, arXiv 2006.09882)."""
    objective: Literal["moco", "moco_v3", "simclr", "byol", "dino"] = "moco"
    """Contrast with the queue; with the batch, by a predictor (arXiv 2104.02057), or without a key encoder (arXiv
    2002.05709); none but a predictor (arXiv 2006.07733), or prototypes (arXiv 2104.14294)."""
    backbone: str | None = None
    """Another one than the recipe's: trained by AdamW, as transformers are."""
    geo: Literal["clusters", "rank", "location"] = "clusters"
    """The geo loss: the paper's; the order of great-circle distances within the batch; or InfoNCE with an encoder of
    the location."""
    geo_weight: float = 1.0
    geo_feature: Literal["projection", "backbone"] = "projection"
    geo_both: bool = False
    """The geo head reads both views."""
    geo_warm_up: float = 0.0
    """Share of the run over which the geo loss grows to its weight."""
    month: float = 0.0
    """Weight of predicting the month from the feature; negative: of forgetting it (gradient reversal)."""


class Reversal(torch.autograd.Function):
    """The identity, whose gradient is turned round (arXiv 1505.07818)."""

    @staticmethod
    def forward(_ctx: object, values: Tensor) -> Tensor:
        """Pass the values on."""
        return values.view_as(values)

    @staticmethod
    def backward(_ctx: object, *grads: Tensor) -> Tensor:
        """Turn the gradient round."""
        return -grads[0]


class LocationEncoder(nn.Module):
    """Unit vectors to unit embeddings: random Fourier features (arXiv 2006.10739) and an MLP."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        scales = torch.tensor([1.0, 4.0, 16.0]).repeat_interleave(32)
        self.register_buffer("frequencies", torch.randn(3, len(scales)) * scales)
        self.layers = nn.Sequential(nn.Linear(2 * len(scales), 256), nn.ReLU(), nn.Linear(256, dim))

    def forward(self, points: Tensor) -> Tensor:
        """float32 [B, 3] -> [B, dim]."""
        angles = points @ self.frequencies
        return F.normalize(self.layers(torch.cat([angles.sin(), angles.cos()], 1)))


class AblationStep(nn.Module):
    """The model of an option and its loss; `encoder_q` inside `moco` is what is kept."""

    centre: Tensor

    def __init__(self, option: Option, config: TrainConfig, data: TrainData) -> None:
        super().__init__()
        self.option, self.config, self.seed = option, config, config.seed
        model = config.model
        assert model.queue is not None  # noqa: S101 - settings are resolved
        encoder = build_encoder(
            model.backbone, bands=data.samples.bands, dim=model.dim, seed=config.seed, size=config.crop.size
        )
        self.moco = MoCo(
            encoder,
            dim=model.dim,
            queue=model.queue,
            momentum=model.momentum,
            temperature=model.temperature,
            seed=config.seed,
        )
        if option.objective != "simclr" and batch_norm.found(encoder):
            batch_norm.convert(self.moco, groups=model.bn_groups)
        width = encoder.num_features
        with seeded(config.seed, "ablation"):
            if option.objective in {"byol", "moco_v3"}:
                self.predictor = projection_head(features=model.dim, dim=model.dim)
            if option.objective == "dino":
                self.prototypes = nn.Linear(model.dim, PROTOTYPES, bias=False)
                self.teachers = nn.Linear(model.dim, PROTOTYPES, bias=False).requires_grad_(requires_grad=False)
                self.teachers.load_state_dict(self.prototypes.state_dict())
                self.register_buffer("centre", torch.zeros(PROTOTYPES))
            if option.month:
                self.month = nn.Linear(width, MONTHS)
            reads = width if option.geo_feature == "backbone" else model.dim
            if option.geo == "rank":
                self.ranked = nn.Linear(reads, 64)
            elif option.geo == "location":
                self.located, self.locations = nn.Linear(reads, 64), LocationEncoder(64)
        if option.arm == "geo" and option.geo == "clusters":
            assert data.geo is not None  # noqa: S101 - the arm has it
            with seeded(config.seed, "geo head"):
                self.head = GeoHead(features=reads, target=data.geo.target, levels=level_vectors(data.geo.levels))
        self.queue_rows = torch.full((model.queue,), -1)
        index = data.index
        lat, lon, _ = place_coordinates(index)
        self.points = torch.from_numpy(unit_vectors(lat, lon).astype(np.float32)[index.places])
        self.places = torch.from_numpy(np.asarray(index.places, dtype=np.int64))
        stamps = index.table["timestamp"].cast("int64").fill_null(NO_TIME).to_numpy()
        self.days = torch.from_numpy(np.where(stamps == NO_TIME, np.nan, stamps / DAY_US))
        months = stamps.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % MONTHS
        self.months = torch.from_numpy(np.where(stamps == NO_TIME, losses.IGNORE, months))
        self.clusters = torch.empty(0) if data.geo is None else torch.from_numpy(data.geo.clusters[:, -1])

    def trained(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return [p for p in self.parameters() if p.requires_grad]

    def forward(self, views: Tensor, rows: Tensor, *, small: Tensor | None = None, number: int, done: float) -> Tensor:
        """The loss of a batch; the queue is moved too.

        Args:
            views: float32 [V, B, C, H, W], normalised.
            rows: int64 [V, B], of the index.
            small: float32 [N, B, C, h, w], small views of other dates.
            number: steps before this one.
            done: share of the run that is over.

        """
        option, moco = self.option, self.moco
        feature, projection = self._query(views[0])
        if option.objective == "simclr":
            loss = self._simclr(projection, self._query(views[1])[1], self.places[rows[0]])
        elif option.objective != "moco":
            loss_of = {"byol": self._bootstrap, "moco_v3": self._in_batch, "dino": self._prototypes}[option.objective]
            swapped = self._query(views[1])[1]
            keys = self._keys(views[:2], number)
            loss = (loss_of(projection, keys[1], rows[0]) + loss_of(swapped, keys[0], rows[1])) / 2
        else:
            first = 0 if option.symmetric else 1
            keys = self._keys(views[first:], number)
            parts = [self._contrast(projection, key, rows, view) for view, key in enumerate(keys[1 - first :], 1)]
            if small is not None:
                parts += [self._contrast(self._query(view)[1], keys[1 - first], rows, 1) for view in small]
            loss = torch.stack(parts).mean()
            if option.symmetric:
                other = self._query(views[1])[1]
                loss = (loss + self._contrast(other, keys[0], rows.flip(0), 1)) / 2
            kept, of = keys if option.symmetric else keys[:1], rows[first:]
            counts = self._counting(rows[0])
            self._remember(torch.cat([key[counts] for key in kept]), of[: len(kept), counts].flatten())
        if option.variance:
            spread = F.normalize(projection).std(0) * projection.shape[1] ** 0.5
            loss = loss + option.variance * F.relu(1 - spread).mean()
        if option.month:
            read = feature if option.month > 0 else Reversal.apply(feature)
            loss = loss + abs(option.month) * losses.known_cross_entropy(self.month(read), self.months[rows[0]])
        if option.arm == "geo":
            weight = (
                option.geo_weight * min(done / option.geo_warm_up, 1.0) if option.geo_warm_up else option.geo_weight
            )
            read = [(feature, projection)] + ([self._query(views[1])] if option.geo_both else [])
            parts = [
                self._geo(one if option.geo_feature == "backbone" else other, rows[view])
                for view, (one, other) in enumerate(read)
            ]
            loss = loss + weight * torch.stack(parts).mean()
        assert moco.queue.isfinite().all()  # noqa: S101 - a run that broke is no result
        return loss

    def _query(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoder: Encoder = self.moco.encoder_q  # type: ignore[assignment]
        feature = features(encoder, images)
        return feature, encoder.get_submodule("fc")(feature)

    def _counting(self, rows: Tensor) -> Tensor:
        """Which images of the batch count, bool [B]."""
        if not self.option.one_a_place:
            return torch.ones(len(rows), dtype=torch.bool)
        same = self.places[rows][:, None] == self.places[rows]
        return ~same.tril(-1).any(1)

    @torch.no_grad()
    def _keys(self, views: Tensor, number: int) -> Tensor:
        """Unit keys of each view, float32 [V, B, dim]."""
        self.moco.update_key_encoder()
        if self.option.objective == "dino":
            self.teachers.weight.lerp_(self.prototypes.weight, 1 - self.moco.momentum)
        order = torch.randperm(views.shape[1], generator=generator(self.seed, "shuffle", number))
        back = order.argsort()
        return torch.stack([F.normalize(self.moco.encoder_k(view[order]))[back] for view in views])

    def _contrast(self, projection: Tensor, keys: Tensor, rows: Tensor, view: int) -> Tensor:
        logits = self.moco.logits(projection, keys)
        if self.option.mask_km is not None:
            own = self.places[rows[0]][:, None] == torch.where(self.queue_rows < 0, -1, self.places[self.queue_rows])
            if self.option.mask_km:
                chord = 2 * np.sin(self.option.mask_km / EARTH_RADIUS_KM / 2)
                near = torch.cdist(self.points[rows[0]], self.points[self.queue_rows]) < chord
                own |= near & (self.queue_rows >= 0)
            logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(own, -torch.inf)], 1)
        if self.option.real_keys:
            noise = self.queue_rows < 0
            logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(noise, -torch.inf)], 1)
        zeros = torch.zeros(len(logits), dtype=torch.int64)
        each = F.cross_entropy(logits, zeros, reduction="none")
        if self.option.gap_days is None:
            return each[self._counting(rows[0])].mean()
        gap = (self.days[rows[0]] - self.days[rows[view]]).abs().nan_to_num(0.0).float()
        weight = torch.exp(-gap / abs(self.option.gap_days))
        weight = weight if self.option.gap_days > 0 else 1 - weight
        return (each * weight).sum() / weight.sum().clamp(min=1e-6)

    def _remember(self, keys: Tensor, rows: Tensor) -> None:
        at = (int(self.moco.queue_ptr) + torch.arange(len(rows))) % len(self.queue_rows)
        self.queue_rows[at] = rows
        # The backward pass is still to come, and needs the queue as it is.
        self.moco.queue = self.moco.queue.clone()
        self.moco.enqueue(keys)

    def _simclr(self, one: Tensor, other: Tensor, places: Tensor) -> Tensor:
        z = F.normalize(torch.cat([one, other]))
        count = len(one)
        logits = (z @ z.T / self.moco.temperature).fill_diagonal_(-torch.inf)
        partner = torch.arange(2 * count).roll(count)
        if self.option.mask_km is not None:
            own = (places[:, None] == places).repeat(2, 2)
            own[torch.arange(2 * count), partner] = False
            logits = logits.masked_fill(own, -torch.inf)
        return F.cross_entropy(logits, partner)

    def _bootstrap(self, projection: Tensor, keys: Tensor, _rows: Tensor) -> Tensor:
        return 2 - 2 * (F.normalize(self.predictor(projection)) * keys).sum(1).mean()

    def _in_batch(self, projection: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        logits = F.normalize(self.predictor(projection)) @ keys.T / V3_TEMPERATURE
        same = self.places[rows][:, None] == self.places[rows]
        logits = logits.masked_fill(same & ~torch.eye(len(rows), dtype=torch.bool), -torch.inf)
        return 2 * V3_TEMPERATURE * F.cross_entropy(logits, torch.arange(len(rows)))

    def _prototypes(self, projection: Tensor, keys: Tensor, _rows: Tensor) -> Tensor:
        def logits(unit: Tensor, layer: nn.Module) -> Tensor:
            return F.linear(unit, F.normalize(layer.get_parameter("weight")))

        with torch.no_grad():
            given = logits(keys, self.teachers)
            targets = F.softmax((given - self.centre) / 0.04, 1)
            self.centre = self.centre * 0.9 + given.mean(0) * 0.1
        made = logits(F.normalize(projection), self.prototypes) / 0.1
        return -(targets * F.log_softmax(made, 1)).sum(1).mean()

    def _geo(self, read: Tensor, rows: Tensor) -> Tensor:
        points = self.points[rows]
        if self.option.geo == "clusters":
            (logits,) = self.head.by_level(self.head(read))
            return losses.known_cross_entropy(logits, self.clusters[rows])
        same = self.places[rows][:, None] == self.places[rows]
        if self.option.geo == "location":
            image, place = F.normalize(self.located(F.relu(read))), self.locations(points)
            # Images of one place are no negatives of each other.
            logits = (image @ place.T / 0.1).masked_fill(same & ~torch.eye(len(rows), dtype=torch.bool), -torch.inf)
            labels = torch.arange(len(rows))
            return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        z = F.normalize(self.ranked(F.relu(read)))
        alike, apart = z @ z.T / 0.1, torch.cdist(points, points)
        nearer = apart[:, :, None] < apart[:, None, :]
        own = torch.eye(len(rows), dtype=torch.bool)
        nearer &= ~own[:, :, None] & ~own[:, None, :]
        return F.softplus(alike[:, None, :] - alike[:, :, None])[nearer].mean()


def encoder_state(step: AblationStep) -> dict[str, Tensor]:
    """The model in the paper's form of a checkpoint."""
    return {f"module.{name}": value for name, value in step.moco.state_dict().items()}
