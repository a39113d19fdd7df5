"""A segmenter that answers pictures with one mask each, as the benchmark times it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import nn

from foveal.asking.models import mixed, precision
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.tasks.segmentation.benchmark_sizes import open_variant
from foveal.tasks.segmentation.model import SharedEncoderSegmenter, Vision
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.vlm.loading import memory_errors


class Inputs(NamedTuple):
    """A segmenter's inputs for one picture: the VLM's tensors and the square for SAM's encoder."""

    batch: dict[str, Any]
    sam_pixels: torch.Tensor | None


@dataclass(frozen=True)
class Turn:
    """Seconds that one picture took.

    Attributes:
        prepare: From the picture to the model's tensors.
        model: From tensors to the mask's logits on the square, by the wall clock.
        processor: The same in the process's processor time: the sum over its threads, without other programs and
            without a GPU's work.
    """

    prepare: float
    model: float
    processor: float


class Subject:
    """A segmenter that answers pictures with one mask each.

    Args:
        segmenter: The model.
        examples: Its rows.
        dtype: Type of the forward pass.
    """

    def __init__(self, segmenter: Segmenter, examples: Sequence[Example], dtype: torch.dtype) -> None:
        self.segmenter, self.examples, self.dtype = segmenter, examples, dtype

    @classmethod
    def open(cls, recipe: Recipe, vision: Vision, weights: Path | None, *, images: int) -> Self:
        """Opens the model and the first pictures of the test split.

        Raises:
            UserError: The model cannot be opened, or there are fewer pictures.
        """
        segmenter = open_variant(recipe, vision, weights)
        examples = segmenter.task.load("test").examples
        if len(examples) < images:
            raise UserError(f"--images: the test split has {len(examples)} rows; give at most so many.")
        return cls(segmenter, examples[:images], precision(recipe, segmenter.device))

    @property
    def model(self) -> SharedEncoderSegmenter:
        """The model."""
        return self.segmenter.model

    def prepare(self, index: int) -> Inputs:
        """The tensors of a picture."""
        batch, pixels, _ = self.segmenter.inputs([self.examples[index]])
        return Inputs(batch, pixels)

    @torch.no_grad()
    def ask(self, inputs: Inputs) -> torch.Tensor:
        """Logits of the mask [1, S, S]; the reply is one ``<SEG>`` whatever the weights would say."""
        encoder = self.segmenter.encoder
        with memory_errors(), mixed(self.dtype, self.segmenter.device), _writes_only(self.segmenter):
            _, out = self.model.generate(
                inputs.batch, inputs.sam_pixels, max_new_tokens=1, end_ids=sorted(encoder.end_ids),
                pad_id=encoder.tokenizer.pad_token_id or encoder.end_id,
            )  # fmt: skip
        assert out.masks is not None and len(out.masks) == 1
        return out.masks

    def answer(self, index: int) -> Turn:
        """Prepares a picture and asks."""
        device = self.segmenter.device
        begun = _now(device)
        inputs = self.prepare(index)
        ready, used = _now(device), time.process_time()
        self.ask(inputs)
        return Turn(ready - begun, _now(device) - ready, time.process_time() - used)


def _now(device: torch.device) -> float:
    """Seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


@contextmanager
def _writes_only(segmenter: Segmenter) -> Iterator[None]:
    """The model can write only the mask token while the context lasts."""

    def mask_token_only(_: nn.Module, __: Any, logits: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(logits, -torch.inf)
        forced[..., segmenter.model.config.token] = 0
        return forced

    output: Any = segmenter.vlm.base.get_output_embeddings()
    handle = output.register_forward_hook(mask_token_only)
    try:
        yield
    finally:
        handle.remove()
