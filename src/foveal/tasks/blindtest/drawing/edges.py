"""Anti-aliased discs and outlines, drawn from signed distances: how far a shape covers a pixel near its border.

The share of a pixel that lies behind a straight border depends on the pixel's depth alone; it is read from a table. That
is exact to a few levels of 255 for round and polygonal shapes that are larger than a few pixels, and much faster than
drawing large and shrinking.

Frame: pixels, x to the right, y downwards, the origin at the outer corner of the top left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.canvas import as_image, over, packed, scratch
from foveal.tasks.blindtest.drawing.filters import RADIUS, Filter, edge

#: Entries of a table per pixel of depth.
_STEPS = 64


def kernel_of(size: int) -> Filter:
    """The filter of a published picture (384 pixels or more), or of one that is shrunk to this size."""
    return "box" if size >= 384 else "bilinear"


class Canvas:
    """A square picture that shapes are painted on, later ones over earlier ones; one at a time in each thread.

    Args:
        size: Side in pixels.
        ground: Colour of the background.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur on top, in pixels.
    """

    def __init__(self, size: int, ground: Colour, kernel: Filter, blur: float) -> None:
        self.size, self.ground, self.kernel = size, ground, kernel
        self.blur = round(blur * 32) / 32
        # Room for the filter on all sides, for shapes that reach the border.
        self.margin = math.ceil(RADIUS[kernel] + 3 * self.blur) + 3
        self.stride = size + 2 * self.margin
        self.pixels, _ = scratch(self.stride**2)
        self.pixels.fill(packed(ground))

    def image(self) -> Image.Image:
        """The picture."""
        return as_image(self.pixels.reshape(self.stride, self.stride), self.margin)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Paints a disc, which lies inside the picture."""
        levels, middle = _border(self.kernel, self.blur)
        side, left, top = self._box(x, y, radius + middle / _STEPS)
        # All in steps of depth.
        places = np.arange(side)
        across = (places * _STEPS + (left + 0.5 - x) * _STEPS).astype(np.float32) ** 2
        down = (places * _STEPS + (top + 0.5 - y) * _STEPS).astype(np.float32) ** 2
        depth = np.sqrt(across + down[:, None])
        np.subtract(np.float32(radius * _STEPS + middle + 0.5), depth, out=depth)
        level = levels.take(depth.astype(np.intp), mode="clip").reshape(-1)
        index = (places * self.stride + self._index(left, top))[:, None] + places
        index = index.reshape(-1)
        self.pixels[index] = over(self.pixels.take(index), level, self.ground, (colour,))

    def outlines(
        self,
        centres: Sequence[tuple[float, float]],
        radius: float,
        width: float,
        colours: tuple[Colour, ...],
        normals: Sequence[tuple[float, float]] = (),
        apart: int = 1,
    ) -> None:
        """Paints outlines of one form and size, which lie inside the picture.

        Args:
            centres: Their centres.
            radius: From the centre to the middle of the line; of polygons, to the middle of a side's line.
            width: Of the line.
            colours: Their colours; or one, for all.
            normals: Unit vectors from the centre to the middles of a regular polygon's sides; none for circles.
            apart: Outlines whose places in the list differ by a multiple of this do not meet.
        """
        band = _band(round(width * 256) / 256, self.kernel, self.blur)
        # Corners are mitred: those of the line's outer border are farthest from the centre.
        around = (radius + len(band) / _STEPS) / (math.cos(math.pi / len(normals)) if normals else 1)
        # Outlines that do not meet follow each other, to be painted at once.
        order = [i for first in range(apart) for i in range(first, len(centres), apart)]
        boxes = [self._box(*centres[i], around) for i in order]
        side = boxes[0][0]
        corners = [(left - centres[i][0], top - centres[i][1]) for i, (_, left, top) in zip(order, boxes, strict=True)]
        offsets = np.array(corners, np.float32)[:, :, None] + (np.arange(side) + 0.5).astype(np.float32)
        level = band.take(_steps_from_line(offsets, radius, normals), mode="clip").reshape(-1)
        # Much faster on truth values than on numbers.
        touched = np.flatnonzero(level != 0)
        level = level.take(touched)
        ends = np.searchsorted(touched, np.arange(len(order) + 1) * side * side)
        counts = np.diff(ends)
        # On the canvas the rows of each box are further apart.
        starts = [self._index(left, top) - i * side * self.stride for i, (_, left, top) in enumerate(boxes)]
        index = touched + touched // side * (self.stride - side) + np.array(starts).repeat(counts)

        chosen = np.array(order if len(colours) > 1 else [0] * len(order)).repeat(counts)
        stop = 0
        for first in range(apart):
            begin, stop = stop, stop + len(range(first, len(centres), apart))
            part = slice(ends[begin], ends[stop])
            below = self.pixels.take(index[part])
            self.pixels[index[part]] = over(below, level[part], self.ground, colours, chosen[part])

    def _box(self, x: float, y: float, radius: float) -> tuple[int, int, int]:
        """Side, left and top of the box of whole pixels around a circle: equal sides for equal radii."""
        reach = math.ceil(radius)
        side = min(2 * reach + 1, self.stride)
        # A box that leaves the canvas is moved inwards; what it then lacks lies outside the picture.
        last = self.size + self.margin - side
        left, top = math.floor(x) - reach, math.floor(y) - reach
        return side, min(max(left, -self.margin), last), min(max(top, -self.margin), last)

    def _index(self, x: int, y: int) -> int:
        return (y + self.margin) * self.stride + x + self.margin


