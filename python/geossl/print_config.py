"""A run's settings as YAML with what each is for and where its value comes from."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import yaml

from geossl.config import Section, flatten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geossl.config import TrainConfig

WIDTH = 120
"""Columns of a line of help."""


def annotated_yaml(config: TrainConfig, layers: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """The settings as YAML, which `--config` reads back: above each its help, behind it where its value comes from.

    Args:
        config: the settings, as `make_config` made them of the layers.
        layers: what each layer is called, such as `recipe geo_tp`, and its settings; later ones win.

    """
    sources = {name: source for source, settings in layers for name in flatten(settings)}
    return "\n".join(_lines(config, config.model_dump(mode="json"), sources, prefix="")) + "\n"


def _lines(section: Section, values: dict[str, Any], sources: dict[str, str], *, prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, field in type(section).model_fields.items():
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield ""
            yield from _comment(type(inner).__doc__ or "", indent)
            yield f"{indent}{name}:"
            yield from _lines(inner, values[name], sources, prefix=f"{prefix}{name}.")
        else:
            yield from _comment(field.description or "", indent)
            source = sources.get(prefix + name, "default")
            yield f"{indent}{name}: {_inline(values[name])}  # {source}"


def _comment(text: str, indent: str) -> list[str]:
    lead = f"{indent}# "
    return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent=lead, subsequent_indent=lead)


def _inline(value: Any) -> str:
    """One value as YAML on a line."""
    made = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return made.removesuffix("\n").removesuffix("\n...")
