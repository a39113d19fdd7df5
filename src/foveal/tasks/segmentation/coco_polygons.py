"""Polygons drawn as COCO's own tools draw them, pixel for pixel: figures on RefCOCO are measured against those masks.

The rules are those of ``rleFrPoly`` in https://github.com/cocodataset/cocoapi, ``common/maskApi.c``. Other than
ReasonSeg's masks (``polygons``) these are without outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foveal.tasks.segmentation.objects import Mask

#: Corners are rounded to so many places along each pixel.
FINE: Final = 5
#: Corners are at most so many pixels from the origin; farther ones would take long to draw.
FARTHEST: Final = 100_000
_Corners = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CocoTarget:
    """What the polygons of one COCO annotation enclose together.

    Attributes:
        size: Width and height of the picture in pixels.
        polygons: The corners of each in pixels; the last one is joined to the first.
    """

    size: tuple[int, int]
    polygons: tuple[_Corners, ...]

    def whole(self) -> Mask:
        """The union of the polygons, [H, W] of 0 and 1."""
        mask = np.zeros((self.size[1], self.size[0]), dtype=np.uint8)
        for corners in self.polygons:
            mask |= fill(corners, self.size)
        return mask

    def parts(self) -> Sequence[Mask]:
        """The same, or nothing where it is empty: an annotation is one object, however many polygons it has."""
        mask = self.whole()
        return [mask] if mask.any() else []


def fill(corners: _Corners, size: tuple[int, int]) -> Mask:
    """The pixels whose middle a polygon encloses by the even-odd rule.

    Corners and edges are first laid on a grid of ``FINE`` places along each pixel; where the edge of the polygon passes
    a middle by less than that, the grid decides.

    Args:
        corners: In pixels, three or more; the last one is joined to the first. They may lie outside of the picture.
        size: Width and height of the picture in pixels.

    Returns:
        [H, W] of 0 and 1.
    """
    width, height = size
    # Cut towards zero, as a cast to int in C does.
    grid = (np.asarray(corners, dtype=np.float64) * FINE + 0.5).astype(np.int64)
    edges = [_crossings(start, end) for start, end in pairwise([*grid, grid[0]])]
    columns, rows = (np.concatenate(found) for found in zip(*edges, strict=True))
    inside = (columns >= 0) & (columns < width)
    changes = np.zeros((height + 1, width), dtype=np.uint8)
    np.bitwise_xor.at(changes, (np.clip(rows[inside], 0, height), columns[inside]), 1)
    return np.bitwise_xor.accumulate(changes[:height], axis=0)


def _crossings(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where an edge on the grid crosses the middles of columns: these, and the first row whose middle lies below it."""
    along = int(abs(end[1] - start[1]) > abs(end[0] - start[0]))  # the axis with a grid place for each step
    if start[along] > end[along]:
        start, end = end, start
    steps = np.arange(end[along] - start[along] + 1)
    if steps.size == 1:  # two corners on one place of the grid
        return steps[:0], steps[:0]
    slope = (end[1 - along] - start[1 - along]) / (end[along] - start[along])
    across = (start[1 - along] + slope * steps + 0.5).astype(np.int64)
    x, y = (across, start[1] + steps) if along else (start[0] + steps, across)
    left, top = np.minimum(x[1:], x[:-1]), np.minimum(y[1:], y[:-1])
    middle = (x[1:] != x[:-1]) & (left % FINE == FINE // 2)
    # A place below the middle of its row belongs to the next one.
    return left[middle] // FINE, -((FINE // 2 - top[middle]) // FINE)
