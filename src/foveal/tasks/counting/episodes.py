"""Counting by iterating: mark what has been pointed at, ask for the next one, until done.

A count ends as ``done`` when the model answers "done", as ``limit`` after a number of points that no picture should need, as
``stuck`` when it keeps pointing at what is marked already, and as ``unreadable`` when its reply is neither a point nor
"done". Whatever the end, the count is the number of different points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.capabilities import Episode
from foveal.tasks.counting import pointing
from foveal.tasks.counting.objects import Point, Thing
from foveal.tasks.counting.pointing import Form

End = Literal["done", "limit", "stuck", "unreadable"]
#: Draws the marks of what has been counted so far: (picture, points in order) -> picture.
Marker = Callable[[Image.Image, Sequence[Thing]], Image.Image]


@dataclass(frozen=True)
class Step:
    """One answer of a count.

    Attributes:
        text: As the model wrote it.
        point: Where it pointed, in pixels of the picture; None for "done" and for what could not be read.
        confidence: Probability of the answer, where it is known.
        repeats: Number, from 1, of the point that it repeats; None for a new one.
    """

    text: str
    point: Point | None
    confidence: float | None
    repeats: int | None = None


@dataclass
class Count:
    """A count in progress.

    Attributes:
        picture: The picture, without marks.
        marker: Draws the marks.
        limit: Most points.
        radius: Two points nearer than this, in pixels, are one.
        patience: Repeats in a row after which the count is stuck.
    """

    picture: Image.Image
    marker: Marker
    limit: int
    radius: float
    patience: int = 2
    steps: list[Step] = field(default_factory=list)
    end: End | None = None

    @property
    def points(self) -> list[Point]:
        """The different points so far, in order."""
        return [s.point for s in self.steps if s.point is not None and s.repeats is None]

    def view(self) -> Image.Image:
        """The picture as it is shown next."""
        # A repeated point is drawn once more: what was overlooked as too faint gets stronger, and the view changes.
        return self.marker(self.picture, [Thing(s.point) for s in self.steps if s.point is not None])

    def take(self, answer: Point | Literal["done"] | None, text: str, confidence: float | None) -> None:
        """Takes the answer to the last view.

        Args:
            answer: A point in pixels of the picture, "done", or None for what could not be read.
            text: As it was written.
            confidence: Its probability, where it is known.
        """
        point = answer if isinstance(answer, tuple) else None
        self.steps.append(Step(text, point, confidence, self._repeated(point) if point else None))
        if answer == "done":
            self.end = "done"
        elif point is None:
            self.end = "unreadable"
        elif len(self.steps) >= self.patience and all(s.repeats for s in self.steps[-self.patience :]):
            self.end = "stuck"
        elif len(self.points) >= self.limit:
            self.end = "limit"

    def _repeated(self, point: Point) -> int | None:
        """Number of the point that this one repeats."""
        for number, other in enumerate(self.points, 1):
            if math.dist(point, other) < self.radius:
                return number
        return None

    def facts(self) -> dict[str, Any]:
        """The prediction's ``extra``: points, end, repeats, and the confidence of each step."""
        return {
            "points": [[round(x, 2), round(y, 2)] for x, y in self.points],
            "end": self.end,
            "repeats": sum(s.repeats is not None for s in self.steps),
            "step_confidence": [None if s.confidence is None else round(s.confidence, 4) for s in self.steps],
        }


class StepByStep(Episode):
    """A count: the next point of a picture in which the ones before are marked, until done.

    Args:
        example: What is counted.
        count: An empty count of its picture.
        question: What is asked at each step.
        form: How points are written.
    """

    def __init__(self, example: Example, count: Count, question: str, form: Form) -> None:
        self.example, self.count, self.question, self.form = example, count, question, form

    def prompt(self) -> Prompt | None:
        """The picture as it is marked now."""
        return None if self.count.end else Prompt((self.count.view(),), self.question)

    def reply(self, text: str, confidence: float | None) -> None:
        """A point, done, or neither."""
        self.count.take(pointing.read_point(text, self.count.picture.size, self.form), text, confidence)

    def result(self) -> Prediction:
        """The count."""
        return counted(self.example, self.count)


class AllAtOnce(Episode):
    """All points in one reply: a single step, which keeps the points beside their number.

    Args:
        example: What is counted.
        question: What is asked.
        form: How points are written.
    """

    def __init__(self, example: Example, question: str, form: Form) -> None:
        self.example, self.question, self.form = example, question, form
        self.picture = example.images[0].open()
        self.answer: Prediction | None = None

    def prompt(self) -> Prompt | None:
        """The picture without marks."""
        return None if self.answer is not None else Prompt((self.picture,), self.question)

    def reply(self, text: str, confidence: float | None) -> None:
        """Points, done, or neither."""
        points = pointing.read_points(text, self.picture.size, self.form)
        extra = {
            "points": [[round(x, 2), round(y, 2)] for x, y in points or ()],
            "reply_confidence": None if confidence is None else round(confidence, 4),
        }
        count = None if points is None else len(points)
        self.answer = Prediction(self.example.id, count, text, truth=self.example.truth, extra=extra)

    def result(self) -> Prediction:
        """The points and their number; None where the reply could not be read."""
        assert self.answer is not None
        return self.answer


def counted(example: Example, count: Count) -> Prediction:
    """The prediction of a finished count."""
    text = f"{len(count.points)} ({count.end})"
    return Prediction(example.id, len(count.points), text, truth=example.truth, extra=count.facts())
