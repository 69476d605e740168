"""`geossl export`: a folder with an encoder's weights in another program's form, config.json and a model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geossl.errors import UsageError
from geossl.export.card import card
from geossl.export.description import describe
from geossl.export.formats import FILES, Format, write_weights
from geossl.files import flush_folder, naming_full_disk, replacing, temporary_name
from geossl.models.reading import DESCRIPTION, read
from geossl.models.weights import backbone_in

if TYPE_CHECKING:
    from pathlib import Path

CARD = "README.md"
"""Name of the model card, which Hugging Face shows."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported."""

    folder: Path
    weights: Path
    """The file with the weights in it."""
    description: dict[str, Any]
    """What config.json says."""
    notes: list[str]
    """What of others' weights was read, and their normalisation; of a run's, nothing."""


def export_encoder(
    run: Path,
    *,
    out: Path,
    format: Format,  # noqa: A002 - as the option is called
    backbone: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a trained encoder for another program: its weights, what they are (config.json), and a model card.

    The formats are in `geossl.export.formats`. What is written is loaded again, every weight, into the other program's
    own model (torchvision, timm), and has to give the same features, before the folder takes its name.

    Args:
        run: folder of a run, or another file that `geossl.load_backbone` reads.
        out: folder to make.
        format: whose form the weights get.
        backbone: the model, for a file that does not name it.
        force: replace `out` where it is an exported folder.

    Raises:
        UsageError: there is no such run, the format has no such model, or `out` exists. Nothing has been written.
        GeosslError: what the format needs is not installed, or the disk is full.

    """
    _check_free(out, force=force)
    if format not in FILES:
        raise UsageError(f"--format {format}: must be one of {', '.join(FILES)}")
    source, content = read(run, backbone=backbone)
    encoder = backbone_in(content, file=source, path=run, backbone=backbone)
    said = describe(encoder, content, kind=format, weights=FILES[format])
    made = temporary_name(out)
    shutil.rmtree(made, ignore_errors=True)  # what a killed process left
    try:
        with naming_full_disk(out):
            made.mkdir(parents=True)
            write_weights(made / FILES[format], encoder, content, kind=format)
            with replacing(made / DESCRIPTION) as file:
                file.write(f"{json.dumps(said, indent=2, ensure_ascii=False)}\n".encode())
            with replacing(made / CARD) as file:
                file.write(card(encoder, said, run=run).encode())
            flush_folder(made)
            _take_place(made, out)
    except OSError as e:
        raise UsageError(f"{out}: cannot be written ({e.strerror})") from e
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Exported(folder=out, weights=out / FILES[format], description=said, notes=encoder.notes)


def _check_free(out: Path, *, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise UsageError(f"{out}: exists already; replace it with --force, or name another folder")
    if not _is_exported(out):
        raise UsageError(f"{out}: not an exported folder, which alone --force replaces; name another folder")


def _is_exported(folder: Path) -> bool:
    """Whether a folder holds what was exported, and nothing else."""
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return {file.name for file in folder.iterdir()} <= {DESCRIPTION, CARD, said["weights"]} and "geossl" in said
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _take_place(made: Path, out: Path) -> None:
    """Have a folder take the name of another."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    flush_folder(out.parent)
