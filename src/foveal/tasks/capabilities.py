"""What only some tasks can do. A task mixes in the classes it needs, and the engine asks whether it has them.

The functions at the end answer for any task, with the default where it lacks the capability.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.task import Task


class ClosedAnswers(ABC):
    """Every reply is one of a few texts, so that each has an exact probability."""

    @abstractmethod
    def answers(self) -> tuple[str, ...]:
        """The texts; empty where the task's settings ask for free text."""


class BlindGuess(ABC):
    """There is a score that needs no look at the pictures."""

    @abstractmethod
    def chance(self, examples: Sequence[Example]) -> float:
        """What the best blind guess reaches on the headline metric."""


class MirroredPairs(ABC):
    """Questions about two pictures, whose answers follow when the pictures change places.

    Class attributes:
        mirrored: What each answer becomes.
    """

    mirrored: ClassVar[Mapping[str, str]]

    @abstractmethod
    def mirror(self, example: Example) -> Example:
        """The example with its pictures in the other order and its truth mirrored.

        With ``training.consistency``, both are learned in one batch and their answers are drawn together.
        """


class WeightedRows:
    """Training rows that count differently, or that come in groups of equal share."""

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


class ReasonsFirst(ABC):
    """The model may give its reasons before it answers."""

    @abstractmethod
    def reply_start(self, reply: str) -> str | None:
        """What of a reply stands in front of its answer.

        The engine lets the model write, and scores the closed answers, each behind a space, where the start ends. So the
        answer has exact probabilities, given the model's own reasons, even where its reply was cut off.

        Args:
            reply: What the model wrote; an empty one asks for the start that has no reasons in it.

        Returns:
            Text without white space at its ends, e.g. ``Reasoning: ... Answer:``; None where the task's settings ask for
            the answer alone.
        """


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
        """The prediction, once ``prompt`` is None."""


class Episodes(ABC):
    """Examples may be asked about in several steps."""

    @abstractmethod
    def episode(self, example: Example) -> Episode | None:
        """A conversation about the example; None where the task's settings ask one question only."""


class Drawing(ABC):
    """Examples and predictions are shown in a way of their own."""

    @abstractmethod
    def draw(self, example: Example, prediction: Prediction | None = None) -> Image.Image:
        """The example as a report shows it, with what the model saw in it."""

    def describe(self, prediction: Prediction) -> str:
        """The answer in a few words, as tables and captions show it."""
        return _described(prediction)


class Films(ABC):
    """Answers come about in steps that can be watched."""

    @abstractmethod
    def frames(self, example: Example, prediction: Prediction) -> Sequence[Image.Image]:
        """The prediction as a film, one frame after the other and all of one size; empty where it has none."""


class Export(ABC):
    """Predictions are more than a value: files can be written from them, e.g. masks."""

    @abstractmethod
    def export(self, example: Example, prediction: Prediction, folder: Path) -> list[Path]:
        """Writes the files.

        Args:
            example: The row.
            prediction: What the model made of it.
            folder: Where they go, made when needed. Pictures that share it may differ in their ending only.

        Returns:
            The files.

        Raises:
            UserError: A file cannot be written.
        """


class UserWords:
    """A question about a user's picture needs the user's words, e.g. a sentence; ``Task.example_of`` gets them."""


class OwnModels(ABC):
    """The task has models of its own beside VLMs.

    Class attributes:
        models: The name that ``model.id`` gives -> ``module:Class`` of a ``foveal.tasks.specialist.Specialist``; ``*``
            takes every id.
        parts: Keys of the recipe's section ``model`` that name further models -> values that are none of the Hub's.
    """

    models: ClassVar[Mapping[str, str]]
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {}


class Generator(ABC):
    """The task makes pictures of its own: ``foveal data make NAME``.

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


def answers_of(task: Task) -> tuple[str, ...]:
    """The closed set of answers; empty for free text."""
    return task.answers() if isinstance(task, ClosedAnswers) else ()


def chance_of(task: Task, examples: Sequence[Example]) -> float | None:
    """What blind guessing reaches on the headline metric, or None where that is not defined."""
    return task.chance(examples) if isinstance(task, BlindGuess) else None


def reply_start_of(task: Task, reply: str) -> str | None:
    """What of a reply stands in front of its answer; None where no reasons are asked for."""
    return task.reply_start(reply) if isinstance(task, ReasonsFirst) else None


def drawing_of(task: Task, example: Example, prediction: Prediction | None = None) -> Image.Image:
    """The example as a report shows it: by default its first picture."""
    return task.draw(example, prediction) if isinstance(task, Drawing) else example.images[0].open()


def description_of(task: Task, prediction: Prediction) -> str:
    """The answer in a few words; the reply where there is no value."""
    return task.describe(prediction) if isinstance(task, Drawing) else _described(prediction)


def _described(prediction: Prediction) -> str:
    return prediction.text.strip() if prediction.value is None else str(prediction.value)


def check_words(task: type[Task] | Task, words: str | None) -> None:
    """Compares a user's words with what the task takes.

    Raises:
        UserError: Words are given and the task takes none, or it needs them and they are missing or blank.
    """
    takes = issubclass(task if isinstance(task, type) else type(task), UserWords)
    if words is not None and not takes:
        raise UserError(f"text: {task.name} takes no words about a picture; leave it out.")
    if takes and (words is None or not words.strip()):
        raise UserError(f"text: {task.name} needs words about the pictures; give them, e.g. --text 'the red cup'.")


def own_models(task: type[Task]) -> tuple[str, ...]:
    """The ids of a task's own models; ``*`` stands for every id."""
    return tuple(task.models) if issubclass(task, OwnModels) else ()


def parts_of(task: type[Task]) -> Mapping[str, tuple[str, ...]]:
    """See ``OwnModels.parts``."""
    return task.parts if issubclass(task, OwnModels) else {}


#: Methods that mean something only in a task that mixes in their capability.
_METHODS: dict[str, type] = {
    "answers": ClosedAnswers, "chance": BlindGuess, "mirror": MirroredPairs, "weight": WeightedRows, "groups": WeightedRows,
    "reply_start": ReasonsFirst, "episode": Episodes, "draw": Drawing, "describe": Drawing, "frames": Films,
    "export": Export, "models": OwnModels, "make": Generator,
}  # fmt: skip


def check_capabilities(task: type[Task]) -> None:
    """Refuses a task that defines what belongs to a capability without having it, which would be ignored.

    Raises:
        UserError: Names the method and the class to mix in.
    """
    for name, capability in _METHODS.items():
        if getattr(task, name, None) is not None and not issubclass(task, capability):
            raise UserError(
                f"The task {task.name!r} has {name}, but is no {capability.__name__}; add foveal.tasks.capabilities."
                f"{capability.__name__} in front of Task among its bases."
            )
