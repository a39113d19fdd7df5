"""BlindTest's two circles: do they touch, do they overlap?

The gap between the two discs is a whole number of ten-thousandths of their diameter, so that the truth is exact: at a gap
of 0 they touch and do not overlap. Two looks are generated:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581). Diameters of 1/4 to 1/7 of the side,
  four directions, gaps of -0.15 to 0.50 of the diameter in steps of 0.05, symmetric about the picture's centre; magenta
  over blue.
* ``varied``: for training. Half of the pictures look like the paper's, with continuous sizes, directions, gaps and
  places; the others also vary in colours, ground, blur, order and in the ratio of the two sizes. A gap is either exactly
  0 or large enough to be seen.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from PIL import Image

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.colours import WHITE, random_colours
from foveal.tasks.blindtest.drawing.edges import Canvas, kernel_of
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, Question
from foveal.tasks.blindtest.sources import Label, Layout, agreed

#: Lengths are whole numbers of this part of the picture's side, gaps of this part of the diameter.
UNITS = 10_000
#: Directions are whole numbers of this part of a degree.
DEGREE = 100

LABELS = ("apart", "nearly touching", "touching", "slightly overlapping", "overlapping")
#: Gaps up to which, on either side of 0, circles nearly touch, and overlap slightly.
NEAR, SLIGHT = 1750, 750

PAPER_DIAMETERS = tuple(round(UNITS / r) for r in (4, 5, 6, 7))
PAPER_GAPS = tuple(range(-1500, 5001, 500))
#: From the blue to the magenta circle, clockwise from the right: horizontal, vertical, diagonal_1 and diagonal_2.
PAPER_ANGLES = tuple(DEGREE * degrees for degrees in (0, 270, 45, 315))
BLUE, MAGENTA = (0, 117, 255), (234, 0, 255)
#: The least gap that there is in varied pictures, if any, and what it must be in ``UNITS`` of the side to be seen in
#: small ones; the least of the published pictures is 71.
LEAST, LEAST_SEEN = 300, 60
#: The widest gap of varied pictures that are not like the paper's.
WIDEST = 8000
#: Free border of varied pictures.
MARGIN = 100


def label_of(gap: int) -> str:
    """The class of a gap that pictures are balanced over."""
    if gap == 0:
        return "touching"
    if gap > 0:
        return "nearly touching" if gap <= NEAR else "apart"
    return "slightly overlapping" if gap >= -SLIGHT else "overlapping"


@dataclass(frozen=True)
class Look:
    """How a scene is drawn.

    Attributes:
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur on top, in sides of the picture.
        colours: Of the two circles.
        ground: Colour of the background.
        first_on_top: Whether the first circle hides the second.
    """

    kernel: Filter
    blur: float = 0.0
    colours: tuple[Colour, Colour] = (BLUE, MAGENTA)
    ground: Colour = WHITE
    first_on_top: bool = False


@dataclass(frozen=True)
class Scene(PuzzleScene):
    """The two circles of a picture.

    Attributes:
        x: Middle between the two centres, in ``UNITS`` of the side.
        y: The same, downwards.
        diameters: Of the two, in ``UNITS``.
        gap: Between the two, in ``UNITS`` of the mean diameter; below 0 they overlap.
        angle: Direction from the first's centre to the second's, clockwise from the right, in parts of a degree.
        look: How they are drawn.
    """

    x: int
    y: int
    diameters: tuple[int, int]
    gap: int
    angle: int
    look: Look

    @property
    def label(self) -> str:
        """The class of the gap."""
        return label_of(self.gap)

    @property
    def truths(self) -> tuple[str, str]:
        """Whether they touch (those that overlap do), and whether they overlap."""
        return "Yes" if self.gap <= 0 else "No", "Yes" if self.gap < 0 else "No"

    @property
    def geometry(self) -> tuple[int, ...]:
        """Place, sizes, gap and direction."""
        return self.x, self.y, *self.diameters, self.gap, self.angle

    @property
    def centres(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The two centres, in ``UNITS``."""
        half = sum(self.diameters) * (UNITS + self.gap) / (4 * UNITS)
        turn = math.radians(self.angle / DEGREE)
        dx, dy = half * math.cos(turn), half * math.sin(turn)
        return (self.x - dx, self.y - dy), (self.x + dx, self.y + dy)

    @property
    def cells(self) -> dict[str, str]:
        """Centres and diameters in sides of the picture, and the gap in mean diameters."""
        cells: dict[str, str] = {}
        for i, ((x, y), diameter) in enumerate(zip(self.centres, self.diameters, strict=True)):
            cells |= {
                f"x{i}": f"{x / UNITS:.5f}",
                f"y{i}": f"{y / UNITS:.5f}",
                f"diameter{i}": f"{diameter / UNITS:.4f}",
            }
        return {**cells, "gap": f"{self.gap / UNITS:.4f}"}

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        look, scale = self.look, size / UNITS
        canvas = Canvas(size, look.ground, look.kernel, look.blur * size)
        discs = list(zip(self.centres, self.diameters, look.colours, strict=True))
        for (x, y), diameter, colour in reversed(discs) if look.first_on_top else discs:
            canvas.disc(x * scale, y * scale, diameter / 2 * scale, colour)
        return canvas.image()


