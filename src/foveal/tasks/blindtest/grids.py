"""BlindTest's grids: how many rows and columns does a table have, whose cells are blank or hold a word each?

Two looks are generated, in whole ten-thousandths of the picture's side:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581). Drawn on 2,000 pixels with lines
  of 10 or 20 on whole ones, out to the picture's border, and shrunk by Pillow; 3 to 10 rows, as many columns or one
  more or less; words in a sans-serif font whose size is a fifth of a cell's shorter side, in a fixed order.
* ``varied``: for training. Half of the pictures look like the paper's, with line widths in between, small changes of
  size and place, and other words; the others vary in size, margins, proportions, width, colour, ground, font and blur.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.tasks.blindtest.drawing.bars import Look, covered
from foveal.tasks.blindtest.drawing.canvas import inked
from foveal.tasks.blindtest.drawing.colours import dark, pale
from foveal.tasks.blindtest.drawing.filters import RESAMPLING, Filter
from foveal.tasks.blindtest.drawing.lettering import FONTS, font, word_mask
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, Question
from foveal.tasks.blindtest.replies import read_pair
from foveal.tasks.blindtest.sources import Label, Layout

#: Start and stop of a line across itself, in ``UNITS``.
Bar = tuple[int, int]

#: Coordinates are whole numbers of this part of the picture's side.
UNITS = 10_000
#: Side in pixels on which the published pictures were drawn, and of the smallest one.
DRAWN, SMALLEST = 2000, 500
#: Widths of the published lines.
WIDTHS = (10 * UNITS // DRAWN, 20 * UNITS // DRAWN)
#: Rows and columns of the published grids.
SHAPES = tuple(sorted((n + a, n + b) for n in range(3, 11) for a, b in ((0, 0), (0, 1), (1, 0)) if n + max(a, b) <= 10))
#: The words of the published cells from the first one on, then others.
_LINES = """
apple book car door earth fruit game house ice joke kite lamp moon night orange pen queen rain ship tree uncle voice
water x-ray yarn zebra army baby cake dance echo flag green happy idea jelly king lion mouse north opera plant quiet
robot stone tiger union vivid world youth zoo brave climb dream alert bread clean drama elbow flame grape heart
index juice knees lemon march noble ocean peace quake reign shine track unity vapor weave young zone angle bloom
cloud bird chair fence glove jam ladder nail owl pump ring sun tent vase wheel yellow axe bell coat desk egg fish
goat hat ink jar knot leaf milk nest oven pear quilt rope soap tooth urn van wolf wool yolk bus cow dog fan
"""
WORDS = tuple(_LINES.split())

#: Size in pixels of the letters from which words of up to half of it are shrunk.
_LARGE = 48
#: How much narrower the published words' font is than Aileron, and how much higher it stands, in its size.
_NARROWER, _RAISED = 0.935, 0.057


@dataclass(frozen=True)
class Writing:
    """The words of a grid.

    Attributes:
        words: Row by row.
        font: One of ``lettering.FONTS``.
        height: Size of the font in units.
        x: How far right of a cell's middle that of a word's ink is, in units.
        y: How far below it, for ink that reaches up to the font's ascender; other ink is lower by what it lacks.
        phases: How many places within a pixel a word may take along each axis.
        kernel: Filter of the edges.
    """

    words: tuple[str, ...]
    font: str
    height: int
    x: int
    y: int
    phases: int
    kernel: Filter = "bilinear"


@dataclass(frozen=True)
class Scene(PuzzleScene):
    """The grid of a picture.

    Attributes:
        across: Its vertical lines from left to right; the first and the last one bound it.
        down: Its horizontal lines from top to bottom.
        look: How it is drawn.
        writing: The words in its cells, if any.
    """

    across: tuple[Bar, ...]
    down: tuple[Bar, ...]
    look: Look
    writing: Writing | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.down) - 1

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.across) - 1

    @property
    def label(self) -> tuple[int, int, str]:
        """Rows, columns, and whether the cells are blank or hold text."""
        return self.rows, self.columns, "text" if self.writing else "blank"

    @property
    def truths(self) -> tuple[str, str]:
        """Rows and columns, the same for both questions."""
        truth = f"{self.rows},{self.columns}"
        return truth, truth

    @property
    def geometry(self) -> tuple[int, ...]:
        """The lines, and the words' size."""
        return (*(v for bar in (*self.across, *self.down) for v in bar), self.writing.height if self.writing else 0)

    @property
    def cells(self) -> dict[str, str]:
        """Kind, corners and width, in sides of the picture."""
        left, top, right, bottom = self.across[0][0], self.down[0][0], self.across[-1][1], self.down[-1][1]
        lengths = {"left": left, "top": top, "right": right, "bottom": bottom}
        lengths["width"] = self.across[1][1] - self.across[1][0]
        text = " ".join(self.writing.words) if self.writing else ""
        return {"kind": self.label[2], **{key: f"{v / UNITS:.4f}" for key, v in lengths.items()}, "words": text}

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        look, scale = self.look, size / UNITS
        # Its lines are the whole grid without its cells.
        intervals: list[list[tuple[float, float]]] = []
        for bars in (self.across, self.down):
            cells = [(a * scale, b * scale) for (_, a), (b, _) in pairwise(bars)]
            intervals += [(bars[0][0] * scale, bars[-1][1] * scale)], cells
        # Both axes at once, which takes hardly longer than one.
        both = covered(size, intervals, look.kernel, look.blur * scale)
        x, y = both[:2], both[2:]
        x[0] *= 255
        x[1] *= -255
        ink = y.T @ x
        ink += np.float32(0.5)
        if look.kernel == "bicubic":  # It overshoots; the others do not.
            np.clip(ink, 0, 255, out=ink)
        level = ink.astype(np.uint8)
        if self.writing:
            self._write(self.writing, level, scale)
        return inked(level, look.ground, look.ink)

    def _write(self, writing: Writing, level: NDArray[np.uint8], scale: float) -> None:
        """Lays the words on the levels of ink."""
        height, name, kernel, phases = writing.height * scale, writing.font, writing.kernel, writing.phases
        fine, words = phases * height, iter(writing.words)
        mask_of = _mask if height < _LARGE / 2 else _shrunk
        if height < 0.5:  # Not even a smudge.
            return
        middles_x = [((a + b) / 2 + writing.x) * scale * phases for (_, a), (b, _) in pairwise(self.across)]
        middles_y = [((a + b) / 2 + writing.y) * scale * phases for (_, a), (b, _) in pairwise(self.down)]
        for y in middles_y:
            for x in middles_x:
                word = next(words)
                wide, high, top = _extent(word, name)
                column, x_phase = divmod(round(x - wide / 2 * fine), phases)
                row, y_phase = divmod(round(y + (top - high / 2) * fine), phases)
                mask = mask_of(word, name, height, kernel, x_phase, y_phase, phases)
                # The mask begins a pixel before the ink.
                if column < 1 or row < 1:
                    mask = mask[max(1 - row, 0) :, max(1 - column, 0) :]
                    column, row = max(column, 1), max(row, 1)
                part = level[row - 1 : row - 1 + mask.shape[0], column - 1 : column - 1 + mask.shape[1]]
                if part.shape != mask.shape:
                    mask = mask[: part.shape[0], : part.shape[1]]
                np.maximum(part, mask, out=part)


