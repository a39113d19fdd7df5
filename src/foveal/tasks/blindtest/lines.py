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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from foveal.errors import UserError
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.tasks.blindtest.common import (
    LazyRows,
    balanced_choice,
    check_range,
    load_pictures,
    measure_labels,
    read_number,
    save_split,
    split_of,
)
from foveal.tasks.blindtest.strokes import Cap, Colour, Filter, Pen, draw_polylines
from foveal.tasks.task import Example, Generator, Loaded, Prediction, Split, Task

Style = Literal["paper", "tutorial", "varied"]
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

PROMPTS = {
    "count": "Count the intersection points where the blue and red lines meet. "
    "Put your answer in curly brackets, e.g., {2}.",
    "how_many": "How many times do the blue and red lines touch each other? "
    "Answer with a number in curly brackets, e.g., {5}.",
    "prefix": "count",
}
LABELS = (0, 1, 2)
WHITE, BLUE, RED = (255, 255, 255), (0, 0, 255), (255, 0, 0)
_PUBLISHED = re.compile(r"gt_(\d+)_image_\d+_thickness_\d+_resolution_\d+\.png$")


def meetings(blue: Three, red: Three) -> int:
    """How often two lines meet whose y are given at the same three x, and differ at each.

    Between two of the places they cross once if their order changes, else not at all; nowhere do they merely touch.
    So this equals ``geometry.count_intersections`` for any x.
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
class Scene:
    """The two lines of a picture.

    Attributes:
        x: Where both lines have their three vertices, in ``UNITS`` of the side, ascending.
        blue: The blue line's y there, downwards.
        red: The red line's y there; it differs from the blue one at each x.
        look: How they are drawn.
    """

    x: Three
    blue: Three
    red: Three
    look: Look

    @property
    def label(self) -> int:
        """How often the lines meet."""
        return meetings(self.blue, self.red)

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        scale = size / UNITS
        x0, x1, x2 = (x * scale for x in self.x)
        (b0, b1, b2), (r0, r1, r2) = self.blue, self.red
        look = self.look
        blue = ((x0, b0 * scale), (x1, b1 * scale), (x2, b2 * scale)), look.blue
        red = ((x0, r0 * scale), (x1, r1 * scale), (x2, r2 * scale)), look.red
        return draw_polylines(size, look.ground, (blue, red) if look.red_on_top else (red, blue), look.pen)


# A style is a function of (random source, side in pixels, scale of the widths) that gives a look, and a function that
# draws one candidate of (x, blue, red), or None where the style rejects it, from the same source.
Candidate = tuple[Three, Three, Three]
Sampler = Callable[[], Candidate | None]


def _pair(rng: random.Random) -> tuple[int, int]:
    """Two different ticks."""
    first, second = int(rng.random() * len(TICKS)), int(rng.random() * (len(TICKS) - 1))
    return TICKS[first], TICKS[second + (second >= first)]


def _paper(rng: random.Random, size: int, scale: float) -> tuple[Look, Sampler]:
    look = Look(Pen(rng.choice((2, 4)) * POINT * size * scale, kernel="bicubic"))
    border = (TICKS[0], TICKS[-1])

    def next_pair(blue: int, red: int) -> tuple[int, int]:
        while True:
            next_blue, next_red = _pair(rng)
            if not (next_blue == blue in border or next_red == red in border):
                return next_blue, next_red

    def sample() -> Candidate:
        blue0, red0 = _pair(rng)
        blue1, red1 = next_pair(blue0, red0)
        blue2, red2 = next_pair(blue1, red1)
        return PAPER_X, (blue0, blue1, blue2), (red0, red1, red2)

    return look, sample


def _tutorial(rng: random.Random, size: int, scale: float) -> tuple[Look, Sampler]:
    thickness = 2 * size / 224 * scale
    look = Look(Pen(thickness + OPENCV_EXTRA, cap="round", blur=OPENCV_BLUR))

    # Half a unit more, for the coordinates are rounded.
    least = 2 * thickness / size * UNITS + 0.5

    def pixel(share: float) -> int:
        # OpenCV's coordinates are the pixels' centres.
        return round((int(share * size) + 0.5) / size * UNITS)

    def sample() -> Candidate | None:
        left, middle, right = (pixel(start + rng.random() * 0.32) for start in (0.01, 0.34, 0.67))
        blue = (pixel(rng.random()), pixel(rng.random()), pixel(rng.random()))
        red = (pixel(rng.random()), pixel(rng.random()), pixel(rng.random()))
        if min(abs(blue[0] - red[0]), abs(blue[1] - red[1]), abs(blue[2] - red[2])) <= least:
            return None
        return (left, middle, right), blue, red

    return look, sample


def _varied(rng: random.Random, size: int, scale: float) -> tuple[Look, Sampler]:
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
            ground=WHITE if rng.random() < 0.5 else _pale(rng),
            red_on_top=rng.random() < 0.5,
        )
        left, right = rng.randint(80, 2500), rng.randint(7500, 9920)
        middle = left + round((right - left) * rng.uniform(0.35, 0.65))
        top, bottom = rng.randint(80, 2000), rng.randint(8000, 9920)
    # Lines that are not to meet stay visibly apart where they come closest, at a vertex.
    least = max(300, round(3 * width * scale * UNITS))

    def y() -> int:
        return top + int(rng.random() * (bottom - top + 1))

    def sample() -> Candidate | None:
        blue, red = (y(), y(), y()), (y(), y(), y())
        if min(abs(blue[0] - red[0]), abs(blue[1] - red[1]), abs(blue[2] - red[2])) < least:
            return None
        if ON_TICKS.issuperset((*blue, *red)):
            return None
        return (left, middle, right), blue, red

    return look, sample


def _pale(rng: random.Random) -> Colour:
    gray = rng.randint(222, 248)
    return gray + rng.randint(-7, 7), gray + rng.randint(-7, 7), gray + rng.randint(-7, 7)


_STYLES = {"paper": _paper, "tutorial": _tutorial, "varied": _varied}


@dataclass(frozen=True)
class Scenes:
    """A split's scenes, each a function of the settings and its index alone; calling it draws nothing.

    Attributes:
        style: The look.
        size: Side of the pictures in pixels.
        split: Its geometries occur in no other split, whatever the seeds and styles: ``split_of`` decides on the six
            y. Within a split, pictures of the paper's style may repeat a geometry, as there are 3.8 million in all.
        seed: Of everything random.
        scale: Factor on the lines' widths.
    """

    style: Style
    size: int
    split: Split
    seed: int
    scale: float = 1.0

    def label(self, index: int) -> int:
        """The truth of a scene, known before it is made."""
        return LABELS[balanced_choice(len(LABELS), self.seed, self.split, index)]

    def __call__(self, index: int) -> Scene:
        """The scene of an index."""
        label = self.label(index)
        rng = random.Random(f"{self.style}/{self.seed}/{self.split}/{index}")
        look, sample = _STYLES[self.style](rng, self.size, self.scale)
        while True:
            candidate = sample()
            if candidate is None:
                continue
            x, blue, red = candidate
            if meetings(blue, red) == label and split_of((*blue, *red)) == self.split:
                return Scene(x, blue, red, look)

    def draw(self, index: int) -> Image.Image:
        """The picture of an index."""
        return self(index).draw(self.size)

    def example(self, index: int) -> Example:
        """The row of an index, not drawn yet."""
        name = f"blindtest/lines {self.style} {self.split} {index}"
        return Example(str(index), (Picture(name, partial(self.draw, index)),), self.label(index))


@dataclass
class LinesData:
    """Where the pictures come from, and how the question is put."""

    source: str = "generate"
    """`generate`; or a folder that `foveal data make` wrote, a .parquet file or a folder of them with the columns image
    and label, or a folder of published pictures (gt_1_image_..., which serve as the test split)."""
    style: Literal["paper", "tutorial", "varied"] = "paper"
    """Look of generated pictures: paper as BlindTest published them, tutorial as in Lucas Beyer's, varied for training
    (wider than both; its geometries are never the published ones)."""
    image_size: int = 224
    """Side of generated pictures in pixels."""
    train: int = 10_000
    """Generated pictures to train on, balanced over the answers 0, 1 and 2."""
    validation: int = 999
    """Generated pictures that choose the best checkpoint. No geometry is in two splits."""
    test: int = 3_000
    """Generated pictures to measure with."""
    seed: int = 0
    """Seed of generated pictures."""
    prompt: Literal["count", "how_many", "prefix"] = "count"
    """count and how_many are BlindTest's two questions, word for word; prefix is the one word count, for PaliGemma."""
    answer_format: Literal["braces", "number"] = "braces"
    """braces: {2}, as the questions ask; number: 2."""


