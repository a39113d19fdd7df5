"""Predictions shown as pictures: a contact sheet with each answer and its probability."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from foveal.asking.asker import Predictor
from foveal.drawing.contact_sheet import contact_sheet
from foveal.evaluation.measure import is_correct
from foveal.examples import Example, evenly_spread
from foveal.files import write_bytes
from foveal.metrics.calibration import reliability_of
from foveal.report.plots import confusion_png, reliability_png
from foveal.results import Prediction
from foveal.tasks.capabilities import answers_of, description_of, drawing_of
from foveal.tasks.task import Task


def caption(task: Task, example: Example, prediction: Prediction) -> str:
    """The answer, its probability and, where it is known and another, the truth."""
    answer = description_of(task, prediction)
    text = answer if prediction.confidence is None else f"{answer} · {100 * prediction.confidence:.0f} %"
    if example.truth is not None and not is_correct(example, prediction):
        text += f"  (truth {example.truth})"
    return text


def write_sheet(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], path: Path) -> Path:
    """Writes a PNG of the examples as the task draws them, each with its ``caption``.

    Raises:
        UserError: The file cannot be written.
    """
    cells: list[tuple[Image.Image, str]] = [
        (drawing_of(task, e, p), caption(task, e, p)) for e, p in zip(examples, predictions, strict=True)
    ]
    stream = io.BytesIO()
    contact_sheet(cells, columns=min(6, max(1, len(cells)))).save(stream, "PNG")
    write_bytes(path, stream.getvalue())
    return path


def write_grid(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], path: Path) -> Path:
    """Writes a PNG of 24 measured examples, drawn by lot but always the same: each as the task draws it, with a tick or a cross, the truth,
    the answer, its probability where one was computed, and the question.

    Raises:
        UserError: The file cannot be written.
    """
    cells, marks = [], []
    # Equal steps could meet the same kind of row again and again where kinds alternate.
    for i in sorted(random.Random(0).sample(range(len(examples)), min(24, len(examples)))):
        example, prediction = examples[i], predictions[i]
        answer = description_of(task, prediction)
        sure = "" if prediction.confidence is None else f" · {100 * prediction.confidence:.0f} %"
        text = f"truth {example.truth}, answer {answer or 'none'}{sure}\n{task.prompt(example).user}"
        cells.append((drawing_of(task, example, prediction), text))
        marks.append(is_correct(example, prediction) is True)
    stream = io.BytesIO()
    contact_sheet(cells, columns=min(6, len(cells)), cell=224, marks=marks).save(stream, "PNG")
    write_bytes(path, stream.getvalue())
    return path


def write_pictures(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], folder: Path) -> None:
    """Writes what a measurement looks like: ``predictions.png``, ``confusion.png`` where the answers are a closed set, and
    ``reliability.png`` where all predictions have probabilities.

    Raises:
        UserError: A file cannot be written.
    """
    write_grid(task, examples, predictions, folder / "predictions.png")
    answers = answers_of(task)
    if answers:
        write_confusion(task, answers, examples, predictions, folder / "confusion.png")
    bins = reliability_of(examples, predictions)
    if bins:
        reliability_png(bins, folder / "reliability.png")


def write_confusion(
    task: Task, answers: Sequence[str], examples: Sequence[Example], predictions: Sequence[Prediction], path: Path
) -> None:
    """Writes the confusion matrix of values: a row for each truth that occurs, a column for each of the task's answers
    and for what could not be read or is none of them.

    Raises:
        UserError: The file cannot be written.
    """
    values = list(dict.fromkeys(str(task.parse(a, examples[0])) for a in answers))
    truths = [str(e.truth) for e in examples]
    rows = [v for v in values if v in set(truths)] + sorted(set(truths) - set(values))
    place = {v: k for k, v in enumerate(values)}
    counts = [[0] * (len(values) + 1) for _ in rows]
    for truth, prediction in zip(truths, predictions, strict=True):
        said = place.get(str(prediction.value), len(values)) if prediction.value is not None else len(values)
        counts[rows.index(truth)][said] += 1
    lost = any(row[-1] for row in counts)
    columns = [*values, "other"] if lost else values
    confusion_png([row[: len(columns)] for row in counts], rows, path, answers=columns)


def predict_new(task: Task, predictor: Predictor, path: Path, count: int = 24) -> Path:
    """Asks the model about pictures of the test split, evenly spread, and writes them as a sheet."""
    loaded = task.load("test").examples
    examples = [loaded[i] for i in evenly_spread(len(loaded), count)]
    return write_sheet(task, examples, list(predictor.predict(examples)), path)
