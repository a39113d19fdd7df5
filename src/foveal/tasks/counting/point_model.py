"""PointCounter: a small network on a frozen vision tower that points at the next object or says that it is done.

The category's text and the patches of the marked picture are projected to one width. The patches see each other and the
text, then the text looks at the patches: how strongly it looks at each is the logit of "the next one is here", and what
it has gathered gives the logit of "done". Inside the chosen patch, an offset refines the point.
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


def trainable_parameters(config: PointCounterConfig) -> int:
    """How many parameters learn, from the sizes alone: no weights are made."""
    with torch.device("meta"):
        return sum(p.numel() for p in PointCounter(config).parameters())
