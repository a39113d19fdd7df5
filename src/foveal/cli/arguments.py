"""What several commands share: finding recipes and runs, options of a dataclass, parsers whose errors are sentences."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from foveal.config.reading import build_section, common_keys, is_list, read_recipe, section_keys, section_parser
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.runs import Run, is_run, open_run


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a sentence where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raises the error for ``main`` to print."""
        raise UserError(f"{message[0].upper()}{message[1:]}; `{self.prog} --help` tells more.")


def recipe_folders() -> list[Path]:
    """Where recipes that come with Foveal lie: in the package, or beside it in a checkout."""
    package = Path(str(files("foveal")))
    return [p for p in (package / "recipes", package.parent.parent / "recipes") if p.is_dir()]


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
    for folder in recipe_folders():
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    if path.suffix in (".yaml", ".yml"):
        return path
    have = sorted(p.stem for folder in recipe_folders() for p in folder.glob("*.yaml"))
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


def section_from(cls: type, arguments: Sequence[str], prog: str, description: str) -> Any:
    """A dataclass filled from ``--key value`` arguments; ``--help`` shows its fields and exits.

    Raises:
        UserError: A key is unknown, missing or of the wrong type.
    """
    if any(a in ("-h", "--help") for a in arguments):
        section_parser(cls, prog, description).print_help()
        sys.exit(0)
    return build_section(cls, arguments, section_keys(cls))


def split_words(arguments: Sequence[str], flags: Sequence[str], valued: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates a command's own words from a recipe's ``--section.key value ...`` settings.

    Args:
        arguments: Everything behind the command's name.
        flags: The command's own options without a value.
        valued: The command's own options with one value.

    Returns:
        The command's own words, positionals included, and the settings. What follows a setting's first value is a
        word of the command, unless the setting may be a list (those of ``data`` may).

    Raises:
        UserError: An option is unknown and like one of the command's own.
    """
    known = common_keys()
    own: list[str] = []
    rest: list[str] = []
    i, inside = 0, 0  # how many words the last setting still takes
    while i < len(arguments):
        word = arguments[i]
        name = word.split("=", 1)[0]
        if name in flags:
            own.append(word)
            inside = 0
        elif name in valued:
            own += arguments[i : i + (1 if "=" in word else 2)]
            i += 0 if "=" in word else 1
            inside = 0
        elif word.startswith("--"):
            key = name.removeprefix("--")
            near = difflib.get_close_matches(name, [*flags, *valued, *(f"--{k}" for k in known)], n=1, cutoff=0.75)
            if key not in known and near and near[0] not in (f"--{k}" for k in known):
                raise UserError(f"There is no option {name}; did you mean {near[0]}?")
            rest.append(word)
            single = key in known and not is_list(known[key])
            inside = 0 if "=" in word else 1 if single else len(arguments)
        elif inside:
            rest.append(word)
            inside -= 1
        else:
            own.append(word)
        i += 1
    return own, rest
