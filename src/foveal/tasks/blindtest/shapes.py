"""BlindTest's overlapping circles and pentagons, in the manner of the Olympic logo: how many are there?

Two rows of outlines, the lower one shifted by half a step, so that each overlaps its neighbours in the other row. Two
looks are generated:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581). A figure of 5 inches, of which 77 %
  are shown; circles of 1/7 or 1/10 of the side across, pentagons with sides of half that; lines of 0.5 or 1 point, black
  or in matplotlib's ten colours.
* ``varied``: for training. Half of the pictures look like the paper's, with continuous sizes, distances, places and
  widths; the others also vary in colours, ground, blur, rotation and regularity.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from PIL import Image

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.colours import BLACK, TAB10, WHITE, random_colours
from foveal.tasks.blindtest.drawing.edges import Canvas, kernel_of
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, Question, fill, in_braces
from foveal.tasks.blindtest.replies import read_number, without
from foveal.tasks.blindtest.sources import Label, Layout, agreed
from foveal.tasks.blindtest.wording import number_among

Shape = Literal["circles", "pentagons"]

#: Lengths are whole numbers of this part of the picture's side.
UNITS = 10_000
SHAPES: Final[tuple[Shape, ...]] = ("circles", "pentagons")
COUNTS = (5, 6, 7, 8, 9)
LABELS: tuple[tuple[Shape, int], ...] = tuple((shape, count) for shape in SHAPES for count in COUNTS)
#: Width of a line of one point in sides of the picture: 0.77 of a figure of 5 inches.
POINT = 1 / 72 / 5 / 0.77
#: Across a circle, and twice the side of a pentagon, in sides of the picture.
PAPER_SIZES = (1 / 7, 1 / 10)
PAPER_WIDTHS = (0.5, 1.0)
#: Where the upper row's centres are, downwards.
PAPER_TOP = 0.4
#: How much further apart than they are wide the shapes of a row are, in radii of circles or sides of pentagons.
PAPER_SPACE = 0.1
#: Of a regular pentagon, in sides: from its centre to a side's middle and to a corner, and its diagonal.
APOTHEM, CIRCUMRADIUS, DIAGONAL = 0.5 / math.tan(math.pi / 5), 0.5 / math.sin(math.pi / 5), (1 + math.sqrt(5)) / 2
#: The place in its row, in steps from the middle, that no shape of the longest row is beyond.
MOST_PLACE: Final = (COUNTS[-1] - 1) / 4
#: Free border of varied pictures.
MARGIN = 0.01


@dataclass(frozen=True)
class Look:
    """How a scene is drawn.

    Attributes:
        width: Of the lines, in sides of the picture.
        colours: Of the shapes; one, or one for each.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur on top, in sides of the picture.
        ground: Colour of the background.
    """

    width: float
    colours: tuple[Colour, ...]
    kernel: Filter
    blur: float = 0.0
    ground: Colour = WHITE


@dataclass(frozen=True)
class Scene(PuzzleScene):
    """The shapes of a picture.

    Attributes:
        shape: What they are.
        size: Radius of the circles, side of the pentagons, in ``UNITS`` of the picture's side.
        centres: (x, y) of each, in ``UNITS``, y downwards, in their order along the two rows: upper and lower take
            turns.
        turn: By how much they are rotated clockwise, in degrees; unturned pentagons stand on a side.
        look: How they are drawn.
    """

    shape: Shape
    size: int
    centres: tuple[tuple[int, int], ...]
    turn: int
    look: Look

    @property
    def label(self) -> tuple[Shape, int]:
        """What the shapes are, and how many."""
        return self.shape, len(self.centres)

    @property
    def truths(self) -> tuple[int, int]:
        """How many there are, for both questions."""
        return self.label[1], self.label[1]

    @property
    def fields(self) -> dict[str, str]:
        """What the shapes are."""
        return {"shape": self.shape}

    @property
    def geometry(self) -> tuple[int, ...]:
        """Form, size, rotation and places."""
        places = (value for centre in self.centres for value in centre)
        return SHAPES.index(self.shape), self.size, self.turn, *places

    @property
    def cells(self) -> dict[str, str]:
        """Size and width in sides of the picture, and the centres."""
        centres = " ".join(f"{x / UNITS:.4f},{y / UNITS:.4f}" for x, y in self.centres)
        return {"size": f"{self.size / UNITS:.4f}", "width": f"{self.look.width:.5f}", "centres": centres}

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        look, scale = self.look, size / UNITS
        canvas = Canvas(size, look.ground, look.kernel, look.blur * size)
        centres = [(x * scale, y * scale) for x, y in self.centres]
        radius, normals = self.size * scale, []
        if self.shape == "pentagons":
            radius *= APOTHEM
            turns = (math.radians(self.turn + 90 + 72 * i) for i in range(5))
            normals = [(math.cos(turn), math.sin(turn)) for turn in turns]
        # Each overlaps the next, and may touch the one after it; every third stands alone.
        canvas.outlines(centres, radius, look.width * size, look.colours, normals, apart=3)
        return canvas.image()


def across(shape: Shape) -> float:
    """How wide a shape is that stands upright, in its size."""
    return 2.0 if shape == "circles" else DIAGONAL


def row_distance(shape: Shape) -> float:
    """How far the lower row is below the upper in the published pictures, in the shapes' size."""
    return 1.0 if shape == "circles" else math.sin(math.radians(72))


