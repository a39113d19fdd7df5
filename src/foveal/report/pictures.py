"""Predictions as PNG files: contact sheets, the confusion matrix and the reliability diagram."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from foveal.drawing.contact_sheet import contact_sheet, save_sheet
from foveal.examples import Example
from foveal.metrics.calibration import reliability_of
from foveal.metrics.formats import percent
from foveal.report.charts import confusion
from foveal.report.plots import confusion_png, reliability_png
from foveal.results import Prediction, Result, is_correct
from foveal.tasks.capabilities import answers_of, description_of, drawing_of
from foveal.tasks.task import Task

_COLUMNS = 6
#: Rows in the picture of a measurement.
_DRAWN = 24


def caption(task: Task, example: Example, prediction: Prediction) -> str:
    """The answer, its probability and, where it is known and another, the truth."""
    text = f"{description_of(task, prediction)}{_confidence(prediction)}"
    if example.truth is not None and not is_correct(example, prediction):
        text += f"  (truth {example.truth})"
    return text


def _confidence(prediction: Prediction) -> str:
    return "" if prediction.confidence is None else f" · {percent(prediction.confidence, ' %', 0)}"


def write_sheet(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], path: Path) -> Path:
    """Writes a PNG of the examples as the task draws them, each with its ``caption``.

    Raises:
        UserError: The file cannot be written.
    """
    items = [(drawing_of(task, e, p), caption(task, e, p)) for e, p in zip(examples, predictions, strict=True)]
    save_sheet(contact_sheet(items, _COLUMNS), path)
    return path


def write_pictures(task: Task, result: Result, folder: Path) -> None:
    """Writes what a measurement looks like: ``predictions.png``, ``confusion.png`` where the answers are a closed set, and
    ``reliability.png`` where all predictions have probabilities.

    Raises:
        UserError: A file cannot be written.
    """
    _write_predictions(task, result, folder / "predictions.png")
    if answers := answers_of(task):
        # What an answer means may depend on the row, but not which values there are.
        values = [str(task.parse(answer, result.examples[0])) for answer in answers]
        truths = [str(e.truth) for e in result.examples]
        confusion_png(confusion(truths, result.predictions, values), folder / "confusion.png")
    if bins := reliability_of(result.examples, result.predictions):
        reliability_png(bins, folder / "reliability.png")


def _write_predictions(task: Task, result: Result, path: Path) -> None:
    """Writes 24 random rows (always the same), each with a tick or a cross, truth, answer, its probability where it is
    known, and the question."""
    rows = list(zip(result.examples, result.predictions, strict=True))
    items, marks = [], []
    # Equal steps could meet the same kind of row again and again where kinds alternate.
    for i in sorted(random.Random(0).sample(range(len(rows)), min(_DRAWN, len(rows)))):
        example, prediction = rows[i]
        answer = f"{description_of(task, prediction) or 'none'}{_confidence(prediction)}"
        text = f"truth {example.truth}, answer {answer}\n{task.prompt(example).user}"
        items.append((drawing_of(task, example, prediction), text))
        marks.append(is_correct(example, prediction) is True)
    save_sheet(contact_sheet(items, _COLUMNS, cell=224, marks=marks), path)
