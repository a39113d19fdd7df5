"""PointCounter, the model ``point-counter``: a small network that points at the next object or says that it is done.

It stands on a frozen vision tower.

The category's text and the patches of the marked picture are projected to one width. The patches see each other and the
text, then the text looks at the patches: how strongly it looks at each is the logit of "the next one is here", and what
it has gathered gives the logit of "done". Inside the chosen patch, an offset refines the point.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.counting.episodes import counted
from foveal.tasks.counting.pointing import DONE, read_point
from foveal.tasks.counting.task import Counting
from foveal.tasks.counting.tower import FrozenTower
from foveal.tasks.specialist import Batch, Specialist
from foveal.tasks.task import Task
from foveal.training.objectives import NamedLosses, Objective
from foveal.vlm.components import register_components
from foveal.vlm.loading import Vlm


class PointCounterConfig(PretrainedConfig):  # type: ignore[misc]
    """Sizes of a PointCounter.

    Args:
        vision_width: Width of the tower's patch features (768 in CLIP ViT-B/32).
        text_width: Width of the category's text features (512 in CLIP ViT-B/32).
        hidden: Width of the network.
        heads: Attention heads.
        dropout: In front of the heads of the network.
        tower: Where the frozen tower came from.
        coordinate_weight: Weight of the coordinate loss.
        done_weight: Weight of the done loss.
        consistency_weight: Weight of the consistency loss.
    """

    model_type = "foveal_point_counter"

    def __init__(
        self,
        vision_width: int = 768,
        text_width: int = 512,
        hidden: int = 256,
        heads: int = 4,
        dropout: float = 0.1,
        tower: str = "openai/clip-vit-base-patch32",
        coordinate_weight: float = 1.0,
        done_weight: float = 0.5,
        consistency_weight: float = 0.1,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.vision_width, self.text_width, self.hidden, self.heads = vision_width, text_width, hidden, heads
        self.dropout, self.tower = dropout, tower
        self.coordinate_weight, self.done_weight = coordinate_weight, done_weight
        self.consistency_weight = consistency_weight


@dataclass
class PointOutput(ModelOutput):  # type: ignore[misc]
    """What a PointCounter says.

    Attributes:
        loss: Weighted sum of the losses over the normaliser; None without targets.
        losses: coord, done and consistency, unweighted, over the same normaliser.
        point_logits: [B, P], one for each patch, row by row from the top left.
        done_logits: [B].
        points: [B, 2], x and y as shares of the picture's sides: the likeliest patch with its offset.
    """

    loss: torch.Tensor | None = None
    losses: Mapping[str, torch.Tensor] | None = None
    point_logits: torch.Tensor | None = None
    done_logits: torch.Tensor | None = None
    points: torch.Tensor | None = None


class PointCounter(PreTrainedModel):  # type: ignore[misc]
    """The trainable part; the tower's features come in ready-made, so that they can be kept.

    The losses, each a mean over the rows that it concerns (the sum over ``normaliser`` where that is given):

    * coord: cross entropy of the patch that holds the target, plus the smooth L1 distance (in patches) between the
      target and the point predicted inside that patch. Rows whose answer is "done" have none.
    * done: binary cross entropy of "done".
    * consistency: the same next point under a re-encoding of the picture. The rows' pictures come a second time with
      another brightness, contrast and noise, in which nothing moved; the loss is the symmetric Kullback-Leibler
      divergence between the two distributions over patches and done. (A mirrored picture is no such re-encoding: what
      comes next in reading order changes with it.)

    Args:
        config: Its sizes.
    """

    config_class = PointCounterConfig
    base_model_prefix = "counter"

    def __init__(self, config: PointCounterConfig) -> None:
        super().__init__(config)
        width = config.hidden
        self.vision_projection = nn.Linear(config.vision_width, width)
        self.text_projection = nn.Linear(config.text_width, width)
        self.patch_norm, self.text_norm, self.seen_norm = (nn.LayerNorm(width) for _ in range(3))
        self.patch_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.pointer_norm = nn.LayerNorm(width)
        self.offset = nn.Linear(width, 2)
        self.done = nn.Sequential(
            nn.Linear(width, width // 2), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width // 2, 1)
        )
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def see(self, patches: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the next point and of done.

        Args:
            patches: The tower's features [B, P, V] of square pictures, P a square number.
            text: The category's features [B, T].

        Returns:
            Point logits [B, P], done logits [B], offsets in the patches [B, P, 2] in (0, 1).
        """
        side = math.isqrt(patches.shape[1])
        words = self.text_norm(self.text_projection(text))[:, None]
        seen = self.patch_norm(self.vision_projection(patches) + grid_positions(side, self.config.hidden, patches))
        seen = seen + words
        seen = self.seen_norm(seen + self.patch_attention(seen, seen, seen, need_weights=False)[0])
        gathered, _ = self.cross_attention(words, seen, seen, need_weights=False)
        pointer = self.pointer_norm(words + gathered)
        logits = (seen @ pointer.transpose(1, 2))[..., 0] * (self.scale / math.sqrt(self.config.hidden))
        # Whether one is left shows best in the patch that stands out most, so done sees the peak beside the summary.
        done = self.done(pointer)[:, 0, 0] - logits.max(1).values
        return logits, done, self.offset(seen).sigmoid()

    def forward(
        self,
        patches: torch.Tensor,
        text: torch.Tensor,
        target: torch.Tensor | None = None,
        is_done: torch.Tensor | None = None,
        again: torch.Tensor | None = None,
        normaliser: torch.Tensor | float | None = None,
    ) -> PointOutput:
        """See the class.

        Args:
            patches: [B, P, V].
            text: [B, T].
            target: The next point [B, 2] as shares of the sides, anything where the row is done; None only predicts.
            is_done: [B], whether nothing is left.
            again: The re-encoded pictures' features [B, P, V]; None leaves the consistency loss at zero.
            normaliser: What the sums are divided by; the number of rows by default.
        """
        logits, done, offsets = self.see(patches, text)
        side = math.isqrt(patches.shape[1])
        best = logits.argmax(1)
        points = self._points(best, offsets, side)
        if target is None or is_done is None:
            return PointOutput(point_logits=logits, done_logits=done, points=points)
        rows = normaliser if normaliser is not None else len(target)
        there = ~is_done.bool()
        cell = (target * side).clamp(0, side - 1e-4).floor()
        place = (cell[:, 1] * side + cell[:, 0]).long()
        inside = offsets.gather(1, place[:, None, None].expand(-1, 1, 2))[:, 0]
        distance = functional.smooth_l1_loss(inside, target * side - cell, reduction="none", beta=0.1).sum(1)
        chosen = functional.cross_entropy(logits.float(), place, reduction="none")
        coordinate = ((chosen + distance) * there).sum() / rows
        done_loss = functional.binary_cross_entropy_with_logits(done.float(), is_done.float(), reduction="sum") / rows
        consistency = logits.new_zeros(())
        if again is not None:
            other, other_done, _ = self.see(again, text)
            consistency = _divergence(logits, done, other, other_done).sum() / rows
        config = self.config
        total = (
            config.coordinate_weight * coordinate
            + config.done_weight * done_loss
            + config.consistency_weight * consistency
        )
        parts = {"coord": coordinate, "done": done_loss, "consistency": consistency}
        return PointOutput(
            loss=total,
            losses={k: v.detach() for k, v in parts.items()},
            point_logits=logits,
            done_logits=done,
            points=points,
        )

    @staticmethod
    def _points(places: torch.Tensor, offsets: torch.Tensor, side: int) -> torch.Tensor:
        inside = offsets.gather(1, places[:, None, None].expand(-1, 1, 2))[:, 0]
        corner = torch.stack((places % side, places // side), 1)
        return (corner + inside) / side


def grid_positions(side: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Fixed sines and cosines of a square grid's x and y, [1, side * side, width] (Vaswani et al. 2017, section 3.5)."""
    quarter = width // 4
    rate = torch.exp(torch.arange(quarter, device=like.device) * (-math.log(100.0) / max(1, quarter - 1)))
    place = (torch.arange(side, device=like.device) + 0.5) / side * 2 * math.pi
    wave = place[:, None] * rate
    one = torch.cat((wave.sin(), wave.cos()), 1)
    grid = torch.cat((one[None].expand(side, -1, -1), one[:, None].expand(-1, side, -1)), 2)
    padded = functional.pad(grid, (0, width - grid.shape[-1]))
    return padded.reshape(1, side * side, width).to(like.dtype)


def _divergence(
    logits: torch.Tensor, done: torch.Tensor, other: torch.Tensor, other_done: torch.Tensor
) -> torch.Tensor:
    """Symmetric Kullback-Leibler divergence of two rows' next step, [B]: the patches, weighted by "not done", and done."""

    def steps(points: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        going_on = functional.logsigmoid(-end.float())[:, None] + points.float().log_softmax(1)
        return torch.cat((going_on, functional.logsigmoid(end.float())[:, None]), 1)

    one, two = steps(logits, done), steps(other, other_done)
    return 0.5 * ((one.exp() - two.exp()) * (one - two)).sum(1)


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