def two_rows(rng: random.Random, count: int) -> list[tuple[float, int]]:
    """The places of the shapes along the rows, in steps from the middle, and which row each is in: 0 is the upper.

    Of an odd number, either row has one more; of an even number, the lower row is shifted to either side.
    """
    long, short = (count + 1) // 2, count // 2
    shift, upper = 0.0, rng.random() < 0.5
    if long == short:
        shift, upper = rng.choice((-0.5, 0.5)), True
    first = [(i - (long - 1) / 2, int(not upper)) for i in range(long)]
    second = [(i - (short - 1) / 2 + shift, int(upper)) for i in range(short)]
    return sorted(first + second)


def _paper(rng: random.Random, label: tuple[Shape, int], size: int, scale: float) -> Sampler:
    shape, count = label
    places = two_rows(rng, count)
    look = Look(rng.choice(PAPER_WIDTHS) * POINT * scale, _paper_colours(rng, places), kernel_of(size))

    def sample() -> Scene:
        side = rng.choice(PAPER_SIZES) / 2
        step, down = (across(shape) + PAPER_SPACE) * side, row_distance(shape) * side
        centres = ((0.5 + place * step, PAPER_TOP + row * down) for place, row in places)
        return Scene(shape, round(side * UNITS), _whole(centres), 0, look)

    return sample


def _whole(centres: Iterable[tuple[float, float]]) -> tuple[tuple[int, int], ...]:
    return tuple((round(x * UNITS), round(y * UNITS)) for x, y in centres)


def _paper_colours(
    rng: random.Random, places: Sequence[tuple[float, int]], palette: Sequence[Colour] = TAB10
) -> tuple[Colour, ...]:
    """Black; or the first of the ten colours in the upper row, the next in the lower one, each in random order."""
    if rng.random() < 0.5:
        return (BLACK,)
    upper = sum(row == 0 for _, row in places)
    rows = list(palette[:upper]), list(palette[upper : len(places)])
    for row in rows:
        rng.shuffle(row)
    return tuple(rows[row].pop() for _, row in places)