@dataclass
class LinesMake:
    """Writes pictures with exact labels, which `datasets` loads as an imagefolder and data.source takes."""

    folder: str
    """Folder of the data set; its README.md describes what was made."""
    split: Split = "train"
    """Which split to write; others in the folder stay. No geometry is in two splits, whatever the seeds."""
    num_images: int = 100
    """Pictures for each of the answers 0, 1 and 2: 100 make 300."""
    image_size: int = 224
    """Side of the pictures in pixels."""
    dpi: int = 100
    """Dots per inch, as in matplotlib: at a fixed size in pixels, lines get wider in proportion. At 100 they have the
    style's own width (paper: 2 or 4 points in a figure of 5 inches, whatever the size); at 200 twice that."""
    style: Literal["paper", "tutorial", "varied"] = "paper"
    """Look: paper, tutorial or varied, as in the recipe's data.style."""
    seed: int = 0
    """Seed of everything random; the same options write the same pictures."""
    overwrite: bool = False
    """Replace the split if it is there."""


def read_label(text: str) -> int:
    """The truth in a data set's label.

    Raises:
        ValueError: It is none of the answers.
    """
    if text.strip() not in map(str, LABELS):
        raise ValueError(f"the label is {text!r}, not 0, 1 or 2")
    return int(text)


