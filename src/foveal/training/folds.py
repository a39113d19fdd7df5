"""The same recipe on several folds, one run each, and one summary."""

from __future__ import annotations

import gc
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from foveal.config.checking import check
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.config.trust import KEY
from foveal.errors import UserError
from foveal.files import write_json
from foveal.metrics.formats import format_metric
from foveal.report.write import RESULTS_FILE, read_result
from foveal.results import Metrics
from foveal.runs import Run, check_new_run, fold_run, fold_runs, is_run, open_run, run_name, world_size
from foveal.tasks.registry import find_task
from foveal.training.train import train

SUMMARY_FILE = "summary.json"


def parse_folds(text: str, most: int = 5) -> list[int]:
    """``all``, or numbers with commas, from 1 on; one that comes twice counts once.

    Args:
        text: As it was given.
        most: How many ``all`` are.

    Raises:
        UserError: It is neither.
    """
    if text == "all":
        return list(range(1, most + 1))
    parts = [p.strip() for p in text.split(",")]
    if not all(re.fullmatch(r"0*[1-9][0-9]{0,3}", p) for p in parts):
        raise UserError(f"--folds: {text!r} is neither all nor numbers such as 1,3; folds are numbered from 1.")
    return list(dict.fromkeys(int(p) for p in parts))


def train_folds(recipe: Recipe, folds: Sequence[int], console: Console) -> Path:
    """Trains one run for each fold, below one folder, and writes ``summary.json`` there.

    Fold k has the recipe's seed + k. A fold that is finished is not trained again, one that was interrupted goes on, so
    the same command with the same name continues after an interruption. What one fold holds in memory is let go before
    the next.

    Args:
        recipe: The resolved recipe; its data section must have a field ``fold``.
        folds: Their numbers.
        console: Where progress is shown.

    Returns:
        The folder.

    Raises:
        UserError: The task has no folds, the data lack one of them, the folder holds something else, a fold was trained
            by another recipe, there are several processes, or a training fails as ``train`` tells.
    """
    if "fold" not in {f.name for f in fields(recipe.data)}:
        raise UserError(f"--folds: the task {recipe.task} has no folds; leave the option out.")
    if world_size() > 1:
        raise UserError("--folds: trains in one process; leave torchrun out, or train one fold with --data.fold K.")
    check(recipe)
    folder = Path(recipe.output) / (recipe.name or run_name(f"{recipe.task}-{Path(recipe.model.id).name}-folds"))
    if not fold_runs(folder):
        check_new_run(recipe.output, folder.name if recipe.name is None else recipe.name)
    own = {fold: _of_fold(recipe, fold, folder) for fold in folds}
    for fold, one in own.items():
        _check_fold(one, fold_run(folder, fold))
    results: dict[int, Mapping[str, float]] = {}
    for fold, one in own.items():
        place = Run(fold_run(folder, fold))
        measured = place.evaluation(recipe.evaluation.split)
        # The report is the last that a training writes.
        finished = (measured / RESULTS_FILE).is_file() and place.report.is_file()
        state = ", is finished" if finished else ", continued" if is_run(place.path) else ""
        console.print(f"Fold {fold}, seed {one.seed}: {place.path}{state}", soft_wrap=True)
        if not finished:
            try:
                train(one, console, resume=open_run(place.path) if is_run(place.path) else None)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(f"continue with the same command and --name {folder.name}") from error
            _let_go()
        results[fold] = read_result(measured, find_task(recipe.task).metrics).values
    summary = summarise(results)
    write_json(folder / SUMMARY_FILE, summary)
    console.print(_table(summary, find_task(recipe.task).metrics))
    return folder


def _of_fold(recipe: Recipe, fold: int, folder: Path) -> Recipe:
    """The recipe of one fold's run, as the run's folder will have it."""
    data = find_task(recipe.task)(replace(recipe.data, fold=fold)).data
    return replace(recipe, data=data, seed=recipe.seed + fold, name=f"fold-{fold}", output=str(folder))


def _check_fold(recipe: Recipe, place: Path) -> None:
    """Finds out before hours of training whether the data have the fold, and whether its run is by this recipe."""
    find_task(recipe.task)(recipe.data).load(recipe.evaluation.split)
    if not is_run(place):
        return
    trust = [f"{KEY}={str(recipe.model.trust_remote_code).lower()}"]  # as this command says
    old, new = (dict(_flat(asdict(r))) for r in (read_recipe(place / "recipe.yaml", trust), recipe))
    # Where the run lies may be said in another way now.
    changed = [key for key in {**old, **new} if key not in ("name", "output") and old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        raise UserError(
            f"{place}: was trained with {key} {old.get(key)}, not {new.get(key)}; choose another --name, or repeat its command."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested sections as dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _let_go() -> None:
    """Returns the memory of a training that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def summarise(results: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """Mean and sample standard deviation of every metric that all folds have, with the folds' own values.

    Args:
        results: Metrics by name for each fold.

    Returns:
        ``folds``, their numbers; ``metrics``, for each name ``mean``, ``deviation`` (with n - 1; None for one fold) and
        ``folds``, the values in the folds' order.
    """
    names = [n for n in next(iter(results.values())) if all(n in r for r in results.values())]
    rows = {}
    for name in names:
        values = [r[name] for r in results.values()]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        rows[name] = {"mean": statistics.fmean(values), "deviation": deviation, "folds": values}
    return {"folds": list(results), "metrics": rows}


def _table(summary: Mapping[str, Any], metrics: Metrics) -> Table:
    count = len(summary["folds"])
    table = Table(title=f"{count} fold{'s' if count > 1 else ''}", title_justify="left")
    for column in ("metric", "mean", "deviation", *(f"fold {k}" for k in summary["folds"])):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, row in summary["metrics"].items():
        metric = metrics.of(name)
        deviation = "–" if row["deviation"] is None else format_metric(metric, row["deviation"])
        folds = (format_metric(metric, value) for value in row["folds"])
        table.add_row(name, format_metric(metric, row["mean"]), deviation, *folds)
    return table
