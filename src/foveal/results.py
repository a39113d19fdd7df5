"""What a model answered and what the answers scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from foveal.examples import Example


@dataclass(frozen=True)
class Prediction:
    """What the model made of one example.

    Attributes:
        id: The example's id.
        value: The parsed answer; None where the reply could not be parsed (never a default class).
        text: The model's reply as it was written, or the best of the scored answers.
        probabilities: Answer text to probability (they sum to 1), where a closed set was scored.
        truth: The example's truth, for the table of predictions.
        extra: A task's own results (points, masks, steps), JSON-serialisable.
    """

    id: str
    value: Any
    text: str
    probabilities: Mapping[str, float] | None = None
    truth: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def confidence(self) -> float | None:
        """Probability of the answer that was chosen, or None where none was computed."""
        return max(self.probabilities.values()) if self.probabilities else None

    def row(self) -> dict[str, Any]:
        """The prediction as a JSON object; what is unknown is left out."""
        row: dict[str, Any] = {"id": self.id, "value": self.value, "text": self.text, "confidence": self.confidence}
        row |= {"probabilities": dict(self.probabilities)} if self.probabilities else {}
        row |= {"truth": self.truth, "correct": self.value == self.truth} if self.truth is not None else {}
        # A task whose answers are right by degrees says itself what counts as correct.
        return row | dict(self.extra)


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Attributes:
        name: The task's name for it, e.g. ``accuracy``; of each class it is ``recall/CLASS``.
        unit: ``share``: between 0 and 1 and written in per cent; ``number``: written as it is.
        direction: Whether higher or lower values are better; None where neither is.
        title: What tables call it, e.g. ``gIoU``; the name with spaces by default.
        of_rows: Whether it is the share of rows that are right, so that a binomial interval holds.
    """

    name: str
    unit: Literal["share", "number"] = "number"
    direction: Literal["higher", "lower"] | None = None
    title: str = ""
    of_rows: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.title or " ".join(word for word in self.name.split("_") if word)


#: Metrics that any run has.
COMMON = (
    Metric("loss", direction="lower"),
    Metric("unparsable", "share", "lower"),
)


class Metrics(tuple[Metric, ...]):
    """The metrics that a task declares, found by name."""

    def __new__(cls, declared: Sequence[Metric] = ()) -> Metrics:
        """Adds the metrics that any run has."""
        names = {m.name for m in declared}
        return super().__new__(cls, (*declared, *(m for m in COMMON if m.name not in names)))

    def of(self, name: str) -> Metric:
        """The metric of a value's name: ``recall/two``, ``recall_two`` and ``val_recall`` are all of ``recall``.

        What the task did not declare is a plain number without a direction; what ends in ``_loss`` is a loss.
        """
        base = _base(name)
        if base.endswith("_loss") and not any(base == m.name for m in self):
            return Metric(base, direction="lower")
        known = [m for m in self if base == m.name or base.startswith(f"{m.name}_")]
        return max(known, key=lambda m: len(m.name), default=Metric(base))

    def title(self, name: str) -> str:
        """What tables call a value: ``macro_f1`` is ``macro F1``, ``recall/two_lines`` is ``recall: two_lines``.

        A class keeps its name, and ``val_`` and ``train_`` stay in front.
        """
        head, slash, part = name.partition("/")
        base, metric = _base(name), self.of(name)
        words = f"{head.removesuffix(base)} {metric.label} {base.removeprefix(metric.name)}".replace("_", " ")
        words = " ".join(words.split())
        return f"{words}: {part}" if slash else words


def _base(name: str) -> str:
    return name.removeprefix("val_").removeprefix("train_").partition("/")[0]


@dataclass(frozen=True)
class Result:
    """One measurement: what the terminal prints, a run keeps and a report shows.

    Attributes:
        label: What tables call it, e.g. ``before training``.
        source: Where the rows came from.
        rows: How many were measured.
        values: Metric to value, in the order of the table.
        headline: The metric that counts.
        metrics: What is known of the metrics.
        chance: What blind guessing reaches on the headline metric, or None where that is not defined.
        interval: Bounds that hold the headline metric with 95 % confidence, or None where unknown.
        seconds: Time that predicting took.
        examples: The rows; empty where the result was read from a file.
        predictions: In the same order.
        independent: How many independent rows the rows are worth, where several are about the same pictures; else None.
    """

    label: str
    source: str
    rows: int
    values: Mapping[str, float]
    headline: str
    metrics: Metrics = field(default_factory=Metrics)
    chance: float | None = None
    interval: tuple[float, float] | None = None
    seconds: float = 0.0
    examples: Sequence[Example] = ()
    predictions: Sequence[Prediction] = ()
    independent: float | None = None

    @property
    def value(self) -> float:
        """The headline metric's value; NaN where it was not measured."""
        return self.values.get(self.headline, math.nan)


def is_correct(example: Example, prediction: Prediction) -> bool | None:
    """Whether an answer is right, None where that is not known; a task may say so itself in ``Prediction.extra``."""
    if example.truth is None or prediction.value is None:
        return None
    judged = prediction.extra.get("correct")
    return bool(prediction.value == example.truth) if judged is None else bool(judged)
