"""The model ``point-counter``: a PointCounter with its frozen tower."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch

from foveal.config.checking import check_ranges
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.counting.episodes import Count, counted
from foveal.tasks.counting.model import PointCounter, PointCounterConfig
from foveal.tasks.counting.objects import Point, Thing
from foveal.tasks.counting.ordering import order
from foveal.tasks.counting.pointing import DONE
from foveal.tasks.counting.task import CounterData, Counting
from foveal.tasks.counting.tower import FrozenTower
from foveal.tasks.specialist import Specialist
from foveal.vlm.components import register_components

#: Longest category in bytes. Batches hold tensors only, so categories are bytes there.
CATEGORY_BYTES = 96


class Counter(Specialist[Counting]):
    """A PointCounter with its frozen tower."""

    family: ClassVar[str] = "point_counter"
    objective: ClassVar[str] = "points"
    components: ClassVar[Mapping[str, str]] = {
        r"(vision_projection|text_projection|patch_norm|text_norm|film|seen_norm|patch_attention)\b": "projector",
        r"(feed_norm|feed_forward|cross_attention|pointer_norm|offset|scale|level)\b": "head",
    }

    def __init__(self, task: Counting, model: PointCounter, tower: FrozenTower) -> None:
        self.id, self.source, self.task, self.model, self.tower = "point-counter", tower.source, task, model, tower
        # For the objective, which gets the model alone. A FrozenTower is no module, so it is not saved or trained.
        model.frozen_tower = tower

    @classmethod
    def open(cls, task: Counting, recipe: Recipe, *, weights: Path | None, training: bool) -> Self:
        """See ``Specialist.open``."""
        options = recipe.data.counter
        _check(recipe)
        _check_sizes(options)
        register_components(cls.components)
        tower = FrozenTower(options.tower, recipe.model)
        config = PointCounterConfig(
            tower.vision_width, tower.text_width, options.hidden, options.heads, options.dropout, options.tower,
            options.heat_weight, options.offset_weight, options.consistency_weight,
        )  # fmt: skip
        model = (PointCounter(config) if weights is None else _read_weights(weights, config)).to(tower.device)
        return cls(task, model if training else model.eval().requires_grad_(False), tower)

    def ask(self, examples: Sequence[Example]) -> list[Prediction]:
        """Counts all pictures of the batch together.

        The sum of all patches' probabilities is the number of objects that are left, as the network expects it; the count is
        done when that is below one half. (No single patch needs to reach one half: a centre on the border of two patches
        gives each of them less.) The first patch in the recipe's order that does reach it is pointed at, or the likeliest
        one. The confidence of a point is its patch's probability, that of done is the probability that no patch has any.
        """
        counts = [self.task.count(e) for e in examples]
        text = self.tower.text([category_bytes(e).decode(errors="ignore") for e in examples])
        while running := [i for i, c in enumerate(counts) if c.end is None]:
            pixels = torch.stack([self.tower.pixels(counts[i].view()) for i in running])
            # In bfloat16, with a mantissa of eight bits, points would be off by pixels.
            with torch.autocast(self.device.type, enabled=False):
                out = self.model(self.tower.encode(pixels), text[running])
            chances = out.logits.float().sigmoid().tolist()
            for i, own, shares in zip(running, chances, out.points.tolist(), strict=True):
                width, height = counts[i].picture.size
                hot = [k for k, chance in enumerate(own) if chance >= 0.5]
                if sum(own) < 0.5:
                    counts[i].take("done", DONE, math.prod(1 - chance for chance in own))
                    continue
                hot = hot or [own.index(max(own))]
                places = [(shares[k][0] * width, shares[k][1] * height) for k in hot]
                first = self._first(places, counts[i], examples[i].id)
                x, y = shares[hot[first]]
                counts[i].take(places[first], f"{x:.3f}, {y:.3f}", own[hot[first]])
        return [counted(e, c) for e, c in zip(examples, counts, strict=True)]

    def _first(self, places: Sequence[Point], count: Count, seed: str) -> int:
        """Which of some places is next in the recipe's order, among those that are counted already and all of these."""
        width, height = count.picture.size
        # Predicted objects have no box. A patch is the least that tells two of them apart, so it stands for one.
        half = width / self.tower.grid / 2, height / self.tower.grid / 2
        things = [
            Thing((x, y), (x - half[0], y - half[1], x + half[0], y + half[1])) for x, y in (*count.points, *places)
        ]
        known = len(count.points)
        return next(i - known for i in order(things, self.task.data.order, (width, height), seed) if i >= known)


def _check(recipe: Recipe) -> None:
    """Refuses settings that a point-counter does not have."""
    if recipe.data.strategy != "sequential":
        raise UserError("data.strategy: the model point-counter counts in sequence only; leave it at sequential.")
    if recipe.data.all_points_share:
        raise UserError("data.all_points_share: the model point-counter has no replies; leave it at 0.")
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


def _check_sizes(options: CounterData) -> None:
    """Refuses options that are out of range."""
    check_ranges(
        options, "data.counter.", heads=(1, 64), dropout=(0, 0.9), heat_weight=(0, 1e6), offset_weight=(0, 1e6),
        consistency_weight=(0, 1e6),
    )  # fmt: skip
    if not options.heat_weight + options.offset_weight + options.consistency_weight:
        raise UserError(
            "data.counter: heat_weight, offset_weight and consistency_weight are all 0, so nothing would be learned; give one "
            "more than 0."
        )
    if options.hidden % (4 * options.heads) or not 16 <= options.hidden <= 2048:
        raise UserError(
            f"data.counter.hidden: {options.hidden} is not possible with {options.heads} heads; give a multiple of "
            f"{4 * options.heads} from 16 to 2048."
        )


def _read_weights(folder: Path, config: PointCounterConfig) -> PointCounter:
    """The network of a checkpoint.

    Raises:
        UserError: It cannot be read, is of the network before the heat map, or has other sizes than the recipe.
    """
    try:
        # Its weights have other names, and what is missing would be random.
        if hasattr(PointCounterConfig.from_pretrained(folder), "done_weight"):
            raise UserError(
                f"{folder}: is a point-counter of an earlier version, which had no heat map and cannot be read any more; "
                "train it again."
            )
        model: PointCounter = PointCounter.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}: is no checkpoint of a point-counter ({str(error).splitlines()[0]}).") from error
    if any(getattr(model.config, key) != getattr(config, key) for key in ("vision_width", "text_width", "hidden")):
        raise UserError(
            f"{folder}: was trained on the tower {model.config.tower} with hidden {model.config.hidden}; "
            "set data.counter accordingly."
        )
    return model


def category_bytes(example: Example) -> bytes:
    """The category's first ``CATEGORY_BYTES`` bytes."""
    name: str = example.fields["category"]
    return name.encode()[:CATEGORY_BYTES]
