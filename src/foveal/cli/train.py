"""`foveal train`: a recipe, or a run to continue."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foveal.config.arguments import Parser
from foveal.config.finding import find_recipe, shipped_recipes
from foveal.config.keys import recipe_parser
from foveal.config.reading import read_recipe, task_of
from foveal.config.sections import Recipe, dump_recipe
from foveal.config.trust import is_given
from foveal.config.yaml_files import read_yaml
from foveal.devices import prepare
from foveal.errors import UserError
from foveal.runs import Run, open_run, world_size
from foveal.tasks.capabilities import own_models
from foveal.tasks.registry import check_source, find_task
from foveal.vlm.finding import check_model_id

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""
_DESCRIPTION = "Trains a model by a recipe, measures it, and writes a run folder with checkpoints and report.html."


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(prog="foveal train", description=_DESCRIPTION, add_help=False)
    p.add_argument("recipe", nargs="?", help="a YAML file, or the name of a recipe that comes with Foveal")
    p.add_argument("--resume", metavar="RUN", help="continue an interrupted run from its last checkpoint")
    p.add_argument("--folds", metavar="all|1,3", help="train a run for each fold of the data, and summarise them")
    p.add_argument("--print_config", action="store_true", help="print the resolved recipe and stop")
    p.add_argument("-h", "--help", action="store_true", help="show all keys of the recipe")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Trains."""
    given, settings = parser().parse_own(arguments)
    if given.help:
        _help(given.recipe, settings)
        return 0
    if given.resume is not None:
        # Trust is no setting of the run: one from elsewhere needs it again.
        if given.recipe or given.folds or any(w.startswith("--") and not is_given([w]) for w in settings):
            raise UserError("--resume continues a run as its own recipe says; leave the recipe and other settings out.")
        return _train(open_run(given.resume), console, settings)
    if given.recipe is None and not any(a.startswith("--task") for a in settings):
        raise UserError(
            f"Give a recipe in front of the settings, e.g. `foveal train {shipped_recipes()[0]}`, or --task NAME with its settings."
        )
    recipe = read_recipe(find_recipe(given.recipe) if given.recipe else None, settings)
    if given.print_config:
        print(dump_recipe(recipe), end="")
        return 0
    return _train(recipe, console) if given.folds is None else _train_folds(recipe, given.folds, console)


def _train(job: Recipe | Run, console: Console, trust: Sequence[str] = ()) -> int:
    """Trains by a recipe, or continues a run."""
    recipe, resume = (read_recipe(job.recipe, trust), job) if isinstance(job, Run) else (job, None)
    _check(recipe)
    from foveal.training.train import train

    console.print(f"Report: {train(recipe, console, resume=resume).run.report}", soft_wrap=True)
    return 0


def _train_folds(recipe: Recipe, folds: str, console: Console) -> int:
    _check(recipe)
    from foveal.training.folds import parse_folds, train_folds

    folder = train_folds(recipe, parse_folds(folds), console)
    console.print(f"Summary: {folder / 'summary.json'}", soft_wrap=True)
    return 0


def _check(recipe: Recipe) -> None:
    """Refuses what can be refused before torch is imported, which takes seconds."""
    world_size()
    prepare(recipe.model.device)
    check_source(recipe)
    if recipe.model.id not in own_models(find_task(recipe.task)):
        check_model_id(recipe.model)


def _help(recipe: str | None, settings: Sequence[str]) -> None:
    task = task_of(read_yaml(find_recipe(recipe or "quickstart")), settings, "")
    text = recipe_parser(task).format_help()
    parser().print_help()
    print(f"\nKeys of a recipe for {task} (`--section.key value`; another task's with --task NAME --help):\n")
    print(text[text.index("\n\n") + 2 :] if "\n\n" in text else text, end="")
