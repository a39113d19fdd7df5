"""The task contract.

A task owns how a row becomes a prompt, how a reply becomes a value, and how values are scored against the truth. The
engine knows tasks only through this file and through ``capabilities``, which holds what only some tasks can do.

To add one, subclass ``Task`` in a package of your own and name it in that package's entry points::

    [project.entry-points."foveal.tasks"]
    colours = "my_package.colours:Colours"
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.examples import SPLITS, Example, Loaded, Split
from foveal.images import MAX_PIXELS, Picture
from foveal.prompts import Prompt
from foveal.results import Metric, Metrics, Prediction

__all__ = ["SPLITS", "Example", "Loaded", "Metric", "Metrics", "Picture", "Prediction", "Prompt", "Split", "Task"]


class Task(ABC):
    """A kind of question. Instances hold a checked data section, the pixel limit, and no other state.

    Class attributes:
        name: What recipes call it, e.g. ``blindtest/lines``.
        summary: One line for ``foveal tasks``.
        Data: A dataclass: the recipe's ``data`` section, with a docstring for each field.
        Model: The recipe's ``model`` section: a subclass of ``config.sections.Model`` where the task's own models have
            keys of their own.
        metrics: What ``measure`` returns, each with its unit and direction.
        headline: The metric that picks the best checkpoint, one of them.
        pictures: How many pictures a question is about.

    Attributes:
        data: The data section.
        max_pixels: Pictures with more pixels than this are refused.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Data: ClassVar[type]
    Model: ClassVar[type[Model]] = Model
    metrics: ClassVar[Metrics] = Metrics((Metric("accuracy", "share", "higher", of_rows=True),))
    headline: ClassVar[str] = "accuracy"
    pictures: ClassVar[int] = 1

    def __init__(self, data: Any) -> None:
        self.data = data
        self.max_pixels = MAX_PIXELS

    @abstractmethod
    def load(self, split: Split) -> Loaded:
        """The rows of a split.

        Raises:
            UserError: The source is missing, empty or malformed.
        """

    def load_other(self, split: Split) -> Loaded:
        """The rows of a source that the model has not learned from: nothing needs to be held out of it.

        A source without splits gives all of its rows. The answers stay those that the data section names, also where the
        source lacks some of them.

        Args:
            split: Which one, where the source has splits.

        Raises:
            UserError: The source or its split is missing or malformed, or holds an answer that the task does not know.
        """
        return self.load(split)

    @abstractmethod
    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """What the model is shown, with the answer filled in where the truth is known. No picture is opened for it.

        Args:
            example: The row.
            rng: Given in training only, seeded by (seed, epoch, row): the one source of augmentation.
        """

    @abstractmethod
    def parse(self, reply: str, example: Example | None = None) -> Any:
        """The value in a reply, or None where there is none. Strict: never a guess, never a default.

        Args:
            reply: What the model wrote.
            example: What it was asked about, for tasks in which the meaning of a reply depends on the row.
        """

    @abstractmethod
    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> Mapping[str, float]:
        """Values of ``metrics``, ``headline`` among them. Unparsable replies count as wrong."""

    def example_of(self, pictures: Sequence[Picture], words: str | None = None) -> Example:
        """A row of a user's own pictures, whose truth is unknown.

        Args:
            pictures: As many as ``pictures`` says; the first one's name is the row's id.
            words: The user's words, for tasks that take them; see ``capabilities.UserWords``.

        Raises:
            UserError: The settings do not say what is asked about the pictures.
        """
        return Example(id=pictures[0].name, images=tuple(pictures))

    @classmethod
    def higher_is_better(cls) -> bool:
        """The direction of the headline metric."""
        return cls.metrics.of(cls.headline).direction != "lower"


def load_split(task: Task, split: Split, *, other: bool = False) -> Loaded:
    """The rows of a split, whose pictures know the task's pixel limit.

    Args:
        task: The task.
        split: Which one.
        other: Whether the model has not learned from the source, so that it is measured whole where it has no splits.

    Raises:
        UserError: The source is missing, empty or malformed.
    """
    loaded = task.load_other(split) if other else task.load(split)
    if len(loaded.examples) == 0:
        raise UserError(f"{loaded.source}: the {split} split holds no rows.")
    return loaded if task.max_pixels == MAX_PIXELS else loaded.limited(task.max_pixels)
