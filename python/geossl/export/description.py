"""config.json: what exported weights are, how their images are prepared, and what they were made by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from geossl import __version__
from geossl.config import TrainConfig
from geossl.models.backbone import TIMM
from geossl.models.timm_models import arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geossl.models.weights import LoadedBackbone


def describe(
    encoder: LoadedBackbone,
    content: Mapping[str, Any],
    *,
    kind: str,
    weights: str,
) -> dict[str, Any]:
    """What config.json says of an encoder that is exported.

    Args:
        encoder: the encoder.
        content: the contents of the file that it was loaded from.
        kind: the form of the weights; timm's config.json has what `timm.create_model` reads too.
        weights: name of the file with them.

    """
    settings = published_settings(encoder.settings)
    source = encoder.source
    said: dict[str, Any] = {
        "weights": weights,
        "format": kind,
        "arch": encoder.name,
        "num_features": encoder.num_features,
        "bands": encoder.bands,
        "band_names": encoder.band_names,
        "mean": encoder.mean,
        "std": encoder.std,
        "normalisation": "of values scaled to 0..1: uint8 / 255, uint16 / 65535, floats as they are",
        "normalisation_from": None if source is None else source.normalisation,
        "size": encoder.size,
        "license": None,
        "geossl": {
            "version": __version__,
            "from": None if source is None else source.form,
            "arm": settings.get("arm"),
            "epochs": content.get("epoch") if settings else None,
            "steps": content.get("geossl", {}).get("step"),
            "index_hash": content.get("geossl", {}).get("index_hash"),
            "settings_hash": _hash(settings) if settings else None,
        },
        "settings": settings,
    }
    return said | (_for_timm(encoder) if kind == "timm" else {})


def published_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings without where its files lie, which is nobody's business and differs between machines."""
    return _without_paths(settings, TrainConfig)


def bare_name(name: str) -> str:
    """A model's name in its library, without the tag of timm's weights."""
    return name.removeprefix(TIMM).partition(".")[0]


def _without_paths(settings: Mapping[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    kept = {}
    for name, value in settings.items():
        annotation = section.model_fields[name].annotation if name in section.model_fields else None
        if annotation is Path or Path in get_args(annotation):
            continue
        inner = isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, dict)
        kept[name] = _without_paths(value, annotation) if inner else value  # type: ignore[arg-type]
    return kept


def _hash(settings: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()


def _for_timm(encoder: LoadedBackbone) -> dict[str, Any]:
    """The keys of timm's own config.json (timm/models/_hub.py, `save_config_for_hf`)."""
    name = bare_name(encoder.name)
    given = arguments(name, bands=encoder.bands, size=encoder.size)
    return {
        "architecture": name,
        "num_classes": 0,
        "model_args": given,
        "pretrained_cfg": {
            "input_size": [encoder.bands, encoder.size, encoder.size],
            "fixed_input_size": "img_size" in given,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": encoder.mean,
            "std": encoder.std,
            "num_classes": 0,
            "pool_size": None,
            # Earlier versions of timm would spread it over other bands, as if it were made for three.
            "first_conv": encoder.module.first[0] if encoder.bands == 3 and encoder.module.first else None,
            "classifier": encoder.module.left_out[0].rstrip(".") if encoder.module.left_out else None,
        },
    }
