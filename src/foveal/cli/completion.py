"""`foveal completion`: completion scripts for shells."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import shtab
from rich.console import Console

from foveal import plugins
from foveal.cli.benchmark import parsers
from foveal.cli.main import commands, find_command
from foveal.config.arguments import Parser
from foveal.config.keys import keys
from foveal.config.values import choices

#: Commands that take a recipe's keys beside their own options.
_WITH_KEYS = ("quickstart", "train", "evaluate", "predict", "doctor")
#: Commands that take the keys of a recipe's section model.
_WITH_MODEL = ("benchmark",)


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        prog="foveal completion", description='Prints a completion script, e.g. eval "$(foveal completion bash)".'
    )
    p.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return p


def whole_parser() -> argparse.ArgumentParser:
    """All commands with their options and every task's recipe keys, as one parser."""
    top = argparse.ArgumentParser(prog="foveal")
    top.add_argument("--version", action="store_true")
    subparsers = top.add_subparsers(dest="command")
    every = {k: kind for task in plugins.names("task") for k, kind in sorted(keys(task).items())}
    for name, text in commands().items():
        own = [find_command(name).parser(), *(parsers() if name == "benchmark" else [])]
        sub = subparsers.add_parser(name, help=text, parents=own, add_help=False, conflict_handler="resolve")
        for action in sub._actions:
            if action.dest in ("recipe", "target", "resume", "pictures", "model", "source"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if action.dest == "task":
                action.choices = list(plugins.names("task"))
        for key, kind in every.items():
            if name in _WITH_KEYS or (name in _WITH_MODEL and key.startswith("model.")):
                sub.add_argument(f"--{key}", choices=choices(kind) or None, help="recipe key")
    return top


def run(arguments: Sequence[str], console: Console) -> int:
    """Prints the script."""
    given = parser().parse_args(list(arguments))
    print(shtab.complete(whole_parser(), given.shell))
    return 0
