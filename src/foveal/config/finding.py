"""Finds recipes and runs by name or path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.runs import Run, is_run, open_run

#: Where the recipes that come with Foveal lie.
RECIPES = Path(str(files("foveal"))) / "recipes"


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with Foveal, sorted."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """A recipe's file: a path, or the name of one that comes with Foveal (``blindtest-lines``).

    Raises:
        UserError: It is the folder of a run, or a name that no recipe has.
    """
    path = _reachable(name)
    if is_run(path):
        raise UserError(
            f"{path}: is a run; continue it with --resume {path}, or repeat it with {path / 'recipe.yaml'} --name NEW."
        )
    if path.exists() or path.parent != Path("."):
        return path
    for candidate in (RECIPES / name, RECIPES / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    if path.suffix in (".yaml", ".yml"):
        return path
    have = shipped_recipes()
    near = difflib.get_close_matches(name, have, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(have)}; or give a YAML file."
    raise UserError(f"There is no recipe {name!r}; {hint}")


def _reachable(name: str) -> Path:
    """The path, of which the disk can say whether it is there.

    Raises:
        UserError: It is empty or too long, or a folder above it may not be read.
    """
    if not name.strip():
        raise UserError("An empty name is no recipe and no run; give a run's folder, or a recipe's name or file.")
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        shown = name if len(name) < 200 else f"{name[:200]}…"
        raise UserError(f"{shown}: cannot be read ({error.strerror}); check the path.") from None
    return Path(name)


def recipe_or_run(name: str, arguments: Sequence[str]) -> tuple[Recipe, Run | None]:
    """The recipe of a run's folder or of a file, changed by overrides.

    Raises:
        UserError: There is neither.
    """
    path = _reachable(name)
    if is_run(path):
        run = open_run(path)
        return read_recipe(run.recipe, arguments), run
    if path.is_dir():
        open_run(path)
    if not path.exists() and path.parent != Path(".") and path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*") if is_run(p)], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path."
        raise UserError(f"{path}: there is no such run or recipe; {hint}")
    return read_recipe(find_recipe(name), arguments), None
