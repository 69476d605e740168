"""Geography-aware self-supervised learning on satellite images.

What a program needs is named here, and imported when it is first used: `import geossl` alone loads no torch.
docs/api.md shows the parts in a training loop of one's own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from geossl._core import __version__

if TYPE_CHECKING:
    from geossl import augment, geo, losses
    from geossl.api import export_encoder, load_backbone, train
    from geossl.config import ColorConfig, CropConfig, LoaderConfig, PairsConfig, TrainConfig, make_config
    from geossl.data.clusters import Clusters
    from geossl.data.coordinates import unit_vectors
    from geossl.data.index import Index
    from geossl.data.loader import Loader
    from geossl.errors import GeosslError, UsageError
    from geossl.models.heads import GeoHead
    from geossl.models.moco import MoCo, build_encoder
else:
    _HOMES = {
        "ColorConfig": "config",
        "CropConfig": "config",
        "LoaderConfig": "config",
        "PairsConfig": "config",
        "TrainConfig": "config",
        "make_config": "config",
        "Clusters": "data.clusters",
        "unit_vectors": "data.coordinates",
        "Index": "data.index",
        "Loader": "data.loader",
        "GeosslError": "errors",
        "UsageError": "errors",
        "GeoHead": "models.heads",
        "MoCo": "models.moco",
        "build_encoder": "models.moco",
        "export_encoder": "api",
        "load_backbone": "api",
        "train": "api",
    }

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            found = getattr(import_module(f"geossl.{_HOMES[name]}"), name)
        elif name in __all__:
            found = import_module(f"geossl.{name}")
        else:
            raise AttributeError(f"module 'geossl' has no attribute '{name}'")
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Clusters",
    "ColorConfig",
    "CropConfig",
    "GeoHead",
    "GeosslError",
    "Index",
    "Loader",
    "LoaderConfig",
    "MoCo",
    "PairsConfig",
    "TrainConfig",
    "UsageError",
    "__version__",
    "augment",
    "build_encoder",
    "export_encoder",
    "geo",
    "load_backbone",
    "losses",
    "make_config",
    "train",
    "unit_vectors",
]
