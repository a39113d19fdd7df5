"""Answers to examples, and counts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveal.examples import Example
from foveal.files import to_json
from foveal.results import Prediction
from foveal.terminal import counted

#: Answers are counted one by one up to this number of different ones and this length in characters.
_DIFFERENT, _LONGEST = 40, 60


@dataclass(frozen=True)
class Answered:
    """An example with its answer.

    Attributes:
        example: The example.
        prediction: The answer, or None where a picture could not be read.
        error: The reason why it could not be read.
    """

    example: Example
    prediction: Prediction | None
    error: str | None = None

    @property
    def path(self) -> Path:
        """The user's picture, whose path is the example's id."""
        return Path(self.example.id)


@dataclass
class Tally:
    """Counts of answers.

    Attributes:
        rows: Pictures, readable or not.
        bad: Unreadable pictures.
        unread: Unparsable replies.
        counts: Number of each answer; None where there are too many different ones.
    """

    rows: int = 0
    bad: int = 0
    unread: int = 0
    counts: dict[str, int] | None = field(default_factory=dict)

    def add(self, value: Any, error: str | None) -> None:
        """Counts a picture by its answer, or by the error with which it failed."""
        self.rows += 1
        if error is not None:
            self.bad += 1
        elif value is None:
            self.unread += 1
        elif self.counts is not None:
            word = word_of(value)
            if len(word) > _LONGEST or (word not in self.counts and len(self.counts) == _DIFFERENT):
                self.counts = None
            else:
                self.counts[word] = self.counts.get(word, 0) + 1

    def add_all(self, batch: Sequence[Answered]) -> None:
        """Counts a batch."""
        for a in batch:
            self.add(a.prediction.value if a.prediction else None, a.error)

    def sentences(self) -> list[str]:
        """How often each answer was given, and how many pictures were left out; empty without either."""
        lines = []
        if self.counts and self.rows > 1:
            words = sorted(self.counts.items(), key=lambda item: -item[1])
            parts = [f"{word!r} {counted(count, 'time')}" for word, count in words]
            parts += [f"no answer {counted(self.unread, 'time')}"] if self.unread else []
            lines.append(f"{counted(self.rows - self.bad, 'answer')}: {', '.join(parts)}")
        if self.bad:
            was = "was" if self.bad == 1 else "were"
            lines.append(f"{self.bad:,} of {counted(self.rows, 'picture')} could not be read and {was} left out")
        return lines


class Kept:
    """The first answers of a stream, kept in memory.

    Args:
        most: Number of answers to keep; None keeps all.
        most_bad: Number of unreadable pictures to keep.

    Attributes:
        answers: The kept answers.
        bad: The kept unreadable pictures.
        number: Number of all answers, kept or not.
    """

    def __init__(self, most: int | None, most_bad: int) -> None:
        self._most, self._most_bad = most, most_bad
        self.answers: list[tuple[Example, Prediction]] = []
        self.bad: list[Answered] = []
        self.number = 0

    def add(self, batch: Sequence[Answered]) -> None:
        """Adds a batch."""
        for a in batch:
            if a.prediction is None:
                self.bad.extend([a] if len(self.bad) < self._most_bad else [])
                continue
            self.number += 1
            if self._most is None or len(self.answers) < self._most:
                self.answers.append((a.example, a.prediction))


def word_of(value: Any) -> str:
    """A task's value as text."""
    return value if isinstance(value, str) else to_json(value)
