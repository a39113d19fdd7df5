"""The task contract, and the registry that finds tasks.

A task owns four things: how a row becomes a prompt, how a reply becomes a value, how values are scored against the
truth, and how an example with its prediction is drawn. The engine knows tasks only through this file.

To add one, subclass ``Task`` in a package of your own and name it in that package's entry points::

    [project.entry-points."foveal.tasks"]
    colours = "my_package.colours:Colours"
"""

from __future__ import annotations

import difflib
import random
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image

from foveal.errors import UserError
from foveal.images import Picture
from foveal.prompts import Prompt

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """One row of a task.

    Attributes:
        id: Unique within its split; names the row in predictions and errors.
        images: The row's pictures, decoded when opened.
        truth: The right value, in the form that ``Task.parse`` returns; None where it is unknown.
        fields: Whatever else the question or the drawing needs.
    """

    id: str
    images: tuple[Picture, ...]
    truth: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Loaded:
    """One split as a task loaded it.

    Attributes:
        examples: The rows; a list, or any lazy sequence.
        source: Where they came from, for ``data.json``.
        refused: (row or file, reason) of each row that was left out by the recipe's leave.
        notes: What was guessed about the source, and what is odd about it, a sentence each, to be printed.
    """

    examples: Sequence[Example]
    source: str
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class Episode(ABC):
    """One example asked about in several steps, each after the reply to the one before.

    The engine asks many episodes at once: it takes ``prompt`` of all that are not over, has them answered in one
    batch, and hands each its ``reply``.
    """

    @abstractmethod
    def prompt(self) -> Prompt | None:
        """The next question, or None when it is over."""

    @abstractmethod
    def reply(self, text: str, confidence: float | None) -> None:
        """Takes the answer to the last prompt.

        Args:
            text: What the model wrote.
            confidence: Probability of that text, token by token the product, or None where it is not known.
        """

    @abstractmethod
    def result(self) -> Prediction:
        """What came out, once ``prompt`` is None."""


