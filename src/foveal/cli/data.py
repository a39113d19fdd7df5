"""`foveal data`: make a data set, or look at one."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal import plugins
from foveal.config.arguments import Parser, split_words
from foveal.config.finding import recipe_or_run
from foveal.errors import UserError
from foveal.examples import SPLITS
from foveal.tasks.capabilities import Generator, drawing_of
from foveal.tasks.making import make_data
from foveal.tasks.registry import all_tasks, find_task, open_task
from foveal.tasks.task import load_split

_OWN = ("--split", "--count", "--out")
#: What the names of further subcommands begin with among the registered commands.
_PREFIX = "data."


def parser() -> Parser:
    """The two subcommands."""
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
    """Dispatches."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parser().print_help()
        return 0
    if arguments[0] == "make":
        return _make(arguments[1:], console)
    if arguments[0] == "inspect":
        return _inspect(arguments[1:], console)
    if arguments[0] in _registered():
        code: int = plugins.find("command", _PREFIX + arguments[0]).run(arguments[1:], console)
        return code
    *most, last = _actions()
    raise UserError(f"There is no `foveal data {arguments[0]}`; there are {', '.join(most)} and {last}.")


def _registered() -> list[str]:
    """Subcommands that tasks bring."""
    return [n.removeprefix(_PREFIX) for n in plugins.names("command") if n.startswith(_PREFIX)]


def _actions() -> list[str]:
    return ["make", *_registered(), "inspect"]


def _make(arguments: Sequence[str], console: Console) -> int:
    makers = {n: t for n, t in all_tasks()[0].items() if issubclass(t, Generator)}
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        raise UserError(f"Give the task first: foveal data make TASK {arguments[0]} ...; tasks: {', '.join(makers)}.")
    if not arguments or arguments[0].startswith("-"):
        console.print("foveal data make TASK [--key value ...]; `foveal data make TASK --help` shows the keys. Tasks:")
        for name, task in makers.items():
            console.print(f"  {name:<20}{task.summary}")
        return 0
    chosen = find_task(arguments[0])
    if not issubclass(chosen, Generator):
        raise UserError(f"The task {chosen.name} makes no pictures of its own; those that do: {', '.join(makers)}.")
    make_data(chosen, arguments[1:], console)
    return 0


def _inspect(arguments: Sequence[str], console: Console) -> int:
    own, rest = split_words(arguments, ("-h", "--help"), _OWN)
    given = inspect_parser().parse_args(own)
    recipe, _ = recipe_or_run(given.target, rest)
    from foveal.drawing.contact_sheet import contact_sheet
    from foveal.examples import evenly_spread
    from foveal.files import check_writable, write_bytes

    if given.count < 1:
        raise UserError("--count: must be at least 1.")
    check_writable(given.out)
    if given.out.is_dir():
        raise UserError(f"{given.out}: is a folder; give a file's name.")
    task = open_task(recipe)
    loaded = load_split(task, given.split)
    examples = loaded.examples
    console.print(f"{task.name}, {given.split}: {len(examples):,} rows of {loaded.source}", soft_wrap=True)
    for note in loaded.notes:
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for column in ("truth", "rows", "share"):
        table.add_column(column, justify="left" if column == "truth" else "right")
    counts = Counter(str(e.truth) for e in examples)
    shown = counts.most_common(30) if len(counts) > 30 else sorted(counts.items())
    for truth, n in shown:
        table.add_row(truth, f"{n:,}", f"{100 * n / len(examples):.1f} %")
    console.print(table)
    if len(counts) > len(shown):
        console.print(f"… and {len(counts) - len(shown)} more truths")
    if loaded.refused:
        console.print(
            f"{len(loaded.refused)} rows left out, e.g. {loaded.refused[0][0]}: {loaded.refused[0][1]}", soft_wrap=True
        )
    chosen = [examples[i] for i in evenly_spread(len(examples), given.count)]
    sizes = Counter(e.images[0].open().size for e in chosen)
    console.print("picture sizes on the sheet: " + ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common(5)))
    prompt = task.prompt(chosen[0])
    console.print(f"prompt: {prompt.user}\nanswer: {prompt.answer}", markup=False, soft_wrap=True)
    # Where rows are asked different things, a truth says little without its question.
    questions = [task.prompt(e).user for e in chosen]
    captions = [
        f"{e.truth}\n{q}" if len(set(questions)) > 1 else str(e.truth) for e, q in zip(chosen, questions, strict=True)
    ]
    stream = io.BytesIO()
    contact_sheet(
        [(drawing_of(task, e), text) for e, text in zip(chosen, captions, strict=True)], columns=min(6, len(chosen))
    ).save(stream, "PNG")
    write_bytes(given.out, stream.getvalue())
    console.print(f"Sheet: {given.out}", soft_wrap=True)
    return 0
