"""What the charts of a report show; ``svg`` draws them into the page and ``plots`` into PNG files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foveal.metrics.calibration import Bin, calibration_error
from foveal.metrics.formats import capitalised
from foveal.report.history import History, column, headline_column
from foveal.results import Metrics, Prediction

#: Of validation, training, the learning rate, and one to spare; readable on white.
COLOURS = ("#1d5fc4", "#b3590a", "#5b4bb5", "#0f766e")
#: Lines with more points than this are drawn without markers.
MARKERS = 40


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Its name in the legend; a line without a name has no place there.
        points: (x, y) by rising x; a y that is not finite leaves a gap.
        colour: Index into ``COLOURS``, which stays with a meaning across charts.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0

    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [p for p in self.points if math.isfinite(p[1])]


@dataclass(frozen=True)
class Chart:
    """Lines by epoch.

    Attributes:
        title: Heading.
        series: The lines, each with points.
        unit: ``share`` is between 0 and 1 and written in per cent, ``rate`` with an exponent.
        reference: Label and height of a dashed horizontal line.
        from_zero: Whether the page's y axis reaches down to 0.
    """

    title: str
    series: Sequence[Series]
    unit: Literal["share", "number", "rate"] = "number"
    reference: tuple[str, float] | None = None
    from_zero: bool = False


def training_charts(
    history: History, metrics: Metrics, headline: str | None = None, chance: float | None = None
) -> list[Chart]:
    """Loss, headline metric and learning rate by epoch, each where the history has it.

    Args:
        history: Rows of ``metrics.csv``.
        metrics: What is known of the columns.
        headline: The metric that counts; the first validation metric by default.
        chance: What blind guessing reaches on it.
    """
    name = headline_column(history, headline)
    charts = [Chart("Loss", _validation_and_training(history, "loss"), from_zero=True)]
    if name is not None:
        metric = name.removeprefix("val_")
        charts.append(
            Chart(
                capitalised(metrics.title(metric)), _validation_and_training(history, metric), metrics.of(metric).unit,
                None if chance is None else ("chance", chance),
            )
        )  # fmt: skip
    rates = column(history, "learning_rate")
    charts.append(Chart("Learning rate", [Series("", rates, 2)] if rates else [], "rate", from_zero=True))
    return [chart for chart in charts if chart.series]


def _validation_and_training(history: History, metric: str) -> list[Series]:
    lines = [
        Series("validation", column(history, f"val_{metric}"), 0),
        Series("training", column(history, f"train_{metric}"), 1),
    ]
    return [line for line in lines if line.points]


def reliability_title(bins: Sequence[Bin]) -> str:
    """``ECE 0.031 on 3,000 rows``."""
    rows = sum(b.rows for b in bins)
    return f"ECE {calibration_error(bins):.3f} on {rows:,} row{'' if rows == 1 else 's'}"


@dataclass(frozen=True)
class Confusion:
    """Truths against values.

    Attributes:
        truths: Names of the rows.
        values: Names of the columns.
        counts: Rows of the data set by truth and value.
    """

    truths: list[str]
    values: list[str]
    counts: list[list[int]]


def confusion(truths: Sequence[str], predictions: Sequence[Prediction], values: Sequence[str]) -> Confusion:
    """A row for each truth that occurs, a column for each value, and where needed one for all other replies.

    Args:
        truths: Of each example, as text.
        predictions: In the same order.
        values: What the task's answers mean, in its order.
    """
    columns, occurring = list(dict.fromkeys(values)), set(truths)
    rows = [v for v in columns if v in occurring] + sorted(occurring - set(columns))
    place = {v: k for k, v in enumerate(columns)}
    counts = [[0] * (len(columns) + 1) for _ in rows]
    for truth, prediction in zip(truths, predictions, strict=True):
        value = None if prediction.value is None else str(prediction.value)
        counts[rows.index(truth)][len(columns) if value is None else place.get(value, len(columns))] += 1
    if any(row[-1] for row in counts):
        return Confusion(rows, [*columns, "other"], counts)
    return Confusion(rows, columns, [row[:-1] for row in counts])
