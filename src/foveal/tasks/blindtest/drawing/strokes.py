"""Anti-aliased polylines, drawn from distances: fast enough to make training pictures while a model learns.

Only pixels near a line are touched. How far a line covers a pixel depends on the pixel's distance from it alone: it is
the line's cross-section, smoothed by the resampling filter and read from a table. That costs a fraction of drawing at
several times the size and shrinking, and a blur costs nothing, for it is only another table.

Frame: pixels, x to the right, y downwards, the origin at the outer corner of the top left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.drawing.figures import Colour, Point
from foveal.tasks.blindtest.drawing.canvas import as_image, over, packed, scratch
from foveal.tasks.blindtest.drawing.filters import RADIUS, Filter, edge

Cap = Literal["projecting", "round"]

#: What ``_tables`` returns.
_Tables = tuple[NDArray[np.uint8], float, NDArray[np.float32], float]
#: Entries of a coverage table per pixel of distance.
_STEPS = 64
#: Moves an end out of the way where it is not of the kind in question, in pixels.
_FAR_AWAY = -1e6


@dataclass(frozen=True)
class Pen:
    """How lines look, apart from their colour. Joints are round.

    Attributes:
        width: Width in pixels.
        cap: The two ends of a line: a square that projects by half the width (matplotlib's default), or a half disc.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur on top, in pixels.
    """

    width: float
    cap: Cap = "projecting"
    kernel: Filter = "box"
    blur: float = 0.0


def draw_polylines(size: int, ground: Colour, lines: Sequence[tuple[Sequence[Point], Colour]], pen: Pen) -> Image.Image:
    """A square picture of polylines on a plain ground, later ones over earlier ones.

    Args:
        size: Side of the picture in pixels.
        ground: Colour of the background, 0 to 255.
        lines: Vertices in pixels and colour of each line: two vertices or more, consecutive ones differ, none outside
            the picture.
        pen: Width, ends and edges of all the lines.

    Raises:
        ValueError: A vertex is outside the picture.
    """
    if any(not 0 <= v <= size for points, _ in lines for point in points for v in point):
        raise ValueError(f"a vertex is outside the picture of {size} x {size} pixels")
    index, level, ends, stride, margin = _near_pixels(size, [points for points, _ in lines], pen)
    canvas, united = scratch(stride * stride)
    canvas.fill(packed(ground))
    start = 0
    for (_, colour), stops in zip(lines, ends, strict=True):
        # The segments of one line are united before they are painted, or their joint would show.
        where = index[start : stops[-1]]
        share = level[start : stops[-1]]
        if len(stops) > 1:
            united.fill(0)
            united[index[start : stops[0]]] = level[start : stops[0]]
            for begin, stop in pairwise(stops):
                part = index[begin:stop]
                united[part] = np.maximum(united.take(part), level[begin:stop])
            share = united.take(where)
        start = stops[-1]
        canvas[where] = over(canvas.take(where), share, ground, (colour,))
    return as_image(canvas.reshape(stride, stride), margin)


def _near_pixels(
    size: int, lines: Sequence[Sequence[Point]], pen: Pen
) -> tuple[NDArray[np.intp], NDArray[np.uint8], list[list[int]], int, int]:
    """The pixels near each segment of the lines and how far it covers them, all segments at once.

    A segment is a band of pixels along its major axis: one row for each pixel of that axis, across it as many pixels
    as the line and the filter reach.

    Returns:
        Flat indices into a canvas with margins, each at most once a segment; levels 0 to 255 for them; where each
        segment's part ends in the two; the canvas's width in pixels; its margin in pixels.
    """
    tables = _tables(round(pen.width * 32) / 32, pen.kernel, round(pen.blur * 32) / 32)
    flank, far, ending, fringe = tables
    square = pen.cap == "projecting"
    band = math.floor(far * math.sqrt(2) + 0.5)
    beyond = math.sqrt(2) * (pen.width / 2 + fringe if square else far)
    margin = math.ceil(beyond) + band + 3
    stride = size + 2 * margin

    table, rows, ends = _bands(lines, square, stride, margin, beyond)
    number = np.arange(ends[-1])
    of_row = np.arange(len(ends)).repeat(rows)
    origin, step, across_step, first_along, slope, minor_origin, scale = table[:, :7].take(of_row, axis=0).T

    along = number + first_along
    centre = along * slope + minor_origin
    base = np.floor(centre)
    offsets = np.arange(-band, band + 1)
    index = (table[:, 2:3] * offsets).astype(np.intp).take(of_row, axis=0)
    index += (origin + number * step + base * across_step).astype(np.intp)[:, None]
    from_centre = (base + 0.5 - centre).astype(np.float32)[:, None] + offsets.astype(np.float32)
    distance = np.abs(from_centre * scale.astype(np.float32)[:, None])
    level = flank.take(distance.astype(np.intp))

    # The rows near a segment's two ends are computed again, with the cap or the joint.
    count = math.ceil(beyond + max(far, len(ending) / _STEPS)) + 2
    near = number
    if min(rows) > count:
        near = (np.array([0, *ends[:-1], *(end - count for end in ends)])[:, None] + number[:count]).reshape(-1)
    facts = table[:, 7:].astype(np.float32).take(of_row.take(near), axis=0).T[..., None]
    before = -along.take(near).astype(np.float32)[:, None] * facts[0] - from_centre.take(near, axis=0) * facts[1]
    level[near] = _end_levels(before, distance.take(near, axis=0), facts[2:], pen, tables)
    stops = iter(ends)
    by_line = [[next(stops) * len(offsets) for _ in line[1:]] for line in lines]
    return index.reshape(-1), level.reshape(-1), by_line, stride, margin


def _end_levels(
    before: NDArray[np.float32], distance: NDArray[np.float32], facts: NDArray[np.float32], pen: Pen, tables: _Tables
) -> NDArray[Any]:
    """Levels of pixels near a segment's two ends, 0 to 255, [rows, band].

    ``before`` is how far a pixel is outside of the segment's start, in pixels; ``distance`` that from its line, in steps;
    ``facts``, [5, rows, 1], are the segment's length and the offsets of its caps and joints.
    """
    flank, _, ending, fringe = tables
    length, square_start, square_end, round_start, round_end = facts
    after = -length - before
    rounded = np.maximum(np.maximum(before + round_start, after + round_end), 0) * np.float32(_STEPS)
    from_line = np.sqrt(distance**2 + rounded**2)
    levels: NDArray[Any] = flank.take(np.minimum(from_line, len(flank) - 1).astype(np.intp))
    if pen.cap != "projecting":
        return levels
    inside = np.float32(pen.width / 2 + fringe) - np.maximum(before + square_start, after + square_end)
    inside *= np.float32(_STEPS)
    levels = levels * ending.take(np.minimum(np.maximum(inside, 0), len(ending) - 1).astype(np.intp))
    return levels


def _bands(
    lines: Sequence[Sequence[Point]], square: bool, stride: int, margin: int, beyond: float
) -> tuple[NDArray[np.float64], list[int], list[int]]:
    """Facts about the band of pixels around each segment, as ``_near_pixels`` takes them apart.

    Returns:
        [segment, fact]; the rows of each segment's band; their running sums.
    """
    rows: list[int] = []
    ends: list[int] = []
    facts, end = [], 0
    for points in lines:
        for i in range(len(points) - 1):
            (x, y), (x2, y2) = points[i], points[i + 1]
            dx, dy = x2 - x, y2 - y
            length = math.hypot(dx, dy)
            if abs(dy) > abs(dx):
                major, minor, last, u, v, step, across_step = y, x, y2, dy / length, dx / length, stride, 1
            else:
                major, minor, last, u, v, step, across_step = x, y, x2, dx / length, dy / length, 1, stride
            # Row number 0 is the first of all segments', so each segment's facts are shifted to its own first row.
            first = math.floor(min(major, last) - beyond) - end
            rows.append(math.ceil(max(major, last) + beyond) - first - end)
            end += rows[-1]
            ends.append(end)
            square_start = square and i == 0
            square_end = square and i == len(points) - 2
            facts.append((
                first * step + margin * (stride + 1), step, across_step,
                first + 0.5 - major, v / u, minor, abs(u) * _STEPS,
                1 / u, v, length,
                0 if square_start else _FAR_AWAY, 0 if square_end else _FAR_AWAY,
                _FAR_AWAY if square_start else 0, _FAR_AWAY if square_end else 0,
            ))  # fmt: skip
    return np.array(facts), rows, ends


@lru_cache(maxsize=1024)
def _tables(width: float, kernel: Filter, blur: float) -> _Tables:
    """The tables of ``_near_pixels``.

    Returns:
        Level against the distance from the centre line in steps of 1 / ``_STEPS`` pixel; the distance in pixels from
        which on it is zero; share covered of a half-plane against the depth in it, in the same steps; how far outside
        that table begins, in pixels.
    """
    # A step more than the filter, where the edge is over and done with.
    entries = math.ceil((RADIUS[kernel] + 3 * blur) * _STEPS + 1)
    x, reach = np.arange(-entries, entries + 1) / _STEPS, entries / _STEPS
    share = edge(kernel, blur, _STEPS, entries)
    distance = (np.arange(math.ceil((width / 2 + reach) * _STEPS) + 1) + 0.5) / _STEPS
    covered = np.interp(width / 2 + distance, x, share) - np.interp(distance - width / 2, x, share)
    # A sharpening filter overshoots; eight bits cut that off.
    levels = np.rint(np.clip(covered, 0, 1) * 255).astype(np.uint8)
    far = (int(np.flatnonzero(levels)[-1]) + 1) / _STEPS
    padding = np.zeros(round(far * _STEPS) + 4 * _STEPS, np.uint8)
    ending = np.clip(share, 0, 1).astype(np.float32)
    first = int(np.flatnonzero(ending > 1 / 512)[0])
    return np.concatenate((levels, padding)), far, ending[first:], -float(x[first])
