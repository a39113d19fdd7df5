"""Predictions: a trained or untrained model asked about examples, by exact scoring or by free text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.recipe import Evaluation, Recipe
from foveal.tasks.task import Example, Prediction, Task
from foveal.vlm import scoring
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate
from foveal.vlm.loading import Vlm, cpu_has_bfloat16, memory_errors


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


class Predictor:
    """Asks a model about examples of a task.

    Args:
        task: What is asked and how replies are read.
        vlm: The model, in eval mode while it predicts.
        encoder: Its encoder.
        options: The recipe's evaluation section.
        dtype: Type of the forward pass.
    """

    def __init__(self, task: Task, vlm: Vlm, encoder: Encoder, options: Evaluation, dtype: torch.dtype) -> None:
        self.task, self.vlm, self.encoder, self.options, self.dtype = task, vlm, encoder, options, dtype
        self.answers = task.answers() if options.method != "generate" else None
        if options.method == "score" and self.answers is None:
            raise UserError(
                f"evaluation.method: score needs a closed set of answers, which {task.name} has not; use generate."
            )

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
        training = self.vlm.model.training
        self.vlm.model.eval()
        try:
            for start in range(0, len(examples), size):
                rows = [examples[i] for i in range(start, min(start + size, len(examples)))]
                with memory_errors():
                    predictions = self.ask(rows)
                yield from predictions
                if progress is not None:
                    progress(len(rows))
        finally:
            self.vlm.model.train(training)

    def ask(self, rows: Sequence[Example]) -> list[Prediction]:
        """Predictions of one batch."""
        prompts = [self.task.prompt(e) for e in rows]
        names = [e.id for e in rows]
        with mixed(self.dtype, self.vlm.device):
            if self.answers is None:
                replies = generate(
                    self.vlm, self.encoder, prompts, max_new_tokens=self.options.max_new_tokens, names=names
                )
                return [
                    Prediction(e.id, self.task.value(text, e), text, truth=e.truth)
                    for e, text in zip(rows, replies, strict=True)
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


def spread(count: int, samples: int) -> list[int]:
    """Indices of ``samples`` rows evenly spread over ``count`` (all of them where samples is 0 or larger)."""
    if samples <= 0 or samples >= count:
        return list(range(count))
    return [i * count // samples for i in range(samples)]
