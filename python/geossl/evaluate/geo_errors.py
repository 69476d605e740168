"""How far from the truth a run's geo head places images, and how often it finds their cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from geossl.config import LoaderConfig
from geossl.data.coordinates import lat_lon, place_coordinates
from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.evaluate.features import check_bands, extract
from geossl.geo import distance_km, nearest
from geossl.models.heads import GeoHead, projection_head
from geossl.models.weights import load_backbone, read_checkpoint
from geossl.training.targets import level_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.evaluate.features import Features


_BATCH = 4096
"""Features that the head reads at once."""


class GeoErrors(NamedTuple):
    """Of N images, float64 [N] each."""

    lat: NDArray[np.float64]
    """Latitude of the predicted place, degrees; NaN of an image that could not be read."""
    lon: NDArray[np.float64]
    """Longitude of the predicted place, degrees, likewise."""
    km: NDArray[np.float64]
    """Great-circle distance to the image's place; NaN also where that has no coordinates."""


@dataclass(frozen=True, kw_only=True)
class GeoScores:
    """Of test images whose places have coordinates."""

    images: int
    clusters: int
    """Clusters of the finest level that the head predicts; 0 for the target vector."""
    cluster_top1: float
    """Share of the images whose predicted cluster is that of their place: the one with the nearest centroid. NaN
    without clusters."""
    km_median: float
    """Great-circle distance from the predicted place to the image's, kilometres."""
    km_mean: float

    def line(self) -> str:
        """For a reader."""
        right = f"{100 * self.cluster_top1:.1f} % of {self.clusters} clusters right, " if self.clusters else ""
        error = f"error median {self.km_median:,.0f} km, mean {self.km_mean:,.0f} km"
        return f"geo head: {right}{error} ({self.images:,} test images)"


class _Placer(nn.Module):
    """From images to predicted places, unit vectors [B, 3]."""

    def __init__(self, backbone: nn.Module, projection: nn.Module, head: GeoHead) -> None:
        super().__init__()
        self.backbone, self.projection, self.head = backbone, projection, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head.place(self.head(self.projection(self.backbone(images))))


def geo_errors(
    run: Path,
    index: Index,
    rows: NDArray[np.int64],
    *,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    pack: Path | None = None,
) -> GeoErrors:
    """Have the geo head of a run place images, and compare with where their places are.

    An image is read as the probe reads it: the central square of its box with context. The predicted place is the
    centroid of the likeliest finest cluster, or for the target vector the predicted direction. The clusters file is not
    needed.

    Args:
        run: folder of a run of the arm geo, geo_tp or geoloc, or its checkpoint.
        index: the images' index, which need not be the run's.
        rows: row numbers, int64 [N], N >= 1.
        batch: images that the encoder reads at once.
        device: auto, cpu, cuda or cuda:N.
        threads: decoding threads; 0 is one a core, but for one core.
        pack: pack that is read in place of the images.

    Raises:
        UsageError: there is no such run, it has no geo head, or the images have other bands than it reads.
        GeosslError: no image can be read.

    """
    trained = load_backbone(run)
    bands = trained.chosen_bands
    check_bands(index, rows, trained, bands=bands, run=run)
    target = resolve_device(device)
    placer = _Placer(trained.module, *_load_head(run, trained.num_features)).eval().requires_grad_(requires_grad=False)
    found = extract(
        placer.to(target),
        index=index,
        rows=rows,
        **trained.preparation,
        device=target,
        batch=batch,
        loader=LoaderConfig(pack=pack, bands=bands, threads=threads, on_error="skip"),
        title="predicted places",
    )
    return _errors(found.x, found.rows, index=index, rows=rows)


def score_geo(run: Path, found: Features, *, index: Index) -> GeoScores | None:
    """Score the geo head of a run on test images, by their features.

    Args:
        run: as for `geo_errors`.
        found: what the run's encoder makes of the images, read as the probe reads them.
        index: the images' index.

    Returns:
        None if no image's place has coordinates, or the file, as one of an encoder's weights alone, has no geo head.

    """
    try:
        projection, head = _load_head(run, found.x.shape[1])
    except UsageError:
        return None
    with torch.no_grad():
        vectors = torch.cat([head.place(head(projection(part))) for part in torch.split(found.x, _BATCH)])
    errors = _errors(vectors, found.rows, index=index, rows=found.rows.numpy())
    known = np.isfinite(errors.km)
    if not known.any():
        return None
    right = np.nan
    if len(head.centroids):
        centroids = lat_lon(head.centroids.double().numpy())
        true_lat, true_lon, _ = place_coordinates(index)
        place = index.places[found.rows.numpy()][known]
        predicted, true = (
            nearest(*centroids, *points, k=1).rows[:, 0]
            for points in ((errors.lat[known], errors.lon[known]), (true_lat[place], true_lon[place]))
        )
        right = float((predicted == true).mean())
    km = errors.km[known]
    return GeoScores(
        images=len(km),
        clusters=len(head.centroids),
        cluster_top1=right,
        km_median=float(np.median(km)),
        km_mean=float(km.mean()),
    )


def _errors(vectors: Tensor, of: Tensor, *, index: Index, rows: NDArray[np.int64]) -> GeoErrors:
    """The errors of the images of `rows`, by the predicted places of the rows `of`, unit vectors [M, 3]."""
    every = np.full((len(index), 3), np.nan)
    every[of.numpy()] = vectors.double().numpy()
    lat, lon = lat_lon(every[rows])
    true_lat, true_lon, _ = place_coordinates(index)
    place = index.places[rows]
    known = np.isfinite(lat) & np.isfinite(true_lat[place])
    km = np.full(len(rows), np.nan)
    km[known] = distance_km(lat[known], lon[known], true_lat[place][known], true_lon[place][known])
    return GeoErrors(lat, lon, km)


def _load_head(run: Path, width: int) -> tuple[nn.Module, GeoHead]:
    """What the head of a run reads the feature through, and the head."""
    file, checkpoint = read_checkpoint(run)
    own = checkpoint.get("geossl", {})
    if "geo_dict" not in checkpoint or "geo_levels" not in own:
        raise UsageError(f"{file}: has no geo head of geossl's; the arms geo, geo_tp and geoloc have")
    settings = own["config"]
    projection: nn.Module = nn.Identity()
    if settings["geo"]["feature"] == "projection":
        projection = projection_head(features=width, dim=settings["model"]["dim"])
        projection.load_state_dict(_below(checkpoint["state_dict"], "module.encoder_q.fc."))
        width = settings["model"]["dim"]
    head = GeoHead(
        features=width, target=settings["geo"]["target"], levels=level_vectors(t.numpy() for t in own["geo_levels"])
    )
    head.load_state_dict(_below(checkpoint["geo_dict"], "module."))
    return projection, head


def _below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
