"""BlindTest's nested squares: how many squares are in the picture, each inside the one before?

Two looks are generated, in whole ten-thousandths of the picture's side:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581). Matplotlib's figure of 10 inches
  at 1,000 pixels, whose axes span 30 lengths in 770 pixels; the outermost square's side is 8 to 18 of them, each next
  one's is three quarters of it less 0.75; black outlines of 2, 3 or 4 points on whole pixels.
* ``varied``: for training. Half of the pictures look like the paper's with sizes, gaps and widths from ranges around
  its own, anywhere between pixels; the others vary in size, place, gaps, width, colour, ground and blur.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from foveal.tasks.blindtest.drawing.bars import Look, covered
from foveal.tasks.blindtest.drawing.canvas import as_image, palette
from foveal.tasks.blindtest.drawing.colours import dark, pale
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, Question, in_braces
from foveal.tasks.blindtest.sources import Label, Layout, agreed
from foveal.tasks.blindtest.wording import number_among

#: Left, top, right and bottom of an outline's middle, in ``UNITS``.
Box = tuple[int, int, int, int]

#: Coordinates are whole numbers of this part of the picture's side.
UNITS = 10_000
#: Side of the published pictures in pixels; outlines there lie on whole pixels.
PIXELS = 1000
#: Where the published axes' origin is, and one of their lengths, in units.
ORIGIN, LENGTH = (5125, 5050), 7700 / 30
#: Width of an outline of one point in a figure of 10 inches, in units.
POINT = UNITS / 72 / 10

LABELS = (2, 3, 4, 5)


@dataclass(frozen=True)
class Scene(PuzzleScene):
    """The outlines of a picture.

    Attributes:
        boxes: From the outermost one inwards; each lies inside the one before.
        width: Width of their outlines.
        look: How they are drawn.
    """

    boxes: tuple[Box, ...]
    width: float
    look: Look

    @property
    def label(self) -> int:
        """The number of squares."""
        return len(self.boxes)

    @property
    def geometry(self) -> tuple[int, ...]:
        """All coordinates."""
        return tuple(v for box in self.boxes for v in box)

    @property
    def cells(self) -> dict[str, str]:
        """The boxes and the width, in sides of the picture."""
        boxes = (" ".join(f"{v / UNITS:.4f}" for v in box) for box in self.boxes)
        return {"boxes": "; ".join(boxes), "width": f"{self.width / UNITS:.5f}"}

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        look, scale = self.look, size / UNITS
        # An outline is its outer rectangle without its inner one.
        half, across, down = self.width / 2, [], []
        for left, top, right, bottom in self.boxes:
            inner = min(half, (right - left) / 2, (bottom - top) / 2)
            across += [[((left - d) * scale, (right + d) * scale)] for d in (half, -inner)]
            down += [[((top - d) * scale, (bottom + d) * scale)] for d in (half, -inner)]
        x = covered(size, across, look.kernel, look.blur * scale)
        y = covered(size, down, look.kernel, look.blur * scale)
        x[1::2] *= -1
        columns, rows = _used(x[0]), _used(y[0])
        ink = y[:, rows].T @ x[:, columns]
        level = np.rint(np.minimum(np.maximum(ink, 0), 1) * 255).astype(np.uint8)
        colours = palette(look.ground, look.ink)
        canvas = np.full((size, size), colours[0])
        canvas[rows, columns] = colours.take(level)
        return as_image(canvas)


def _used(coverage: Any) -> slice:
    """From the first to the last pixel that is covered at all."""
    used = np.flatnonzero(coverage)
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)


def _nested(
    rng: random.Random, number: int, x: float, y: float, side: float, factor: float, padding: float
) -> list[tuple[float, float, float]]:
    """Centres and sides: each next square's side is ``factor`` of the last one's less ``padding``.

    It lies anywhere in the last one, half of ``padding`` or more away from its sides.
    """
    squares = [(x, y, side)]
    for _ in range(number - 1):
        smaller = side * factor - padding
        away = (side - smaller - padding) / 2
        x, y, side = x + rng.uniform(-away, away), y + rng.uniform(-away, away), smaller
        squares.append((x, y, side))
    return squares


def _room(side: float, factor: float, padding: float) -> float:
    """Side of the innermost of the most squares that are ever asked about; a size fits all numbers or none."""
    for _ in range(LABELS[-1] - 1):
        side = side * factor - padding
    return side


def _boxes(squares: Sequence[tuple[float, float, float]]) -> tuple[Box, ...]:
    return tuple((round(x - s / 2), round(y - s / 2), round(x + s / 2), round(y + s / 2)) for x, y, s in squares)


def _paper(rng: random.Random, number: int, size: int, scale: float) -> Sampler:
    points = rng.choice((2, 3, 4))
    # Smaller pictures look like shrunken published ones.
    look = Look(kernel="box" if size >= PIXELS else "bilinear")
    # Matplotlib lays outlines that are an odd number of pixels wide on the middle of one.
    pixel = UNITS // PIXELS
    odd = pixel // 2 * (round(points * POINT / pixel) % 2)

    def snapped(units: float) -> int:
        return int(units / pixel + 0.5) * pixel + odd

    def sample() -> Scene:
        x, y, side = rng.uniform(-5, 5), rng.uniform(-5, 5), rng.uniform(8, 18)
        boxes = []
        for a, b, length in _nested(rng, number, x, y, side, 0.75, 0.75):
            x, y, half = ORIGIN[0] + a * LENGTH, ORIGIN[1] + b * LENGTH, length / 2 * LENGTH
            boxes.append((snapped(x - half), snapped(y - half), snapped(x + half), snapped(y + half)))
        return Scene(tuple(boxes), points * POINT * scale, look)

    return sample


def _varied(rng: random.Random, number: int, _: int, scale: float) -> Sampler:
    kernel: Filter = rng.choice(("box", "bilinear", "bilinear", "bicubic"))
    if rng.random() < 0.5:
        width = rng.uniform(1.9, 4.2) * POINT
        look = Look(kernel=kernel, blur=rng.choice((0, 0, 10)))

        def like_paper() -> Scene | None:
            length = LENGTH * rng.uniform(0.98, 1.02)
            x, y = (o + rng.uniform(-5.2, 5.2) * length for o in ORIGIN)
            side, factor = rng.uniform(7.8, 18.2), rng.uniform(0.73, 0.77)
            padding = rng.uniform(0.7, 0.85) * length
            # No published outline leaves less ground inside.
            if _room(side * length, factor, padding) <= width + 50:
                return None
            return Scene(_boxes(_nested(rng, number, x, y, side * length, factor, padding)), width * scale, look)

        return like_paper

    width = 25 * 4.8 ** rng.random()
    inverted = rng.random() < 0.1
    ink, ground = dark(rng), pale(rng)
    colours = (ground, ink) if inverted else (ink, ground)
    look = Look(*colours, kernel, rng.choice((0, 0, 10, 20)))

    def anywhere() -> Scene | None:
        side = UNITS * rng.uniform(0.2, 0.92)
        free = UNITS - side - 2 * width
        if free < 0:
            return None
        x, y = (width + side / 2 + rng.random() * free for _ in range(2))
        # Outlines stay apart by a bit of ground.
        padding = 2 * (width + rng.uniform(40, 150))
        factor = rng.uniform(0.6, 0.9)
        if _room(side, factor, padding) <= 2 * width + 80:
            return None
        return Scene(_boxes(_nested(rng, number, x, y, side, factor, padding)), width * scale, look)

    return anywhere


#: The truth in a data set's label.
read_label = number_among(LABELS, "the number of squares")


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    count = agreed(match[1], cells, "squares", read_label)
    return [Label((count, count))]


class Squares(Puzzle):
    """How many nested squares are in the picture: 2, 3, 4 or 5?"""

    name = "blindtest/squares"
    title = "Nested squares"
    summary = "Count squares that lie one inside the other (BlindTest's nested squares): 2 to 5."
    first = Question(
        "Count total number of squares in the image. "
        "Answer with only the number in numerical format in curly brackets e.g. {3}.",
        "count squares",
        in_braces,
    )
    second = Question(
        "How many squares are in the image? Please answer with a number in curly brackets e.g., {10}.",
        "count squares",
        in_braces,
    )
    labels = LABELS
    styles: ClassVar = {"paper": _paper, "varied": _varied}
    values = LABELS
    layout = Layout(
        read_label,
        re.compile(r"nested_squares_depth_(\d+)_image_\d+_thickness_\d+\.png$"),
        _published,
        columns=("squares",),
        hub_tasks=("Nested Squares",),
    )
    card = """
Outlines of squares, each inside the one before. The label is their number: 2, 3, 4 or 5. No arrangement is in two
splits.

Columns of `metadata.csv`: file_name; label; the squares from the outermost one inwards, each as left, top, right and
bottom of the middle of its outline (boxes); the outlines' width. Lengths are in sides of the picture, y downwards.
"""
