"""Rows as a report shows them: the picture, what was asked, what the model answered and what is true."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from foveal.examples import Example
from foveal.metrics.formats import percent
from foveal.results import Prediction, Result, is_correct
from foveal.tasks.capabilities import description_of, drawing_of
from foveal.tasks.task import Task

#: Answers with a bar of their own; the others of a larger set share one.
BARS = 5

Verdict = Literal["wrong", "unparsable", "right", "unknown"]
#: In the order in which a page shows them.
VERDICTS: tuple[Verdict, ...] = ("wrong", "unparsable", "right", "unknown")


@dataclass(frozen=True)
class Bar:
    """The probability of an answer, or of several together, 0 to 1."""

    label: str
    probability: float
    chosen: bool = False

    @property
    def text(self) -> str:
        """In per cent."""
        return percent(self.probability)

    @property
    def width(self) -> float:
        """In per cent of the track."""
        return round(100 * min(max(self.probability, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Card:
    """A picture with what was asked, what is true and what the model answered.

    Attributes:
        id: Names the row.
        image: The picture, of any size; None where there is none to show.
        question: What the model was asked.
        truth: The right answer, or None where it is unknown.
        answer: What the model answered; the whole reply where no answer could be read in it.
        verdict: Whether the answer is right.
        confidence: The model's probability of ``answer``, or None where none was computed.
        probabilities: Each answer's probability, where a closed set was scored.
    """

    id: str
    image: Image.Image | None
    question: str
    truth: str | None
    answer: str
    verdict: Verdict
    confidence: float | None = None
    probabilities: Mapping[str, float] | None = None

    @property
    def runner_up(self) -> tuple[str, str] | None:
        """The second likeliest answer and its probability; None where none was computed."""
        likely = sorted(self._finite(), key=lambda pair: -pair[1])
        return (likely[1][0], percent(likely[1][1])) if len(likely) > 1 else None

    @property
    def bars(self) -> list[Bar]:
        """One for each answer; of many answers the likeliest, the one chosen and the true one, and one for the rest."""
        known = dict(self._finite())
        if not known and self.confidence is not None and math.isfinite(self.confidence):
            known = {self.answer: self.confidence}
        selected = list(known)
        if len(known) > BARS:
            needed = [a for a in (self.answer, self.truth) if a in known]
            likely = sorted(known, key=lambda a: -known[a])
            selected = sorted(list(dict.fromkeys([*needed, *likely]))[: BARS - 1], key=lambda a: -known[a])
        bars = [Bar(a, known[a], a == self.answer) for a in selected]
        if others := len(known) - len(selected):
            bars.append(Bar(f"{others} others", max(0.0, sum(known.values()) - sum(known[a] for a in selected))))
        return bars

    def _finite(self) -> list[tuple[str, float]]:
        return [(answer, p) for answer, p in (self.probabilities or {}).items() if math.isfinite(p)]


def choose_cards(task: Task, result: Result, limit: int) -> list[Card]:
    """The most instructive rows, in the order of the page; only their pictures are opened.

    Wrong ones come first (the most confident on top), then unparsable ones: up to two thirds. The others are right ones
    (the least confident on top), and last those without a truth. Equals keep their order, and of those of one verdict
    the ones of unknown confidence come last.

    Args:
        task: Draws the pictures.
        result: A measurement with its rows.
        limit: Most cards.
    """
    rows = sorted(zip(result.examples, result.predictions, strict=True), key=lambda row: _rank(*row))
    failed = [row for row in rows if verdict_of(*row) in ("wrong", "unparsable")][: limit * 2 // 3]
    others = [row for row in rows if verdict_of(*row) in ("right", "unknown")][: limit - len(failed)]
    return [_card(task, example, prediction) for example, prediction in [*failed, *others]]


def verdict_of(example: Example, prediction: Prediction) -> Verdict:
    """How an answer is judged."""
    correct = is_correct(example, prediction)
    if correct is not None:
        return "right" if correct else "wrong"
    return "unknown" if example.truth is None else "unparsable"


def _rank(example: Example, prediction: Prediction) -> tuple[int, float]:
    verdict, confidence = verdict_of(example, prediction), prediction.confidence
    place = VERDICTS.index(verdict)
    if confidence is None or not math.isfinite(confidence):
        return place, math.inf
    return place, -confidence if verdict == "wrong" else confidence if verdict == "right" else 0.0


def _card(task: Task, example: Example, prediction: Prediction) -> Card:
    return Card(
        id=example.id, image=drawing_of(task, example, prediction), question=task.prompt(example).user,
        truth=None if example.truth is None else str(example.truth), answer=_answer(task, prediction),
        verdict=verdict_of(example, prediction), confidence=prediction.confidence, probabilities=prediction.probabilities,
    )  # fmt: skip


def _answer(task: Task, prediction: Prediction) -> str:
    """The reply; behind the value, where it was scored after the model's reasons or is no word or number."""
    value, text = prediction.value, prediction.text
    scored = prediction.probabilities is not None and str(value) != text
    if value is None or not text or not (scored or not isinstance(value, str | int | float)):
        return text
    return f"{description_of(task, prediction)} ({text})"


def count_verdicts(cards: Sequence[Card]) -> str:
    """``12 of 48 wrong, 1 unparsable``."""
    verdicts = [card.verdict for card in cards]
    judged = len(verdicts) - verdicts.count("unknown")
    parts = [f"{verdicts.count('wrong'):,} of {judged:,} wrong"] if judged else []
    if unparsable := verdicts.count("unparsable"):
        parts.append(f"{unparsable:,} unparsable")
    if unknown := verdicts.count("unknown"):
        parts.append(f"{unknown:,} without a known truth")
    return ", ".join(parts)


def frame_ratio(cards: Sequence[Card]) -> str:
    """Width over height of the pictures' frames: the pictures' own where it is common to all, else a square."""
    ratios = {round(card.image.width / card.image.height, 2) for card in cards if card.image}
    ratio = ratios.pop() if len(ratios) == 1 else 1.0
    return f"{min(max(ratio, 0.5), 2.5):g}"
