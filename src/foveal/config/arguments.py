"""What commands share: parsers whose errors are sentences, and telling a command's own words from a recipe's settings."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
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

    def parse_own(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The command's own options, and the settings of a recipe among its words; see ``split_words``.

        Raises:
            UserError: See ``split_words``; or an option is missing or malformed.
        """
        names: dict[bool, list[str]] = {False: [], True: []}  # by whether a value follows
        for action in self._actions:
            names[action.nargs != 0] += action.option_strings
        own, settings = split_words(arguments, names[False], names[True])
        return self.parse_args(own), settings


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
    """Divides a command's words into its own and a recipe's settings, ``--section.key value ...``.

    Whatever begins with -- and is no option of the command is taken for a setting. It has one value if its key takes
    one; a key that takes a list, or that only some task's recipe has, gets all words up to the next --.

    Args:
        arguments: Everything behind the command's name.
        flags: The command's own options without a value.
        valued: The command's own options with one value.

    Returns:
        The command's own words, positionals included, and the settings.

    Raises:
        UserError: An option is unknown and like one of the command's own.
    """
    known = common_keys()
    own: list[str] = []
    settings: list[str] = []
    words = list(arguments)
    open_values = 0  # how many of the words that follow can be values of the last setting
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if name in flags or name in valued:
            own.append(word)
            open_values = 0
            if name in valued and not equals:
                own += words[:1]
                del words[:1]
        elif word.startswith("--"):
            key = name.removeprefix("--")
            if key not in known:
                _check_option(name, (*flags, *valued), known)
            settings.append(word)
            single = key in known and not is_list(known[key])
            open_values = 0 if equals else 1 if single else len(words)
        elif open_values:
            settings.append(word)
            open_values -= 1
        else:
            own.append(word)
    return own, settings


def _check_option(name: str, options: Sequence[str], known: Mapping[str, Any]) -> None:
    """Refuses a word that is rather a misspelt option of the command than a misspelt key of the recipe."""
    near = difflib.get_close_matches(name, [*options, *(f"--{key}" for key in known)], n=1, cutoff=0.75)
    if near and near[0] in options:
        raise UserError(f"There is no option {name}; did you mean {near[0]}?")
