"""Canvases of packed pixels: a colour is one number, in the memory order red, green, blue, 255."""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.drawing.figures import Colour

_local = threading.local()


def packed(colour: Colour) -> int:
    """A colour as one number."""
    return int(np.array((*colour, 255), np.uint8).view(np.uint32)[0])


@lru_cache(maxsize=1024)
def palette(ground: Colour, ink: Colour) -> NDArray[np.uint32]:
    """``ink`` laid on ``ground`` at each level from 0 to 255; not to be written to."""
    share = np.arange(256)[:, None] / 255
    mixed = np.array((*ground, 255)) * (1 - share) + np.array((*ink, 255)) * share
    colours: NDArray[np.uint32] = np.rint(mixed).astype(np.uint8).view(np.uint32).reshape(-1)
    colours.flags.writeable = False
    return colours


@lru_cache(maxsize=256)
def _palettes(ground: Colour, inks: tuple[Colour, ...]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Each colour laid on the ground at each level from 0 to 255, one after the other; and the colours, [N, 4]."""
    return np.concatenate([palette(ground, ink) for ink in inks]), np.array([(*ink, 255) for ink in inks], np.float32)


def over(
    below: NDArray[np.uint32],
    level: NDArray[np.uint8],
    ground: Colour,
    inks: tuple[Colour, ...],
    chosen: NDArray[np.intp] | None = None,
) -> NDArray[np.uint32]:
    """Pixels of a canvas with colours laid on them; fast where most still have the colour of the ground.

    Args:
        below: The pixels.
        level: Coverage of each, 0 to 255.
        ground: Colour of the bare canvas.
        inks: The colours.
        chosen: Index of each pixel's colour; None for the first.
    """
    palettes, colours = _palettes(ground, inks)
    paint = palettes.take(level if chosen is None else chosen * 256 + level)
    crossed = np.flatnonzero(below != palettes[0])
    if len(crossed):
        old = below.take(crossed).view(np.uint8).reshape(-1, 4).astype(np.float32)
        colour = colours[0] if chosen is None else colours.take(chosen.take(crossed), axis=0)
        new = old + level.take(crossed)[:, None] * ((colour - old) / np.float32(255)) + np.float32(0.5)
        paint[crossed] = new.astype(np.uint8).view(np.uint32).reshape(-1)
    return paint


def scratch(pixels: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """This thread's canvas of so many pixels, and levels for them, both with any content.

    They are reused, because fresh memory of this size costs more than drawing in it.
    """
    if getattr(_local, "pixels", 0) < pixels:
        _local.pixels, _local.canvas, _local.levels = pixels, np.empty(pixels, np.uint32), np.empty(pixels, np.uint8)
    return _local.canvas[:pixels], _local.levels[:pixels]


def as_image(canvas: NDArray[np.uint32], margin: int = 0) -> Image.Image:
    """A picture of what is on a canvas, [H, W], but for a margin on all sides."""
    height, width = canvas.shape
    inside = canvas.reshape(-1)[margin * (width + 1) :].data.cast("B")
    return Image.frombytes("RGB", (width - 2 * margin, height - 2 * margin), inside, "raw", "RGBX", 4 * width, 1)


def inked(level: NDArray[np.uint8], ground: Colour, ink: Colour) -> Image.Image:
    """A picture of ``ink`` laid on ``ground`` at each pixel's level from 0 to 255, [H, W]."""
    height, width = level.shape
    image = Image.frombuffer("P", (width, height), level, "raw", "P", 0, 1)
    image.putpalette(palette(ground, ink).tobytes(), "RGBX")
    return image.convert("RGB")
