"""What synthetic scenes are made of: a pale ground, and on it flat shapes with an edge in another tone of their colour.

The edge is what keeps two overlapping figures of one colour apart.

Frame: sides of the picture, x to the right, y downwards; a shape's own coordinates are in its radius around its middle.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

#: x and y.
Point = tuple[float, float]
#: Left, top, right, bottom.
Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]
Pattern = Literal["plain", "gradient", "stripes", "ruled", "dots"]
PATTERNS: tuple[Pattern, ...] = ("plain", "gradient", "stripes", "ruled", "dots")

#: Fill and edge of each colour, which differ by hue and by lightness. Black has a pale edge.
COLOURS: dict[str, tuple[Colour, Colour]] = {
    "red": ((222, 32, 38), (122, 8, 14)),
    "orange": ((255, 146, 20), (160, 78, 0)),
    "yellow": ((255, 226, 30), (148, 122, 0)),
    "green": ((40, 166, 62), (8, 84, 24)),
    "blue": ((36, 92, 226), (8, 34, 122)),
    "purple": ((136, 58, 190), (68, 18, 106)),
    "pink": ((255, 140, 200), (176, 44, 112)),
    "black": ((28, 28, 30), (168, 168, 172)),
}
#: Width of the edge, in radii; a ring has one on either side.
EDGE, RING_EDGE = 0.16, 0.09
#: Inner radius of a ring, in outer ones.
HOLE = 0.52


def polygon_area(points: Sequence[Point]) -> float:
    """Area inside a closed outline that does not cross itself (the shoelace formula), in the points' unit squared."""
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, [*points[1:], points[0]], strict=True))) / 2


@dataclass(frozen=True)
class Shape:
    """A shape of radius 1.

    Attributes:
        plural: What several are called.
        outline: Vertices, clockwise on the screen; empty for round shapes.
        reach: Distance of the farthest point from the middle.
        area: Its area.
        swing: Largest turn from upright in degrees, either way.
        hole: Inner radius of a ring, in radii.
    """

    plural: str
    outline: tuple[Point, ...]
    reach: float
    area: float
    swing: float
    hole: float = 0.0


def _polygon(plural: str, outline: Sequence[Point], swing: float) -> Shape:
    return Shape(plural, tuple(outline), max(math.hypot(*v) for v in outline), polygon_area(outline), swing)


def _round(plural: str, radius: float, hole: float = 0.0) -> Shape:
    return Shape(plural, (), radius, math.pi * (radius**2 - hole**2), 0.0, hole)


def _on_circles(radii: Sequence[float]) -> list[Point]:
    """Vertices at equal angles from the top, clockwise, at these distances in turn."""
    angles = [2 * math.pi * i / len(radii) for i in range(len(radii))]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _plus(length: float, half: float) -> list[Point]:
    quarter = [(-half, -length), (half, -length), (half, -half)]
    turned = [quarter]
    for _ in range(3):
        turned.append([(-y, x) for x, y in turned[-1]])
    return [vertex for part in turned for vertex in part]


def _heart(size: float) -> list[Point]:
    """The curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, about its middle."""
    points = []
    for i in range(28):
        t = 2 * math.pi * i / 28
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((size * math.sin(t) ** 3, -size * (y + 2.5) / 16))
    return points


#: Sizes are balanced by eye; turns never make one shape look like another.
SHAPES: dict[str, Shape] = {
    shape.plural: shape
    for shape in (
        _round("circles", 0.84),
        _polygon("squares", [(-0.76, -0.76), (0.76, -0.76), (0.76, 0.76), (-0.76, 0.76)], 14),
        _polygon("triangles", [(0, -0.98), (0.96, 0.72), (-0.96, 0.72)], 14),
        _polygon("stars", _on_circles([1.1, 0.48] * 5), 18),
        _round("rings", 0.9, 0.9 * HOLE),
        _polygon("crosses", _plus(0.96, 0.33), 12),
        _polygon("hearts", _heart(0.95), 14),
        _polygon("diamonds", [(0, -1.08), (0.66, 0), (0, 1.08), (-0.66, 0)], 12),
    )
}


