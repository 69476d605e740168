"""Training: one loop for every arm, its checkpoints and its log."""

from geossl.training.engine import TrainResult, train

__all__ = ["TrainResult", "train"]
