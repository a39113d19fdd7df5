"""The training objective of a segmenter: text, BCE, Dice and the predicted IoU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.metrics.formats import percent
from foveal.prompts import Prompt
from foveal.tasks.segmentation.objects import Mask
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.tasks.segmentation.square import SquarePictures
from foveal.tasks.specialist import Batch, Specialist
from foveal.tasks.task import Task
from foveal.training.objectives import NamedLosses, Objective
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm


class MaskObjective(Objective):
    """Losses of text and masks; see ``SharedEncoderSegmenter.forward``.

    Args:
        encoder: Makes the VLM's tensors.
        pictures: Puts pictures into squares.
        targets: Returns the masks of an example, one for each ``<SEG>`` in the answers of its prompt.
        side: Side in pixels of the square on which masks are compared.
    """

    def __init__(
        self, encoder: Encoder, pictures: SquarePictures, targets: Callable[[Example, Prompt], list[Mask]], side: int
    ) -> None:
        self.encoder, self.pictures, self.targets, self.side = encoder, pictures, targets, side

    @classmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """See ``Objective.make``."""
        if not isinstance(model, Segmenter):
            raise UserError(
                f"objective: mask is for models that draw masks, which {recipe.model.id} does not; use answer."
            )
        return cls(model.encoder, model.pictures, model.task.learned, model.task.data.segmenter.mask_size)

    def collate(self, rows: Sequence[Any]) -> Batch:
        """The batch of ``SharedEncoderSegmenter.forward``; ``targets`` and ``counted`` are uint8."""
        prompts, squares = self.pictures.padded([r.prompt for r in rows])
        batch = self.encoder.training_batch(prompts, [r.example.id for r in rows])
        masks = [self.targets(r.example, r.prompt) for r in rows]
        most, side = max(1, *(len(m) for m in masks)), self.side
        targets = np.zeros((len(rows), most, side, side), dtype=np.uint8)
        counted = np.zeros((len(rows), side, side), dtype=np.uint8)
        for i, (square, row_masks) in enumerate(zip(squares, masks, strict=True)):
            for k, mask in enumerate(row_masks):
                share, counts = square.mask_to_target(mask, side)
                targets[i, k], counts = np.round(255 * share), np.round(255 * counts)
                # What one of several questions ignores counts in none of the row's.
                counted[i] = np.minimum(counted[i], counts) if k else counts
        batch |= {
            "targets": torch.from_numpy(targets), "counted": torch.from_numpy(counted),
            "amounts": torch.tensor([len(m) for m in masks]),
        }  # fmt: skip
        pixels = self.pictures.sam_pixels(prompts)
        return batch if pixels is None else {**batch, "sam_pixels": pixels}

    def count(self, batch: Batch) -> torch.Tensor:
        """Number of rows."""
        return torch.tensor(len(batch["amounts"]))

    def loss(self, model: Any, batch: Batch, normaliser: torch.Tensor | float | None) -> NamedLosses:
        """See ``SharedEncoderSegmenter.forward``."""
        out = model(**batch, normaliser=normaliser)
        return NamedLosses(out.loss, out.losses)

    def preview(self, rows: Sequence[Any]) -> str:
        """The first row's tokens, those of the answer in [[ ]], and the areas of its masks."""
        prompts, _ = self.pictures.padded([rows[0].prompt])
        batch = self.encoder.training_batch(prompts, [rows[0].example.id])
        areas = (
            ", ".join(
                f"{percent(float((m == 1).mean()))} of the picture"
                for m in self.targets(rows[0].example, rows[0].prompt)
            )
            or "none"
        )
        return f"{self.encoder.decode_labels(batch)}\nmasks: {areas}"
