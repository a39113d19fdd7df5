"""Models of a task's own, which a recipe chooses by name in place of a VLM.

A task lists them in ``OwnModels.models``. They learn under the same trainer, are kept in the same run folders and are
measured by the same metrics as a VLM; what they are made of is the task's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import nn

from foveal.config.sections import Recipe
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.task import Task
from foveal.vlm.encoding import Encoder

T = TypeVar("T", bound=Task)
Batch = dict[str, Any]


class Specialist(ABC, Generic[T]):
    """A trainable model that belongs to one task.

    Class attributes:
        family: What its parameters' names begin with is told by ``components``; this names the whole in tables.
        objective: Name of the objective that it learns by; see ``foveal.training.objectives``.
        components: Regular expression on the start of a parameter's name -> vision, projector, language or head.

    Attributes:
        id: As the recipe names it.
        source: Where its frozen parts came from, for the tables.
        task: The task, with the recipe's data section.
        model: A ``PreTrainedModel``, saved with ``save_pretrained``.
        encoder: Turns the task's prompts into tokens; None where the model reads no prompts.
    """

    family: ClassVar[str]
    objective: ClassVar[str]
    components: ClassVar[Mapping[str, str]]
    id: str
    source: str
    task: T
    model: nn.Module
    encoder: Encoder | None = None

    @classmethod
    @abstractmethod
    def open(cls, task: T, recipe: Recipe, *, weights: Path | None, training: bool) -> Self:
        """The model that the recipe's sections ``model`` and ``data`` describe.

        Args:
            task: The task.
            recipe: The resolved recipe.
            weights: A checkpoint folder of a run; None starts from new weights.
            training: Whether its trainable parameters shall learn.

        Raises:
            UserError: The recipe asks for what the model cannot do, or the checkpoint belongs to another one.
        """

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return next(self.model.parameters()).device

    @abstractmethod
    def ask(self, examples: Sequence[Example]) -> list[Prediction]:
        """Predictions of a batch of examples, in their order; called in eval mode without gradients."""

    def save_parts(self, folder: Path) -> None:
        """Writes beside the weights what loading them needs, e.g. a tokenizer; by default nothing."""
