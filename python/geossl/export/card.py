"""The model card: README.md beside exported weights, in the form that Hugging Face shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from geossl.data.index import Index
from geossl.errors import UsageError
from geossl.export.use import loading_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geossl.models.weights import LoadedBackbone

_ARMS = {
    "moco": "MoCo-v2: two views of one image are a positive pair",
    "tp": "MoCo-v2 with temporal positives: two dates of one place are a positive pair",
    "geo": "MoCo-v2 and geo-location classification: two views of one image are a positive pair, and the encoder "
    "predicts where the image was taken",
    "geo_tp": "MoCo-v2 with temporal positives and geo-location classification: two dates of one place are a positive "
    "pair, and the encoder predicts where the image was taken",
    "geoloc": "geo-location classification alone: the encoder predicts where the image was taken",
    "supervised": "supervised classification of the images' categories",
}
_LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "torchgeo": "torchgeo", "moco": "geossl", "onnx": "onnx"}
_SCORES = {"top1": "top-1", "f1": "macro-F1", "place_top1": "place top-1", "place_f1": "place macro-F1"}


def card(encoder: LoadedBackbone, said: Mapping[str, Any], *, run: Path) -> str:
    """The text of the card.

    Args:
        encoder: what was exported.
        said: what config.json says.
        run: the run that it is of, or a file; of a run's folder, probe.json is read, and its index if it is still
            where the run found it.

    """
    settings = encoder.settings
    arm = settings.get("arm")
    title = f"{encoder.name}, {arm}" if arm else encoder.name
    parts = [
        _front(said, arm=arm),
        f"# {title}",
        _what(encoder, said),
        f"## Use\n\nIn this folder:\n\n```python\n{loading_code(encoder, said)}```",
        f"## Images\n\n{_images(encoder)}",
        f"## Training\n\n{_training(encoder, said)}",
        f"## Evaluation\n\n{_evaluation(run)}",
        f"## Limitations\n\n{_limitations(encoder, said)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front(said: Mapping[str, Any], *, arm: str | None) -> str:
    tags = ["geossl", "remote-sensing", "satellite-imagery", "image-feature-extraction"]
    tags += ["self-supervised-learning"] if arm not in {None, "supervised"} else []
    lines = ["---", "# license: yours to choose before you publish it", f"library_name: {_LIBRARIES[said['format']]}"]
    lines += ["pipeline_tag: image-feature-extraction", "tags:", *(f"- {tag}" for tag in tags), "---"]
    return "\n".join(lines)


def _what(encoder: LoadedBackbone, said: Mapping[str, Any]) -> str:
    arm = encoder.settings.get("arm")
    method = f"trained by {_ARMS[arm]}" if arm in _ARMS else "read from a file in others' form"
    heads = (
        "a run's projection and geo head are"
        if said["format"] == "moco"
        else "no projection, geo head or classifier is"
    )
    text = (
        f"An encoder of images, {encoder.name}, {method} (geossl {said['geossl']['version']}). It gives "
        f"{encoder.num_features} features an image; {heads} with it."
    )
    if arm in _ARMS and arm != "supervised":
        text += (
            "\n\nThe method is that of Ayush et al., *Geography-Aware Self-Supervised Learning*, ICCV 2021, "
            "[arXiv 2011.09980](https://arxiv.org/abs/2011.09980)."
        )
    return text


def _images(encoder: LoadedBackbone) -> str:
    names = ", ".join(encoder.band_names) if encoder.band_names else "in the order of the images it was trained on"
    if encoder.band_names is None and encoder.bands == 3:
        names += " (of photos: red, green, blue)"
    lines = [
        f"bands: {encoder.bands}, {names}",
        f"size: {encoder.size} x {encoder.size} pixels",
        "values: scaled to 0..1 (uint8 / 255, uint16 / 65535; floats as they are), minus the mean, over the deviation",
        f"mean: {_several(encoder.mean)}",
        f"deviation: {_several(encoder.std)}",
    ]
    if encoder.source is not None:
        lines.append(f"normalisation: {encoder.source.normalisation}")
    return "\n".join(f"- {line}" for line in lines)


def _training(encoder: LoadedBackbone, said: Mapping[str, Any]) -> str:
    made, settings = said["geossl"], encoder.settings
    if not settings:
        return f"Not by geossl: the weights are from a file ({made['from']})."
    lines = _data(settings, made["index_hash"])
    facts = {"epochs": made["epochs"], "steps": made["steps"]} | {key: settings.get(key) for key in ("batch", "seed")}
    lines.append("- " + ", ".join(f"{name}: {value:,}" for name, value in facts.items() if value is not None))
    lines.append(f"- settings: in config.json (hash {made['settings_hash']})")
    return "\n".join(lines)


def _data(settings: Mapping[str, Any], index_hash: str | None) -> list[str]:
    """What the run was trained on, as far as its index is still to be had."""
    told = f"- index: content hash {index_hash}"
    try:
        index = Index.read(Path(settings["data"]), images=False)
    except (UsageError, KeyError):
        return [told]
    if index.content_hash != index_hash:
        return [told]
    splits = set(index.column("split").to_pylist())
    split = settings.get("loader", {}).get("split") or ("train" if "train" in splits else None)
    rows = index.rows(split=split)
    which = f" of the split {split}" if split else ""
    lines = [told, f"- images: {len(rows):,}{which}, of {len(np.unique(index.places[rows])):,} places"]
    for name, what in (("lat", "latitudes"), ("lon", "longitudes")):
        ends = pc.min_max(index.column(name).take(rows)).as_py()
        if ends["min"] is not None:
            lines.append(f"- {what}: {ends['min']:.2f} to {ends['max']:.2f} degrees")
    ends = pc.min_max(index.column("timestamp").take(rows)).as_py()
    if ends["min"] is not None:
        lines.append(f"- dates: {ends['min']:%Y-%m-%d} to {ends['max']:%Y-%m-%d}")
    return lines


def _evaluation(run: Path) -> str:
    try:
        report = json.loads((run / "probe.json").read_text(encoding="utf-8"))
        rows = [(row["encoder"], _method(row), row["scores"], row.get("intervals") or {}) for row in report["rows"]]
        about = f"Frozen encoder, {report['classes']} classes, {report['test_images']:,} test images of "
        about += f"{report['test_places']:,} places, per cent"
    except (OSError, ValueError, KeyError, TypeError):
        return "Not evaluated yet: `geossl probe` had not been run on it when this card was written."
    names = [name for name in _SCORES if any(name in scores for *_, scores, _ in rows)]
    lines = ["| encoder | method | " + " | ".join(_SCORES[name] for name in names) + " |"]
    lines.append("|---|---|" + "---:|" * len(names))
    for encoder, method, scores, intervals in rows:
        cells = [_score(scores.get(name), intervals.get(name)) for name in names]
        lines.append(f"| {encoder} | {method} | " + " | ".join(cells) + " |")
    intervals = any(inner for *_, inner in rows)
    about += ", with 95 % intervals" if intervals else ""
    return "\n".join([f"{about}:", "", *lines, *(["", *(f"- {note}" for note in report.get("notes", []))])]).rstrip()


def _method(row: Mapping[str, Any]) -> str:
    share = row.get("labels", 100)
    return str(row["method"]) if share == 100 else f"{row['method']}, {share:g} % of the labels"


def _score(value: float | None, interval: list[float] | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{100 * value:.2f}" + (f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else "")


def _limitations(encoder: LoadedBackbone, said: Mapping[str, Any]) -> str:
    lines = [
        (
            "Features are of use on images like those of the training: other sensors, resolutions, bands, regions and "
            "seasons have not been looked at unless the evaluation says so."
        ),
        f"Images of another size than {encoder.size} pixels, or normalised otherwise, give other features.",
    ]
    if encoder.settings.get("arm") in {"geo", "geo_tp", "geoloc"}:
        lines.append(
            "It was trained to tell where images were taken, and may use what is typical of a region in place of what "
            "is to be recognised: look at scores in regions that are far from the training places."
        )
    if not said["geossl"]["arm"]:
        lines.append("What the weights were trained on, and their licence, is for their makers to say.")
    return "\n".join(f"- {line}" for line in lines)


def _several(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
