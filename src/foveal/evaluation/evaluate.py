"""Measures a finished run, or a recipe's model as it is, and writes results and a report."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from foveal.asking.opening import open_asker
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe, dump_recipe
from foveal.errors import UserError
from foveal.evaluation.known_rows import check_measured
from foveal.evaluation.measure import measure
from foveal.examples import Loaded, Split
from foveal.files import write_text
from foveal.report.write import write_measurement, write_page
from foveal.results import Result
from foveal.runs import Run, check_new_run, create_run, environment
from foveal.tasks.task import Task, load_split
from foveal.vlm.finding import is_url, located


def evaluate(
    recipe: Recipe, run: Run | None, console: Console, *, split: Split | None, checkpoint: str, samples: int,
    name: str | None,
) -> tuple[Result, Path]:  # fmt: skip
    """Measures on a split and writes ``evaluation/<name>/`` with results, predictions and a report of its own.

    Rows are held out only of what a model is trained on: another source than the run's, and any source of a served
    model, is measured whole where it has no splits.

    Args:
        recipe: The run's recipe, with overrides.
        run: The run; None measures the recipe's model and makes a run folder for it.
        console: Where progress is shown.
        split: What is measured; the recipe's ``evaluation.split`` by default, ``test`` of a source that the model has
            not learned from.
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
    loaded, part = _load(recipe, run, task, split)
    for note in loaded.notes if other_source(recipe, run) else ():
        console.print(note, soft_wrap=True)
    if run is not None and recipe.data == read_recipe(run.recipe).data:
        changed = check_measured(run, part, loaded)
        console.print(f"  {changed}", soft_wrap=True) if changed else None
    result = measure(asker, loaded, console, label=f"{model} on {name or part}", samples=samples)
    if run is None:
        run = create_run(recipe.output, recipe.name, default_name=f"{recipe.task}-{Path(model).name}-evaluation")
        write_text(run.recipe, dump_recipe(located(recipe)))
        run.write_json("environment.json", environment() | {"seed": recipe.seed})
    folder = run.evaluation(name or part)
    keys = {
        "checkpoint": model,
        "split": "all" if loaded.whole else part,
        "model": recipe.model.id,
        "task": recipe.task,
    }
    write_measurement(task, result, folder, keys)
    facts = {
        "checkpoint": model, "time": f"{result.seconds:.1f} s of predicting, {time.monotonic() - started:.1f} s in all",
        "seed": str(recipe.seed), "run": str(run.path),
    }  # fmt: skip
    title = f"{recipe.task} with {recipe.model.id}: {name or part}"
    write_page(folder / "report.html", task, recipe, [result], title=title, facts=facts)
    return result, folder


def _load(recipe: Recipe, run: Run | None, task: Task, split: Split | None) -> tuple[Loaded, Split]:
    """The rows that are measured, and of which split they are."""
    if not other_source(recipe, run):
        split = split or recipe.evaluation.split
        return load_split(task, split), split
    split = split or "test"
    loaded = load_split(task, split, other=True)
    if loaded.whole:
        return replace(loaded, source=f"{loaded.source} (all rows: it has no splits)"), split
    named = re.search(rf"\b{split}\b", loaded.source)
    return loaded if named else replace(loaded, source=f"{loaded.source} (its {split} split)"), split


def other_source(recipe: Recipe, run: Run | None) -> bool:
    """Whether the recipe's source is none that the model was or can be trained on."""
    if run is None:
        return is_url(recipe.model.id)
    return _place(read_recipe(run.recipe)) != _place(recipe)


def _place(recipe: Recipe) -> str | Path | None:
    source = getattr(recipe.data, "source", None)
    if not isinstance(source, str):
        return None
    path = Path(source).expanduser()
    return path.resolve() if path.exists() else source
