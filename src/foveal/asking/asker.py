"""Predictions: a trained or untrained model asked about examples, by exact scoring or by free text."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.config.sections import Evaluation, Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.capabilities import Episode, Episodes, OwnModels, answers_of, reply_start_of
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Task
from foveal.vlm import scoring
from foveal.vlm.constrained import generate_choice
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate, write
from foveal.vlm.loading import Vlm, cpu_has_bfloat16, load, memory_errors
from foveal.vlm.processors import save_processor


def make_encoder(vlm: Vlm, recipe: Recipe) -> Encoder:
    """The encoder of a loaded model under a recipe."""
    return Encoder(vlm.processor, family=vlm.family, context=vlm.context, image_size=recipe.model.image_size)


def precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """The type of the forward pass: the recipe's, or bfloat16 where the processor has fast instructions for it."""
    if recipe.training.precision != "auto":
        chosen: torch.dtype = getattr(torch, recipe.training.precision)
        return chosen
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


@contextlib.contextmanager
def mixed(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Autocast to ``dtype``, or nothing for float32."""
    if dtype == torch.float32:
        yield
    else:
        with torch.autocast(device.type, dtype):
            yield


class Predictor(ABC):
    """Asks a model about examples of a task.

    Args:
        task: What is asked and how replies are read.
        model: The model, in eval mode while it predicts.
        options: The recipe's evaluation section.
        dtype: Type of the forward pass.
    """

    def __init__(self, task: Task, model: nn.Module, options: Evaluation, dtype: torch.dtype) -> None:
        self.task, self.model, self.options, self.dtype = task, model, options, dtype

    def predict(
        self, examples: Sequence[Example], progress: Callable[[int], None] | None = None
    ) -> Iterator[Prediction]:
        """Predictions in the order of ``examples``, a batch at a time.

        Args:
            examples: What is asked about; opened batch by batch.
            progress: Called with the number of examples done since the last call.

        Raises:
            UserError: A picture is unreadable, a row too long, or memory does not suffice.
        """
        size = self.options.batch_size
        training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(examples), size):
                rows = [examples[i] for i in range(start, min(start + size, len(examples)))]
                with memory_errors(), mixed(self.dtype, next(self.model.parameters()).device):
                    predictions = self.ask(rows)
                yield from predictions
                if progress is not None:
                    progress(len(rows))
        finally:
            self.model.train(training)

    @abstractmethod
    def ask(self, rows: Sequence[Example]) -> list[Prediction]:
        """Predictions of one batch."""

    @abstractmethod
    def save_parts(self, folder: Path) -> None:
        """Writes beside the weights what loading them needs."""


class SpecialistPredictor(Predictor):
    """Asks a task's own model."""

    def __init__(self, specialist: Specialist[Any], options: Evaluation, dtype: torch.dtype) -> None:
        super().__init__(specialist.task, specialist.model, options, dtype)
        self.specialist = specialist

    @torch.inference_mode()
    def ask(self, rows: Sequence[Example]) -> list[Prediction]:
        """Predictions of one batch."""
        return self.specialist.ask(rows)

    def save_parts(self, folder: Path) -> None:
        """See ``Specialist.save_parts``."""
        self.specialist.save_parts(folder)


class VlmPredictor(Predictor):
    """Asks a VLM, by exact scores of a closed set of answers, in free text, by both (reasons first), or step by step.

    Args:
        task: What is asked and how replies are read.
        vlm: The model.
        encoder: Its encoder.
        options: The recipe's evaluation section.
        dtype: Type of the forward pass.
    """

    def __init__(self, task: Task, vlm: Vlm, encoder: Encoder, options: Evaluation, dtype: torch.dtype) -> None:
        super().__init__(task, vlm.model, options, dtype)
        self.vlm, self.encoder = vlm, encoder
        self.answers = answers_of(task) if options.method != "generate" else ()
        if options.method in ("score", "choose") and not self.answers:
            raise UserError(
                f"evaluation.method: {options.method} needs a closed set of answers, which {task.name} has not; use generate."
            )

    def save_parts(self, folder: Path) -> None:
        """The processor."""
        save_processor(self.vlm.processor, folder)

    def ask(self, rows: Sequence[Example]) -> list[Prediction]:
        """Predictions of one batch."""
        if isinstance(self.task, Episodes):
            episodes = [self.task.episode(e) for e in rows]
            talks = [e for e in episodes if e is not None]
            if len(talks) == len(rows):
                return self._in_steps(talks, rows)
        prompts = [self.task.prompt(e) for e in rows]
        names = [e.id for e in rows]
        if self.answers and (start := reply_start_of(self.task, "")) is not None:
            return self._reasoned(rows, prompts, names, start)
        if not self.answers:
            replies = generate(self.vlm, self.encoder, prompts, max_new_tokens=self.options.max_new_tokens, names=names)
            return [
                Prediction(e.id, self.task.parse(text, e), text, truth=e.truth)
                for e, text in zip(rows, replies, strict=True)
            ]
        return self._closed(rows, prompts, names, self.answers)

    def _closed(
        self, rows: Sequence[Example], prompts: Sequence[Prompt], names: Sequence[str], texts: Sequence[str]
    ) -> list[Prediction]:
        """Scores, or writes, one of the answers; ``texts`` are the answers as they stand behind the prompts."""
        if self.options.method == "choose":
            of = dict(zip(texts, self.answers, strict=True))
            chosen = [of[t] for t in generate_choice(self.vlm, self.encoder, prompts, texts, names=names)]
            return [
                Prediction(e.id, self.task.parse(text, e), text, truth=e.truth)
                for e, text in zip(rows, chosen, strict=True)
            ]
        per_token = self.options.length_normalisation
        table = scoring.score(self.vlm, self.encoder, prompts, texts, names=names, per_token=per_token)
        out = []
        for example, chances in zip(rows, table.double().softmax(-1).tolist(), strict=True):
            probabilities = dict(zip(self.answers, chances, strict=True))
            text = max(probabilities, key=lambda a: probabilities[a])
            out.append(Prediction(example.id, self.task.parse(text, example), text, probabilities, example.truth))
        return out

    def _reasoned(
        self, rows: Sequence[Example], prompts: Sequence[Prompt], names: Sequence[str], bare: str
    ) -> list[Prediction]:
        """The answer behind reasons: the model's own with method auto, none otherwise."""
        replies: list[str] = []
        if self.options.method == "auto":
            replies = generate(self.vlm, self.encoder, prompts, max_new_tokens=self.options.max_new_tokens, names=names)
        starts = [reply_start_of(self.task, reply) or bare for reply in replies] or [bare] * len(rows)
        behind = [replace(p, reply_start=start) for p, start in zip(prompts, starts, strict=True)]
        found = self._closed(rows, behind, names, [f" {answer}" for answer in self.answers])
        if not replies:
            return found
        return [
            replace(p, text=reply, extra={"generated": self.task.parse(reply, e)})
            for p, reply, e in zip(found, replies, rows, strict=True)
        ]

    def _in_steps(self, episodes: Sequence[Episode], rows: Sequence[Example]) -> list[Prediction]:
        """Steps of all episodes together; those that are over leave the batch."""
        while asked := [(e, p, r.id) for e, r in zip(episodes, rows, strict=True) if (p := e.prompt()) is not None]:
            replies = write(
                self.vlm, self.encoder, [p for _, p, _ in asked], max_new_tokens=self.options.max_new_tokens,
                names=[name for _, _, name in asked],
            )  # fmt: skip
            for (episode, _, _), reply in zip(asked, replies, strict=True):
                episode.reply(reply.text, reply.confidence)
        return [e.result() for e in episodes]


def open_model(
    task: Task, recipe: Recipe, *, weights: Path | None = None, training: bool = False
) -> Vlm | Specialist[Any]:
    """The model of a recipe: one of the task's own where ``model.id`` is its name, else a VLM.

    Args:
        task: The task.
        recipe: The resolved recipe.
        weights: A checkpoint folder of a run.
        training: Whether parameters shall learn.

    Raises:
        UserError: It does not exist, does not fit, or the recipe asks for what it cannot do.
    """
    if training and recipe.objective == "label" and reply_start_of(task, "") is not None:
        raise UserError(
            f"objective: label learns the bare answer, but here {task.name} asks for reasons in front of it; use "
            "objective: answer, or ask for the answer alone."
        )
    models = task.models if isinstance(task, OwnModels) else {}
    own = models.get(recipe.model.id) or models.get("*")
    if own is not None:
        module, _, name = own.partition(":")
        kind: type[Specialist[Any]] = getattr(importlib.import_module(module), name)
        return kind.open(task, recipe, weights=weights, training=training)
    return load(recipe.model, weights=weights, training=training)


def make_predictor(task: Task, model: Vlm | Specialist[Any], recipe: Recipe) -> Predictor:
    """Asks an opened model as the recipe says."""
    dtype = precision(recipe, model.device)
    if isinstance(model, Vlm):
        return VlmPredictor(task, model, make_encoder(model, recipe), recipe.evaluation, dtype)
    return SpecialistPredictor(model, recipe.evaluation, dtype)