@cache
def _inset(shape: str) -> tuple[Point, ...]:
    """The shape's outline without its edge: each side is moved inwards by ``EDGE``."""
    inner = []
    points = SHAPES[shape].outline
    for i, (x, y) in enumerate(points):
        before, after = points[i - 1], points[(i + 1) % len(points)]
        # Normals to the right of a clockwise way, which is inwards.
        ax, ay = _normal(before, (x, y))
        bx, by = _normal((x, y), after)
        # Corners are cut where they are sharper than some 40 degrees: their tip has no inside.
        share = EDGE / max(1 + ax * bx + ay * by, 0.25)
        inner.append((x + (ax + bx) * share, y + (ay + by) * share))
    return tuple(inner)


def _normal(a: Point, b: Point) -> Point:
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    return -dy / length, dx / length


@dataclass(frozen=True)
class Figure:
    """A shape in its place.

    Attributes:
        shape: Its name in ``SHAPES``.
        colour: Its name in ``COLOURS``.
        x: Middle, in sides of the picture.
        y: The same.
        radius: In sides of the picture.
        turn: Clockwise from upright, in radians.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    turn: float = 0.0

    @property
    def kind(self) -> str:
        """What several of its kind are called, e.g. red circles."""
        return f"{self.colour} {self.shape}"

    @property
    def reach(self) -> float:
        """Distance of its farthest point from its middle, in sides of the picture."""
        return SHAPES[self.shape].reach * self.radius

    @property
    def area(self) -> float:
        """Area in squares of the picture's side."""
        return SHAPES[self.shape].area * self.radius**2

    @property
    def box(self) -> Box:
        """The smallest box around it, in sides of the picture."""
        outline = self._placed(SHAPES[self.shape].outline, 1.0, 0.0)
        if not outline:
            reach = self.reach
            return self.x - reach, self.y - reach, self.x + reach, self.y + reach
        return min(outline[::2]), min(outline[1::2]), max(outline[::2]), max(outline[1::2])

    def draw(self, canvas: ImageDraw.ImageDraw, size: int) -> None:
        """Draws it on a canvas ``size`` pixels wide and high."""
        shape = SHAPES[self.shape]
        fill, edge = COLOURS[self.colour]
        self.cover(canvas, size, edge)
        if shape.outline:
            canvas.polygon(self._placed(_inset(self.shape), size, -0.5), fill=fill)
        else:
            self._round(canvas, size, (RING_EDGE if shape.hole else EDGE) * self.radius * size, fill)

    def cover(self, canvas: ImageDraw.ImageDraw, size: int, fill: Colour | int) -> None:
        """Fills the very pixels that ``draw`` draws on, edge and all, with one colour."""
        shape = SHAPES[self.shape]
        if shape.outline:
            # Pillow's coordinates are those of pixels' middles.
            canvas.polygon(self._placed(shape.outline, size, -0.5), fill=fill)
        else:
            self._round(canvas, size, 0.0, fill)

    def _round(self, canvas: ImageDraw.ImageDraw, size: int, inset: float, fill: Colour | int) -> None:
        """Draws a circle or a ring without so many pixels on each of its sides."""
        radius = self.reach * size - inset
        hole = SHAPES[self.shape].hole * self.radius * size
        x, y = self.x * size - 0.5, self.y * size - 0.5
        place = (x - radius + 0.5, y - radius + 0.5, x + radius - 0.5, y + radius - 0.5)
        if hole:
            canvas.ellipse(place, outline=fill, width=round(radius - hole - inset))
        else:
            canvas.ellipse(place, fill=fill)

    def _placed(self, points: Sequence[Point], scale: float, shift: float) -> list[float]:
        """x and y of the points in turn, in sides of the picture times ``scale``."""
        right, down = math.cos(self.turn) * self.radius * scale, math.sin(self.turn) * self.radius * scale
        x, y = self.x * scale + shift, self.y * scale + shift
        return [v for a, b in points for v in (x + a * right - b * down, y + a * down + b * right)]


