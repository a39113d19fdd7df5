"""`foveal quickstart`: the main job, from making pictures to a report, on the built-in model."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from foveal.config.arguments import Parser
from foveal.config.finding import find_recipe
from foveal.config.reading import read_recipe
from foveal.config.sections import dump_recipe
from foveal.devices import prepare

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""
_DESCRIPTION = (
    "Makes line-intersection pictures with exact labels, measures the built-in model on held-out ones, fine-tunes it, "
    "measures again, predicts new pictures and writes a run folder with report.html. "
    "Any key of the recipe can be changed, e.g. --data.train 5000 --name mine."
)
#: Pictures that the model is asked about when all is done.
_NEW = 24


def parser() -> Parser:
    """The command's own options; the quickstart recipe's keys come beside them."""
    p = Parser(prog="foveal quickstart", description=_DESCRIPTION, add_help=False)
    p.add_argument("--print_config", action="store_true", help="print the resolved recipe and stop")
    p.add_argument("-h", "--help", action="store_true", help="show this help")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """The whole job."""
    given, rest = parser().parse_own(arguments)
    if given.help:
        parser().print_help()
        return 0
    recipe = read_recipe(find_recipe("quickstart"), rest)
    if given.print_config:
        print(dump_recipe(recipe), end="")
        return 0
    prepare(recipe.model.device)
    started = time.monotonic()
    from foveal.examples import evenly_spread
    from foveal.report.pictures import write_sheet
    from foveal.tasks.task import load_split
    from foveal.training.train import train

    trained = train(recipe, console)
    task = trained.asker.task
    rows = load_split(task, "test").examples
    examples = [rows[i] for i in evenly_spread(len(rows), _NEW)]
    sheet = trained.run.path / "predictions.png"
    write_sheet(task, examples, list(trained.asker.ask(examples)), sheet)
    console.print(f"New pictures with the model's answers: {sheet}", soft_wrap=True)
    console.print(f"Report: {trained.run.report}   ({time.monotonic() - started:.0f} s in all)", soft_wrap=True)
    return 0
