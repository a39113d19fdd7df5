"""Finds recipes and runs by name or path."""

from __future__ import annotations

import difflib
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
    path = Path(name)
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


def recipe_or_run(name: str, arguments: Sequence[str]) -> tuple[Recipe, Run | None]:
    """The recipe of a run's folder or of a file, changed by overrides.

    Raises:
        UserError: There is neither.
    """
    if is_run(name):
        run = open_run(name)
        return read_recipe(run.recipe, arguments), run
    path = Path(name)
    if path.is_dir():
        open_run(path)
    if not path.exists() and path.parent != Path(".") and path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*") if is_run(p)], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path."
        raise UserError(f"{path}: there is no such run or recipe; {hint}")
    return read_recipe(find_recipe(name), arguments), None
