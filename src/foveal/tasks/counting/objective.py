"""The training objective of a PointCounter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.tasks.counting.model import heat_map
from foveal.tasks.counting.specialist import CATEGORY_BYTES, Counter, category_bytes
from foveal.tasks.counting.tower import FrozenTower
from foveal.tasks.specialist import Batch, Specialist
from foveal.tasks.task import Task
from foveal.training.objectives import NamedLosses, Objective
from foveal.vlm.loading import Vlm


class PointObjective(Objective):
    """The losses of ``PointCounter``: heat, offset and consistency.

    Args:
        side: Width and height of the tower's pictures.
        grid: Its patches along a side.
        again: Whether batches hold changed copies of the pictures, for the consistency loss.
    """

    def __init__(self, side: int, grid: int, again: bool) -> None:
        self.side, self.grid, self.again = side, grid, again

    @classmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """See ``Objective.make``."""
        if not isinstance(model, Counter):
            raise UserError(f"objective: points is for point-counter, not for {recipe.model.id}; use answer.")
        return cls(model.tower.side, model.tower.grid, model.task.data.counter.consistency_weight > 0)

    def collate(self, rows: Sequence[Any]) -> Batch:
        """Pictures [B, 3, side, side] (uint8), heat maps [B, P] and offsets [B, P, 2] of what is left in them, categories
        (bytes), picture keys [B]."""
        pixels, maps, names, keys = [], [], [], []
        for row in rows:
            picture = row.prompt.opened()[0].convert("RGB").resize((self.side, self.side), Image.Resampling.BOX)
            array = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
            width, height = row.example.fields["size"]
            maps.append(heat_map([(t.point[0] / width, t.point[1] / height) for t in row.prompt.left], self.grid))
            pixels.append(array)
            names.append(category_bytes(row.example))
            keys.append(_key(array))
        batch: Batch = {
            "pixels": torch.stack(pixels), "heat": torch.stack([heat for heat, _ in maps]),
            "offset": torch.stack([offset for _, offset in maps]),
            "category": torch.tensor([list(n.ljust(CATEGORY_BYTES, b"\0")) for n in names], dtype=torch.uint8),
            "keys": torch.tensor(keys),
        }  # fmt: skip
        if self.again:
            batch["again"] = torch.stack([_changed(p, k) for p, k in zip(pixels, keys, strict=True)])
        return batch

    def count(self, batch: Batch) -> torch.Tensor:
        """Number of rows."""
        return torch.tensor(len(batch["keys"]))

    def loss(self, model: Any, batch: Batch, normaliser: torch.Tensor | float | None) -> NamedLosses:
        """See ``PointCounter``."""
        tower: FrozenTower = getattr(model, "module", model).frozen_tower
        keys = batch["keys"].tolist()
        names = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in batch["category"].tolist()]
        out = model(
            tower.encode(batch["pixels"], keys), tower.text(names), batch["heat"], batch["offset"],
            tower.encode(batch["again"], [~k for k in keys]) if "again" in batch else None, normaliser,
        )  # fmt: skip
        return NamedLosses(out.loss, out.losses)

    def preview(self, rows: Sequence[Any]) -> str:
        """The first row, with what is to be found in [[ ]]."""
        row = rows[0]
        left = f"{len(row.prompt.left)} left"
        return f"picture {self.side} x {self.side} of {row.example.id}, {row.prompt.user} [[{left}]]"


def _key(pixels: torch.Tensor) -> int:
    """A hash of a picture, below 2^63."""
    digest = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _changed(pixels: torch.Tensor, key: int) -> torch.Tensor:
    """A copy with another brightness, contrast and noise, decided by the key."""
    generator = torch.Generator().manual_seed(key)
    gain, shift = (torch.rand(2, generator=generator) - 0.5).tolist()
    noise = functional.interpolate(torch.randn((1, 3, 8, 8), generator=generator), pixels.shape[1:], mode="bilinear")[0]
    copy = (pixels.float() - 128) * (1 + 0.3 * gain) + 128 + 30 * shift + 4 * noise
    rounded: torch.Tensor = copy.clamp(0, 255).round().to(torch.uint8)
    return rounded
