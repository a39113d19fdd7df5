"""BlindTest's first puzzle: how many times do a blue and a red line, of two segments each, meet?

Three looks are generated, in whole ten-thousandths of the picture's side so that the truth is exact:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581, and the authors' notebook). A
  figure of 5 inches; vertices on 13 ticks, at x = 0.008, 0.5 and 0.992 of the side; the lines never share a tick at the
  same x, and no segment runs along the border; 2 or 4 points wide; red over blue; drawn large and shrunk by Pillow.
* ``tutorial``: Lucas Beyer's big_vision tutorial (2024). Random x in three bands, y on whole pixels, more than twice
  the line's thickness between the lines at each x; OpenCV's anti-aliased lines of 2 pixels at 224.
* ``varied``: for training. Half of the pictures look like the paper's, the others vary in size, margins, width, colour,
  ground, blur, ends and order. Vertices are anywhere, never all on the ticks: no published geometry is ever trained on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from PIL import Image

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.colours import WHITE, pale
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.drawing.strokes import Cap, Pen, draw_polylines
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, PuzzleData, PuzzleMake, Question, in_braces
from foveal.tasks.blindtest.sources import Label, Layout, agreed
from foveal.tasks.blindtest.wording import number_among

Three = tuple[int, int, int]

#: Coordinates are whole numbers of this part of the picture's side.
UNITS = 10_000
#: BlindTest's ticks: twelfths rounded to 0.01, the outermost a tenth of a cell from the border, rounded to 0.002.
#: They are symmetric, so that it does not matter which way y runs.
TICKS = (80, 800, 1700, 2500, 3300, 4200, 5000, 5800, 6700, 7500, 8300, 9200, 9920)
ON_TICKS = frozenset(TICKS)
PAPER_X = (80, 5000, 9920)
#: Width of a line of one point in a figure of 5 inches, in sides.
POINT = 1 / 72 / 5
#: How much wider than its nominal thickness OpenCV 4 draws an anti-aliased line, and the softness of its edges, both in
#: pixels: with them, pictures differ by 0.2 of 255 on average from OpenCV's (0.7 with neither).
OPENCV_EXTRA, OPENCV_BLUR = 1.35, 0.2

LABELS = (0, 1, 2)
BLUE, RED = (0, 0, 255), (255, 0, 0)


def meetings(blue: Three, red: Three) -> int:
    """How often two lines meet whose y are given at the same three x, and differ at each.

    Between two of the places they cross once if their order changes, else not at all; nowhere do they merely touch.
    So the x do not matter.
    """
    left, middle, right = blue[0] < red[0], blue[1] < red[1], blue[2] < red[2]
    return (left != middle) + (middle != right)


@dataclass(frozen=True)
class Look:
    """How a scene is drawn.

    Attributes:
        pen: Width, ends and edges, in pixels.
        blue: Colour of the blue line.
        red: Colour of the red line.
        ground: Colour of the background.
        red_on_top: Which line is drawn last.
    """

    pen: Pen
    blue: Colour = BLUE
    red: Colour = RED
    ground: Colour = WHITE
    red_on_top: bool = True


@dataclass(frozen=True)
class Scene(PuzzleScene):
    """The two lines of a picture.

    Attributes:
        x: Where both lines have their three vertices, in ``UNITS`` of the side, ascending.
        blue: The blue line's y there, downwards.
        red: The red line's y there; it differs from the blue one at each x.
        look: How they are drawn.
        size: Side in pixels of the picture that the look's pen is for.
    """

    x: Three
    blue: Three
    red: Three
    look: Look
    size: int = 224

    @property
    def label(self) -> int:
        """How often the lines meet."""
        return meetings(self.blue, self.red)

    @property
    def geometry(self) -> tuple[int, ...]:
        """The six y."""
        return (*self.blue, *self.red)

    @property
    def cells(self) -> dict[str, str]:
        """Vertices and width, in sides of the picture."""
        cells: dict[str, str] = {}
        for name, values in (("x", self.x), ("blue_y", self.blue), ("red_y", self.red)):
            cells |= {f"{name}{i}": f"{value / UNITS:.4f}" for i, value in enumerate(values)}
        return {**cells, "width": f"{self.look.pen.width / self.size:.5f}"}

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        scale = size / UNITS
        x0, x1, x2 = (x * scale for x in self.x)
        (b0, b1, b2), (r0, r1, r2) = self.blue, self.red
        look = self.look
        blue = ((x0, b0 * scale), (x1, b1 * scale), (x2, b2 * scale)), look.blue
        red = ((x0, r0 * scale), (x1, r1 * scale), (x2, r2 * scale)), look.red
        return draw_polylines(size, look.ground, (blue, red) if look.red_on_top else (red, blue), look.pen)


def _scene(label: int, x: Three, blue: Three, red: Three, look: Look, size: int) -> Scene | None:
    """The scene of these lines, or None where they meet more or less often than they should."""
    return Scene(x, blue, red, look, size) if meetings(blue, red) == label else None


def _pair(rng: random.Random) -> tuple[int, int]:
    first, second = int(rng.random() * len(TICKS)), int(rng.random() * (len(TICKS) - 1))
    return TICKS[first], TICKS[second + (second >= first)]


def _paper(rng: random.Random, label: int, size: int, scale: float) -> Sampler:
    look = Look(Pen(rng.choice((2, 4)) * POINT * size * scale, kernel="bicubic"))
    border = (TICKS[0], TICKS[-1])

    def next_pair(blue: int, red: int) -> tuple[int, int]:
        while True:
            next_blue, next_red = _pair(rng)
            if not (next_blue == blue in border or next_red == red in border):
                return next_blue, next_red

    def sample() -> Scene | None:
        blue0, red0 = _pair(rng)
        blue1, red1 = next_pair(blue0, red0)
        blue2, red2 = next_pair(blue1, red1)
        return _scene(label, PAPER_X, (blue0, blue1, blue2), (red0, red1, red2), look, size)

    return sample


def _tutorial(rng: random.Random, label: int, size: int, scale: float) -> Sampler:
    thickness = 2 * size / 224 * scale
    look = Look(Pen(thickness + OPENCV_EXTRA, cap="round", blur=OPENCV_BLUR))

    # Half a unit more, for the coordinates are rounded.
    least = 2 * thickness / size * UNITS + 0.5

    def pixel(share: float) -> int:
        # OpenCV's coordinates are the pixels' centres.
        return round((int(share * size) + 0.5) / size * UNITS)

    def sample() -> Scene | None:
        left, middle, right = (pixel(start + rng.random() * 0.32) for start in (0.01, 0.34, 0.67))
        blue = (pixel(rng.random()), pixel(rng.random()), pixel(rng.random()))
        red = (pixel(rng.random()), pixel(rng.random()), pixel(rng.random()))
        if min(abs(blue[0] - red[0]), abs(blue[1] - red[1]), abs(blue[2] - red[2])) <= least:
            return None
        return _scene(label, (left, middle, right), blue, red, look, size)

    return sample


def _varied(rng: random.Random, label: int, size: int, scale: float) -> Sampler:
    blur = rng.choice((0, 0, 0.25, 0.5, 0.75)) * size / 224
    if rng.random() < 0.5:
        width = rng.choice((2, 4)) * POINT
        look = Look(Pen(width * size * scale, "projecting", "bicubic", blur))
        (left, middle, right), (top, bottom) = PAPER_X, (80, 9920)
    else:
        width = max(0.004 * 5.5 ** rng.random(), 1 / size)
        cap: Cap = rng.choice(("projecting", "round"))
        faint = rng.randint(0, 80)  # One number for two channels, or a dark red would be brown.
        kernel: Filter = rng.choice(("bicubic", "box"))
        look = Look(
            Pen(width * size * scale, cap, kernel, blur),
            blue=(rng.randint(0, 70), rng.randint(0, 100), rng.randint(170, 255)),
            red=(rng.randint(170, 255), faint, faint),
            ground=pale(rng),
            red_on_top=rng.random() < 0.5,
        )
        left, right = rng.randint(80, 2500), rng.randint(7500, 9920)
        middle = left + round((right - left) * rng.uniform(0.35, 0.65))
        top, bottom = rng.randint(80, 2000), rng.randint(8000, 9920)
    # Lines that are not to meet stay visibly apart where they come closest, at a vertex.
    least = max(300, round(3 * width * scale * UNITS))

    def y() -> int:
        return top + int(rng.random() * (bottom - top + 1))

    def sample() -> Scene | None:
        blue, red = (y(), y(), y()), (y(), y(), y())
        if min(abs(blue[0] - red[0]), abs(blue[1] - red[1]), abs(blue[2] - red[2])) < least:
            return None
        if ON_TICKS.issuperset((*blue, *red)):
            return None
        return _scene(label, (left, middle, right), blue, red, look, size)

    return sample


#: The truth in a data set's label.
read_label = number_among(LABELS)


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    count = agreed(match[1], cells, "intersections", read_label)
    return [Label((count, count))]


@dataclass
class LinesData(PuzzleData):
    """Where the pictures come from, and how the question is put."""

    style: Literal["paper", "tutorial", "varied"] = "paper"  # type: ignore[assignment]
    """Look of generated pictures: paper as BlindTest published them, tutorial as in Lucas Beyer's, varied for training
    (wider than both; its geometries are never the published ones). No geometry is in two splits."""


@dataclass
class LinesMake(PuzzleMake):
    """Writes pictures with exact labels, which `datasets` loads as an imagefolder and data.source takes."""

    style: Literal["paper", "tutorial", "varied"] = "paper"  # type: ignore[assignment]
    """Look: paper, tutorial or varied, as in the recipe's data.style. No geometry is in two splits."""


