"""`foveal benchmark`: runs a benchmark that a task brings."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from rich.console import Console

from foveal import plugins
from foveal.config.arguments import Parser
from foveal.errors import UserError

#: What the names of benchmarks begin with among the registered commands.
_PREFIX = "benchmark."


def parser() -> Parser:
    """The benchmarks' names; each has options of its own."""
    names = _names()
    lines = [f"{name}: {plugins.summary('command', _PREFIX + name)}." for name in names]
    p = Parser(
        prog="foveal benchmark",
        description=f"Runs a benchmark. {' '.join(lines)} `foveal benchmark NAME --help` tells more of each, e.g. "
        f"{' or '.join(f'`foveal benchmark {name} --help`' for name in names)}.",
    )
    p.add_argument("benchmark", choices=names, metavar="NAME", help=" or ".join(names))
    return p


def parsers() -> list[ArgumentParser]:
    """The parsers of all benchmarks, whose modules are imported.

    Raises:
        UserError: A benchmark cannot be imported.
    """
    return [plugins.find("command", _PREFIX + name).parser() for name in _names()]


def run(arguments: Sequence[str], console: Console) -> int:
    """Runs the benchmark of that name."""
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        _check_first(arguments)
    given = parser().parse_args(arguments[:1])
    code: int = plugins.find("command", _PREFIX + given.benchmark).run(arguments[1:], console)
    return code


def _names() -> list[str]:
    return [n.removeprefix(_PREFIX) for n in plugins.names("command") if n.startswith(_PREFIX)]


def _check_first(arguments: Sequence[str]) -> None:
    """Refuses an option in front of a benchmark's name, and one that no benchmark has."""
    for name in _names():
        if name in arguments:
            raise UserError(f"{name} comes first, its options behind it; `foveal benchmark {name} --help` tells more.")
    option = arguments[0].partition("=")[0]
    if not any(option in p._option_string_actions for p in parsers()):
        raise UserError(f"There is no option {option}; `foveal benchmark --help` tells more.")
