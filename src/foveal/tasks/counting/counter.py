"""PointCounter as a recipe's model: ``model.id: point-counter``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.counting.episodes import counted
from foveal.tasks.counting.point_model import PointCounter, PointCounterConfig
from foveal.tasks.counting.pointing import DONE, read_point
from foveal.tasks.counting.task import Counting
from foveal.tasks.counting.tower import FrozenTower
from foveal.tasks.specialist import Batch, Specialist
from foveal.tasks.task import Task
from foveal.training.objectives import NamedLosses, Objective
from foveal.vlm.components import register_components
from foveal.vlm.loading import Vlm

#: Longest category in a batch, in bytes: batches hold tensors alone.
_LONGEST = 96


class Counter(Specialist[Counting]):
    """A PointCounter with its frozen tower."""

    family: ClassVar[str] = "point_counter"
    objective: ClassVar[str] = "points"
    components: ClassVar[Mapping[str, str]] = {
        r"(vision_projection|text_projection|patch_norm|text_norm|seen_norm|patch_attention)\b": "projector",
        r"(cross_attention|pointer_norm|offset|done|scale)\b": "head",
    }

    def __init__(self, task: Counting, model: PointCounter, tower: FrozenTower) -> None:
        self.id, self.source, self.task, self.model, self.tower = "point-counter", tower.source, task, model, tower
        # The loss gets the model alone; the tower is no part of its parameters.
        model.frozen_tower = _Holder(tower)

    @classmethod
    def open(cls, task: Counting, recipe: Recipe, *, weights: Path | None, training: bool) -> Self:
        """See ``Specialist.open``."""
        options = recipe.data.counter
        if recipe.data.strategy != "sequential":
            raise UserError("data.strategy: the model point-counter counts in sequence only; leave it at sequential.")
        if recipe.model.adapter != "none" or recipe.model.quantization != "none":
            raise UserError("model.adapter: the model point-counter is trained whole; leave adapter and quantization.")
        if recipe.model.freeze or recipe.model.image_size is not None:
            key = "freeze" if recipe.model.freeze else "image_size"
            raise UserError(f"model.{key}: the model point-counter has no such setting; leave it out.")
        if recipe.training.consistency:
            raise UserError(
                "training.consistency: the model point-counter has a consistency loss of its own; set "
                "data.counter.consistency_weight."
            )
        for key, low, high in (
            ("heads", 1, 64), ("dropout", 0.0, 0.9), ("coordinate_weight", 0.0, 1e6), ("done_weight", 0.0, 1e6),
            ("consistency_weight", 0.0, 1e6),
        ):  # fmt: skip
            if not low <= getattr(options, key) <= high:
                raise UserError(
                    f"data.counter.{key}: {getattr(options, key)} is out of range; give {low:g} to {high:g}."
                )
        if options.hidden % (4 * options.heads) or not 16 <= options.hidden <= 2048:
            raise UserError(
                f"data.counter.hidden: {options.hidden} is not possible with {options.heads} heads; give a multiple of "
                f"{4 * options.heads} from 16 to 2048."
            )
        register_components(cls.components)
        tower = FrozenTower(options.tower, recipe.model)
        config = PointCounterConfig(
            tower.vision_width, tower.text_width, options.hidden, options.heads, options.dropout, options.tower,
            options.coordinate_weight, options.done_weight, options.consistency_weight,
        )  # fmt: skip
        if weights is None:
            model = PointCounter(config)
        else:
            try:
                model = PointCounter.from_pretrained(weights, use_safetensors=True)
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"{weights}: is no checkpoint of a point-counter ({str(error).splitlines()[0]})."
                ) from error
            sizes = (model.config.vision_width, model.config.text_width, model.config.hidden)
            if sizes != (tower.vision_width, tower.text_width, options.hidden):
                raise UserError(
                    f"{weights}: was trained on the tower {model.config.tower} with hidden {model.config.hidden}; "
                    "set data.counter accordingly."
                )
        model = model.to(tower.device)
        return cls(task, model if training else model.eval().requires_grad_(False), tower)

    def ask(self, examples: Sequence[Example]) -> list[Prediction]:
        """Counts all pictures of the batch together."""
        task: Any = self.task
        counts = [task.count(e) for e in examples]
        words = self.tower.text([_bytes(e).decode(errors="ignore") for e in examples])
        while running := [i for i, c in enumerate(counts) if c.end is None]:
            pixels = torch.stack([self.tower.pixels(counts[i].view()) for i in running])
            # Eight bits of mantissa would put points off by pixels, and the network is small.
            with torch.autocast(self.device.type, enabled=False):
                out = self.model(self.tower.encode(pixels), words[running])
            chances = out.done_logits.float().sigmoid().tolist()
            shares = out.point_logits.float().softmax(1).max(1).values.tolist()
            for i, done, share, (x, y) in zip(running, chances, shares, out.points.tolist(), strict=True):
                width, height = counts[i].picture.size
                point = (x * width, y * height)
                if done >= 0.5:
                    counts[i].take("done", DONE, done)
                else:
                    counts[i].take(point, f"{x:.3f}, {y:.3f}", (1 - done) * share)
        return [counted(e, c) for e, c in zip(examples, counts, strict=True)]


class _Holder:
    """Keeps a tower on a model without making it one of its modules."""

    def __init__(self, tower: FrozenTower) -> None:
        self.tower = tower


class PointObjective(Objective):
    """The losses of ``PointCounter``: coord, done and consistency.

    Args:
        side: Width and height of the tower's pictures.
        form: The format of points in the rows' answers.
        again: Whether rows come a second time, re-encoded, for the consistency loss.
    """

    def __init__(self, side: int, form: Any, again: bool) -> None:
        self.side, self.form, self.again = side, form, again

    @classmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """See ``Objective.make``."""
        if not isinstance(model, Counter):
            raise UserError(f"objective: points is for point-counter, not for {recipe.model.id}; use answer.")
        data = model.task.data
        return cls(model.tower.side, data.point_format, data.counter.consistency_weight > 0)

    def collate(self, rows: Sequence[Any]) -> Batch:
        """Pictures [B, 3, side, side] (uint8), targets [B, 2] as shares, done [B], categories as bytes, keys [B]."""
        pixels, targets, done, names, keys = [], [], [], [], []
        for row in rows:
            picture = row.prompt.opened()[0].convert("RGB").resize((self.side, self.side), Image.Resampling.BOX)
            array = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
            answer = read_point(row.prompt.answer, (1, 1), self.form)
            done.append(answer == DONE)
            targets.append((0.0, 0.0) if answer == DONE else answer)
            pixels.append(array)
            names.append(_bytes(row.example))
            keys.append(_key(array))
        batch: Batch = {
            "pixels": torch.stack(pixels), "target": torch.tensor(targets), "is_done": torch.tensor(done),
            "category": torch.tensor([list(n.ljust(_LONGEST, b"\0")) for n in names], dtype=torch.uint8),
            "keys": torch.tensor(keys),
        }  # fmt: skip
        if self.again:
            batch["again"] = torch.stack([_re_encoded(p, k) for p, k in zip(pixels, keys, strict=True)])
        return batch

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows."""
        return torch.tensor(len(batch["keys"]))

    def loss(self, model: Any, batch: Batch, normaliser: torch.Tensor | float | None) -> NamedLosses:
        """See ``PointCounter``."""
        tower: FrozenTower = getattr(model, "module", model).frozen_tower.tower
        keys = batch["keys"].tolist()
        names = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in batch["category"].tolist()]
        out = model(
            tower.encode(batch["pixels"], keys), tower.text(names), batch["target"], batch["is_done"],
            tower.encode(batch["again"], [~k for k in keys]) if "again" in batch else None, normaliser,
        )  # fmt: skip
        return NamedLosses(out.loss, out.losses)

    def preview(self, rows: Sequence[Any]) -> str:
        """The first row as the loss sees it."""
        row = rows[0]
        return f"picture {self.side} x {self.side} of {row.example.id}, {row.prompt.user} [[{row.prompt.answer}]]"


def _bytes(example: Example) -> bytes:
    """The category, as much of it as a batch holds."""
    name: str = example.fields["category"]
    return name.encode()[:_LONGEST]


def _key(pixels: torch.Tensor) -> int:
    """A number that tells pictures apart, below 2^63."""
    digest = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _re_encoded(pixels: torch.Tensor, key: int) -> torch.Tensor:
    """The picture with another brightness, contrast and noise; nothing moves."""
    source = torch.Generator().manual_seed(key)
    gain, shift = (torch.rand(2, generator=source) - 0.5).tolist()
    noise = functional.interpolate(torch.randn((1, 3, 8, 8), generator=source), pixels.shape[1:], mode="bilinear")[0]
    changed = (pixels.float() - 128) * (1 + 0.3 * gain) + 128 + 30 * shift + 4 * noise
    bright: torch.Tensor = changed.clamp(0, 255).round().to(torch.uint8)
    return bright
