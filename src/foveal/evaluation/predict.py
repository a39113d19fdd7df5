"""Predictions: a trained or untrained model asked about examples, by exact scoring or by free text."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.recipe import Evaluation, Recipe
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Episode, Example, Prediction, Task
from foveal.vlm import scoring
from foveal.vlm.constrained import generate_choice
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate, write
from foveal.vlm.loading import Vlm, cpu_has_bfloat16, load, memory_errors
from foveal.vlm.video_free import save_processor


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

    def __init__(self, specialist: Specialist, options: Evaluation, dtype: torch.dtype) -> None:
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
    """Asks a VLM, by exact scores of a closed set of answers, in free text, or step by step.

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
        self.answers = task.answers() if options.method != "generate" else None
        if options.method in ("score", "choose") and self.answers is None:
            raise UserError(
                f"evaluation.method: {options.method} needs a closed set of answers, which {task.name} has not; use generate."
            )

    def save_parts(self, folder: Path) -> None:
        """The processor."""
        save_processor(self.vlm.processor, folder)

    def ask(self, rows: Sequence[Example]) -> list[Prediction]:
        """Predictions of one batch."""
        episodes = [self.task.episode(e) for e in rows]
        talks = [e for e in episodes if e is not None]
        if len(talks) == len(rows):
            return self._in_steps(talks, rows)
        prompts = [self.task.prompt(e) for e in rows]
        names = [e.id for e in rows]
        if self.answers is None:
            replies = generate(self.vlm, self.encoder, prompts, max_new_tokens=self.options.max_new_tokens, names=names)
            return [
                Prediction(e.id, self.task.value(text, e), text, truth=e.truth)
                for e, text in zip(rows, replies, strict=True)
            ]
        if self.options.method == "choose":
            chosen = generate_choice(self.vlm, self.encoder, prompts, self.answers, names=names)
            return [
                Prediction(e.id, self.task.value(text, e), text, truth=e.truth)
                for e, text in zip(rows, chosen, strict=True)
            ]
        return self._scored(rows, prompts, names)

    def _scored(self, rows: Sequence[Example], prompts: Sequence[Prompt], names: Sequence[str]) -> list[Prediction]:
        assert self.answers is not None
        table = scoring.score(self.vlm, self.encoder, prompts, self.answers, names=names).double().softmax(-1)
        out = []
        for example, chances in zip(rows, table.tolist(), strict=True):
            probabilities = dict(zip(self.answers, chances, strict=True))
            text = max(probabilities, key=lambda a: probabilities[a])
            out.append(Prediction(example.id, self.task.value(text, example), text, probabilities, example.truth))
        return out

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


def open_model(task: Task, recipe: Recipe, *, weights: Path | None = None, training: bool = False) -> Vlm | Specialist:
    """The model of a recipe: one of the task's own where ``model.id`` is its name, else a VLM.

    Args:
        task: The task.
        recipe: The resolved recipe.
        weights: A checkpoint folder of a run.
        training: Whether parameters shall learn.

    Raises:
        UserError: It does not exist, does not fit, or the recipe asks for what it cannot do.
    """
    if recipe.model.id in task.specialists:
        module, _, name = task.specialists[recipe.model.id].partition(":")
        kind: type[Specialist] = getattr(importlib.import_module(module), name)
        return kind.open(task, recipe, weights=weights, training=training)
    return load(recipe.model, weights=weights, training=training)


def make_predictor(task: Task, model: Vlm | Specialist, recipe: Recipe) -> Predictor:
    """Asks an opened model as the recipe says."""
    dtype = precision(recipe, model.device)
    if isinstance(model, Vlm):
        return VlmPredictor(task, model, make_encoder(model, recipe), recipe.evaluation, dtype)
    return SpecialistPredictor(model, recipe.evaluation, dtype)


def spread(count: int, samples: int) -> list[int]:
    """Indices of ``samples`` rows evenly spread over ``count`` (all of them where samples is 0 or larger)."""
    if samples <= 0 or samples >= count:
        return list(range(count))
    return [i * count // samples for i in range(samples)]
