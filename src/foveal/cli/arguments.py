"""What several commands share: finding recipes and runs, options of a dataclass, parsers whose errors are sentences."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from foveal.errors import UserError
from foveal.recipe import Recipe
from foveal.runs import Run, is_run, open_run
from foveal.tasks.recipes import build_section, read_recipe, section_keys, section_parser


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
    """A recipe's file: a path, or the name of one that comes with Foveal (``blindtest-lines``)."""
    path = Path(name)
    if path.exists() or (path.suffix in (".yaml", ".yml") and path.parent != Path(".")):
        return path
    for folder in recipe_folders():
        for candidate in (folder / path.name, folder / f"{path.name}.yaml"):
            if candidate.is_file():
                return candidate
    return path


def recipe_or_run(name: str, arguments: Sequence[str]) -> tuple[Recipe, Run | None]:
    """The recipe of a run's folder or of a file, changed by overrides.

    Raises:
        UserError: There is neither.
    """
    if is_run(name):
        run = open_run(name)
        return read_recipe(run.recipe, arguments), run
    if Path(name).is_dir():
        open_run(name)
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
        The command's own words, positionals included, and the settings.
    """
    own: list[str] = []
    rest: list[str] = []
    i, inside = 0, False
    while i < len(arguments):
        word = arguments[i]
        name = word.split("=", 1)[0]
        if name in flags:
            own.append(word)
            inside = False
        elif name in valued:
            own += arguments[i : i + (1 if "=" in word else 2)]
            i += 0 if "=" in word else 1
            inside = False
        elif word.startswith("--"):
            rest.append(word)
            inside = "=" not in word
        else:
            (rest if inside else own).append(word)
        i += 1
    return own, rest
