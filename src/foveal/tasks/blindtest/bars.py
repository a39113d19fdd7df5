"""Coverage of shapes with axis-parallel sides: filtered along x and along y on its own, so that two vectors suffice.

A resampling filter is a product of one along x and one along y. So a filtered rectangle is the outer product of two
filtered intervals, and what is made of rectangles costs a few vectors and one product instead of a large picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.tasks.blindtest.strokes import Colour

Filter = Literal["box", "bilinear", "bicubic"]

#: Entries of a table per pixel.
_STEPS = 256
#: Half-widths of the filters in pixels.
_RADIUS: dict[Filter, float] = {"box": 0.5, "bilinear": 1.0, "bicubic": 2.0}


def covered(
    size: int, intervals: Sequence[Sequence[tuple[float, float]]], kernel: Filter = "box", blur: float = 0.0
) -> NDArray[np.float32]:
    """How far each of ``size`` pixels is covered, one row for each list of disjoint intervals.

    Args:
        size: Number of pixels.
        intervals: Start and stop in pixels from the first one's outer corner; start < stop.
        kernel: ``box`` averages over a pixel; the other two look like a larger picture that was shrunk.
        blur: Standard deviation of a Gaussian blur on top, in pixels.
    """
    blur = round(blur * 32) / 32
    return _smoothed(size, intervals, kernel, blur) * _whole(size, kernel, blur)


@lru_cache(maxsize=256)
def _whole(size: int, kernel: Filter, blur: float) -> NDArray[np.float32]:
    """By what to multiply, since a filter that reaches beyond the border is made up for inside, as Pillow does."""
    factor: NDArray[np.float32] = np.float32(1) / _smoothed(size, [[(0, size)]], kernel, blur)
    return factor


def _smoothed(
    size: int, intervals: Sequence[Sequence[tuple[float, float]]], kernel: Filter, blur: float
) -> NDArray[np.float32]:
    """How far each pixel is covered if nothing outside the picture is."""
    table, reach = _risings(kernel, blur)
    ends = np.array([end for row in intervals for pair in row for end in pair])
    row = np.arange(len(intervals)).repeat([2 * len(pairs) for pairs in intervals])
    sign = np.where(np.arange(len(ends)) % 2, -1.0, 1.0)
    ends = np.minimum(np.maximum(ends, 0), size)
    first = np.floor(ends - reach).astype(np.intp)
    pixel = first[:, None] + np.arange(math.ceil(2 * reach) + 2)
    level = table.take(np.rint((pixel + (0.5 + reach) - ends[:, None]) * _STEPS).astype(np.intp), mode="clip")
    level *= sign[:, None]
    # A rise before the first pixel counts there, one after the last goes to a column that is dropped.
    place = np.minimum(np.maximum(pixel, 0), size) + row[:, None] * (size + 1)
    rises = np.bincount(place.reshape(-1), level.reshape(-1), len(intervals) * (size + 1))
    return rises.reshape(-1, size + 1)[:, :-1].cumsum(1, dtype=np.float64).astype(np.float32)


@lru_cache(maxsize=256)
def _risings(kernel: Filter, blur: float) -> tuple[NDArray[np.float64], float]:
    """How much more of a pixel than of the one before it is covered by what begins at a point.

    Returns:
        That against the pixel's distance behind the point in steps of 1 / ``_STEPS`` pixel, the first entry at minus
        the reach; the reach in pixels. It begins and ends with zeros.
    """
    radius = _RADIUS[kernel] + 3 * blur
    x = np.arange(-math.ceil(radius * _STEPS), math.ceil(radius * _STEPS) + 1) / _STEPS
    far = np.abs(x)
    if kernel == "box":
        weights = np.clip((0.5 - far) * _STEPS + 0.5, 0, 1)
    elif kernel == "bilinear":
        weights = np.clip(1 - far, 0, None)
    else:
        # Keys' cubic kernel with Pillow's parameter -0.5 (Keys 1981, equation 15).
        outer = ((-0.5 * far + 2.5) * far - 4) * far + 2
        weights = np.where(far < 1, (1.5 * far - 2.5) * far * far + 1, np.where(far < 2, outer, 0.0))
    if blur > 0:
        weights = np.convolve(weights, np.exp(-0.5 * (x / blur) ** 2), mode="same")
    edge = (np.cumsum(weights) - weights / 2) / weights.sum()
    edge[0], edge[-1] = 0, 1
    ones = np.ones(_STEPS + 1)
    return np.concatenate(([0], edge, ones)) - np.concatenate((0 * ones, edge, [1])), len(x) // 2 / _STEPS + 1 / _STEPS


@lru_cache(maxsize=1024)
def palette(ground: Colour, ink: Colour) -> NDArray[np.uint32]:
    """``ink`` laid on ``ground`` at each level from 0 to 255, packed as red, green, blue, 255 in memory."""
    share = np.arange(256)[:, None] / 255
    mixed = np.array((*ground, 255)) * (1 - share) + np.array((*ink, 255)) * share
    colours: NDArray[np.uint32] = np.rint(mixed).astype(np.uint8).view(np.uint32).reshape(-1)
    colours.flags.writeable = False
    return colours


def as_image(packed: NDArray[np.uint32]) -> Image.Image:
    """A picture of packed colours, [H, W]."""
    height, width = packed.shape
    return Image.frombytes("RGB", (width, height), packed.data.cast("B"), "raw", "RGBX", 4 * width, 1)


def inked(level: NDArray[np.uint8], ground: Colour, ink: Colour) -> Image.Image:
    """A picture of ``ink`` laid on ``ground`` at each pixel's level from 0 to 255, [H, W]."""
    height, width = level.shape
    image = Image.frombuffer("P", (width, height), level, "raw", "P", 0, 1)
    image.putpalette(palette(ground, ink).tobytes(), "RGBX")
    return image.convert("RGB")


def dark(rng: random.Random) -> Colour:
    """Black, or any rather dark colour."""
    if rng.random() < 0.5:
        return 0, 0, 0
    red, green, blue = (rng.randint(0, 200) for _ in range(3))
    shade = min(1.0, 330 / (red + green + blue + 1))
    return round(red * shade), round(green * shade), round(blue * shade)


def pale(rng: random.Random) -> Colour:
    """White, or any rather pale gray with a tinge."""
    if rng.random() < 0.5:
        return 255, 255, 255
    gray = rng.randint(222, 248)
    return gray + rng.randint(-7, 7), gray + rng.randint(-7, 7), gray + rng.randint(-7, 7)
