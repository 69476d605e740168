"""Settings that earlier versions had: what to say of them, and how their checkpoints are read."""

from __future__ import annotations

from typing import Any

RENAMED = {
    "model.init": "init_from",
    "crop.jitter": "crop.aligned (null: not aligned)",
    "color.jitter_p": "color.jitter (probability, brightness, contrast, saturation, hue)",
    "color.blur_p": "color.blur (probability, from, to)",
    "color.blur_sigma": "color.blur (probability, from, to)",
    "color.band_jitter": "color.bands (jitter, dropout)",
    "color.band_dropout": "color.bands (jitter, dropout)",
    "geo.infonce_weight": "geo.weights (of InfoNCE, of the geo head)",
    "geo.weight": "geo.weights (of InfoNCE, of the geo head)",
}
"""Earlier names of settings, and where their values are given now."""
GONE = {
    "crop.ratio": "width over height is always 3/4 to 4/3",
    "loader.slots": "four batches are held",
    "loader.max_failures": "1 % of the images may be unreadable",
}
"""Settings that are no more, and what holds in their place."""


def explain_earlier(name: str) -> str | None:
    """What became of a setting of an earlier version; None for a name that never was one."""
    if name in RENAMED:
        return f"{name}: is now {RENAMED[name]}"
    return f"{name}: no longer a setting; {GONE[name]}" if name in GONE else None


def migrate(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings in a checkpoint of any version by today's names; nothing is changed in place.

    What is no more is left out: it said how the run was done, and its weights are the same. A run that had another
    `crop.ratio` cannot go on, which the loader's state tells.
    """
    new = {name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
    empty: dict[str, Any] = {}
    model, crop, color, geo = (new.get(name, empty) for name in ("model", "crop", "color", "geo"))
    if "init" in model:
        new["init_from"] = model.pop("init")
    if "jitter" in crop:
        jitter = crop.pop("jitter")
        crop["aligned"] = jitter if crop["aligned"] else None
    if "jitter_p" in color:
        color["jitter"] = [color.pop("jitter_p"), *color["jitter"]]
        color["blur"] = [color.pop("blur_p"), *color.pop("blur_sigma")]
        color["bands"] = [color.pop("band_jitter"), color.pop("band_dropout")]
    if "weight" in geo:
        geo["weights"] = [geo.pop("infonce_weight"), geo.pop("weight")]
    for name in GONE:
        section, setting = name.split(".")
        new.get(section, empty).pop(setting, None)
    return new
