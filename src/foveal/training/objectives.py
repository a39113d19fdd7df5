"""The losses a recipe can name: each makes its batches, counts what they are averaged over, and computes the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import nn

from foveal import plugins
from foveal.asking.models import make_encoder
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.tasks.capabilities import MirroredPairs, answers_of
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Task
from foveal.training.rows import Row
from foveal.vlm.encoding import Batch, Encoder
from foveal.vlm.loading import Vlm
from foveal.vlm.losses import (
    WEIGHTS,
    answer_count,
    answer_loss,
    label_count,
    label_entropy,
    label_loss,
    label_scores,
)

Normaliser = torch.Tensor | float | None


class NamedLosses(NamedTuple):
    """A loss with the parts that it was made of.

    Attributes:
        total: What is minimised, a scalar.
        parts: Scalars by name, unweighted, for ``metrics.csv``; divided by the same normaliser.
    """

    total: torch.Tensor
    parts: Mapping[str, torch.Tensor]


class Objective(ABC):
    """A loss with its batches. Picklable, because data workers collate.

    One is found by name: a package lists it in the entry points ``foveal.objectives``, and a recipe says ``objective``.
    """

    @classmethod
    @abstractmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """The objective of a recipe.

        Raises:
            UserError: It does not suit the recipe, the task or the model.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Row]) -> Batch:
        """Rows as tensors, first dimension the row."""

    @abstractmethod
    def count(self, batch: Batch) -> torch.Tensor:
        """What the batch's loss is averaged over (answer tokens or rows, each times its row's weight), a scalar.

        Counts of several batches are added up: it must be of one type in every batch and process.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, normaliser: Normaliser) -> torch.Tensor | NamedLosses:
        """The sum of the batch's losses over ``normaliser``, or over its own count where that is None."""

    @abstractmethod
    def preview(self, rows: Sequence[Row]) -> str:
        """The first row as the loss sees it, for people."""

    def at(self, share: float) -> None:  # noqa: B027
        """Hears before each step how much of the training is done, from 0 to 1; by default nothing changes."""


class AnswerObjective(Objective):
    """Cross entropy on the answer's tokens.

    Args:
        encoder: Makes the batches.
        smoothing: Share of each target that is spread evenly over the vocabulary.
    """

    def __init__(self, encoder: Encoder, *, smoothing: float = 0.0) -> None:
        self.encoder, self.smoothing = encoder, smoothing

    @classmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """See ``Objective.make``."""
        return cls(make_encoder(_vlm(recipe, model), recipe), smoothing=recipe.training.label_smoothing)

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Right-padded rows with ``labels`` on the answers."""
        return self.encoder.training_batch([r.prompt for r in rows], [r.example.id for r in rows]) | weights_of(rows)

    def count(self, batch: Batch) -> torch.Tensor:
        """See ``answer_count``."""
        return answer_count(batch)

    def loss(self, model: nn.Module, batch: Batch, normaliser: Normaliser) -> torch.Tensor:
        """See ``answer_loss``."""
        return answer_loss(model, batch, normaliser, smoothing=self.smoothing)

    def preview(self, rows: Sequence[Row]) -> str:
        """The first row's tokens, learned ones in [[ ]]."""
        return self.encoder.decode_labels(self.collate(rows[:1]))


