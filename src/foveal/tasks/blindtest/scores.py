"""A model's accuracies on BlindTest, and a table of them beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from foveal.metrics.formats import percent
from foveal.metrics.intervals import wilson_interval

#: Names of the two questions; any other question of a row is ``other``.
QUESTIONS = ("first", "second", "other")
_ORDINAL = {"first": "1st", "second": "2nd", "other": "other"}


@dataclass(frozen=True)
class Answer:
    """A question with the model's reply.

    Attributes:
        puzzle: E.g. ``lines``.
        part: The kind of picture where the puzzle has two, e.g. ``pentagons``; else empty.
        question: ``first``, ``second`` or ``other``.
        id: The row's id.
        prompt: The question's text.
        reply: The model's reply.
        value: The parsed value; None where the reply has none.
        truth: The right value.
        task: Name of this kind of picture in the published data set, where the row has one.
    """

    puzzle: str
    part: str
    question: str
    id: str
    prompt: str
    reply: str
    value: Any
    truth: Any
    task: str | None = None

    @property
    def correct(self) -> bool:
        """Whether the value is the truth; an unparsable reply is wrong."""
        return self.value is not None and self.value == self.truth


@dataclass(frozen=True)
class Score:
    """Accuracy on one question of one puzzle.

    Attributes:
        puzzle: The puzzle.
        part: See ``Answer``.
        question: See ``Answer``.
        rows: Number of answers.
        right: Number of right answers.
        unparsable: Number of replies without a value.
        chance: Accuracy of a blind guess.
    """

    puzzle: str
    part: str
    question: str
    rows: int
    right: int
    unparsable: int
    chance: float

    @property
    def name(self) -> str:
        """The puzzle with its part."""
        return f"{self.puzzle}/{self.part}" if self.part else self.puzzle

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson_interval(self.right, self.rows)


@dataclass(frozen=True)
class Scores:
    """A model's result.

    Attributes:
        scores: By puzzle, part and question.
        puzzles: Mean accuracy of each puzzle: over the questions of a part, then over the parts.
        mean: The mean of the puzzles.
        tasks: Accuracy by the published data set's nine kinds of picture; empty where a row lacks its kind.
    """

    scores: tuple[Score, ...]
    puzzles: Mapping[str, float]
    mean: float
    tasks: Mapping[str, float]

    @property
    def task_mean(self) -> float | None:
        """The mean over the nine kinds, or None where one is missing."""
        return sum(self.tasks.values()) / 9 if len(self.tasks) == 9 else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def puzzle_means(accuracies: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
    """Means over questions, then over parts, from accuracies by (puzzle, part, question)."""
    parts: dict[tuple[str, str], list[float]] = {}
    for (puzzle, part, _), accuracy in accuracies.items():
        parts.setdefault((puzzle, part), []).append(accuracy)
    puzzles: dict[str, list[float]] = {}
    for (puzzle, _), values in parts.items():
        puzzles.setdefault(puzzle, []).append(_mean(values))
    return {puzzle: _mean(values) for puzzle, values in puzzles.items()}


def score(answers: Sequence[Answer], chances: Mapping[tuple[str, str, str], float]) -> Scores:
    """The accuracies of answers.

    Args:
        answers: One answer or more.
        chances: Accuracy of a blind guess by (puzzle, part, question).
    """
    groups: dict[tuple[str, str, str], list[Answer]] = {key: [] for key in chances}
    tasks: dict[str | None, list[bool]] = {}
    for answer in answers:
        groups[answer.puzzle, answer.part, answer.question].append(answer)
        tasks.setdefault(answer.task, []).append(answer.correct)
    scores = tuple(
        Score(*key, len(rows), sum(a.correct for a in rows), sum(a.value is None for a in rows), chances[key])
        for key, rows in groups.items()
    )
    means = puzzle_means({(s.puzzle, s.part, s.question): s.accuracy for s in scores})
    by_task = {} if None in tasks else {str(task): _mean(hits) for task, hits in tasks.items()}
    return Scores(scores, means, _mean(list(means.values())), by_task)


# ---------------------------------------------------------------------------------------- published accuracies


@dataclass(frozen=True)
class Published:
    """Accuracies that others measured, from 0 to 1.

    Attributes:
        models: Their names.
        accuracies: By (puzzle, part, question); the question is ``both`` where there is one for the two.
        puzzles: Each model's means by puzzle, made as in ``Scores``.
        overall: Accuracy on the whole benchmark by model.
    """

    models: tuple[str, ...]
    accuracies: Mapping[tuple[str, str, str], tuple[float, ...]]
    puzzles: Mapping[str, tuple[float, ...]]
    overall: Mapping[str, float]


@cache
def published() -> Published:
    """The accuracies of ``published.yaml``."""
    stored = yaml.safe_load((files("foveal.tasks.blindtest") / "published.yaml").read_text(encoding="utf-8"))
    models = tuple(stored["models"])
    table: dict[tuple[str, str, str], tuple[float, ...]] = {}
    by_word: dict[str, list[tuple[int, list[float]]]] = {}
    for name, entry in stored["accuracies"].items():
        puzzle, _, part = name.partition("/")
        for question in ("first", "second"):
            if question in entry:
                table[puzzle, part, question] = tuple(value / 100 for value in entry[question])
        if "both" in entry:  # words of the circled letters: their mean counts each picture alike
            by_word.setdefault(puzzle, []).append((entry["pictures"], entry["both"]))
    for puzzle, words in by_word.items():
        total = sum(pictures for pictures, _ in words)
        sums = [sum(pictures * values[i] for pictures, values in words) for i in range(len(models))]
        table[puzzle, "", "both"] = tuple(value / total / 100 for value in sums)
    means = [puzzle_means({key: values[i] for key, values in table.items()}) for i in range(len(models))]
    puzzles = {puzzle: tuple(mean[puzzle] for mean in means) for puzzle in means[0]}
    return Published(models, table, puzzles, {name: value / 100 for name, value in stored["overall"].items()})


# ---------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Table:
    """A table as text, without any markup.

    Attributes:
        columns: Their headings.
        rows: Cells, as many as headings.
        notes: Sentences below.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    def markdown(self, title: str) -> str:
        """The table as a page of Markdown."""
        align = ["---", "---"] + ["--:"] * (len(self.columns) - 2)
        lines = [self.columns, tuple(align), *self.rows]
        text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"# {title}\n\n{text}\n\n" + "".join(f"- {note}\n" for note in self.notes)


