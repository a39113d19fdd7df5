"""PointCounter, the network of ``point-counter``: points at the next object or predicts "done".

Its inputs are features of a frozen vision tower: the patches of the marked picture and the category's text, projected to
one width. The patches attend to each other, then the text attends to the patches. The product of the result and each
patch is the logit of "the next one is here"; the result also gives the logit of "done". An offset places the point inside
the chosen patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


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
        self, vision_width: int = 768, text_width: int = 512, hidden: int = 256, heads: int = 4, dropout: float = 0.1,
        tower: str = "openai/clip-vit-base-patch32", coordinate_weight: float = 1.0, done_weight: float = 0.5,
        consistency_weight: float = 0.1, **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(**more)
        self.vision_width, self.text_width, self.hidden, self.heads = vision_width, text_width, hidden, heads
        self.dropout, self.tower = dropout, tower
        self.coordinate_weight, self.done_weight = coordinate_weight, done_weight
        self.consistency_weight = consistency_weight


@dataclass
class PointOutput(ModelOutput):  # type: ignore[misc]
    """Output of a PointCounter.

    Attributes:
        loss: Weighted sum of the losses over the normaliser; None without targets.
        losses: coord, done and consistency, unweighted, over the same normaliser.
        point_logits: [B, P], one for each patch, row by row from the top left.
        done_logits: [B].
        points: [B, 2], x and y as shares of the picture's sides: the most likely patch with its offset.
    """

    loss: torch.Tensor | None = None
    losses: Mapping[str, torch.Tensor] | None = None
    point_logits: torch.Tensor | None = None
    done_logits: torch.Tensor | None = None
    points: torch.Tensor | None = None


class PointCounter(PreTrainedModel):  # type: ignore[misc]
    """The trainable network; it takes the tower's features, which can be cached.

    The losses are sums over the rows, divided by ``normaliser`` or the number of rows:

    * coord: cross entropy of the patch that holds the target, plus the smooth L1 distance (in patches) between the
      target and the point predicted inside that patch. It is 0 for rows whose answer is "done".
    * done: binary cross entropy of "done".
    * consistency: symmetric Kullback-Leibler divergence between the distributions over patches and done for a picture
      and for its copy with another brightness, contrast and noise. (A mirrored copy would not do: it changes what comes
      next in reading order.)

    Args:
        config: Sizes and loss weights.
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

    def predict(self, patches: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the next point and of done.

        Args:
            patches: The tower's features [B, P, V] of square pictures, P a square number.
            text: The category's features [B, T].

        Returns:
            Point logits [B, P], done logits [B], offsets in the patches [B, P, 2] in (0, 1).
        """
        side = math.isqrt(patches.shape[1])
        words = self.text_norm(self.text_projection(text))[:, None]
        states = self.patch_norm(self.vision_projection(patches) + grid_positions(side, self.config.hidden, patches))
        states = states + words
        states = self.seen_norm(states + self.patch_attention(states, states, states, need_weights=False)[0])
        attended, _ = self.cross_attention(words, states, states, need_weights=False)
        pointer = self.pointer_norm(words + attended)
        logits = (states @ pointer.transpose(1, 2))[..., 0] * (self.scale / math.sqrt(self.config.hidden))
        # An object that is left shows best in the highest patch logit, so "done" uses that too.
        done = self.done(pointer)[:, 0, 0] - logits.max(1).values
        return logits, done, self.offset(states).sigmoid()

    def forward(
        self,
        patches: torch.Tensor,
        text: torch.Tensor,
        target: torch.Tensor | None = None,
        is_done: torch.Tensor | None = None,
        again: torch.Tensor | None = None,
        normaliser: torch.Tensor | float | None = None,
    ) -> PointOutput:
        """Predicts the next points; with targets, computes the losses of the class.

        Args:
            patches: [B, P, V].
            text: [B, T].
            target: The next point [B, 2] as shares of the sides, ignored where the row is done; None only predicts.
            is_done: [B], whether nothing is left.
            again: Features of the pictures' copies [B, P, V]; None leaves the consistency loss at zero.
            normaliser: Divides the sums; the number of rows by default.
        """
        logits, done, offsets = self.predict(patches, text)
        side = math.isqrt(patches.shape[1])
        best = logits.argmax(1)
        corner = torch.stack((best % side, best // side), 1)
        points = (corner + _offset_in(offsets, best)) / side
        if target is None or is_done is None:
            return PointOutput(point_logits=logits, done_logits=done, points=points)
        consistency = logits.new_zeros(())
        if again is not None:
            other, other_done, _ = self.predict(again, text)
            consistency = _divergence(logits, done, other, other_done).sum()
        rows = normaliser if normaliser is not None else len(target)
        losses = {
            "coord": (_coordinate_losses(logits, offsets, target, side) * ~is_done.bool()).sum() / rows,
            "done": functional.binary_cross_entropy_with_logits(done.float(), is_done.float(), reduction="sum") / rows,
            "consistency": consistency / rows,
        }
        config = self.config
        loss = (
            config.coordinate_weight * losses["coord"]
            + config.done_weight * losses["done"]
            + config.consistency_weight * losses["consistency"]
        )
        losses = {name: value.detach() for name, value in losses.items()}
        return PointOutput(loss=loss, losses=losses, point_logits=logits, done_logits=done, points=points)


def _offset_in(offsets: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The offsets [B, 2] in one patch of each row."""
    return offsets.gather(1, places[:, None, None].expand(-1, 1, 2))[:, 0]


def _coordinate_losses(logits: torch.Tensor, offsets: torch.Tensor, target: torch.Tensor, side: int) -> torch.Tensor:
    """Coordinate loss of each row [B]."""
    cell = (target * side).clamp(0, side - 1e-4).floor()
    place = (cell[:, 1] * side + cell[:, 0]).long()
    distance = functional.smooth_l1_loss(
        _offset_in(offsets, place), target * side - cell, reduction="none", beta=0.1
    ).sum(1)
    return functional.cross_entropy(logits.float(), place, reduction="none") + distance


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
    """Symmetric Kullback-Leibler divergence of two predictions [B], over "done" and, if not done, the patches."""

    def log_chances(points: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        next_point = functional.logsigmoid(-end.float())[:, None] + points.float().log_softmax(1)
        return torch.cat((next_point, functional.logsigmoid(end.float())[:, None]), 1)

    one, two = log_chances(logits, done), log_chances(other, other_done)
    return 0.5 * ((one.exp() - two.exp()) * (one - two)).sum(1)