class LabelObjective(Objective):
    """Cross entropy over a closed set of answers; nothing of the answer is in the input.

    With a mirror, the rows come in both orders. To the cross entropy of all of them is added the divergence of each row
    from its mirror: the symmetric Kullback-Leibler divergence between the answers' probabilities and the mirrored
    answers' probabilities in the other order. Its weight rises linearly over the ramp.

    Args:
        encoder: Makes the batches.
        answers: The closed set.
        family: The configuration's model type.
        mirrored: What each answer becomes in the other order; empty learns one order only.
        weight: Weight of the divergence.
        ramp: Share of the training over which the weight rises from 0.
        smoothing: Share of each target that is spread evenly over the answers; the divergence has none.
    """

    def __init__(
        self, encoder: Encoder, answers: Sequence[str], family: str, *, mirrored: Mapping[str, str] | None = None,
        weight: float = 0.0, ramp: float = 0.0, smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        self.encoder, self.answers, self.family = encoder, tuple(answers), family
        self.order = [self.answers.index(mirrored[a]) for a in self.answers] if mirrored else None
        self.weight, self.ramp, self.smoothing, self.done = weight, ramp, smoothing, 1.0

    @classmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """See ``Objective.make``."""
        vlm, training, answers = _vlm(recipe, model), recipe.training, answers_of(task)
        if not answers:
            raise UserError(f"objective: label needs a closed set of answers, which {task.name} has not; use answer.")
        encoder = make_encoder(vlm, recipe)
        if training.consistency == 0 or not isinstance(task, MirroredPairs):
            return cls(encoder, answers, vlm.family, smoothing=training.label_smoothing)
        return cls(
            encoder, answers, vlm.family, mirrored=task.mirrored, weight=training.consistency,
            ramp=training.consistency_ramp, smoothing=training.label_smoothing,
        )  # fmt: skip

    def at(self, share: float) -> None:
        """Sets the weight of the divergence."""
        self.done = share

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Left-padded prompts with the answers' token ids [B, K, T] and the right one's index [B].

        With a mirror there are 2 B rows: first all as they are, then all mirrored, each with the weight of its row.
        """
        names = [r.example.id for r in rows]
        prompts = [r.prompt for r in rows]
        if self.order is not None:
            mirrors = [r.mirror for r in rows if r.mirror is not None]
            prompts, names = prompts + mirrors, names * (2 if mirrors else 1)
        choice = []
        for name, prompt in zip(names, prompts, strict=True):
            if prompt.answer not in self.answers:
                raise UserError(
                    f"{name}: the answer {prompt.answer!r} is not among {', '.join(self.answers)}; "
                    "correct the row or use objective: answer."
                )
            choice.append(self.answers.index(prompt.answer))
        batch = self.encoder.encode(prompts, side="left", names=names)
        self.encoder.check_prompts(batch, names)
        choices = self.encoder.choice_ids(prompts, self.answers)
        weights = weights_of(rows, times=len(prompts) // len(rows))
        return {**batch, "choice_ids": choices, "choice": torch.tensor(choice), **weights}

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows, mirrored ones included, each times its weight."""
        return label_count(batch)

    def loss(self, model: nn.Module, batch: Batch, normaliser: Normaliser) -> torch.Tensor | NamedLosses:
        """See ``label_loss``; with a mirror, the parts are ce and consistency."""
        if self.order is None:
            return label_loss(model, batch, normaliser, family=self.family, smoothing=self.smoothing)
        scores = label_scores(model, batch, family=self.family)
        rows = label_count(batch) if normaliser is None else normaliser
        entropy = label_entropy(scores, batch, self.smoothing) / rows
        half = len(scores) // 2
        each = symmetric_divergence(scores[:half], scores[half:][:, self.order])
        divergence = 2 * (each * batch[WEIGHTS][:half] if WEIGHTS in batch else each).sum() / rows
        weight = self.weight * (min(1.0, self.done / self.ramp) if self.ramp > 0 else 1.0)
        return NamedLosses(entropy + weight * divergence, {"ce": entropy.detach(), "consistency": divergence.detach()})

    def preview(self, rows: Sequence[Row]) -> str:
        """The first row's prompt and the choices after it."""
        prompt = rows[0].prompt
        choices = " | ".join(f"[[{a}]]" if a == prompt.answer else a for a in self.answers)
        return f"{self.encoder.text(prompt)}{choices}"


def weights_of(rows: Sequence[Row], times: int = 1) -> Batch:
    """The rows' weights, ``times`` over, as a batch's ``weights``; nothing where all are 1, so that nothing is computed."""
    weights = [row.weight for row in rows]
    return {} if all(w == 1 for w in weights) else {WEIGHTS: torch.tensor(weights * times, dtype=torch.float32)}


def symmetric_divergence(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Half the sum of the two Kullback-Leibler divergences between softmax distributions, per row.

    Args:
        one: Scores [B, K].
        two: Scores [B, K].

    Returns:
        [B], 0 where they agree.
    """
    a, b = one.float().log_softmax(-1), two.float().log_softmax(-1)
    return 0.5 * ((a.exp() - b.exp()) * (a - b)).sum(-1)


def _vlm(recipe: Recipe, model: Vlm | Specialist[Any]) -> Vlm:
    if isinstance(model, Vlm):
        return model
    raise UserError(
        f"objective: {recipe.objective} is for vision-language models; {model.id} learns {model.objective}."
    )


def make_objective(recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Objective:
    """The objective that a recipe names, or that of the task's own model.

    Raises:
        UserError: There is none of that name; it does not suit the recipe, the task or the model; or a setting of
            ``training`` has no meaning for it.
    """
    training = recipe.training
    if training.consistency and (recipe.objective != "label" or not isinstance(task, MirroredPairs)):
        raise UserError(
            f"training.consistency: needs objective: label and a task that compares pictures, not {recipe.objective} "
            f"with {task.name}; set it to 0."
        )
    name = recipe.objective
    if isinstance(model, Specialist):
        if training.label_smoothing:
            raise UserError(
                f"training.label_smoothing: {recipe.model.id} has a loss of its own without it; set it to 0, or choose a "
                "vision-language model."
            )
        # A recipe that says nothing means the model's own.
        name = model.objective if name == Recipe.objective else name
    kind = plugins.find("objective", name)
    objective: Objective = kind.make(recipe, task, model)
    return objective
