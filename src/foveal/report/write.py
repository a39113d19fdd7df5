"""Writes a measurement: ``results.json``, ``predictions.jsonl``, pictures, and the page."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.config.sections import Recipe, dump_recipe
from foveal.errors import UserError
from foveal.files import to_json, write_json, write_text
from foveal.report.cards import choose_cards
from foveal.report.charts import training_charts
from foveal.report.history import History
from foveal.report.page import Page, render
from foveal.report.pictures import write_pictures
from foveal.report.plots import curves_png
from foveal.results import Metrics, Result
from foveal.tasks.task import Task

RESULTS_FILE = "results.json"


def write_measurement(task: Task, result: Result, folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes the numbers, the predictions and their pictures.

    Args:
        task: The task.
        result: The measurement with its rows.
        folder: Folder of the files.
        facts: Further entries of ``results.json``, e.g. the checkpoint and the split.

    Raises:
        UserError: The disk is full or may not be written.
    """
    write_result(result, folder, facts)
    write_pictures(task, result, folder)


def write_result(result: Result, folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes ``results.json`` and ``predictions.jsonl``; see ``write_measurement``."""
    lines = [to_json(p.row()) for p in result.predictions]
    write_text(folder / "predictions.jsonl", "\n".join(lines) + "\n")
    table = {
        **facts, "label": result.label, "source": result.source, "rows": result.rows, "headline": result.headline,
        "metrics": result.values, "chance": result.chance, "interval_95": result.interval,
        **({} if result.independent is None else {"independent_rows": result.independent}),
        "seconds": round(result.seconds, 3), "images_per_second": round(result.rows / max(result.seconds, 1e-9), 2),
    }  # fmt: skip
    write_json(folder / RESULTS_FILE, table)


def read_result(folder: Path, metrics: Metrics) -> Result:
    """A measurement that ``write_result`` wrote, without its rows.

    Args:
        folder: Where the files are.
        metrics: What the task declares.

    Raises:
        UserError: The file is missing or damaged.
    """
    file = folder / RESULTS_FILE
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        values = {name: float("nan") if value is None else float(value) for name, value in table["metrics"].items()}
        return Result(
            label=table["label"], source=table["source"], rows=table["rows"], values=values, headline=table["headline"],
            metrics=metrics, chance=table["chance"], interval=tuple(table["interval_95"]) if table["interval_95"] else None,
            independent=table.get("independent_rows"), seconds=table["seconds"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); remove it, and it is measured again.") from None


def write_page(
    path: Path, task: Task, recipe: Recipe, results: Sequence[Result], *, title: str, facts: Mapping[str, str],
    history: History = (), label_mask: str = "",
) -> None:  # fmt: skip
    """Writes the page, and beside it ``curves.png`` where there is a history.

    Args:
        path: The HTML file.
        task: The task.
        recipe: Its recipe.
        results: Measurements from the first to the last, which has its rows.
        title: Heading.
        facts: How it was made; the command is added in front.
        history: Rows of ``metrics.csv``.
        label_mask: The first example as the loss saw it.

    Raises:
        UserError: The disk is full or may not be written.
    """
    last = results[-1]
    charts = training_charts(history, last.metrics, last.headline, last.chance)
    if history:
        curves_png(charts, path.with_name("curves.png"))
    page = Page(
        title=title, task=recipe.task, model=recipe.model.id,
        facts={"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), **facts}, results=results, history=history,
        charts=charts, cards=choose_cards(task, last, recipe.evaluation.shown), label_mask=label_mask,
        recipe=dump_recipe(recipe),
    )  # fmt: skip
    write_text(path, render(page))