@lru_cache(maxsize=4096)
def _extent(word: str, name: str) -> tuple[float, float, float]:
    """Width and height of a word's ink, and how far it stays below the font's ascender, in sizes of the font."""
    left, top, right, bottom = font(name, 200.0).getbbox(word)
    return (right - left) / 200 * (_NARROWER if name == "Aileron" else 1), (bottom - top) / 200, top / 200


def _shrunk(word: str, name: str, height: float, kernel: Filter, x: int, y: int, phases: int) -> NDArray[np.uint8]:
    """A word shrunk from large letters, with a pixel or more of ground around it.

    Args:
        word: The word.
        name: Its font.
        height: Size of the font in pixels.
        kernel: Filter of the edges.
        x: How far right of the second pixel's corner its ink starts, in parts of a pixel.
        y: How far below that corner, likewise.
        phases: Parts of a pixel.
    """
    # Only what small words are made from is kept: it is of one size, and it would fill the memory in large pictures.
    large, drawn = (_LARGE, word_mask) if height < _LARGE / 2 else (round(2 * height), word_mask.__wrapped__)
    down = large / height
    along = down / _NARROWER if name == "Aileron" else down
    ink = drawn(word, name, float(large))
    ink_high, ink_wide = ink.shape
    wide, high = int(x / phases + ink_wide / along) + 3, int(y / phases + ink_high / down) + 3
    left, top = round(along * (1 + x / phases)), round(down * (1 + y / phases))
    # Bytes on either side: Pillow's own ways to an array and back copy more.
    box = np.zeros((top + ink_high + round(high * down) + 1, left + ink_wide + round(wide * along) + 1), np.uint8)
    box[top : top + ink_high, left : left + ink_wide] = ink
    image = Image.frombuffer("L", box.shape[::-1], box, "raw", "L", 0, 1)
    small = image.resize((wide, high), RESAMPLING[kernel], (0, 0, wide * along, high * down))
    return np.frombuffer(small.tobytes(), np.uint8).reshape(high, wide)