class Lines(Puzzle):
    """How many times do the blue and the red line meet: 0, 1 or 2?"""

    name = "blindtest/lines"
    title = "Line intersections"
    summary = "Count how often a blue and a red line meet (BlindTest's line intersections): 0, 1 or 2."
    first = Question(
        "Count the intersection points where the blue and red lines meet. "
        "Put your answer in curly brackets, e.g., {2}.",
        "count",
        in_braces,
    )
    second = Question(
        "How many times do the blue and red lines touch each other? Answer with a number in curly brackets, e.g., {5}.",
        "count",
        in_braces,
    )
    labels = LABELS
    styles: ClassVar = {"paper": _paper, "tutorial": _tutorial, "varied": _varied}
    values = LABELS
    layout = Layout(
        read_label,
        re.compile(r"gt_(\d+)_image_\d+_thickness_\d+_resolution_\d+\.png$"),
        _published,
        columns=("intersections",),
        hub_tasks=("Line Plot Intersections",),
    )
    card = """
A blue and a red line of two segments each. The label says how many times they meet: 0, 1 or 2. No pair of lines is in
two splits.

Columns of `metadata.csv`: file_name; label; the x of the three vertices (x0, x1, x2); the lines' y there, downwards
(blue_y0 ... red_y2); the lines' width. Lengths are in sides of the picture.
"""
    Data = LinesData
    Make = LinesMake
