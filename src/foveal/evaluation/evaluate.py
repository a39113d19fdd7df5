"""Measures a finished run, or a recipe's model as it is, and writes results and a report."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from foveal.asking.opening import open_asker
from foveal.config.sections import Recipe, dump_recipe
from foveal.errors import UserError
from foveal.evaluation.measure import measure
from foveal.examples import Split
from foveal.files import write_text
from foveal.report.write import write_measurement, write_page
from foveal.results import Result
from foveal.runs import Run, check_new_run, create_run, environment
from foveal.tasks.task import load_split


def evaluate(
    recipe: Recipe, run: Run | None, console: Console, *, split: Split, checkpoint: str, samples: int, name: str | None
) -> tuple[Result, Path]:
    """Measures on a split and writes ``evaluation/<name>/`` with results, predictions and a report of its own.

    Args:
        recipe: The run's recipe, with overrides.
        run: The run; None measures the recipe's model and makes a run folder for it.
        console: Where progress is shown.
        split: What is measured.
        checkpoint: ``best``, ``last`` or ``epoch-N``.
        samples: Rows, evenly spread; 0 for all.
        name: The folder's name below ``evaluation``; the split's by default.

    Returns:
        The result and the folder.

    Raises:
        UserError: Something a user can put right.
    """
    if name is not None and (not name.strip() or "/" in name or name.startswith(".")):
        raise UserError(f"--as: {name!r} cannot be a folder's name; choose one without slashes.")
    if run is None:
        check_new_run(recipe.output, recipe.name)
    started = time.monotonic()
    asker, model = open_asker(recipe, run, checkpoint)
    task = asker.task
    loaded = load_split(task, split)
    result = measure(asker, loaded, console, label=f"{model} on {name or split}", samples=samples)
    if run is None:
        run = create_run(recipe.output, recipe.name, default_name=f"{recipe.task}-{Path(model).name}-evaluation")
        write_text(run.recipe, dump_recipe(recipe))
        run.write_json("environment.json", environment() | {"seed": recipe.seed})
    folder = run.evaluation(name or split)
    keys = {"checkpoint": model, "split": split, "model": recipe.model.id, "task": recipe.task}
    write_measurement(task, result, folder, keys)
    facts = {
        "checkpoint": model, "time": f"{result.seconds:.1f} s of predicting, {time.monotonic() - started:.1f} s in all",
        "seed": str(recipe.seed), "run": str(run.path),
    }  # fmt: skip
    title = f"{recipe.task} with {recipe.model.id}: {name or split}"
    write_page(folder / "report.html", task, recipe, [result], title=title, facts=facts)
    return result, folder