def _paper(rng: random.Random, label: str, size: int, _: float) -> Sampler:
    look = Look(kernel_of(size))
    gaps = [gap for gap in PAPER_GAPS if label_of(gap) == label]

    def sample() -> Scene:
        diameter = rng.choice(PAPER_DIAMETERS)
        return Scene(UNITS // 2, UNITS // 2, (diameter, diameter), rng.choice(gaps), rng.choice(PAPER_ANGLES), look)

    return sample


def _gap(rng: random.Random, label: str, diameter: float, widest: int, deepest: int) -> int:
    """A gap of a class; small ones, which are hard to see, are the more frequent.

    Args:
        rng: Source of randomness.
        label: The class.
        diameter: The mean diameter.
        widest: The largest gap.
        deepest: The same of overlaps.
    """
    share = rng.random()
    least = max(LEAST, LEAST_SEEN * UNITS / diameter)
    if label == "touching":
        return 0
    if label == "nearly touching":
        return round(least * math.pow(NEAR / least, share))
    if label == "slightly overlapping":
        return -round(least * math.pow(SLIGHT / least, share))
    if label == "apart":
        return NEAR + 1 + int((widest - NEAR) * share)
    return -SLIGHT - 1 - int((deepest - SLIGHT) * share)


def _varied(rng: random.Random, label: str, size: int, _: float) -> Sampler:
    kernel: Filter = "box" if rng.random() < 0.3 else "bilinear"
    blur = rng.choice((0, 0, 0, 0.25, 0.5, 0.75)) / 224
    if rng.random() < 0.5:
        look = Look(kernel, blur)

        def like_the_papers() -> Scene:
            diameter = rng.randint(1330, 2600)
            angle = rng.choice(PAPER_ANGLES) + rng.choice((0, rng.randint(-500, 500)))
            x, y = UNITS // 2 + rng.randint(-250, 250), UNITS // 2 + rng.randint(-250, 250)
            return Scene(
                x, y, (diameter, diameter), _gap(rng, label, diameter, 5200, 1700), angle % (360 * DEGREE), look
            )

        return like_the_papers
    colours, ground = random_colours(rng, 2, alike=0.15)
    look = Look(kernel, blur, (colours[0], colours[-1]), ground, rng.random() < 0.5)

    def sample() -> Scene | None:
        diameter = rng.randint(1000, 3600)
        other = diameter if rng.random() < 0.7 else rng.randint(1000, 3600)
        angle = rng.randrange(360 * DEGREE)
        mean = (diameter + other) / 2
        # Sizes, direction and place are those of circles with the widest gap, or large ones at the border would overlap.
        widest = NEAR + round((WIDEST - NEAR) * math.sqrt(rng.random()))
        # One must not hide the other.
        deepest = min(4000, int(min(diameter, other) / 2 * UNITS / mean))
        scene = Scene(0, 0, (diameter, other), _gap(rng, label, mean, widest, deepest), angle, look)
        bounds = replace(scene, gap=widest)
        places = []
        for axis in (0, 1):
            ends = [(c[axis], d / 2) for c, d in zip(bounds.centres, bounds.diameters, strict=True)]
            low = math.ceil(MARGIN - min(c - r for c, r in ends))
            high = math.floor(UNITS - MARGIN - max(c + r for c, r in ends))
            if low > high:
                return None
            places.append(rng.randint(low, high))
        return replace(scene, x=places[0], y=places[1])

    return sample


def read_label(text: str) -> str:
    """The truth in a data set's label.

    Raises:
        ValueError: It is neither Yes nor No.
    """
    answer = text.strip().capitalize()
    if answer not in ("Yes", "No"):
        raise ValueError(f"the label is {text!r}, not Yes or No")
    return answer


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    gap = float(match[1])
    touching = agreed("Yes" if gap <= 0 else "No", cells, "touching_if_d_le_0", read_label)
    overlapping = agreed("Yes" if gap < 0 else "No", cells, "overlapping_if_d_lt_0", read_label)
    return [Label((touching, overlapping))]


#: The choice as a question offers it, which is no answer.
_CHOICE = re.compile(r"\byes\s*(?:/|\bor\b)\s*no\b", re.IGNORECASE)
#: Yes or no as an answer: between punctuation or ends, or before a sentence that goes on about the circles. The "no" of
#: "there is no gap" is none.
_ANSWER = re.compile(
    r"(?:^|[.,:;!?\"'`*_({\[<>\n—–]|\banswer\b|\bis\b|\bso\b)\s*\b(yes|no)(?![\w-])"
    r"(?=\s*(?:$|[.,:;!?\"'`*_)}\]<\n—–]|-\s|(?:they|the|these|those|both|it)\b))",
    re.IGNORECASE,
)


def read_answer(reply: str, questions: Sequence[str]) -> str | None:
    """The Yes or No that a reply gives as its answer, or None where it gives neither or both."""
    for question in questions:
        reply = re.sub(re.escape(question), "\n", reply, flags=re.IGNORECASE)
    answers = {match.capitalize() for match in _ANSWER.findall(_CHOICE.sub(" : ", reply))}
    return answers.pop() if len(answers) == 1 else None


class Circles(Puzzle):
    """Do two circles touch, do they overlap: Yes or No?"""

    name = "blindtest/circles"
    title = "Touching circles"
    summary = "Tell whether two circles touch or overlap (BlindTest's touching circles): Yes or No."
    first = Question("Are the two circles touching each other? Answer with Yes/No.", "touching")
    second = Question("Are the two circles overlapping? Answer with Yes/No.", "overlapping")
    labels = LABELS
    styles: ClassVar = {"paper": _paper, "varied": _varied}
    shared = frozenset({"paper"})
    values = ("Yes", "No")
    read = staticmethod(read_answer)
    layout = Layout(
        read_label,
        re.compile(r"pixels_\d+_rotation_\w+?_diameter_[\d.]+_distance_(-?\d+(?:\.\d+)?)\.png$"),
        _published,
        columns=("touching_if_d_le_0", "overlapping_if_d_lt_0"),
        two_truths=True,
        hub_tasks=("Touching Circles",),
    )
    card = """
Two filled circles. The label says whether they touch (those that overlap do), label_second whether they overlap. There
are equally many pictures of circles far apart, nearly touching, touching in one point, slightly overlapping, and
overlapping more; a gap or an overlap can always be seen.

Columns of `metadata.csv`: file_name; label; label_second; centre (x0, y0; y downwards) and diameter0 of the first circle,
the same of the second (x1, y1, diameter1), in sides of the picture; gap, in mean diameters: below 0 they overlap.
"""