class Lines(Task, Generator):
    """How many times do the blue and the red line meet: 0, 1 or 2?"""

    name = "blindtest/lines"
    summary = "Count how often a blue and a red line meet (BlindTest's line intersections): 0, 1 or 2."
    Data = LinesData
    Make = LinesMake

    def __init__(self, data: LinesData) -> None:
        super().__init__(data)
        check_range("data.image_size", data.image_size, 32, 4096)
        for split in ("train", "validation", "test"):
            check_range(f"data.{split}", getattr(data, split), 0, 100_000_000)

    def load(self, split: Split) -> Loaded:
        """The rows of a split; generated ones are drawn when they are opened, and nothing is written.

        Raises:
            UserError: The source or its split is missing or malformed, or no pictures of it are to be generated.
        """
        data = self.data
        if data.source != "generate":
            return load_pictures(data.source, split, read_label, truth_in_name=_PUBLISHED, column="intersections")
        count = getattr(data, split)
        if count == 0:
            raise UserError(f"data.{split}: is 0; give the number of pictures to generate.")
        scenes = Scenes(data.style, data.image_size, split, data.seed)
        source = f"generated: style {data.style}, {data.image_size} pixels, seed {data.seed}, split {split}"
        return Loaded(LazyRows(count, scenes.example), source)

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """The picture, the recipe's question and, where it is known, the answer."""
        answer = None if example.truth is None else self._answer(example.truth)
        return Prompt((example.images[0].open(),), PROMPTS[self.data.prompt], answer=answer)

    def parse(self, reply: str) -> int | None:
        """The number in a reply: the last in braces, else the only one; see ``read_number``."""
        return read_number(reply, PROMPTS.values())

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Accuracy, over all and for each true count, and the share of unparsable replies."""
        return measure_labels(examples, predictions)

    def answers(self) -> tuple[str, ...]:
        """The three answers as the model writes them."""
        return tuple(map(self._answer, LABELS))

    def chance(self, examples: Sequence[Example]) -> float:
        """Accuracy of the better of two blind guessers: always the most frequent count, or any count at random."""
        counts = Counter(e.truth for e in examples)
        return max(1 / len(LABELS), max(counts.values(), default=0) / max(len(examples), 1))

    def _answer(self, truth: int) -> str:
        return f"{{{truth}}}" if self.data.answer_format == "braces" else str(truth)

    @classmethod
    def make(cls, options: LinesMake) -> Path:
        """Writes a split of generated pictures; they equal those of ``load`` with the same settings.

        Raises:
            UserError: An option is out of range, the split is there, or the disk is full.
        """
        if not options.folder.strip():
            raise UserError("--folder: is empty; give the folder of the data set.")
        check_range("--num_images", options.num_images, 1, 10_000_000)
        check_range("--image_size", options.image_size, 32, 4096)
        check_range("--dpi", options.dpi, 20, 400)
        folder = Path(options.folder).expanduser()
        scenes = Scenes(options.style, options.image_size, options.split, options.seed, options.dpi / 100)
        save_split(
            folder,
            options.split,
            _drawn(scenes, len(LABELS) * options.num_images),
            dpi=options.dpi,
            head=_CARD,
            section=partial(_section, options),
            overwrite=options.overwrite,
        )
        return folder


def _drawn(scenes: Scenes, count: int) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    """Pictures with their line of ``metadata.csv``: lengths in sides of the picture, y downwards."""
    for index in range(count):
        scene = scenes(index)
        cells: dict[str, Any] = {"label": scene.label}
        for name, values in (("x", scene.x), ("blue_y", scene.blue), ("red_y", scene.red)):
            cells |= {f"{name}{i}": f"{value / UNITS:.4f}" for i, value in enumerate(values)}
        cells["width"] = f"{scene.look.pen.width / scenes.size:.5f}"
        yield scene.draw(scenes.size), cells


_CARD = """\
---
pretty_name: Line intersections
task_categories:
- visual-question-answering
tags:
- synthetic
- blindtest
---

# Line intersections

A blue and a red line of two segments each. The label says how many times they meet: 0, 1 or 2.
Made by `foveal data make blindtest/lines`; labels are exact. No pair of lines is in two splits.

Load it with `datasets.load_dataset("imagefolder", data_dir=FOLDER)`, or train on it with `--data.source FOLDER`.

Columns of `metadata.csv`: file_name; label; the x of the three vertices (x0, x1, x2); the lines' y there, downwards
(blue_y0 ... red_y2); the lines' width. Lengths are in sides of the picture.
"""


def _section(options: LinesMake, cells: Sequence[Mapping[str, Any]]) -> str:
    """What a split's section of the dataset card says."""
    counts = Counter(cell["label"] for cell in cells)
    settings = [(f.name, getattr(options, f.name)) for f in fields(options) if f.name not in ("folder", "overwrite")]
    lines = ["| option | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in settings), ""]
    lines += ["| label | pictures |", "| --- | --- |", *(f"| {label} | {counts[label]} |" for label in sorted(counts))]
    return "\n".join(lines)