def _varied(rng: random.Random, label: tuple[Shape, int], size: int, scale: float) -> Sampler:
    shape, count = label
    places = two_rows(rng, count)
    kernel: Filter = "box" if rng.random() < 0.2 else "bilinear"
    like_the_papers = rng.random() < 0.5
    if like_the_papers:
        blur = rng.choice((0, 0, 0, 0.25)) / 224
        # Any of the ten colours, or the last one that occurs would tell how many there are.
        colours = _paper_colours(rng, places, rng.sample(TAB10, len(TAB10)))
        look = Look(0.4 * 3 ** rng.random() * POINT * scale, colours, kernel, blur)
    else:
        # Thin lines are faint enough without much blur.
        width = 0.5 * 8 ** rng.random() * POINT * scale
        blur = rng.random() * min(0.75 / 224, width / 2) if rng.random() < 0.5 else 0
        colours, ground = random_colours(rng, count, alike=0.4)
        look = Look(width, colours, kernel, blur, ground)

    def sample() -> Scene | None:
        if like_the_papers:
            side = rng.uniform(0.044, 0.077)
            step, down = across(shape) + rng.uniform(0.07, 0.13), row_distance(shape) * rng.uniform(0.94, 1.06)
            tilt, turn, stray = 0.0, 0, rng.choice((0.0, 0.01, 0.03))
        else:
            side = rng.uniform(0.04, 0.11)
            step, down = across(shape) + rng.uniform(0.05, 0.6), row_distance(shape) * rng.uniform(0.7, 1.3)
            tilt = rng.choice((0.0, 0.0, rng.uniform(-20, 20), 90.0))
            turn = rng.choice((0, 0, rng.randint(-36, 36)))
            stray = rng.choice((0.0, 0.02, 0.05))
        cos, sin = side * math.cos(math.radians(tilt)), side * math.sin(math.radians(tilt))
        centres = []
        for place, row in places:
            x, y = place * step + rng.uniform(-stray, stray), (row - 0.5) * down + rng.uniform(-stray, stray)
            centres.append((x * cos - y * sin, x * sin + y * cos))
        radius = side * (1 if shape == "circles" else CIRCUMRADIUS) + look.width
        # Nine would find room there, too, or large shapes would be few and few ones near the border.
        corners = [(place * step, (row - 0.5) * down) for place in (-MOST_PLACE, MOST_PLACE) for row in (0, 1)]
        bounds = [(x * cos - y * sin, x * sin + y * cos) for x, y in corners]
        radius += stray * side * math.sqrt(2)
        moves = []
        for axis, usual in ((0, 0.5), (1, PAPER_TOP + down * side / 2)):
            low = MARGIN + radius - min(c[axis] for c in bounds)
            high = 1 - MARGIN - radius - max(c[axis] for c in bounds)
            if low > high:
                return None
            moved = usual + rng.uniform(-0.03, 0.03) if like_the_papers else rng.uniform(low, high)
            moves.append(min(max(moved, low), high))
        whole = _whole((x + moves[0], y + moves[1]) for x, y in centres)
        return Scene(shape, round(side * UNITS), whole, turn, look)

    return sample


#: The truth in a data set's label.
read_label = number_among(COUNTS)


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    count = agreed(match[2], cells, "count", read_label)
    return [Label((count, count), {"shape": "circles" if match[1] == "diameter" else "pentagons"})]


def read_count(reply: str, questions: Sequence[str]) -> int | None:
    """The number in a reply: the last in braces, else the only one; see ``read_number``."""
    return read_number(without(reply, (fill(text, {"shape": shape}) for text in questions for shape in SHAPES)))


class Shapes(Puzzle):
    """How many overlapping circles or pentagons are there: 5 to 9?"""

    name = "blindtest/shapes"
    title = "Overlapping circles and pentagons"
    summary = "Count overlapping circles or pentagons (BlindTest's Olympic counting): 5 to 9."
    first = Question(
        "How many <shape> are in the image? Answer with only the number in numerical format.", "count <shape>"
    )
    second = Question(
        "Count the <shape> in the image. Answer with a number in curly brackets e.g. {3}.", "count <shape>", in_braces
    )
    labels = LABELS
    styles: ClassVar = {"paper": _paper, "varied": _varied}
    shared = frozenset({"paper"})
    values = COUNTS
    read = staticmethod(read_count)
    blind = 1 / len(COUNTS)
    layout = Layout(
        read_label,
        re.compile(r"pixels_\d+_linewidth_[\d.]+_(diameter|side)_[\d.]+_numCircles_(\d+)_[\w-]+\.png$"),
        _published,
        columns=("count",),
        fields=("shape",),
        hub_tasks=("Olympic Counting - Circles", "Olympic Counting - Pentagons"),
    )
    card = """
Outlines of circles or of pentagons in two rows, each overlapping its neighbours in the other row. The label says how many
there are: 5 to 9.

Columns of `metadata.csv`: file_name; label; shape (circles or pentagons); size (a circle's radius, a pentagon's side);
the lines' width; the centres as x,y (y downwards) with spaces between them. Lengths are in sides of the picture.
"""