class Task(ABC):
    """A kind of question. Instances hold a checked data section and no other state.

    Class attributes:
        name: What recipes call it, e.g. ``blindtest/lines``.
        summary: One line for ``foveal tasks``.
        Data: A dataclass: the recipe's ``data`` section, with a docstring for each field.
        headline: The metric that picks the best checkpoint; ``higher_is_better`` tells its direction.
        specialists: The task's own models by the name that ``model.id`` gives, each as ``module:Class`` of a
            ``foveal.tasks.specialist.Specialist``.
        takes_text: Whether the question about a user's picture needs words of the user, e.g. a sentence.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Data: ClassVar[type]
    headline: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    specialists: ClassVar[Mapping[str, str]] = {}
    takes_text: ClassVar[bool] = False

    def __init__(self, data: Any) -> None:
        self.data = data

    @abstractmethod
    def load(self, split: Split) -> Loaded:
        """The rows of a split.

        Raises:
            UserError: The source is missing, empty or malformed.
        """

    @abstractmethod
    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """What the model is shown, with the answer filled in where the truth is known.

        Args:
            example: The row.
            rng: Given in training only, seeded by (seed, epoch, row): the one source of augmentation.
        """

    @abstractmethod
    def parse(self, reply: str) -> Any:
        """The value in a reply, or None where there is none. Strict: never a guess, never a default."""

    def value(self, reply: str, example: Example) -> Any:
        """The value in a reply to this example; ``parse``, unless what a reply means depends on the example."""
        return self.parse(reply)

    @abstractmethod
    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Metrics of predictions against truths, ``headline`` among them. Unparsable replies count as wrong."""

    def episode(self, example: Example) -> Episode | None:
        """A conversation of several questions about the example; None where ``prompt`` is all that is asked."""
        return None

    def mirror(self, example: Example) -> Example | None:
        """The example with its pictures in the other order and its truth mirrored; None where there is no such order.

        With ``training.consistency``, both are learned in one batch and their answers are drawn together; see
        ``mirrored``.
        """
        return None

    @property
    def mirrored(self) -> Mapping[str, str]:
        """What each answer of ``answers`` becomes when the pictures change places."""
        return {}

    def answers(self) -> tuple[str, ...] | None:
        """The closed set of answer texts, scored exactly at evaluation; None for free text."""
        return None

    def weight(self, example: Example) -> float:
        """How much a training row counts in the loss, more than 0; validation rows all count 1.

        The loss is the weighted mean over a step's rows (or answer tokens), so that the weights' scale does not matter.
        """
        return 1.0

    def groups(self, examples: Sequence[Example]) -> Sequence[Hashable] | None:
        """A group for each training row, of which an epoch shall have as many rows as of any other; None for none.

        Called once in a training. Rows of a small group come several times in an epoch, each time with an augmentation
        of its own; of a large one only some come.
        """
        return None

    def lead(self, reply: str, example: Example) -> str | None:
        """What of a reply stands in front of its answer, where the model gives its reasons first.

        The engine then lets the model write, and scores ``answers``, each behind a space, where the lead ends. So the
        answer has exact probabilities, given the model's own reasons, even where its reply was cut off.

        Args:
            reply: What the model wrote; an empty one asks for the lead that has no reasons in it.
            example: What it was asked about.

        Returns:
            Text without white space at its ends, e.g. ``Reasoning: ... Answer:``; None where the answer is all that is
            written.
        """
        return None

    def chance(self, examples: Sequence[Example]) -> float | None:
        """What blind guessing reaches on the headline metric, or None where that is not defined."""
        return None

    def told(self, prediction: Prediction) -> str:
        """The answer in a few words, as tables and captions show it; the reply where there is no value."""
        return prediction.text.strip() if prediction.value is None else str(prediction.value)

    def draw(self, example: Example, prediction: Prediction | None = None) -> Image.Image:
        """The example as a report shows it, with what the model saw in it."""
        return example.images[0].open()

    def frames(self, example: Example, prediction: Prediction) -> Sequence[Image.Image]:
        """The prediction as a film, one frame after the other and all of one size; empty where it has none."""
        return ()

    def export(self, example: Example, prediction: Prediction, folder: Path) -> list[Path]:
        """Writes the files that a prediction amounts to, e.g. masks; by default there are none.

        Args:
            example: The row.
            prediction: What the model made of it.
            folder: Where they go, made when needed. Pictures that share it may differ in their ending only.

        Returns:
            The files.

        Raises:
            UserError: A file cannot be written.
        """
        return []

    def example_from_image(self, path: Path, text: str | None = None) -> Example:
        """A row made of one user's picture, whose truth is unknown, for ``foveal predict``.

        Args:
            path: The picture; also the row's id.
            text: The user's words, checked by ``check_text``.
        """
        return Example(id=str(path), images=(Picture(str(path), path),))

    @classmethod
    def check_text(cls, text: str | None) -> None:
        """Compares a user's words with what the task ``takes_text``.

        Raises:
            UserError: Words are given and the task takes none, or it needs them and they are missing or blank.
        """
        if text is not None and not cls.takes_text:
            raise UserError(f"text: {cls.name} takes no words about a picture; leave it out.")
        if cls.takes_text and (text is None or not text.strip()):
            raise UserError(f"text: {cls.name} needs words about the pictures; give them, e.g. --text 'the red cup'.")


class Generator(ABC):
    """Implemented beside ``Task`` by tasks that make their own pictures: ``foveal data make NAME``.

    Class attributes:
        Make: A dataclass of the generator's options, shown by ``foveal data make NAME --help``.
    """

    Make: ClassVar[type]

    @classmethod
    @abstractmethod
    def make(cls, options: Any) -> Path:
        """Writes a data set and returns its folder, which appears whole or not at all.

        Raises:
            UserError: The folder exists, an option is out of range, or the disk is full.
        """


@cache
def _points() -> dict[str, EntryPoint]:
    """Entry points of the group ``foveal.tasks`` by name, which is the task's name.

    Raises:
        UserError: Two packages bring a task of one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group="foveal.tasks"):
        if found.setdefault(point.name, point).value != point.value:
            raise UserError(f"Two packages bring a task named {point.name!r}; uninstall one.")
    return dict(sorted(found.items()))


def find_task(name: str) -> type[Task]:
    """The task of that name; no other is imported.

    Raises:
        UserError: There is none (the message names the nearest), or its package cannot be imported.
    """
    points = _points()
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(points)}."
        raise UserError(f"There is no task {name!r}; {hint}")
    try:
        task: type[Task] = points[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"The task {name!r} ({points[name].value}) cannot be imported: {error}.") from error
    return task


def registry() -> dict[str, type[Task]]:
    """All tasks that are installed, by name.

    Raises:
        UserError: See ``find_task``.
    """
    return {name: find_task(name) for name in _points()}
