"""The one geometry of pictures and masks: every encoder sees the same square.

A picture of W x H pixels is put into the top left corner of a square of side m = max(W, H), as SAM does (Kirillov et al.
2023, section 3); what is left of the square is padding. Whatever a model's own preprocessing then makes of that square,
it only scales it: a place at x of the picture is at x * S / m in a square of S pixels, exactly, for every S. So the
patches of a VLM's tower, SAM's grid of embeddings and the masks that come out all cover the same square, and there is
one inverse: scale to m, cut off the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from foveal.tasks.segmentation.objects import IGNORE, Mask

#: Side of the picture that shows what a preprocessing does.
_PROBE = 448


@dataclass(frozen=True)
class Frame:
    """A picture's place in its square.

    Attributes:
        size: Width and height of the picture in pixels.
    """

    size: tuple[int, int]

    @property
    def side(self) -> int:
        """Side of the square in pixels of the picture."""
        return max(self.size)

    def square(self, image: Image.Image, padding: tuple[int, int, int] = (127, 127, 127)) -> Image.Image:
        """The picture in its square, at its own scale.

        Args:
            image: Of ``size``.
            padding: Colour of what is left over.

        Raises:
            ValueError: The picture has another size.
        """
        if image.size != self.size:
            raise ValueError(f"the picture is {image.size}, the frame is for {self.size}")
        if self.size[0] == self.size[1]:
            return image
        square = Image.new("RGB", (self.side, self.side), padding)
        square.paste(image, (0, 0))
        return square

    def shrink(self, mask: Mask, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A mask of the picture as a target on a square of ``side`` pixels.

        Args:
            mask: uint8 [H, W] of 0, 1 and 255.
            side: Side of the target in pixels.

        Returns:
            The share of each pixel that is meant, among what is not ignored, and the share that counts at all (0 in
            the padding and where all is ignored), float32 [side, side] each.

        Raises:
            ValueError: The mask has another size.
        """
        if mask.shape != (self.size[1], self.size[0]):
            raise ValueError(f"the mask is {mask.shape[::-1]}, the frame is for {self.size}")
        counted = self._scaled(mask != IGNORE, side)
        meant = self._scaled(mask == 1, side)
        return np.divide(meant, counted, out=np.zeros_like(meant), where=counted > 0), counted

    def _scaled(self, chosen: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
        square = np.zeros((self.side, self.side), dtype=np.uint8)
        square[: self.size[1], : self.size[0]] = chosen
        if side == self.side:
            return square.astype(np.float32)
        image = Image.fromarray(square).convert("F")
        return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32)

    def grow(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits on the square at the picture's own size: scaled bilinearly, padding cut off.

        Args:
            logits: [M, S, S], any S.

        Returns:
            Float32 [M, H, W].
        """
        width, height = self.size
        if not len(logits):
            return logits.new_zeros((0, height, width), dtype=torch.float32)
        scaled = functional.interpolate(
            logits[:, None].float(), size=(self.side, self.side), mode="bilinear", align_corners=False
        )
        return scaled[:, 0, :height, :width]


def check_geometry(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """What a preprocessing did to ``probe``: None where it only scaled the square, else what is wrong, in words.

    Args:
        pixels: What it made of the probe, [..., 3, S, S].
        mean: What it subtracted from colours between 0 and 1.
        std: What it divided them by.
    """
    planes = pixels.detach().float().cpu().reshape(-1, *pixels.shape[-3:])
    if len(planes) != 1:
        return f"it cuts a picture into {len(planes)}"
    if planes.shape[-1] != planes.shape[-2]:
        return f"it makes pictures of {planes.shape[-1]} x {planes.shape[-2]} pixels of a square"
    side = planes.shape[-1]
    place = (torch.arange(side) + 0.5) / side
    for channel, along, name in ((0, 0, "columns"), (1, 1, "rows")):
        shade = planes[0, channel].mean(along) * std[channel] + mean[channel]
        if float((shade - place)[1:-1].abs().max()) > 1.5 / side + 0.01:
            return f"it cuts, pads or turns the {name} of a square"
    return None


def probe() -> Image.Image:
    """A square whose red rises from left to right and whose green from top to bottom."""
    line = np.linspace(0, 255, _PROBE).round().astype(np.uint8)
    red, green = np.broadcast_to(line, (_PROBE, _PROBE)), np.broadcast_to(line[:, None], (_PROBE, _PROBE))
    return Image.fromarray(np.stack((red, green, np.full_like(red, 127)), -1))
