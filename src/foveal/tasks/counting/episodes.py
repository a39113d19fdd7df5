"""How a model that writes is asked to count: step by step, or for all points in one reply."""

from __future__ import annotations

from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.capabilities import Episode
from foveal.tasks.counting import pointing
from foveal.tasks.counting.pointing import Form
from foveal.tasks.counting.sequence import Count


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
    """The prediction that a finished count came to."""
    text = f"{len(count.points)} ({count.end})"
    return Prediction(example.id, len(count.points), text, truth=example.truth, extra=count.facts())
