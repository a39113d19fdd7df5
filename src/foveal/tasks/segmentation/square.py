"""Pictures in squares: the geometry that all encoders and masks share.

A picture of W x H pixels lies in the top left corner of a square of side m = max(W, H), as in SAM (Kirillov et al. 2023,
section 3); the rest of the square is padding. A model's preprocessing may only scale that square: x in the picture
becomes x * S / m in a square of S pixels. So the VLM's patches, SAM's grid of embeddings and the masks all cover the same
square. To go back to the picture, scale to m and cut off the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.tasks.segmentation.objects import IGNORE, Mask, check_square

#: SAM's standardisation of colours between 0 and 1 (that of ImageNet).
SAM_MEAN, SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Side of the test picture in pixels.
_PROBE = 448


@dataclass(frozen=True)
class Square:
    """The square around a picture.

    Attributes:
        size: Width and height of the picture in pixels.
    """

    size: tuple[int, int]

    @property
    def side(self) -> int:
        """Side of the square in pixels of the picture."""
        return max(self.size)

    def pad(self, image: Image.Image, padding: tuple[int, int, int] = (127, 127, 127)) -> Image.Image:
        """The picture in its square, unscaled.

        Args:
            image: Of ``size``.
            padding: Colour of the rest.

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

    def mask_to_target(self, mask: Mask, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A mask of the picture as a training target on a square of ``side`` pixels.

        Args:
            mask: uint8 [H, W] of 0, 1 and 255.
            side: Side of the target in pixels.

        Returns:
            Two arrays, float32 [side, side]. The first is the share of each pixel that is foreground, of what is not
            ignored. The second is the share that counts: 0 in the padding and where all is ignored.

        Raises:
            ValueError: The mask has another size.
        """
        if mask.shape != (self.size[1], self.size[0]):
            raise ValueError(f"the mask is {mask.shape[::-1]}, the frame is for {self.size}")
        counted = self._scaled(mask != IGNORE, side)
        foreground = self._scaled(mask == 1, side)
        return np.divide(foreground, counted, out=np.zeros_like(foreground), where=counted > 0), counted

    def _scaled(self, pixels: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
        square = np.zeros((self.side, self.side), dtype=np.uint8)
        square[: self.size[1], : self.size[0]] = pixels
        if side == self.side:
            return square.astype(np.float32)
        image = Image.fromarray(square).convert("F")
        return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32)

    def logits_to_picture(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits on the square, scaled bilinearly to the picture's size without padding.

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


def _check_first(prompt: Prompt) -> None:
    """Checks the picture of a prompt by its header, before it is decoded, see ``check_square``."""
    picture = prompt.images[0]
    if isinstance(picture, Picture) and (size := picture.header_size()) is not None:
        check_square(size, picture.name, picture.max_pixels)


class SquarePictures:
    """Prepares pictures for the VLM and for SAM's encoder. Picklable, because data workers use it.

    Args:
        padding: Colour of the padding.
        sam_side: Side in pixels of SAM's input; None without SAM's encoder.
    """

    def __init__(self, padding: tuple[int, int, int], sam_side: int | None) -> None:
        self.padding, self.sam_side = padding, sam_side

    def padded(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Square]]:
        """Prompts with their pictures in squares, and those squares.

        Raises:
            ImageError: A picture cannot be read, or its square has more pixels than the picture may have.
        """
        for prompt in prompts:
            _check_first(prompt)
        pictures = [p.opened()[0] for p in prompts]
        squares = [Square(picture.size) for picture in pictures]
        return [
            replace(p, images=(s.pad(picture.convert("RGB"), self.padding),))
            for p, s, picture in zip(prompts, squares, pictures, strict=True)
        ], squares

    def sam_pixels(self, prompts: Sequence[Prompt]) -> torch.Tensor | None:
        """Standardised squares [B, 3, P, P] for SAM's encoder; None without it."""
        if self.sam_side is None:
            return None
        size = (self.sam_side, self.sam_side)
        arrays = [np.asarray(p.opened()[0].resize(size, Image.Resampling.BILINEAR), dtype=np.float32) for p in prompts]
        scaled = (np.stack(arrays) / 255 - np.array(SAM_MEAN, np.float32)) / np.array(SAM_STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def geometry_error(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """What a preprocessing did to ``probe_picture`` besides scaling it, in words; None if it only scaled.

    Args:
        pixels: The preprocessed picture, [..., 3, S, S].
        mean: Subtracted from colours between 0 and 1.
        std: Colours were divided by it.
    """
    planes = pixels.detach().float().cpu().reshape(-1, *pixels.shape[-3:])
    if len(planes) != 1:
        return f"it cuts a picture into {len(planes)}"
    if planes.shape[-1] != planes.shape[-2]:
        return f"it makes pictures of {planes.shape[-1]} x {planes.shape[-2]} pixels of a square"
    side = planes.shape[-1]
    expected = (torch.arange(side) + 0.5) / side
    for axis, name in enumerate(("columns", "rows")):
        shade = planes[0, axis].mean(axis) * std[axis] + mean[axis]
        if float((shade - expected)[1:-1].abs().max()) > 1.5 / side + 0.01:
            return f"it cuts, pads or turns the {name} of a square"
    return None


def probe_picture() -> Image.Image:
    """A square test picture: red rises from left to right, green from top to bottom."""
    line = np.linspace(0, 255, _PROBE).round().astype(np.uint8)
    red, green = np.broadcast_to(line, (_PROBE, _PROBE)), np.broadcast_to(line[:, None], (_PROBE, _PROBE))
    return Image.fromarray(np.stack((red, green, np.full_like(red, 127)), -1))