def _steps_from_line(
    offsets: NDArray[np.float32], radius: float, normals: Sequence[tuple[float, float]]
) -> NDArray[np.intp]:
    """Distance of pixels from the middle of an outline's line, in steps, [N, side, side]; see ``Canvas.outlines``.

    ``offsets`` from the outline's centre to the pixels' middles, along x and along y, are [N, 2, side].
    """
    dx, dy = offsets[:, 0, None, :], offsets[:, 1, :, None]
    if normals:
        distance = dx * np.float32(normals[0][0]) + dy * np.float32(normals[0][1])
        for u, v in normals[1:]:
            np.maximum(distance, dx * np.float32(u) + dy * np.float32(v), out=distance)
    else:
        distance = np.sqrt(dx * dx + dy * dy)
    distance -= np.float32(radius)
    np.abs(distance, out=distance)
    distance *= np.float32(_STEPS)
    distance += np.float32(0.5)
    return distance.astype(np.intp)


@lru_cache(maxsize=256)
def _edge(kernel: Filter, blur: float) -> tuple[NDArray[np.float64], int]:
    """Share covered of a pixel against its depth behind a straight border, in steps, and the entry of depth 0."""
    reach = math.ceil((RADIUS[kernel] + 3 * blur) * _STEPS) + 1
    return edge(kernel, blur, _STEPS, reach), reach


@lru_cache(maxsize=256)
def _border(kernel: Filter, blur: float) -> tuple[NDArray[np.uint8], int]:
    """Level 0 to 255 of a pixel against its depth, in steps, from 0 to 255; and the entry of depth 0."""
    share, middle = _edge(kernel, blur)
    levels = np.rint(share * 255).astype(np.uint8)
    levels[0], levels[-1] = 0, 255
    return levels, middle


@lru_cache(maxsize=256)
def _band(width: float, kernel: Filter, blur: float) -> NDArray[np.uint8]:
    """Level of a pixel against its distance from the middle of a line, in steps; the last is 0."""
    share, middle = _edge(kernel, blur)
    half = width / 2 * _STEPS
    places = np.arange(math.ceil(half) + middle + 2)
    entries = np.arange(len(share)) - middle
    band = np.interp(half - places, entries, share) - np.interp(-half - places, entries, share)
    band[-1] = 0
    levels: NDArray[np.uint8] = np.rint(band * 255).astype(np.uint8)
    return levels
