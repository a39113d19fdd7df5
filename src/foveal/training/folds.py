"""The same recipe on several folds, one run each, and one summary."""

from __future__ import annotations

import gc
import json
import statistics
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from foveal.errors import UserError
from foveal.evaluation.formatting import is_share, number, percent
from foveal.files import write_text
from foveal.recipe import Recipe
from foveal.runs import check_new_run, open_run, run_name
from foveal.training.train import train


def parse_folds(text: str, most: int = 5) -> list[int]:
    """``all``, or numbers with commas, from 1 on.

    Raises:
        UserError: It is neither.
    """
    if text == "all":
        return list(range(1, most + 1))
    parts = text.split(",")
    if not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise UserError(f"--folds: {text!r} is neither all nor numbers such as 1,3; folds are numbered from 1.")
    return list(dict.fromkeys(int(p) for p in parts))


def train_folds(recipe: Recipe, folds: Sequence[int], console: Console) -> Path:
    """Trains one run for each fold, below one folder, and writes ``summary.json`` there.

    Fold k has the recipe's seed + k. A fold that is finished is not trained again, one that was interrupted goes on, so
    the same command continues after an interruption. What one fold holds in memory is let go before the next.

    Args:
        recipe: The resolved recipe; its data section must have a field ``fold``.
        folds: Their numbers.
        console: Where progress is shown.

    Returns:
        The folder.

    Raises:
        UserError: The task has no folds, the recipe has no name, or a training fails as ``train`` tells.
    """
    if "fold" not in {f.name for f in fields(recipe.data)}:
        raise UserError(f"--folds: the task {recipe.task} has no folds.")
    folder = Path(recipe.output) / (recipe.name or run_name(f"{recipe.task}-{Path(recipe.model.id).name}-folds"))
    if recipe.name is None:
        check_new_run(recipe.output, folder.name)
    results: dict[int, dict[str, float]] = {}
    for fold in folds:
        own = replace(
            recipe,
            data=replace(recipe.data, fold=fold),
            seed=recipe.seed + fold,
            name=f"fold-{fold}",
            output=str(folder),
        )
        place = folder / f"fold-{fold}"
        measured = place / "evaluation" / recipe.evaluation.split / "results.json"
        console.print(f"Fold {fold}, seed {own.seed}: {place}", soft_wrap=True)
        if not measured.is_file():
            train(own, console, resume=open_run(str(place)) if place.exists() else None)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        results[fold] = json.loads(measured.read_text(encoding="utf-8"))["metrics"]
    summary = summarise(results)
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    console.print(_table(summary))
    return folder


def summarise(results: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Mean and sample standard deviation of every metric that all folds have, with the folds' own values."""
    names = [n for n in next(iter(results.values())) if all(n in r for r in results.values())]
    rows = {}
    for name in names:
        values = [r[name] for r in results.values()]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        rows[name] = {"mean": statistics.fmean(values), "deviation": deviation, "folds": values}
    return {"folds": list(results), "metrics": rows}


def _table(summary: dict[str, Any]) -> Table:
    table = Table(title=f"{len(summary['folds'])} folds", title_justify="left")
    for column in ("metric", "mean", "deviation", *(f"fold {k}" for k in summary["folds"])):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, row in summary["metrics"].items():
        written = percent if is_share(name) else number
        deviation = "–" if row["deviation"] is None else written(row["deviation"])
        table.add_row(name, written(row["mean"]), deviation, *(written(v) for v in row["folds"]))
    return table
