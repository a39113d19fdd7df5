"""`foveal benchmark blindtest`: ask any model, local or served, what BlindTest asks, beside published accuracies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from rich.console import Console
from rich.table import Table

from foveal.config.arguments import Parser
from foveal.config.values import alternatives, choices, is_list
from foveal.errors import UserError
from foveal.tasks.blindtest.benchmark_options import Options, resolve

#: What the keys of a recipe begin with that it takes beside its own options.
KEYS = "model."
_DESCRIPTION = (
    "Asks a model both published questions of each of BlindTest's puzzles, in free text, reads the replies strictly, and "
    "prints accuracies beside the published ones. A benchmark that is stopped goes on with --resume FOLDER; no reply is "
    "asked for twice. Settings of a model that runs here are written as in recipes, e.g. --model.device cuda."
)


def parser() -> Parser:
    """The command's options; what is not given is not set, so that --resume can tell."""
    p = Parser(prog="foveal benchmark blindtest", description=_DESCRIPTION, argument_default=argparse.SUPPRESS)
    kinds = get_type_hints(Options)
    for f in fields(Options):
        if f.metadata:
            kind = alternatives(kinds[f.name])[0]
            names = choices(kind) or None
            read = _names if is_list(kind) else str if names else kind
            p.add_argument(f"--{f.name}", type=read, choices=names, **f.metadata)
    p.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/benchmark-blindtest-MODEL-TIME")
    p.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a benchmark that was stopped")
    return p


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(arguments: Sequence[str], console: Console) -> int:
    """Asks, and prints the table."""
    found, settings = parser().parse_own(arguments)
    given = vars(found)
    for word in settings:
        if word.startswith("--") and not word.startswith("--model."):
            raise UserError(
                f"There is no option {word.split('=', 1)[0]}; settings of the model are written --model.key value."
            )
    out, resume = given.pop("out", None), given.pop("resume", None)
    if settings:
        given["settings"] = tuple(settings)
    options, folder = resolve(given, out, resume)
    from foveal.quiet import quiet
    from foveal.tasks.blindtest.benchmark import run as run_benchmark

    quiet()
    done = run_benchmark(options, console, folder)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for i, column in enumerate(done.table.columns):
        table.add_column(column.replace("-", "-\n"), justify="left" if i < 2 else "right", no_wrap=i == 0)
    for row in done.table.rows:
        table.add_row(*row)
    console.width = max(console.width, 96)  # on a narrower screen rows are broken, never shortened
    console.print(table, crop=False)
    for note in done.table.notes:
        console.print(note, soft_wrap=True)
    console.print(f"Results: {done.folder / 'table.md'}", soft_wrap=True)
    return 0
