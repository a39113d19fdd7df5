"""What commands share: parsers whose errors are sentences, and telling a command's own words from a recipe's settings."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from foveal.config.keys import common_keys, section_keys, section_parser
from foveal.config.reading import build_section
from foveal.config.values import is_list
from foveal.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a sentence where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raises the error for ``main`` to print."""
        raise UserError(f"{message[0].upper()}{message[1:]}; `{self.prog} --help` tells more.")


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
