from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from foveal.errors import UserError
from foveal.evaluation.measure import measure, sentence
from foveal.examples import Example
from foveal.metrics.intervals import wilson_interval
from foveal.results import Metric, Metrics, Prediction, Result
from foveal.tasks.blindtest.lines import Lines, LinesData
from foveal.tasks.comparison.task import Comparison, ComparisonData

QUIET = Console(file=io.StringIO())


class Perfect:
    """Answers right, but for the first row."""

    def __init__(self, task: Lines) -> None:
        self.task = task

    def remark(self, rows: int) -> str:
        """What is printed before."""
        return f"{rows} rows take long."

    def ask(self, examples: Sequence[Example], progress: Callable[[int], None]) -> Iterator[Prediction]:
        for i, e in enumerate(examples):
            progress(1)
            yield Prediction(e.id, e.truth if i else None, str(e.truth), None, e.truth)


def measured(task: Lines, samples: int = 0, **changes: Any) -> Result:
    loaded = replace(task.load("test"), **changes)
    return measure(Perfect(task), loaded, QUIET, label="before", samples=samples)  # type: ignore[arg-type]


def test_a_measurement_holds_values_rows_chance_and_interval() -> None:
    task = Lines(LinesData(test=12, image_size=64))
    result = measured(task)
    assert result.value == result.values["accuracy"] == 11 / 12 and result.values["unparsable"] == 1 / 12
    assert (result.label, result.rows, result.headline) == ("before", 12, "accuracy")
    assert result.interval == wilson_interval(11, 12) and result.chance == task.chance(result.examples)
    assert result.metrics is Lines.metrics and len(result.examples) == len(result.predictions) == 12
    assert [e.id for e in measured(task, 3).examples] == ["0", "4", "8"]


def test_how_long_it_takes_is_said_before() -> None:
    task = Lines(LinesData(test=12, image_size=64))
    screen = io.StringIO()
    measure(Perfect(task), task.load("test"), Console(file=screen), label="before", samples=5)  # type: ignore[arg-type]
    assert screen.getvalue().startswith("5 rows take long.\n")


def test_only_a_share_of_rows_has_an_interval() -> None:
    class Other(Lines):
        metrics = Metrics((Metric("accuracy", "share", "higher"),))

    assert measured(Other(LinesData(test=3, image_size=64))).interval is None


def test_rows_without_truth_are_refused() -> None:
    task = Lines(LinesData(test=3, image_size=64))
    with pytest.raises(UserError, match="elsewhere: 1 row has no truth \\(e\\.g\\. x\\); use foveal predict\\."):
        measured(task, examples=[Example("x", ())], source="elsewhere")
    with pytest.raises(UserError, match="elsewhere: holds no rows to measure\\."):
        measured(task, examples=[], source="elsewhere")


def test_the_sentence_of_a_share() -> None:
    metrics = Metrics((Metric("accuracy", "share", "higher", of_rows=True),))
    result = Result("after", "pictures", 3000, {"accuracy": 0.979}, "accuracy", metrics, 0.5, (0.9733, 0.98366))
    assert sentence(result) == (
        "after: accuracy 97.9 % (95 % interval 97.3 to 98.4 %), chance 50.0 %, on 3,000 rows of pictures"
    )


def test_nearly_all_is_not_all() -> None:
    metrics = Metrics((Metric("accuracy", "share", "higher", of_rows=True),))
    result = Result("a", "s", 3000, {"accuracy": 2999 / 3000}, "accuracy", metrics, None, wilson_interval(2999, 3000))
    assert sentence(result) == "a: accuracy >99.9 % (95 % interval 99.8 to >99.9 %), on 3,000 rows of s"
    result = Result("a", "s", 3, {"accuracy": 1.0}, "accuracy", metrics, None, wilson_interval(3, 3))
    assert sentence(result) == "a: accuracy 100.0 % (95 % interval 43.9 to 100.0 %), on 3 rows of s"


def test_the_sentence_of_a_number() -> None:
    result = Result("a", "s", 5, {"mae": 1.23456}, "mae", Metrics((Metric("mae", direction="lower"),)), 5.0)
    assert sentence(result) == "a: mae 1.235, chance 5, on 5 rows of s"


def test_both_orders_of_a_pair_count_as_what_they_are_worth() -> None:
    class Half:
        """Right about every other pair, in both orders."""

        def __init__(self, task: Comparison) -> None:
            self.task = task

        def remark(self, rows: int) -> str:
            return ""

        def ask(self, examples: Sequence[Example], progress: Callable[[int], None]) -> Iterator[Prediction]:
            for e in examples:
                yield Prediction(e.id, e.truth if e.fields["pair"] % 2 else None, "", None, e.truth)

    task = Comparison(ComparisonData(pictures=40, image_size=64, test=20))
    result = measure(Half(task), task.load("test"), QUIET, label="half")  # type: ignore[arg-type]
    assert (result.rows, result.independent, result.value) == (40, 20, 0.5)
    assert result.interval == wilson_interval(10, 20)
    assert ", on 40 rows (worth 20 independent ones) of generated: " in sentence(result)
    alone = replace(task.data, both_orders=False)
    result = measure(Half(Comparison(alone)), Comparison(alone).load("test"), QUIET, label="half")  # type: ignore[arg-type]
    assert (result.rows, result.independent) == (20, None) and "worth" not in sentence(result)
