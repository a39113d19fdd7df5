"""What came of pictures that a model was asked about: one answer each, and counts of all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveal.examples import Example
from foveal.results import Prediction

#: Of so many different answers, none longer than this, it is counted how often each was given.
_DIFFERENT, _LONGEST = 40, 60


@dataclass(frozen=True)
class Answered:
    """What came of one example.

    Attributes:
        example: The row.
        prediction: The answer, or None where a picture could not be read.
        error: Why it could not be.
    """

    example: Example
    prediction: Prediction | None
    error: str | None = None

    @property
    def path(self) -> Path:
        """The first picture, whose name the row of a user's picture bears."""
        return Path(self.example.id)


@dataclass
class Tally:
    """Answers counted.

    Attributes:
        rows: Pictures, readable or not.
        bad: Those that could not be read.
        unread: Replies that are no answer.
        counts: Answer -> how often; None when there were too many different ones.
    """

    rows: int = 0
    bad: int = 0
    unread: int = 0
    counts: dict[str, int] | None = field(default_factory=dict)

    def add(self, value: Any, error: str | None) -> None:
        """Counts a picture with its answer, or with the reason why it has none."""
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
        """How often each answer was given, and how many pictures were left out, where there is something to say."""
        lines = []
        if self.counts and self.rows > 1:
            words = sorted(self.counts.items(), key=lambda item: -item[1])
            parts = [f"{word} {count:,}" for word, count in words]
            parts += [f"no answer {self.unread:,}"] if self.unread else []
            lines.append(f"{self.rows - self.bad:,} answers: {', '.join(parts)}")
        if self.bad:
            lines.append(f"{self.bad:,} of {self.rows:,} pictures could not be read and were left out")
        return lines


class Kept:
    """What of a stream of answers stays in memory, to be shown at its end.

    Args:
        most: Answers, the first ones; None keeps all.
        most_bad: Pictures that could not be read.

    Attributes:
        answers: Those with a prediction.
        bad: Those without.
        number: How many had a prediction, kept or not.
    """

    def __init__(self, most: int | None, most_bad: int) -> None:
        self._most, self._most_bad = most, most_bad
        self.answers: list[tuple[Example, Prediction]] = []
        self.bad: list[Answered] = []
        self.number = 0

    def add(self, batch: Sequence[Answered]) -> None:
        """Takes a batch."""
        for a in batch:
            if a.prediction is None:
                self.bad.extend([a] if len(self.bad) < self._most_bad else [])
                continue
            self.number += 1
            if self._most is None or len(self.answers) < self._most:
                self.answers.append((a.example, a.prediction))


def word_of(value: Any) -> str:
    """A task's value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
