"""A value whose name is not declared would be shown as a plain number without a direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from PIL import Image

from foveal import plugins
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.blindtest.all import BlindTest
from foveal.tasks.classification.task import Classification, ClassificationData
from foveal.tasks.comparison.metrics import measure_verdicts
from foveal.tasks.comparison.task import Comparison
from foveal.tasks.counting.objects import Thing
from foveal.tasks.counting.task import Counting, CountingData
from foveal.tasks.segmentation.task import Segmentation, SegmentationData
from foveal.tasks.task import Task

BLANK = Picture("blank", Image.new("RGB", (100, 100)))
Values = Mapping[str, float]


def of_puzzle(task: type[Task]) -> Values:
    made = task(task.Data(test=8))
    rows = list(made.load("test").examples)
    return made.measure(rows, [Prediction(e.id, e.truth, str(e.truth)) for e in rows])


def of_classification() -> Values:
    names = [f"class {i}" for i in range(6)]
    task = Classification(ClassificationData(source="gone", class_names=names))
    rows = [Example(name, (BLANK,), name) for name in names]
    chances = dict(zip(task.answers(), [0.5, *[0.1] * 5], strict=True))
    return task.measure(rows, [Prediction(e.id, names[0], names[0], chances) for e in rows])


def of_comparison() -> Values:
    scores = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 3.1}
    rows, predictions = [], []
    for pair, (one, other) in enumerate([("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]):
        for swapped, ids in ((False, (one, other)), (True, (other, one))):
            truth = "Similar" if pair == 3 else "First" if swapped else "Second"
            fields = {"ids": ids, "scores": tuple(scores[i] for i in ids), "pair": pair, "swapped": swapped}
            rows.append(Example(f"{pair} {swapped}", (BLANK, BLANK), truth, fields))
            chances = {"First": 0.2, "Similar": 0.2, "Second": 0.2} | {truth: 0.6}
            predictions.append(Prediction(rows[-1].id, truth, truth, chances))
    return measure_verdicts(rows, predictions)


def of_counting() -> Values:
    things = (Thing((50, 50), (45, 45, 55, 55)),)
    fields = {"domain": "", "things": things, "size": (100, 100)}
    rows = [Example(name, (BLANK,), 1, {**fields, "category": name}) for name in ("cells", "cars")]
    extra = {"points": [[50, 50]], "end": "done", "repeats": 1}
    return Counting(CountingData()).measure(rows, [Prediction(e.id, 1, "1", extra=extra) for e in rows])


def of_segmentation() -> Values:
    task = Segmentation(SegmentationData(test=2))
    rows = list(task.load("test").examples)
    rows = [replace(e, fields={**e.fields, "is_sentence": i == 0}) for i, e in enumerate(rows)]
    return task.measure(rows, [Prediction(e.id, None, "", extra={"predicted_iou": [0.5]}) for e in rows])


MEASURED: dict[str, Callable[[], Values]] = {
    "classification": of_classification,
    "comparison": of_comparison,
    "counting": of_counting,
    "segmentation": of_segmentation,
}


@pytest.mark.parametrize("name", plugins.names("task"))
def test_every_value_is_declared_and_shares_are_shares(name: str) -> None:
    task: type[Task] = plugins.find("task", name)
    values = MEASURED[name]() if name in MEASURED else of_puzzle(task)
    metrics = task.metrics
    assert [n for n in values if metrics.of(n) not in metrics] == []
    assert metrics.of(task.headline).direction is not None and task.headline in values
    assert all(0 <= value <= 1 for n, value in values.items() if metrics.of(n).unit == "share")


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("blindtest/lines", {"loss"}),
        ("blindtest/all", {"loss"}),
        ("classification", {"loss"}),
        ("comparison", {"loss"}),
        ("counting", {"loss"}),
        ("segmentation", {"loss", "bce_loss", "iou_loss"}),
    ],
)
def test_no_metric_is_declared_that_is_not_measured(name: str, unused: set[str]) -> None:
    task: type[Task] = plugins.find("task", name)
    values = MEASURED[name]() if name in MEASURED else of_puzzle(task)
    assert {m.name for m in task.metrics} - {task.metrics.of(n).name for n in values} == unused


def test_shares_of_whole_rows_are_known_for_their_interval() -> None:
    assert [task.metrics.of(task.headline).of_rows for task in (Classification, Comparison, BlindTest, Counting)] == [
        True, True, False, False
    ]  # fmt: skip
