"""Files of weights: where they are, and what is in them. No code of a file is run."""

from __future__ import annotations

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

from geossl.errors import UsageError
from geossl.models.imagenet import IMAGENET, imagenet_file
from geossl.renamed import migrate

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT = "checkpoints/last.pt"
"""Where a run folder keeps its checkpoint."""
DESCRIPTION = "config.json"
"""What says, beside a file of weights, which they are: in the folder of `geossl export`, in one of timm's, or yours."""
_TIMMS = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in folders of timm's."""


class _Name:
    """Stands for a class that a file only names: nothing of it is made or run."""


_scalar = np.float64().__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    # Best scores are often NumPy scalars; the module has had two names.
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    *(np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?"))),
    # Early versions of Lightning keep the callbacks' states by their classes (SeCo's files are of 1.1.8).
    (_Name, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (_Name, "pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
]
"""What published files hold beside tensors and plain containers, and what is harmless to make."""


def read(path: Path, *, backbone: str | None = None) -> tuple[Path, dict[str, Any]]:
    """The file that `checkpoint_file` finds, and its contents, on the CPU: tensors and plain containers.

    Settings of earlier versions of geossl get their new names. Raises UsageError as `checkpoint_file` does, and where
    the file cannot be read without running its code.
    """
    file = checkpoint_file(path, backbone=backbone)
    if file.suffix == ".onnx":
        raise UsageError(f"{file}: an ONNX graph is for other programs; export the run in another format too")
    try:
        if file.suffix == ".safetensors":
            return file, dict(load_file(file))
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as e:
        raise UsageError(f"{file}: cannot be read: {e}") from e
    except Exception as e:  # torch.load and unpickling raise whatever foreign bytes lead them to
        named = re.search(r"GLOBAL (\S+) was not an allowed", str(e)) if isinstance(e, pickle.UnpicklingError) else None
        if named is not None:
            raise UsageError(
                f"{file}: holds {named[1]} beside its weights, which cannot be read without running code of the file; "
                "where you trust it, save its state_dict alone (torch.load with weights_only=False, then torch.save)"
            ) from e
        raise UsageError(f"{file}: not a checkpoint, or a damaged one ({type(e).__name__})") from e
    if not isinstance(content, Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    own = content.get("geossl", {})
    if "config" in own:
        own["config"] = migrate(own["config"])
    return file, dict(content)


def read_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run folder, or of a file: where it is, and its contents, on the CPU.

    Only tensors and plain containers are read, never code. Raises UsageError as `load_backbone` does.
    """
    file, checkpoint = read(path)
    if not isinstance(checkpoint.get("state_dict"), Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    return file, checkpoint


def checkpoint_file(path: Path, *, backbone: str | None = None) -> Path:
    """The checkpoint of a run folder, the weights in an exported folder, or the file itself.

    Args:
        path: the folder or file; or `imagenet`, torchvision's weights for the backbone in its cache.
        backbone: the model, for `imagenet`.

    Raises:
        UsageError: there is none.

    """
    if path == IMAGENET and not path.exists():
        return imagenet_file(backbone)
    if not path.exists():
        raise UsageError(f"{path}: no such run or checkpoint")
    if not path.is_dir() or (path / CHECKPOINT).is_file():
        return path / CHECKPOINT if path.is_dir() else path
    if (path / DESCRIPTION).is_file():
        return _described_in(path)
    raise UsageError(f"{path}: no checkpoint yet ({CHECKPOINT}); train it first, or give a run's folder")


def description(file: Path) -> dict[str, Any]:
    """What config.json beside a file says of its weights; nothing where there is none, or it is of another file.

    Two forms are read: that of `geossl export`, of which a user may write the keys that matter (docs/weights.md), and
    that of timm's models on Hugging Face (timm/models/_hub.py, `save_config_for_hf`).

    Returns:
        Those that are known of: arch (as `build_backbone` takes it), bands, band_names, mean, std, size, settings;
        and from (who says so).

    Raises:
        UsageError: it cannot be read, or its values do not go together.

    """
    path = file.with_name(DESCRIPTION)
    said = _json(path) if path.is_file() else {}
    if said.get("weights") == file.name:
        known = ("arch", "bands", "band_names", "mean", "std", "size", "settings")
        about = {key: said[key] for key in known if said.get(key) is not None}
    elif isinstance(said.get("pretrained_cfg"), dict) and "architecture" in said and file.name in _TIMMS:
        about = _from_timms(said)
    else:
        return {}
    lengths = {len(about[key]) for key in ("mean", "std", "band_names") if key in about}
    lengths |= {about["bands"]} if "bands" in about else set()
    if len(lengths) > 1 or ("mean" in about) != ("std" in about):
        raise UsageError(f"{path}: mean, std and the bands do not go together; give one value a band")
    if "mean" in about:
        about["bands"] = len(about["mean"])
    about["settings"] = migrate(about["settings"]) if "settings" in about else {}
    return about | {"from": f"{DESCRIPTION} beside it"}


def _described_in(folder: Path) -> Path:
    """The weights in a folder with a description."""
    name = _json(folder / DESCRIPTION).get("weights")
    names = _TIMMS if name is None else (str(name),)
    for file in (folder / each for each in names):
        if file.is_file():
            return file
    raise UsageError(f"{folder}: none of the weights that {DESCRIPTION} is for ({', '.join(names)})")


def _from_timms(said: dict[str, Any]) -> dict[str, Any]:
    config, arguments = said["pretrained_cfg"], said.get("model_args") or {}
    about = {key: config[key] for key in ("mean", "std") if config.get(key) is not None}
    if config.get("input_size"):
        about["size"] = config["input_size"][-1]
        about["bands"] = arguments.get("in_chans") or config["input_size"][0]
    return about | {"arch": f"timm/{said['architecture']}"}


def _json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise UsageError(f"{path}: not JSON: {e}") from e
    if not isinstance(said, dict):
        raise UsageError(f"{path}: not a description of weights: it is a {type(said).__name__}, not an object")
    return said