def _percent(share: float) -> str:
    return percent(share).removesuffix("%")


def table(scores: Scores, *, every: int = 7) -> Table:
    """The scores beside the published ones, all in per cent.

    Args:
        scores: The model's scores.
        every: Number of puzzles in the benchmark.
    """
    others = published()
    rows: list[tuple[str, ...]] = []
    by_puzzle: dict[str, list[Score]] = {}
    for s in scores.scores:
        by_puzzle.setdefault(s.puzzle, []).append(s)
    for puzzle, group in by_puzzle.items():
        for s in group:
            interval = "–".join(map(_percent, s.interval))
            accuracies = others.accuracies.get((s.puzzle, s.part, s.question))
            rows.append(_row((s.name, _ORDINAL[s.question]), [s], s.accuracy, interval, accuracies))
        if len(group) > 1:
            rows.append(_row((puzzle, "mean"), group, scores.puzzles[puzzle], "", others.puzzles.get(puzzle)))
    if len(by_puzzle) > 1:
        shared = [others.puzzles[p] for p in scores.puzzles if p in others.puzzles]
        means = [_mean(values) for values in zip(*shared, strict=True)]
        whole = "all puzzles" if len(by_puzzle) == every else f"{len(by_puzzle)} puzzles"
        rows.append(_row((whole, "mean"), scores.scores, scores.mean, "", means))
    columns = ("puzzle", "asked", "n", "this model", "95 % interval", "not parsed", "chance", *others.models)
    notes = [
        "All in per cent. A reply that is not parsed counts as wrong. The mean of all puzzles is that of their means.",
        "The published figures are for the published pictures and questions, asked in 2024 with the models' default "
        "settings (temperature 1); those of the circled letters are not told apart by question. Their means are made "
        "as the model's, so that they differ a little from the paper's own.",
    ]
    if scores.task_mean is not None:
        notes.append(f"Mean over the nine tasks of the published data set: {percent(scores.task_mean)}.")
    if len(by_puzzle) == every:
        overall = ", ".join(f"{name} {percent(value)}" for name, value in others.overall.items())
        notes.append(f"Reported for the whole benchmark in 2026: {overall}.")
    return Table(columns, tuple(rows), tuple(notes))


def _row(
    names: tuple[str, str], group: Sequence[Score], accuracy: float, interval: str, others: Sequence[float] | None
) -> tuple[str, ...]:
    """A row for one score or the mean of several, with the published accuracies ``others``, if any."""
    rows = sum(s.rows for s in group)
    chance = puzzle_means({(s.puzzle, s.part, s.question): s.chance for s in group})
    return (
        *names, str(rows), _percent(accuracy), interval, _percent(sum(s.unparsable for s in group) / rows),
        _percent(_mean(list(chance.values()))), *(map(_percent, others) if others else ["–"] * len(published().models)),
    )  # fmt: skip