_mask = lru_cache(maxsize=65_536)(_shrunk)


def _bars(number: int, start: int, stop: int, width: int, step: int) -> tuple[Bar, ...]:
    """The lines around and between ``number`` cells; those between begin on the next whole ``step`` (1: anywhere)."""
    pitch = (stop - start - width) / step / number
    if step == 1:
        return tuple((at, at + width) for at in (start + round(i * pitch) for i in range(number + 1)))
    inner = ((at, at + width) for at in (start + (int(i * pitch) + 1) * step for i in range(1, number)))
    # At the border there are lines of its own, which cover what rounding would leave.
    return (start, start + width + step), *inner, (start + (int(number * pitch) + 1) * step, stop)


def _cell(across: Sequence[Bar], down: Sequence[Bar]) -> int:
    """The shorter side of the second cell of the second row."""
    return min(across[2][0] - across[1][1], down[2][0] - down[1][1])


def _paper(rng: random.Random, label: tuple[int, int, str], size: int, scale: float) -> Sampler:
    rows, columns, text = label[0], label[1], label[2] == "text"
    # Smaller pictures look like shrunken published ones.
    look = Look(kernel="box" if size >= DRAWN else "bicubic" if size >= SMALLEST else "bilinear")

    def sample() -> Scene:
        width = max(1, round(rng.choice(WIDTHS) * scale))
        across, down = (_bars(n, 0, UNITS, width, UNITS // DRAWN) for n in (columns, rows))
        if not text:
            return Scene(across, down, look)
        pixel = UNITS // DRAWN
        height = max(1, int(_cell(across, down) / pixel * 0.2)) * pixel
        return Scene(across, down, look, _published_writing(across, WORDS[: rows * columns], height, 4, look.kernel))

    return sample


def _published_writing(
    across: Sequence[Bar], words: tuple[str, ...], height: int, phases: int, kernel: Filter = "bilinear"
) -> Writing:
    """Words off the cells' middles as the published ones are: by half a line, and a part of the cell's width."""
    half = (across[1][1] - across[1][0]) / 2
    x = 0.04 * (across[2][0] - across[1][1]) - half
    return Writing(words, "Aileron", height, round(x), round(-_RAISED * height - half), phases, kernel)


def _varied(rng: random.Random, label: tuple[int, int, str], _: int, scale: float) -> Sampler:
    rows, columns, text = label[0], label[1], label[2] == "text"
    kernel: Filter = rng.choice(("box", "bilinear", "bilinear", "bicubic"))
    blur = rng.choice((0, 0, 0, 10, 25))
    if rng.random() < 0.5:
        look = Look(kernel=kernel, blur=blur)

        def like_paper() -> Scene:
            width = rng.randint(45, 105)
            left, top, right, bottom = (0, 0, UNITS, UNITS)
            if rng.random() < 0.5:
                left, top, right, bottom = (v + rng.randint(-25, 25) for v in (left, top, right, bottom))
            elif width in WIDTHS:
                width += 1  # No published grid is ever trained on.
            width = max(1, round(width * scale))
            across, down = _bars(columns, left, right, width, 1), _bars(rows, top, bottom, width, 1)
            if not text:
                return Scene(across, down, look)
            height = _few(_cell(across, down) * rng.uniform(0.18, 0.22), 1.06)
            return Scene(across, down, look, _published_writing(across, _words(rng, rows * columns), height, 2))

        return like_paper

    ink, ground = dark(rng), pale(rng)
    look = Look(*((ground, ink) if rng.random() < 0.1 else (ink, ground)), kernel=kernel, blur=blur)

    def anywhere() -> Scene:
        wide, high = (rng.randint(6200, 9950) for _ in range(2))
        left, top = rng.randint(0, UNITS - wide), rng.randint(0, UNITS - high)
        # As thick as the smallest cells of all allow, or thin lines would tell of many cells.
        thickest = min(150.0, 0.2 * min(wide, high) / SHAPES[-1][0])
        width = max(1, round(30 * (thickest / 30) ** rng.random() * scale))
        across, down = _bars(columns, left, left + wide, width, 1), _bars(rows, top, top + high, width, 1)
        if not text:
            return Scene(across, down, look)
        cell = _cell(across, down)
        height = _few(cell * rng.uniform(0.15, 0.21), 1.12)
        x, y = (round(cell * rng.uniform(-0.04, 0.04)) for _ in range(2))
        # A quarter of the size is about the distance from the ascender to the ink.
        writing = Writing(_words(rng, rows * columns), rng.choice(FONTS), height, x, y - height // 4, 1)
        return Scene(across, down, look, writing)

    return anywhere


def _few(height: float, ratio: float) -> int:
    """The nearest power of ``ratio``, so that sizes are few and the words' masks can be kept."""
    return max(1, round(ratio ** round(math.log(max(height, 1)) / math.log(ratio))))


def _words(rng: random.Random, number: int) -> tuple[str, ...]:
    """The published words in their order, or others."""
    start, step = (0, 1) if rng.random() < 0.5 else (rng.randrange(len(WORDS)), rng.randint(1, 9))
    return tuple(WORDS[(start + i * step) % len(WORDS)] for i in range(number))


def read_label(text: str) -> str:
    """The truth in a data set's label, e.g. "5,6" or "(5, 6)".

    Raises:
        ValueError: It is none of the answers.
    """
    match = re.fullmatch(r"\(?\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)?", text.strip())
    if match is None or (int(match[1]), int(match[2])) not in SHAPES:
        raise ValueError(f"the rows and columns are {text!r}, none of the {len(SHAPES)} published pairs such as '5,6'")
    return f"{int(match[1])},{int(match[2])}"


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    truth = read_label(f"{match[1]},{match[2]}")
    if cells is not None and read_label(f"{cells['rows']},{cells['columns']}") != truth:
        raise ValueError(
            f"rows and columns are {cells['rows']} and {cells['columns']}, but the name of {cells['file']} says "
            f"{match[1]}x{match[2]}"
        )
    return [Label((truth, truth))]


def _named(truth: str) -> str:
    rows, columns = truth.split(",")
    return f"rows={{{rows}}} columns={{{columns}}}"


class Grids(Puzzle):
    """How many rows and columns does the grid have?"""

    name = "blindtest/grids"
    title = "Rows and columns of grids"
    summary = "Count the rows and columns of a grid, blank or with words (BlindTest's counting grids)."
    first = Question(
        "Count the number of rows and columns and answer with numbers in curly brackets. "
        "For example, rows={5} columns={6}",
        "rows, columns",
        _named,
    )
    second = Question(
        "How many rows and columns are in the table? Answer with only the numbers in a pair (row, column), e.g., (5,6)",
        "rows, columns",
        "({})".format,
    )
    labels = tuple((r, c, kind) for r, c in SHAPES for kind in ("blank", "text"))
    styles: ClassVar = {"paper": _paper, "varied": _varied}
    shared = frozenset({"paper"})
    values = tuple(f"{r},{c}" for r, c in SHAPES)
    read = staticmethod(read_pair)
    layout = Layout(
        read_label,
        re.compile(r"(?:(?:blank|text|word)_)?grid_(\d+)x(\d+)_\d+_\d+\.png$"),
        _published,
        columns=("rows", "columns"),
        hub_tasks=("Counting Grid - Blank Grids", "Counting Grid - Word Grids"),
    )
    card = """
A grid of 3 to 10 rows, with as many columns or one more or less; its cells are blank or hold a word each. The label
is "ROWS,COLUMNS", e.g. "5,6". Each shape comes as often blank as with words. The style varied has no grid in two
splits; of the style paper there are too few for that.

Columns of `metadata.csv`: file_name; label; kind (blank or text); the grid's left, top, right and bottom, and its
lines' width, in sides of the picture, y downwards; the words, row by row.
"""
