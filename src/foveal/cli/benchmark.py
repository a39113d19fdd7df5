"""`foveal benchmark`: runs a benchmark that a task brings."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foveal import plugins
from foveal.config.arguments import Parser
from foveal.errors import UserError

#: What the names of benchmarks begin with among the registered commands.
_PREFIX = "benchmark."


def parser() -> Parser:
    """The benchmarks' names; each has options of its own."""
    more = " or ".join(f"`foveal benchmark {name} --help`" for name in _names())
    p = Parser(prog="foveal benchmark", description=f"Runs a benchmark; {more} tells more.")
    sub = p.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name in _names():
        sub.add_parser(name, help=plugins.summary("command", _PREFIX + name), add_help=False)
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Runs the benchmark of that name."""
    if arguments and arguments[0].startswith("-") and (late := [n for n in _names() if n in arguments]):
        raise UserError(
            f"{late[0]} comes first, its options behind it; `foveal benchmark {late[0]} --help` tells more."
        )
    name = parser().parse_own(arguments[:1])[0].benchmark
    code: int = plugins.find_command(_PREFIX + name).run(arguments[1:], console)
    return code


def _names() -> list[str]:
    return [n.removeprefix(_PREFIX) for n in plugins.names("command") if n.startswith(_PREFIX)]
