"""The losses a recipe can name: each makes its batches, counts what they are averaged over, and computes the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from foveal.errors import UserError
from foveal.evaluation.predict import make_encoder
from foveal.recipe import Recipe
from foveal.tasks.specialist import NamedLosses, Specialist
from foveal.tasks.task import Task
from foveal.training.rows import Row
from foveal.vlm.answer_loss import IGNORE, answer_loss
from foveal.vlm.encoding import Batch, Encoder
from foveal.vlm.loading import Vlm
from foveal.vlm.scoring import label_loss

Normaliser = torch.Tensor | float | None


class Objective(Protocol):
    """A loss with its batches. Picklable, because data workers collate."""

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Rows as tensors, first dimension the row."""
        ...

    def count(self, batch: Batch) -> torch.Tensor:
        """What the batch's loss is a sum over (answer tokens, rows), a scalar."""
        ...

    def loss(self, model: nn.Module, batch: Batch, normaliser: Normaliser) -> torch.Tensor | NamedLosses:
        """The sum of the batch's losses over ``normaliser``, or over its own count where that is None."""
        ...

    def shown(self, rows: Sequence[Row]) -> str:
        """The first row as the loss sees it, for people."""
        ...


class AnswerObjective:
    """Cross entropy on the answer's tokens."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Right-padded rows with ``labels`` on the answers."""
        return self.encoder.training_batch([r.prompt for r in rows], [r.example.id for r in rows])

    def count(self, batch: Batch) -> torch.Tensor:
        """Answer tokens."""
        return (batch["labels"][:, 1:] != IGNORE).sum()

    def loss(self, model: nn.Module, batch: Batch, normaliser: Normaliser) -> torch.Tensor:
        """See ``answer_loss``."""
        return answer_loss(model, batch, normaliser)

    def shown(self, rows: Sequence[Row]) -> str:
        """The first row's tokens, learned ones in [[ ]]."""
        return self.encoder.decode_labels(self.collate(rows[:1]))


class LabelObjective:
    """Cross entropy over a closed set of answers; nothing of the answer is in the input."""

    def __init__(self, encoder: Encoder, answers: Sequence[str], family: str) -> None:
        self.encoder, self.answers, self.family = encoder, tuple(answers), family

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Left-padded prompts with the answers' token ids [B, K, T] and the right one's index [B]."""
        names = [r.example.id for r in rows]
        choice = []
        for row in rows:
            if row.prompt.answer not in self.answers:
                raise UserError(
                    f"{row.example.id}: the answer {row.prompt.answer!r} is not among {', '.join(self.answers)}; "
                    "correct the row or use objective: answer."
                )
            choice.append(self.answers.index(row.prompt.answer))
        batch = self.encoder.encode([r.prompt for r in rows], side="left")
        self.encoder.check_prompts(batch, names)
        ids = [[self.encoder.answer_ids(r.prompt, a) for a in self.answers] for r in rows]
        longest = max(len(a) for row in ids for a in row)
        padded = [[[*a, *([IGNORE] * (longest - len(a)))] for a in row] for row in ids]
        return {**batch, "choice_ids": torch.tensor(padded), "choice": torch.tensor(choice)}

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows."""
        return torch.tensor(len(batch["choice"]))

    def loss(self, model: nn.Module, batch: Batch, normaliser: Normaliser) -> torch.Tensor:
        """See ``label_loss``."""
        return label_loss(model, batch, normaliser, family=self.family)

    def shown(self, rows: Sequence[Row]) -> str:
        """The first row's prompt and the choices after it."""
        prompt = rows[0].prompt
        choices = " | ".join(f"[[{a}]]" if a == prompt.answer else a for a in self.answers)
        return f"{self.encoder.text(prompt)}{choices}"


def make_objective(recipe: Recipe, task: Task, model: Vlm | Specialist) -> Objective:
    """The objective that a recipe names, or that the task's own model brings along.

    Raises:
        UserError: ``label`` for a task without a closed set of answers.
    """
    if isinstance(model, Specialist):
        own: Objective = model.objective()
        return own
    encoder = make_encoder(model, recipe)
    if recipe.objective == "answer":
        return AnswerObjective(encoder)
    answers = task.answers()
    if answers is None:
        raise UserError(f"objective: label needs a closed set of answers, which {task.name} has not; use answer.")
    return LabelObjective(encoder, answers, model.family)
