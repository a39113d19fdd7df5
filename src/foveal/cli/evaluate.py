"""`foveal evaluate`: measure a run, or a recipe's model as it is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foveal.config.arguments import Parser
from foveal.config.finding import recipe_or_run
from foveal.devices import prepare
from foveal.errors import UserError
from foveal.examples import SPLITS
from foveal.metrics.formats import decimals
from foveal.runs import fold_run, is_run
from foveal.tasks.registry import check_source

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them, e.g. --data.source FOLDER."""
    p = Parser(
        prog="foveal evaluate", description="Measures a run's checkpoint, or a recipe's model before any training. "
        "Recipe keys can be changed beside the options, e.g. --data.source FOLDER --evaluation.method generate.",
    )  # fmt: skip
    p.add_argument("target", metavar="RUN|RECIPE", help="a run's folder, or a recipe (measures its model as it is)")
    p.add_argument(
        "--split",
        choices=SPLITS,
        help="what is measured (default: the recipe's evaluation.split; "
        "other data than the run's are measured whole where they have no splits, else their test split)",
    )
    p.add_argument("--checkpoint", default="best", help="best, last or epoch-N (default: best)")
    p.add_argument("--fold", type=int, metavar="K", help="which run of those that `foveal train --folds` left in RUN")
    p.add_argument("--samples", type=int, default=0, help="rows, evenly spread over the split (default 0: all)")
    p.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the folder below RUN/evaluation (default: the split)"
    )
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Measures."""
    given, rest = parser().parse_own(arguments)
    if given.samples < 0:
        raise UserError("--samples: must be at least 0.")
    if given.fold is not None and not is_run(fold_run(given.target, given.fold)):
        raise UserError(f"--fold: {given.target} holds no run fold-{given.fold}; give the folder that --folds left.")
    target = given.target if given.fold is None else str(fold_run(given.target, given.fold))
    recipe, found = recipe_or_run(target, rest)
    prepare(recipe.model.device)
    check_source(recipe, given.split or recipe.evaluation.split)
    from foveal.evaluation.evaluate import evaluate
    from foveal.evaluation.measure import sentence
    from foveal.quiet import quiet

    quiet()
    result, folder = evaluate(
        recipe, found, console, split=given.split, checkpoint=given.checkpoint,
        samples=given.samples, name=given.name,
    )  # fmt: skip
    console.print(sentence(result), soft_wrap=True)
    for name, value in result.values.items():
        console.print(f"  {name:<24}{decimals(value)}")
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True)
    return 0
