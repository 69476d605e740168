"""`geossl recipes`: the shipped settings, to look at and to start from."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from geossl.errors import UsageError
from geossl.recipes import recipe_names, recipe_purpose, recipe_text

app = App(name="recipes", help="List, show and copy the shipped settings.")


@app.command(name="list")
def list_recipes() -> None:
    """Every recipe, and what it is for.

    Example: `geossl recipes list`
    """
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {recipe_purpose(name)}")


@app.command
def show(name: str, /) -> None:
    """Print a recipe as YAML. What it does not set is at its default: `geossl train --print-config` shows all.

    Example: `geossl recipes show paper_geo_tp`

    Parameters
    ----------
    name
        Name of the recipe.
    """
    print(recipe_text(name), end="")


@app.command
def copy(name: str, file: Path | None = None, /, *, force: bool = False) -> None:
    """Write a recipe to a file, to be changed and given to `geossl train --config`.

    Example: `geossl recipes copy laptop mine.yaml`

    Parameters
    ----------
    name
        Name of the recipe.
    file
        Where to; by default NAME.yaml in the current folder.
    force
        Replace the file if there is one.
    """
    text = recipe_text(name)
    target = Path(f"{name}.yaml") if file is None else file
    try:
        with target.open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError as e:
        raise UsageError(f"{target}: exists already; replace it with --force, or name another file") from e
    except OSError as e:
        raise UsageError(f"{target}: cannot be written ({e.strerror})") from e
    print(f"{target}: use it with --config {target}")
