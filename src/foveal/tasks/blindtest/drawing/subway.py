"""Draws subway maps: bars of one colour along the axes, and letters.

What a bar covers of a pixel is the product of how far it covers the pixel's column and its row, whatever filter smooths
its edges. A map is a sum of bars without overlap: squares at the lattice's nodes, each in the colour of the uppermost
route there, and arms between them. So a map is a product of small matrices, of colours on the lattice and of how far
its lines cover the pixels, and takes no longer with many routes than with few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.bars import covered
from foveal.tasks.blindtest.drawing.colours import BLACK, WHITE
from foveal.tasks.blindtest.drawing.filters import RESAMPLING, Filter
from foveal.tasks.blindtest.drawing.lettering import font
from foveal.tasks.blindtest.subway_routes import CELLS, HIGH, LOW, Route

#: Lengths are in this part of the picture's side.
UNITS = 10_000
#: The published letters' size (the em): 100 points in a figure of 18 inches.
EM = UNITS * 100 / 72 / 18

#: The published letters' left ends and base lines in cells, y downwards.
_ANCHORS: Final = {"A": (8.45, 1.5), "B": (16.5, 9.4), "C": (8.45, 17.4), "D": (0.4, 9.4)}
#: Middles of the published letters, about which other sizes grow.
_MIDDLES: Final = {"A": (8.99, 0.99), "B": (17.03, 8.89), "C": (8.96, 16.89), "D": (0.98, 8.89)}
#: Lines of the lattice that routes are on, the exits' included.
_LINES: Final = HIGH - LOW + 3
#: Levels of what is covered: all sums are exact, and do not depend on the order in which a machine adds.
_LEVELS: Final = 128
#: Products of the sizes of two matrices above which OpenBLAS starts threads, which would be in the way of others.
_SMALL: Final = 1 << 18


@dataclass(frozen=True)
class Look:
    """How a map is drawn. Lengths are in units of the side.

    Attributes:
        width: Width of the lines, less than a cell.
        colours: One for each route.
        ground: Colour of the background.
        ink: Colour of the letters.
        origin: Where the lattice's corner is: x, y.
        cell: Its cells' width and height.
        em: Size of the letters' font.
        font: Name of the letters' font.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur.
    """

    width: float
    colours: tuple[Colour, ...]
    ground: Colour = WHITE
    ink: Colour = BLACK
    origin: tuple[float, float] = (0, 0)
    cell: tuple[float, float] = (UNITS / CELLS, UNITS / CELLS)
    em: float = EM
    font: str = "DejaVuSans-Bold"
    kernel: Filter = "bicubic"
    blur: float = 0


def draw_map(size: int, routes: Sequence[Route], look: Look) -> Image.Image:
    """The picture of a map, later routes over earlier ones.

    Args:
        size: Side of the picture in pixels.
        routes: Corners of each route.
        look: How it is drawn.
    """
    scale = size / UNITS
    blur = round(look.blur * scale * 32) / 32
    (left, top), (wide, high) = look.origin, look.cell
    x_axis, y_axis = _axes(
        size, (left * scale, top * scale), (wide * scale, high * scale), look.width * scale, look.kernel, blur
    )
    canvas = np.empty((3, size, size), np.uint8)
    canvas[:] = np.array(look.ground, np.uint8)[:, None, None]
    _paint(canvas, routes, look, x_axis, y_axis)
    for letter, (mid_x, mid_y) in _MIDDLES.items():
        (x, y), grown = _ANCHORS[letter], look.em / EM * size / CELLS
        x = (left + mid_x * wide) * scale + (x - mid_x) * grown
        y = (top + mid_y * high) * scale + (y - mid_y) * grown
        _write(canvas, letter, (x, y), look, look.em * scale, blur)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in canvas])


class _Axis(NamedTuple):
    """How the lattice's lines lie across one axis.

    Attributes:
        low: First pixel that they touch.
        parts: How far each line, and each gap between two, covers each pixel from there on, [2 * line, pixel]; gaps are
            the odd ones.
        lines: The lines alone.
    """

    low: int
    parts: NDArray[np.float32]
    lines: NDArray[np.float32]


@lru_cache(maxsize=16)
def _axes(
    size: int, origin: tuple[float, float], cell: tuple[float, float], width: float, kernel: Filter, blur: float
) -> list[_Axis]:
    """The two axes, x first; lengths are in pixels."""
    reach, intervals, bounds = 2.5 + 3 * blur, [], []
    for start, step in zip(origin, cell, strict=True):
        centres = [start + i * step for i in range(LOW - 1, HIGH + 2)]
        ends = [end for centre in centres for end in (centre - width / 2, centre + width / 2)]
        # Lines and gaps take turns, so each ends where the next begins.
        intervals += [[pair] for pair in pairwise(ends)]
        bounds.append((max(0, math.floor(ends[0] - reach)), min(size, math.ceil(ends[-1] + reach))))
    parts = np.rint(covered(size, intervals, kernel, blur) * np.float32(_LEVELS)) / np.float32(_LEVELS)
    halves = zip(np.split(parts, 2), bounds, strict=True)
    return [_Axis(low, half[:, low:high], half[::2, low:high]) for half, (low, high) in halves]


def _paint(canvas: NDArray[np.uint8], routes: Sequence[Route], look: Look, x_axis: _Axis, y_axis: _Axis) -> None:
    ground = np.array(look.ground, np.float32)
    # What each part of each line adds to the ground's colour, [channel, line, part]: all nodes are in the rows.
    rows = np.zeros((3, _LINES, 2 * _LINES - 1), np.float32)
    columns = np.zeros_like(rows)
    first = LOW - 1
    for route, colour in zip(routes, look.colours, strict=True):
        paint = (np.array(colour, np.float32) - ground)[:, None]
        x, y = route[0]
        for x2, y2 in route[1:]:
            if y == y2:
                start, stop = (x, x2) if x < x2 else (x2, x)
                rows[:, y - first, 2 * (start - first) : 2 * (stop - first) + 1] = paint
            else:
                start, stop = (y, y2) if y < y2 else (y2, y)
                rows[:, start - first : stop - first + 1, 2 * (x - first)] = paint
                columns[:, x - first, 2 * (start - first) + 1 : 2 * (stop - first) : 2] = paint
            x, y = x2, y2
    wide, high = x_axis.lines.shape[1], y_axis.lines.shape[1]
    right = np.empty((3, 1, 2 * _LINES, wide), np.float32)
    np.matmul(rows, x_axis.parts, out=right[:, 0, :_LINES])
    right[:, 0, _LINES:] = x_axis.lines
    # In slabs, or threads would be started.
    slab = max(1, _SMALL // (2 * _LINES * wide))
    left = np.zeros((3, -(-high // slab), slab, 2 * _LINES), np.float32)
    flat = left.reshape(3, -1, 2 * _LINES)
    flat[:, :high, :_LINES] = y_axis.lines.T
    flat[:, :high, _LINES:] = np.matmul(columns, y_axis.parts).transpose(0, 2, 1)
    added = np.matmul(left, right).reshape(3, -1, wide)[:, :high]
    # A sharpening filter overshoots.
    added += ground[:, None, None] + np.float32(0.5)
    np.clip(added, 0, 255, out=added)
    canvas[:, y_axis.low : y_axis.low + high, x_axis.low : x_axis.low + wide] = added


def _write(
    canvas: NDArray[np.uint8], letter: str, place: tuple[float, float], look: Look, height: float, blur: float
) -> None:
    """Puts a letter with its left end and base line at a place in pixels."""
    left, base = math.floor(place[0]), math.floor(place[1])
    mask, dx, dy = _letter(letter, look.font, height, place[0] - left, place[1] - base, look.kernel, blur)
    left, top, size = left + dx, base + dy, canvas.shape[1]
    mask = mask[max(0, -top) : max(0, size - top), max(0, -left) : max(0, size - left)]
    top, left = max(0, top), max(0, left)
    box = canvas[:, top : top + mask.shape[0], left : left + mask.shape[1]]
    below = box.astype(np.float32)
    box[:] = below + mask * (np.array(look.ink, np.float32)[:, None, None] - below) + np.float32(0.5)


@lru_cache(maxsize=64)
def _letter(
    letter: str, name: str, height: float, right: float, down: float, kernel: Filter, blur: float
) -> tuple[NDArray[np.float32], int, int]:
    """How far a letter covers the pixels around it, and where they begin, seen from the pixel of its left end.

    Args:
        letter: What to write.
        name: The font.
        height: Its size in pixels.
        right: How far the left end lies to the right of a pixel's outer corner.
        down: How far the base line lies below it.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur in pixels.
    """
    large, em, (x0, y0, x1, y1) = _large(letter, name, max(32, 1 << math.ceil(math.log2(2 * height))))
    fine = em / height
    margin = 2 + 3 * blur
    x, y = math.floor(right + x0 / fine - margin), math.floor(down + y0 / fine - margin)
    wide = math.ceil(right + x1 / fine + margin) - x
    high = math.ceil(down + y1 / fine + margin) - y
    left, top = 2 * em + (x - right) * fine, 2 * em + (y - down) * fine
    if min(left, top) < 0:  # Letters of two pixels: the filter reaches beyond the large one's border.
        large, left, top = ImageOps.expand(large, 2 * em), left + 2 * em, top + 2 * em
    box = large.resize((wide, high), RESAMPLING[kernel], (left, top, left + wide * fine, top + high * fine))
    if blur:
        box = box.filter(ImageFilter.GaussianBlur(blur))
    mask = np.asarray(box, np.float32) / np.float32(255)
    mask.flags.writeable = False
    return mask, x, y


@lru_cache(maxsize=64)
def _large(letter: str, name: str, em: int) -> tuple[Image.Image, int, tuple[float, float, float, float]]:
    """A letter, to be shrunk: left end and base line are two of its sizes from the top left; its size; its ink's box."""
    large = font(name, em)
    box = Image.new("L", (5 * em, 5 * em))
    ImageDraw.Draw(box).text((2 * em, 2 * em), letter, fill=255, font=large, anchor="ls")
    return box, em, large.getbbox(letter, anchor="ls")
