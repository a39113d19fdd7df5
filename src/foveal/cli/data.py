"""`foveal data`: make a data set, or look at one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foveal import plugins
from foveal.config.arguments import Parser
from foveal.config.finding import recipe_or_run
from foveal.errors import UserError
from foveal.examples import SPLITS
from foveal.files import check_output
from foveal.report.inspecting import inspect_split
from foveal.tasks.capabilities import Generator
from foveal.tasks.making import make_data
from foveal.tasks.registry import all_tasks, find_task, open_task
from foveal.tasks.task import Task

#: What the names of further subcommands begin with among the registered commands.
_PREFIX = "data."


def parser() -> Parser:
    """The subcommands."""
    p = Parser(prog="foveal data", description="Makes a data set, or looks at one.")
    sub = p.add_subparsers(dest="action", required=True, metavar="|".join(_actions()))
    make = sub.add_parser(
        "make", help="make pictures with exact labels: foveal data make TASK --folder DIR ...", add_help=False
    )
    make.add_argument("task", metavar="TASK")
    for name in _registered():
        sub.add_parser(name, help=plugins.summary("command", _PREFIX + name), add_help=False)
    sub.add_parser("inspect", help="counts, sizes and a labelled contact sheet of a recipe's data", add_help=False)
    return p


def inspect_parser() -> Parser:
    """Options of `foveal data inspect`."""
    p = Parser(prog="foveal data inspect", description="Shows what a recipe's or a run's data hold.")
    p.add_argument(
        "target", metavar="RECIPE|RUN", help="a recipe or a run; its data keys can be changed beside, --data.source DIR"
    )
    p.add_argument("--split", choices=SPLITS, default="train", help="default: train")
    p.add_argument("--count", type=int, default=24, help="pictures on the sheet (default 24)")
    p.add_argument("--out", type=Path, default=Path("inspect.png"), help="the sheet (default inspect.png)")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Runs the subcommand of that name."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parser().print_help()
        return 0
    if arguments[0] == "make":
        return _make(arguments[1:], console)
    if arguments[0] == "inspect":
        return _inspect(arguments[1:], console)
    if arguments[0] in _registered():
        code: int = plugins.find_command(_PREFIX + arguments[0]).run(arguments[1:], console)
        return code
    *most, last = _actions()
    raise UserError(f"There is no `foveal data {arguments[0]}`; there are {', '.join(most)} and {last}.")


def _registered() -> list[str]:
    """Subcommands that tasks bring."""
    return [n.removeprefix(_PREFIX) for n in plugins.names("command") if n.startswith(_PREFIX)]


def _actions() -> list[str]:
    return ["make", *_registered(), "inspect"]


def _make(arguments: Sequence[str], console: Console) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        _list_makers(console)
        return 0
    if name.startswith("-"):
        raise UserError(f"Give the task first: foveal data make TASK {name} ...; tasks: {', '.join(_makers()[0])}.")
    task = find_task(name)
    if not issubclass(task, Generator):
        raise UserError(f"The task {name} makes no pictures of its own; those that do: {', '.join(_makers()[0])}.")
    make_data(task, arguments[1:], console)
    return 0


def _makers() -> tuple[dict[str, type[Task]], dict[str, str]]:
    """The tasks that make data, and the reasons why others cannot be imported."""
    good, broken = all_tasks()
    return {name: task for name, task in good.items() if issubclass(task, Generator)}, broken


def _list_makers(console: Console) -> None:
    console.print("foveal data make TASK [--key value ...]; `foveal data make TASK --help` shows the keys. Tasks:")
    makers, broken = _makers()
    for name, task in makers.items():
        console.print(f"  {name:<20}{task.summary}")
    for reason in broken.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)


def _inspect(arguments: Sequence[str], console: Console) -> int:
    given, settings = inspect_parser().parse_own(arguments)
    recipe, _ = recipe_or_run(given.target, settings)
    if given.count < 1:
        raise UserError("--count: must be at least 1.")
    check_output(given.out, (".png",))
    inspect_split(open_task(recipe), given.split, console, count=given.count, out=given.out)
    return 0
