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
NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing changed in the published method."""

    what: str
    """What it is, for the table."""
    arm: Literal["tp", "geo"]
    """What it is compared with, and is but for the change."""
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
    objective: Literal["moco", "simclr", "byol"] = "moco"
    """Contrast with the queue, with the batch (arXiv 2002.05709), or none but a predictor (arXiv 2006.07733)."""
    geo: Literal["clusters", "rank", "location"] = "clusters"
    """The geo loss: the paper's; the order of great-circle distances within the batch; or InfoNCE with an encoder of
    the location."""
    geo_weight: float = 1.0
    geo_feature: Literal["projection", "backbone"] = "projection"
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

    def __init__(self, option: Option, config: TrainConfig, data: TrainData) -> None:
        super().__init__()
        self.option, self.config, self.seed = option, config, config.seed
        model = config.model
        assert model.queue is not None  # noqa: S101 - settings are resolved
        encoder = build_encoder(model.backbone, bands=data.samples.bands, dim=model.dim, seed=config.seed)
        self.moco = MoCo(
            encoder,
            dim=model.dim,
            queue=model.queue,
            momentum=model.momentum,
            temperature=model.temperature,
            seed=config.seed,
        )
        if option.objective != "simclr":
            batch_norm.convert(self.moco, groups=model.bn_groups)
        width = encoder.num_features
        with seeded(config.seed, "ablation"):
            if option.objective == "byol":
                self.predictor = projection_head(features=model.dim, dim=model.dim)
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

    def forward(self, views: Tensor, rows: Tensor, *, number: int, done: float) -> Tensor:
        """The loss of a batch; the queue is moved too.

        Args:
            views: float32 [V, B, C, H, W], normalised.
            rows: int64 [V, B], of the index.
            number: steps before this one.
            done: share of the run that is over.

        """
        option, moco = self.option, self.moco
        feature, projection = self._query(views[0])
        if option.objective == "simclr":
            loss = self._simclr(projection, self._query(views[1])[1])
        elif option.objective == "byol":
            swapped = self._query(views[1])[1]
            keys = self._keys(views[:2], number)
            loss = self._bootstrap(projection, keys[1]) / 2 + self._bootstrap(swapped, keys[0]) / 2
        else:
            first = 0 if option.symmetric else 1
            keys = self._keys(views[first:], number)
            parts = [self._contrast(projection, key, rows, view) for view, key in enumerate(keys[1 - first :], 1)]
            loss = torch.stack(parts).mean()
            if option.symmetric:
                other = self._query(views[1])[1]
                loss = (loss + self._contrast(other, keys[0], rows.flip(0), 1)) / 2
            kept = keys if option.symmetric else keys[:1]
            self._remember(torch.cat(list(kept)), rows[first : first + len(kept)].flatten())
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
            loss = loss + weight * self._geo(feature if option.geo_feature == "backbone" else projection, rows[0])
        assert moco.queue.isfinite().all()  # noqa: S101 - a run that broke is no result
        return loss

    def _query(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoder: Encoder = self.moco.encoder_q  # type: ignore[assignment]
        feature = features(encoder, images)
        return feature, encoder.get_submodule("fc")(feature)

    @torch.no_grad()
    def _keys(self, views: Tensor, number: int) -> Tensor:
        """Unit keys of each view, float32 [V, B, dim]."""
        self.moco.update_key_encoder()
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
            return each.mean()
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

    def _simclr(self, one: Tensor, other: Tensor) -> Tensor:
        z = F.normalize(torch.cat([one, other]))
        count = len(one)
        logits = (z @ z.T / self.moco.temperature).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(2 * count).roll(count))

    def _bootstrap(self, projection: Tensor, keys: Tensor) -> Tensor:
        return 2 - 2 * (F.normalize(self.predictor(projection)) * keys).sum(1).mean()

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
