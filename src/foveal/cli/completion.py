"""`foveal completion`: completion scripts for shells."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import shtab
from rich.console import Console

from foveal import plugins
from foveal.cli.main import commands, find_command
from foveal.config.arguments import Parser
from foveal.config.keys import keys
from foveal.config.values import choices
from foveal.errors import UserError
from foveal.tasks.registry import all_tasks

#: Options and positionals whose values are files or folders.
_FILES = ("recipe", "target", "resume", "pictures", "model", "source")


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        prog="foveal completion", description='Prints a completion script, e.g. eval "$(foveal completion bash)".'
    )
    p.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return p


def whole_parser() -> argparse.ArgumentParser:
    """All commands with their options and every task's recipe keys, as one parser; what is broken is left out."""
    top = argparse.ArgumentParser(prog="foveal")
    top.add_argument("--version", action="store_true")
    subparsers = top.add_subparsers(dest="command")
    known = {k: kind for task in all_tasks()[0] for k, kind in sorted(keys(task).items())}
    groups: dict[str, Any] = {}
    for name, text in commands().items():
        with suppress(UserError):
            own = find_command(name).parser()
            sub = subparsers.add_parser(name, help=text, parents=[own], add_help=False, conflict_handler="resolve")
            _fill(sub, find_command(name), known)
            for action in sub._actions:
                if isinstance(action, argparse._SubParsersAction):
                    groups[name] = action
    for name in plugins.names("command"):
        group, dot, last = name.partition(".")
        if dot and group in groups:
            with suppress(UserError):
                command = find_command(name)
                groups[group].choices[last] = _fill(command.parser(), command, known)
    return top


def _fill(sub: argparse.ArgumentParser, command: Any, known: Mapping[str, Any]) -> argparse.ArgumentParser:
    """Adds what is completed of a command's values, and the recipe keys that it takes."""
    for action in sub._actions:
        if action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        if action.dest == "task":
            action.choices = plugins.names("task")
    start = getattr(command, "KEYS", None)
    for key, kind in known.items():
        if start is not None and key.startswith(start):
            sub.add_argument(f"--{key}", choices=choices(kind) or None, help="recipe key")
    return sub


def run(arguments: Sequence[str], console: Console) -> int:
    """Prints the script."""
    given = parser().parse_args(list(arguments))
    print(shtab.complete(whole_parser(), given.shell))
    return 0
