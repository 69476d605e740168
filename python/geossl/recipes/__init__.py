"""Shipped settings, one YAML file each, whose first comment says what it is for."""

from __future__ import annotations

from importlib import resources
from typing import Any

from geossl.config import hint, parse_yaml
from geossl.errors import UsageError


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    folder = resources.files(__name__)
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """A recipe as it is shipped, YAML with comments. Raises UsageError for an unknown name."""
    if name not in recipe_names():
        raise UsageError(f"recipe {name}: no such recipe{hint(name, recipe_names())}")
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def recipe_purpose(name: str) -> str:
    """What a recipe is for: the first line of its first comment. Raises UsageError for an unknown name."""
    return recipe_text(name).partition("\n")[0].removeprefix("# ")


def read_recipe(name: str) -> dict[str, Any]:
    """Settings of a shipped recipe. Raises UsageError for an unknown name."""
    return parse_yaml(recipe_text(name), f"recipe {name}")
