"""`foveal benchmark blindtest`: ask any model, local or served, what BlindTest asks, beside published accuracies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal.config.arguments import Parser, split_words
from foveal.errors import UserError
from foveal.tasks.blindtest.benchmark_options import resolve

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
    p.add_argument(
        "--model",
        metavar="RUN|ID|URL",
        help="a run's folder; builtin, a model's folder or Hub id; or http(s)://SERVER/v1 of any OpenAI-compatible server",
    )
    p.add_argument(
        "--source",
        help="generate (default); a folder with a folder of pictures for each puzzle; or a data set of them, e.g. XAI/vlmsareblind",
    )
    p.add_argument("--puzzles", metavar="NAME,NAME", type=_names, help="e.g. lines,grids (default: all)")
    p.add_argument("--questions", choices=["first", "second", "both"], help="default: both")
    p.add_argument(
        "--wording", choices=["published", "short"], help="short: in a word or two, as small models are trained on it"
    )
    p.add_argument("--style", metavar="STYLE", help="look of generated pictures (default: paper)")
    p.add_argument("--count", type=int, metavar="N", help="generated pictures of each puzzle (default 300)")
    p.add_argument("--image_size", type=int, metavar="N", help="their side in pixels (default 224)")
    p.add_argument(
        "--limit", type=int, metavar="N", help="rows of each puzzle and question, evenly spread (default 0: all)"
    )
    p.add_argument("--seed", type=int, metavar="N", help="of generated pictures and of a server's choices (default 0)")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/benchmark-blindtest-MODEL-TIME")
    p.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a benchmark that was stopped")
    p.add_argument("--checkpoint", metavar="NAME", help="of a run: best, last or epoch-N (default: best)")
    p.add_argument(
        "--batch_size", type=int, metavar="N", help="questions at a time, of a model that runs here (default 16)"
    )
    p.add_argument(
        "--max_new_tokens", type=int, metavar="N", help="longest reply in tokens (default 256, of servers 2048)"
    )
    p.add_argument("--served_model", metavar="NAME", help="the model's name on its server (default: the only one)")
    p.add_argument(
        "--api_key_env",
        metavar="NAME",
        help="name of the environment variable that holds the server's key; the key is never written or shown",
    )
    p.add_argument("--temperature", type=float, metavar="T", help="of a served model (default 0: the likeliest reply)")
    p.add_argument("--concurrency", type=int, metavar="N", help="requests at a time, to a server (default 8)")
    p.add_argument("--timeout", type=float, metavar="SECONDS", help="for a server's whole reply (default 300)")
    p.add_argument("--tries", type=int, metavar="N", help="how often a request is sent before giving up (default 8)")
    return p


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(arguments: Sequence[str], console: Console) -> int:
    """Asks, and prints the table."""
    p = parser()
    names = [s for a in p._actions for s in a.option_strings if s.startswith("--") and s != "--help"]
    own, settings = split_words(arguments, ("-h", "--help"), names)
    given = vars(p.parse_args(own))
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
