"""Coverage of shapes with axis-parallel sides: filtered along x and along y on its own, so that two vectors suffice.

A resampling filter is a product of one along x and one along y. So a filtered rectangle is the outer product of two
filtered intervals, and what is made of rectangles costs a few vectors and one product instead of a large picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.colours import BLACK, WHITE
from foveal.tasks.blindtest.drawing.filters import RADIUS, Filter, edge

#: Entries of a table per pixel.
_STEPS = 256


@dataclass(frozen=True)
class Look:
    """How what is made of bars is drawn.

    Attributes:
        ink: Colour of the bars, and of words between them.
        ground: Colour of the background.
        kernel: Filter of the bars' edges; ``box`` as if drawn at the picture's size, the others as if shrunk to it.
        blur: Standard deviation of a blur of the bars on top, in the scene's unit of length.
    """

    ink: Colour = BLACK
    ground: Colour = WHITE
    kernel: Filter = "bilinear"
    blur: float = 0.0


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
    reach = math.ceil((RADIUS[kernel] + 3 * blur) * _STEPS)
    share = edge(kernel, blur, _STEPS, reach)
    share[0], share[-1] = 0, 1
    ones = np.ones(_STEPS + 1)
    rises = np.concatenate(([0], share, ones)) - np.concatenate((0 * ones, share, [1]))
    return rises, reach / _STEPS + 1 / _STEPS
