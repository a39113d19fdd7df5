"""Rated pictures that are drawn when they are opened: dots, area, brightness or slope, with an exact score.

A score is from 1 to 5 and a rising function of the quality alone:

* ``dots``: their number, 4 to 64, a step of 4/60 each;
* ``area``: the share of the picture that a blob fills, 0.02 to 0.22;
* ``brightness``: the mean of the picture's luma (ITU-R BT.601), 40 to 215;
* ``slope``: the angle between a line and the horizontal, 4 to 86 degrees.

The last three have 241 steps of 1/60. Colours, places, shapes, sizes and directions are random and independent of the
score. A picture depends on the quality, the seed, the split and its index.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from foveal.drawing.figures import Colour, Point, polygon_area
from foveal.examples import Split
from foveal.images import Picture
from foveal.tasks.comparison.scores import Rated
from foveal.tasks.lazy import Lazy

Quality = Literal["dots", "area", "brightness", "slope"]

#: Scores are whole multiples of 1/60, as means of 60 ratings are.
PART = 60
LOWEST, HIGHEST = 1 * PART, 5 * PART
FEWEST_DOTS, MOST_DOTS = 4, 64
#: Sixtieths of a score for each dot.
DOT_STEP = (HIGHEST - LOWEST) // (MOST_DOTS - FEWEST_DOTS)
SMALLEST_AREA, LARGEST_AREA = 0.02, 0.22
DARKEST, BRIGHTEST = 40.0, 215.0
FLATTEST, STEEPEST = 4.0, 86.0
#: Smallest and largest side in pixels: below it dots run together.
SIDES = (64, 2048)
#: Width of the free border, as a share of the side.
_MARGIN = 0.03
#: Pillow's polygons are larger than their outlines by this many pixels on each side (measured).
_BORDER = 0.33
#: Weights of red, green and blue in the luma (ITU-R BT.601).
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True)
class Synthetic(Lazy[Rated]):
    """A split of rated pictures, drawn when they are opened.

    Attributes:
        quality: What is rated.
        length: Number of pictures.
        split: Each split has random numbers of its own.
        seed: Decides all pictures and scores.
        image_size: Width and height of the pictures in pixels.
    """

    quality: Quality
    length: int
    split: Split = "train"
    seed: int = 0
    image_size: int = 224

    def __len__(self) -> int:
        return self.length

    def row(self, index: int) -> Rated:
        """See ``Lazy.row``."""
        picture = Picture(f"{self.quality} {self.split}/{index}", partial(self.draw, index))
        return Rated(f"{index:05d}", picture, Fraction(self.parts(index), PART))

    def parts(self, index: int) -> int:
        """A picture's score in sixtieths; all scores of the quality are equally likely."""
        step = DOT_STEP if self.quality == "dots" else 1
        rng = random.Random(f"{self.quality}/{self.seed}/{self.split}/score {index}")
        return LOWEST + step * rng.randrange((HIGHEST - LOWEST) // step + 1)

    def draw(self, index: int) -> Image.Image:
        """The picture of an index."""
        rng = random.Random(f"{self.quality}/{self.seed}/{self.split}/picture {index}")
        return draw(self.quality, amount(self.quality, self.parts(index)), self.image_size, rng)


def amount(quality: Quality, parts: int) -> float:
    """The amount of the quality at a score of so many sixtieths, in the unit of the module's docstring."""
    low, high = RANGES[quality]
    return low + (high - low) * (parts - LOWEST) / (HIGHEST - LOWEST)


def draw(quality: Quality, value: float, size: int, rng: random.Random) -> Image.Image:
    """A picture with a given amount of a quality.

    Args:
        quality: The quality.
        value: See ``amount``.
        size: Width and height in pixels.
        rng: Decides everything else in the picture.
    """
    if quality == "brightness":
        return _brightness(value, size, rng)
    ground, ink = _colours(rng)
    # Drawn larger and averaged: that smooths the edges.
    factor = 3 if size <= 256 else 2
    image = Image.new("RGB", (size * factor, size * factor), ground)
    {"dots": _dots, "area": _area, "slope": _slope}[quality](value, ImageDraw.Draw(image), size * factor, ink, rng)
    return image.reduce(factor)


def _colours(rng: random.Random) -> tuple[Colour, Colour]:
    """Ground and ink, the one pale and the other dark, either way round."""

    def colour(low: float, high: float) -> Colour:
        red, green, blue = colorsys.hls_to_rgb(rng.random(), rng.uniform(low, high), rng.uniform(0, 0.9))
        return round(255 * red), round(255 * green), round(255 * blue)

    pale, dark = colour(0.78, 0.98), colour(0.08, 0.38)
    return (dark, pale) if rng.random() < 0.3 else (pale, dark)


def _dots(value: float, canvas: ImageDraw.ImageDraw, side: int, ink: Colour, rng: random.Random) -> None:
    # Each dot has a square of a grid to itself, so that dots never touch.
    squares = rng.choice((9, 10, 11))
    square = (1 - 2 * _MARGIN) / squares
    mean_radius = square * rng.uniform(0.18, 0.31)
    spread = rng.uniform(0, 0.2)
    for number in rng.sample(range(squares * squares), round(value)):
        row, column = divmod(number, squares)
        r = mean_radius * (1 + rng.uniform(-spread, spread))
        free = square * 0.42 - r
        x = _MARGIN + (column + 0.5) * square + rng.uniform(-free, free)
        y = _MARGIN + (row + 0.5) * square + rng.uniform(-free, free)
        canvas.ellipse(((x - r) * side, (y - r) * side, (x + r) * side - 1, (y + r) * side - 1), fill=ink)


@lru_cache(maxsize=1)
def _outlines() -> Mapping[str, tuple[Point, ...]]:
    """Closed outlines around (0, 0), each of area 1."""

    def polar(count: int, radius: Callable[[float], float]) -> tuple[Point, ...]:
        angles = [2 * math.pi * i / count for i in range(count)]
        points = [(radius(a) * math.cos(a), radius(a) * math.sin(a)) for a in angles]
        scale = 1 / math.sqrt(polygon_area(points))
        return tuple((x * scale, y * scale) for x, y in points)

    return {
        "disc": polar(72, lambda a: 1),
        "square": polar(4, lambda a: 1),
        "hexagon": polar(6, lambda a: 1),
        "lobes": polar(90, lambda a: 1 + 0.22 * math.cos(3 * a)),
        "flower": polar(100, lambda a: 1 + 0.16 * math.cos(5 * a)),
        "egg": polar(72, lambda a: 1 + 0.18 * math.cos(a) + 0.08 * math.cos(2 * a)),
    }


def blob(area: float, rng: random.Random) -> list[Point]:
    """An outline of a given area inside the unit square; shape, place and direction are random."""
    outline = rng.choice(list(_outlines().values()))
    while True:
        stretch, turn = math.sqrt(rng.uniform(1, 1.6)), rng.uniform(0, 2 * math.pi)
        size, cos, sin = math.sqrt(area), math.cos(turn), math.sin(turn)
        flat = [(x * stretch * size, y / stretch * size) for x, y in outline]
        points = [(x * cos - y * sin, x * sin + y * cos) for x, y in flat]
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        free_x, free_y = (1 - 2 * _MARGIN - (b - a) for a, b in ((left, right), (top, bottom)))
        if min(free_x, free_y) >= 0:
            x = _MARGIN - left + rng.random() * free_x
            y = _MARGIN - top + rng.random() * free_y
            return [(a + x, b + y) for a, b in points]


def _area(value: float, canvas: ImageDraw.ImageDraw, side: int, ink: Colour, rng: random.Random) -> None:
    outline = blob(value, rng)
    # Pillow also fills pixels that the outline goes through; a smaller outline makes up for it.
    x, y = (sum(v) / len(outline) for v in zip(*outline, strict=True))
    length = sum(math.dist(a, b) for a, b in zip(outline, [*outline[1:], outline[0]], strict=True))
    less = math.sqrt(1 - _BORDER * length / (value * side))
    _fill(canvas, side, ink, [(x + (a - x) * less, y + (b - y) * less) for a, b in outline])


def _fill(canvas: ImageDraw.ImageDraw, side: int, ink: Colour, outline: Sequence[Point]) -> None:
    """Fills an outline, given in sides of the picture."""
    # A point (x, y) is the middle of a pixel in Pillow.
    canvas.polygon([(x * side - 0.5, y * side - 0.5) for x, y in outline], fill=ink)


def _brightness(value: float, size: int, rng: random.Random) -> Image.Image:
    # A pattern of waves and a tinge, both of mean brightness 0, on a gray of the wanted brightness.
    pattern = np.zeros((size, size), np.float32)
    for _ in range(rng.randint(2, 4)):
        angle, phase = rng.uniform(0, math.pi), rng.uniform(0, 2 * math.pi)
        pitch = 2 * math.pi * rng.uniform(0.7, 6)
        x, y = (_ramp(size) * np.float32(pitch * f(angle)) for f in (math.cos, math.sin))
        # cos(x + y + phase), from vectors alone
        wave = np.outer(np.cos(y + np.float32(phase)), np.cos(x)) - np.outer(np.sin(y + np.float32(phase)), np.sin(x))
        pattern += np.float32(rng.uniform(0.4, 1)) * wave
    pattern -= pattern.mean()
    room = min(value, 255 - value) - 2
    tinge = np.array([rng.uniform(-1, 1) for _ in range(3)], np.float32)
    tinge -= float(tinge @ _LUMA)
    tinge *= np.float32(0.4 * room * rng.random() / max(1e-6, float(np.abs(tinge).max())))
    pattern *= np.float32(0.58 * room * rng.uniform(0.3, 1) / max(1e-6, float(np.abs(pattern).max())))
    levels: NDArray[np.float32] = pattern[:, :, None] + (tinge + np.float32(value + 0.5))
    return Image.fromarray(levels.astype(np.uint8))


@lru_cache(maxsize=8)
def _ramp(size: int) -> NDArray[np.float32]:
    """The middles of a side's pixels, in sides of the picture."""
    return (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)


def line(angle: float, rng: random.Random) -> tuple[Point, Point]:
    """The ends of a line in the unit square that rises or falls by an angle in degrees; length and place are random."""
    length, turn = rng.uniform(0.35, 0.85), math.radians(angle)
    width, height = length * math.cos(turn), length * math.sin(turn)
    x = _MARGIN + rng.random() * (1 - 2 * _MARGIN - width)
    y = _MARGIN + rng.random() * (1 - 2 * _MARGIN - height)
    first, second = (y + height, y) if rng.random() < 0.5 else (y, y + height)
    return (x, first), (x + width, second)


def _slope(value: float, canvas: ImageDraw.ImageDraw, side: int, ink: Colour, rng: random.Random) -> None:
    (x, y), (u, v) = line(value, rng)
    half = rng.uniform(0.008, 0.03) / 2
    across, down = (-(v - y), u - x)
    norm = half / math.hypot(across, down)
    across, down = across * norm, down * norm
    corners = ((x + across, y + down), (u + across, v + down), (u - across, v - down), (x - across, y - down))
    _fill(canvas, side, ink, corners)


#: Least and most of each quality, for the scores 1 and 5.
RANGES: Mapping[Quality, tuple[float, float]] = {
    "dots": (FEWEST_DOTS, MOST_DOTS),
    "area": (SMALLEST_AREA, LARGEST_AREA),
    "brightness": (DARKEST, BRIGHTEST),
    "slope": (FLATTEST, STEEPEST),
}
QUALITIES: tuple[Quality, ...] = ("dots", "area", "brightness", "slope")
