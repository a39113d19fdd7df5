"""What a model that writes is asked: step by step, or for all points in one reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveal.prompts import Prompt
from foveal.tasks.counting import pointing
from foveal.tasks.task import Episode, Example, Prediction

if TYPE_CHECKING:
    from foveal.tasks.counting.task import Counting


class StepByStep(Episode):
    """A count: the next point of a picture in which the ones before are marked, until done."""

    def __init__(self, task: Counting, example: Example) -> None:
        self.task, self.example, self.running = task, example, task.count(example)
        self.user = task.question(example.fields["category"])

    def prompt(self) -> Prompt | None:
        """The picture as it is marked now."""
        return None if self.running.end else Prompt((self.running.view(),), self.user)

    def reply(self, text: str, confidence: float | None) -> None:
        """A point, done, or neither."""
        size = self.running.picture.size
        self.running.take(pointing.read_point(text, size, self.task.data.point_format), text, confidence)

    def result(self) -> Prediction:
        """The count."""
        return self.task.finished(self.example, self.running)


class AllAtOnce(Episode):
    """All points in one reply: a single step, which keeps the points beside their number."""

    def __init__(self, task: Counting, example: Example) -> None:
        self.task, self.example = task, example
        self.said: Prediction | None = None
        self.picture = example.images[0].open()

    def prompt(self) -> Prompt | None:
        """The picture without marks."""
        if self.said is not None:
            return None
        return Prompt((self.picture,), self.task.question(self.example.fields["category"]))

    def reply(self, text: str, confidence: float | None) -> None:
        """Points, done, or neither."""
        points = pointing.read_points(text, self.picture.size, self.task.data.point_format)
        extra = {
            "points": [[round(x, 2), round(y, 2)] for x, y in points or ()],
            "reply_confidence": None if confidence is None else round(confidence, 4),
        }
        count = None if points is None else len(points)
        self.said = Prediction(self.example.id, count, text, truth=self.example.truth, extra=extra)

    def result(self) -> Prediction:
        """The points and their number; None where the reply could not be read."""
        assert self.said is not None
        return self.said
