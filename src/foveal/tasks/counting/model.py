"""PointCounter, the network of ``point-counter``: a heat map of the objects that are left.

Its inputs are features of a frozen vision tower: the patches of the marked picture and the category's text, projected to
one width. The text scales and shifts the patches' states (FiLM, Perez et al. 2018), the patches attend to each other and
pass a feed-forward layer, then the text attends to them. The product of the result and each patch is the logit of "an
object of the category that is not marked has its centre here"; an offset places that centre inside the patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from foveal.tasks.counting.objects import Point


class PointCounterConfig(PretrainedConfig):  # type: ignore[misc]
    """Sizes of a PointCounter.

    Args:
        vision_width: Width of the tower's patch features (768 in CLIP ViT-B/32).
        text_width: Width of the category's text features (512 in CLIP ViT-B/32).
        hidden: Width of the network.
        heads: Attention heads.
        dropout: In the feed-forward layer.
        tower: Where the frozen tower came from.
        heat_weight: Weight of the heat loss.
        offset_weight: Weight of the offset loss.
        consistency_weight: Weight of the consistency loss.
    """

    model_type = "foveal_point_counter"

    def __init__(
        self, vision_width: int = 768, text_width: int = 512, hidden: int = 256, heads: int = 4, dropout: float = 0.1,
        tower: str = "openai/clip-vit-base-patch32", heat_weight: float = 1.0, offset_weight: float = 1.0,
        consistency_weight: float = 0.1, **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(**more)
        self.vision_width, self.text_width, self.hidden, self.heads = vision_width, text_width, hidden, heads
        self.dropout, self.tower = dropout, tower
        self.heat_weight, self.offset_weight = heat_weight, offset_weight
        self.consistency_weight = consistency_weight


@dataclass
class PointOutput(ModelOutput):  # type: ignore[misc]
    """Output of a PointCounter.

    Attributes:
        loss: Weighted sum of the losses over the normaliser; None without targets.
        losses: heat, offset and consistency, unweighted, over the same normaliser.
        logits: [B, P], one for each patch, row by row from the top left: whether an object that is left has its centre there.
        points: [B, P, 2], x and y of the centre in each patch, as shares of the picture's sides.
    """

    loss: torch.Tensor | None = None
    losses: Mapping[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    points: torch.Tensor | None = None


class PointCounter(PreTrainedModel):  # type: ignore[misc]
    """The trainable network; it takes the tower's features, which can be cached.

    The losses are sums over the rows, divided by ``normaliser`` or the number of rows:

    * heat: binary cross entropy of each patch, summed over the patches; a patch is positive where an object that is not
      marked has its centre, so one picture teaches all of them.
    * offset: smooth L1 distance (in patches) between the centre and the point predicted inside its patch, summed over the
      positive patches.
    * consistency: symmetric Kullback-Leibler divergence between each patch's two chances for a picture and for its copy with
      another brightness, contrast and noise, summed over the patches.

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
        self.film = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2 * width))
        self.patch_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * width, width)
        )
        self.cross_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.pointer_norm = nn.LayerNorm(width)
        self.offset = nn.Linear(width, 2)
        self.scale = nn.Parameter(torch.tensor(1.0))
        # Few patches hold a centre.
        self.level = nn.Parameter(torch.tensor(-3.0))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def predict(self, patches: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The heat map and where centres lie in its patches.

        Args:
            patches: The tower's features [B, P, V] of square pictures, P a square number.
            text: The category's features [B, T].

        Returns:
            Logits [B, P], offsets in the patches [B, P, 2] in (0, 1).
        """
        side = math.isqrt(patches.shape[1])
        words = self.text_norm(self.text_projection(text))[:, None]
        states = self.patch_norm(self.vision_projection(patches) + grid_positions(side, self.config.hidden, patches))
        gain, shift = self.film(words).chunk(2, -1)
        states = states * (1 + gain) + shift
        states = self.seen_norm(states + self.patch_attention(states, states, states, need_weights=False)[0])
        states = states + self.feed_forward(self.feed_norm(states))
        attended, _ = self.cross_attention(words, states, states, need_weights=False)
        pointer = self.pointer_norm(words + attended)
        products = (states @ pointer.transpose(1, 2))[..., 0]
        return products * (self.scale / math.sqrt(self.config.hidden)) + self.level, self.offset(states).sigmoid()

    def forward(
        self,
        patches: torch.Tensor,
        text: torch.Tensor,
        heat: torch.Tensor | None = None,
        offset: torch.Tensor | None = None,
        again: torch.Tensor | None = None,
        normaliser: torch.Tensor | float | None = None,
    ) -> PointOutput:
        """Predicts what is left; with targets, computes the losses of the class.

        Args:
            patches: [B, P, V].
            text: [B, T].
            heat: 1 for each patch that holds a centre, else 0, [B, P]; None only predicts.
            offset: The centre's place in its patch [B, P, 2], from 0 to 1; ignored where ``heat`` is 0.
            again: Features of the pictures' copies [B, P, V]; None leaves the consistency loss at zero.
            normaliser: Divides the sums; the number of rows by default.
        """
        logits, inside = self.predict(patches, text)
        side = math.isqrt(patches.shape[1])
        place = torch.arange(patches.shape[1], device=patches.device)
        points = (torch.stack((place % side, place // side), 1) + inside) / side
        if heat is None or offset is None:
            return PointOutput(logits=logits, points=points)
        consistency = logits.new_zeros(())
        if again is not None:
            consistency = _divergence(logits, self.predict(again, text)[0]).sum()
        away = functional.smooth_l1_loss(inside.float(), offset.float(), reduction="none", beta=0.1).sum(2)
        rows = normaliser if normaliser is not None else len(heat)
        losses = {
            "heat": functional.binary_cross_entropy_with_logits(logits.float(), heat.float(), reduction="sum") / rows,
            "offset": (away * heat).sum() / rows,
            "consistency": consistency / rows,
        }
        config = self.config
        loss = (
            config.heat_weight * losses["heat"]
            + config.offset_weight * losses["offset"]
            + config.consistency_weight * losses["consistency"]
        )
        losses = {name: value.detach() for name, value in losses.items()}
        return PointOutput(loss=loss, losses=losses, logits=logits, points=points)


def heat_map(points: Sequence[Point], side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The targets of a picture.

    Args:
        points: Centres of what is left, as shares of the picture's sides; of several in one patch, the first has the offset.
        side: Patches along a side.

    Returns:
        ``heat`` [P] and ``offset`` [P, 2] as ``PointCounter.forward`` takes them, float32.
    """
    heat, offset = torch.zeros(side * side), torch.zeros(side * side, 2)
    for x, y in points:
        # A centre on the right or lower edge is in the last patch.
        column, row = min(side - 1, int(x * side)), min(side - 1, int(y * side))
        if not heat[row * side + column]:
            heat[row * side + column] = 1
            offset[row * side + column] = torch.tensor((x * side - column, y * side - row))
    return heat, offset


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


def _divergence(logits: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Symmetric Kullback-Leibler divergence of the chances that two logits [B, P] give, [B, P]."""
    one, two = logits.float(), other.float()
    return 0.5 * (one.sigmoid() - two.sigmoid()) * (one - two)
