"""Models that can be asked: their interface, and local models."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.asking.replies import Reply, reply_key
from foveal.config.sections import Recipe
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.specialist import Specialist
from foveal.vlm import scoring
from foveal.vlm.constrained import generate_choice
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate
from foveal.vlm.loading import Vlm, cpu_has_bfloat16, memory_errors
from foveal.vlm.processors import save_processor

#: Called with a prompt's index and its reply as soon as it comes.
Keep = Callable[[int, Reply], None]


def make_encoder(vlm: Vlm, recipe: Recipe) -> Encoder:
    """The encoder of a loaded model under a recipe."""
    return Encoder(vlm.processor, family=vlm.family, context=vlm.context, image_size=recipe.model.image_size)


def precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """The dtype of the forward pass: the recipe's, or bfloat16 where the hardware is fast at it, else float32."""
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


@contextlib.contextmanager
def evaluating(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Eval mode and autocast; afterwards the training mode is restored.

    Raises:
        UserError: Memory does not suffice.
    """
    training = module.training
    module.eval()
    try:
        with memory_errors(), mixed(dtype, next(module.parameters()).device):
            yield
    finally:
        module.train(training)


def save_parts(model: Vlm | Specialist[Any], folder: Path) -> None:
    """Saves what loading needs beside the weights: the processor, or the parts of a task's own model."""
    if isinstance(model, Vlm):
        save_processor(model.processor, folder)
    else:
        model.save_parts(folder)


class AnsweringModel(ABC):
    """A model that replies to prompts.

    Attributes:
        name: Unique name of the model, part of the keys of cached replies.
        settings: Settings that its replies depend on.
        least_batch: Smallest batch that keeps it busy.
    """

    name: str
    settings: Mapping[str, Any]
    least_batch: int = 1

    @abstractmethod
    def reply(self, prompts: Sequence[Prompt], names: Sequence[str], keep: Keep | None = None) -> list[Reply]:
        """The replies to a batch, in its order.

        Args:
            prompts: The prompts.
            names: Name of each in errors.
            keep: Called with each reply as it comes, so that it is saved even if others fail.

        Raises:
            UserError: A question does not fit, memory does not suffice, or a server refuses.
        """

    def key(self, prompt: Prompt) -> str:
        """A digest of everything that the reply to a prompt depends on."""
        return reply_key(self.name, prompt, self.settings)

    def evaluating(self) -> AbstractContextManager[None]:
        """Prepares the model for replies while it lasts."""
        return nullcontext()


class LocalModel(AnsweringModel):
    """A VLM on this machine. It replies greedily, and can score texts.

    Args:
        vlm: The model.
        recipe: The recipe.
        weights: The run's checkpoint folder that it was loaded from, if any.

    Attributes:
        version: Digest or Hub commit of the weights, if known.
    """

    def __init__(self, vlm: Vlm, recipe: Recipe, *, weights: Path | None = None) -> None:
        self.vlm, self.encoder, self.options = vlm, make_encoder(vlm, recipe), recipe.evaluation
        self.dtype = precision(recipe, vlm.device)
        self._lock = threading.Lock()
        folder = weights or (Path(vlm.source) if Path(vlm.source).is_dir() else None)
        self.version: str | None = (
            fingerprint(folder) if folder is not None else getattr(vlm.base.config, "_commit_hash", None)
        )
        self.name = f"{recipe.model.id} {self.version}"
        section = asdict(recipe.model)
        self.settings = {
            **{k: section[k] for k in ("dtype", "quantization", "image_size", "resolution")},
            "max_new_tokens": self.options.max_new_tokens, "precision": str(self.dtype),
        }  # fmt: skip

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Eval mode and autocast, for one thread at a time: while it computes, hooks are on the model."""
        with self._lock, evaluating(self.vlm.model, self.dtype):
            yield

    def reply(self, prompts: Sequence[Prompt], names: Sequence[str], keep: Keep | None = None) -> list[Reply]:
        """See ``AnsweringModel.reply``."""
        generated = generate(self.vlm, self.encoder, prompts, max_new_tokens=self.options.max_new_tokens, names=names)
        replies = [Reply(g.text, confidence=g.confidence) for g in generated]
        for place, reply in enumerate(replies if keep is not None else ()):
            keep(place, reply)  # type: ignore[misc]
        return replies

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str], names: Sequence[str]) -> torch.Tensor:
        """Log-probabilities of the answers, not normalised, [B, K]."""
        per_token = self.options.length_normalisation
        return scoring.score(self.vlm, self.encoder, prompts, answers, names=names, per_token=per_token)

    def choose(self, prompts: Sequence[Prompt], answers: Sequence[str], names: Sequence[str]) -> list[str]:
        """Replies that are one of the answers each."""
        return generate_choice(self.vlm, self.encoder, prompts, answers, names=names)


class OwnModel:
    """A task's own model, which predicts examples without prompts.

    Args:
        specialist: The model.
        recipe: The recipe.
    """

    def __init__(self, specialist: Specialist[Any], recipe: Recipe) -> None:
        self.specialist, self.dtype = specialist, precision(recipe, specialist.device)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Eval mode and autocast, for one thread at a time."""
        with self._lock, evaluating(self.specialist.model, self.dtype):
            yield

    @torch.inference_mode()
    def predict(self, rows: Sequence[Example]) -> list[Prediction]:
        """Predictions of one batch."""
        return self.specialist.ask(rows)


def fingerprint(folder: Path) -> str:
    """A short digest of a folder's weights, from file names, sizes and times."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".jinja")):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
