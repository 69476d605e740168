"""Geography-aware self-supervised learning on satellite images."""

from geossl._core import __version__

__all__ = ["__version__"]
