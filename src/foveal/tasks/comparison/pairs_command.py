"""`foveal data pairs`: write pairs of rated pictures, the same as `foveal data make comparison`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foveal.config.arguments import Parser
from foveal.config.keys import section_keys
from foveal.config.values import choices
from foveal.tasks.comparison.task import Comparison
from foveal.tasks.making import make_data


def parser() -> Parser:
    """The options of what makes the pairs."""
    p = Parser(prog="foveal data pairs", description="Writes pairs of rated pictures.")
    for key, kind in section_keys(Comparison.Make).items():
        p.add_argument(f"--{key}", choices=choices(kind) or None)
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Makes the pairs."""
    make_data(Comparison, arguments, console)
    return 0