@dataclass(frozen=True)
class Ground:
    """What the figures lie on.

    Attributes:
        pattern: Its kind.
        paper: Its colour.
        second: Colour of what is on it, or at the other end of it.
        pitch: Distance of its stripes, lines or dots, in sides of the picture.
        upright: Whether stripes and gradients run from left to right.
    """

    pattern: Pattern
    paper: Colour
    second: Colour
    pitch: float
    upright: bool

    def draw(self, canvas: ImageDraw.ImageDraw, size: int) -> None:
        """Draws it on a canvas of the paper's colour, ``size`` pixels wide and high."""
        step = self.pitch * size
        if self.pattern == "gradient":
            bands = max(2, *(abs(a - b) for a, b in zip(self.paper, self.second, strict=True)))
            for i in range(bands):
                share = i / (bands - 1)
                mixed = [round(a + (b - a) * share) for a, b in zip(self.paper, self.second, strict=True)]
                self._band(canvas, size, size * i / bands, size * (i + 1) / bands, (mixed[0], mixed[1], mixed[2]))
        elif self.pattern == "dots":
            radius = step * 0.14
            for i in range(1 + int(size / step)):
                for j in range(1 + int(size / step)):
                    x, y = (i + 0.5 * (j % 2)) * step, j * step
                    canvas.rectangle((x - radius, y - radius, x + radius, y + radius), fill=self.second)
        elif self.pattern != "plain":
            width = step * (0.5 if self.pattern == "stripes" else 0.07)
            for i in range(1 + int(size / step)):
                self._band(canvas, size, i * step, i * step + width, self.second)

    def _band(self, canvas: ImageDraw.ImageDraw, size: int, start: float, stop: float, colour: Colour) -> None:
        place = (start, 0, stop, size) if self.upright else (0, start, size, stop)
        canvas.rectangle(place, fill=colour)


def make_ground(rng: random.Random) -> Ground:
    """A pale ground, on which every colour stands out."""
    level = rng.randint(228, 252)
    paper = tuple(level - rng.randint(0, 14) for _ in range(3))
    step = rng.randint(8, 22)
    second = tuple(v - step + rng.randint(-4, 4) for v in paper)
    pattern = rng.choice(PATTERNS)
    return Ground(
        pattern,
        (paper[0], paper[1], paper[2]),
        (second[0], second[1], second[2]),
        rng.uniform(0.08, 0.2),
        rng.random() < 0.5,
    )


def fineness(size: int) -> int:
    """How many times as wide and high a scene is drawn as its picture of ``size`` pixels is."""
    return 4 if size <= 160 else 3 if size <= 512 else 2


def drawn(ground: Ground, figures: Sequence[Figure], size: int) -> Image.Image:
    """The picture, ``size`` pixels wide and high, of figures that lie on a ground, the lowest one first."""
    # Drawn larger and averaged: that smooths the edges.
    factor = fineness(size)
    large = Image.new("RGB", (size * factor, size * factor), ground.paper)
    canvas = ImageDraw.Draw(large)
    ground.draw(canvas, size * factor)
    for figure in figures:
        figure.draw(canvas, size * factor)
    return large.reduce(factor)


def blend(
    below: NDArray[np.uint8], colour: Sequence[float], share: NDArray[np.float32] | np.float32
) -> NDArray[np.float32]:
    """Pixels with a colour laid on them, to be cut off to whole levels.

    Args:
        below: The pixels, [..., 3].
        colour: What is laid on them.
        share: How far it covers them, 0 to 1; of a shape that fits theirs.
    """
    ink = np.array(colour, dtype=np.float32)
    mixed: NDArray[np.float32] = below + share * (ink - below) + np.float32(0.5)
    return mixed


def lens(a: float, b: float, distance: float) -> float:
    """Area that two discs share.

    Args:
        a: Radius of one.
        b: Radius of the other.
        distance: Between their middles, in the unit of the radii.
    """
    if distance >= a + b:
        return 0.0
    if distance <= abs(a - b):
        return math.pi * min(a, b) ** 2
    # Two circular segments, each a sector without its triangle.
    x = (distance**2 + a**2 - b**2) / (2 * distance)
    half = math.sqrt(max(a**2 - x**2, 0.0))
    return a**2 * math.atan2(half, x) + b**2 * math.atan2(half, distance - x) - distance * half
