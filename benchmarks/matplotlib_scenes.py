"""The scenes of BlindTest's seven puzzles drawn with matplotlib, which ``pictures.py`` compares with.

They are drawn with the calls that the published programs use, where those use matplotlib: lines and routes with ``plot``,
circles, outlines and squares with patches, the letters of a word with ``imshow`` and the ellipse with a patch, and the
names of stations with ``text``. (The published grids are drawn with Pillow.) All in a figure of 5 inches that its axes
fill, with lines of the same share of the side. Only scenes of the style ``paper`` are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon, Rectangle
from numpy.typing import NDArray
from PIL import Image

from foveal.tasks.blindtest.circles import Scene as CircleScene
from foveal.tasks.blindtest.drawing.lettering import word_mask
from foveal.tasks.blindtest.drawing.typesetting import EM, HELVETICA, set_word
from foveal.tasks.blindtest.grids import Scene as GridScene
from foveal.tasks.blindtest.letters import Scene as LetterScene
from foveal.tasks.blindtest.lines import Scene as LineScene
from foveal.tasks.blindtest.shapes import CIRCUMRADIUS
from foveal.tasks.blindtest.shapes import Scene as ShapeScene
from foveal.tasks.blindtest.squares import Scene as SquareScene
from foveal.tasks.blindtest.subway import Scene as SubwayScene

#: All puzzles measure lengths in this part of the side, y downwards.
UNITS: Final = 10_000
INCHES: Final = 5
#: Points in a unit, for the widths of lines and the sizes of fonts.
_POINTS: Final = 72 * INCHES / UNITS
#: Where the names of stations are: left ends and base lines in cells of the lattice, y downwards.
_STATIONS: Final = {"A": (8.45, 1.5), "B": (16.5, 9.4), "C": (8.45, 17.4), "D": (0.4, 9.4)}
#: The words' font is wider than the puzzle's by about this factor, and the middle of its lines is higher, in its size.
_WIDER, _HIGHER = 1.1, 0.06


def figure(size: int) -> tuple[Figure, Axes]:
    """An empty figure, ``size`` pixels wide and high."""
    made = plt.figure(figsize=(INCHES, INCHES), dpi=size / INCHES)
    axes = made.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, UNITS)
    axes.set_ylim(UNITS, 0)
    axes.axis("off")
    return made, axes


def picture(made: Figure) -> Image.Image:
    """What a figure looks like."""
    assert isinstance(made.canvas, FigureCanvasAgg)
    made.canvas.draw()
    return Image.fromarray(np.ascontiguousarray(np.asarray(made.canvas.buffer_rgba())[..., :3]))


def draw(puzzle: str, scene: Any, size: int) -> Image.Image:
    """The picture of a puzzle's scene, in a figure of its own."""
    made, axes = figure(size)
    _PAINTERS[puzzle](axes, scene)
    image = picture(made)
    plt.close(made)
    return image


def reused_lines(size: int) -> Callable[[LineScene], Image.Image]:
    """A function that draws the two lines of scenes by moving those of one figure."""
    made, axes = figure(size)
    lines = [axes.plot([], [], color=colour)[0] for colour in ("b", "r")]

    def move(scene: LineScene) -> Image.Image:
        for line, values in zip(lines, (scene.blue, scene.red), strict=True):
            line.set_data(scene.x, values)
            line.set_linewidth(_line_width(scene))
        return picture(made)

    return move


def _line_width(scene: LineScene) -> float:
    return scene.look.pen.width / scene.size * UNITS * _POINTS


def _lines(axes: Axes, scene: LineScene) -> None:
    for values, colour in ((scene.blue, "b"), (scene.red, "r")):
        axes.plot(scene.x, values, color=colour, linewidth=_line_width(scene))


def _circles(axes: Axes, scene: CircleScene) -> None:
    for centre, diameter, colour in zip(scene.centres, scene.diameters, scene.look.colours, strict=True):
        axes.add_patch(plt.Circle(centre, diameter / 2, facecolor=_colour(colour), linewidth=0))


def _letters(axes: Axes, scene: LetterScene) -> None:
    # The puzzle's faces stand in for fonts that not everyone has; plain letters are stretched to the same boxes.
    name, scale = ("Aileron" if scene.look.face == HELVETICA else "DejaVuSans"), scene.em / EM
    x, y = scene.pen
    for letter, box in zip(scene.word, set_word(scene.word, scene.look.face).boxes, strict=True):
        extent = (x + box.left * scale, x + box.right * scale, y + box.bottom * scale, y + box.top * scale)
        axes.imshow(_glyph(letter, name), cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
    a, b = scene.radii
    width = scene.width * _POINTS
    axes.add_patch(Ellipse(scene.centre, 2 * a, 2 * b, fill=False, edgecolor="red", linewidth=width))
    # Each letter moved them.
    axes.set_xlim(0, UNITS)
    axes.set_ylim(UNITS, 0)


@lru_cache(maxsize=128)
def _glyph(letter: str, name: str) -> NDArray[np.uint8]:
    """A black letter without any border."""
    mask = word_mask(letter, name, EM)
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return 255 - mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _shapes(axes: Axes, scene: ShapeScene) -> None:
    for i, (x, y) in enumerate(scene.centres):
        colours = scene.look.colours
        line: dict[str, Any] = {
            "fill": False,
            "edgecolor": _colour(colours[i % len(colours)]),
            "linewidth": scene.look.width * UNITS * _POINTS,
        }
        if scene.shape == "circles":
            axes.add_patch(plt.Circle((x, y), scene.size, **line))
        else:
            radius, turns = scene.size * CIRCUMRADIUS, [math.radians(54 + 72 * i) for i in range(5)]
            axes.add_patch(Polygon([(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns], **line))


def _squares(axes: Axes, scene: SquareScene) -> None:
    width = scene.width * _POINTS
    for left, top, right, bottom in scene.boxes:
        corner, wide, high = (left, top), right - left, bottom - top
        # Not moved to whole pixels: the published ones are on whole ones of a larger picture.
        axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="k", linewidth=width, snap=False))


def _grids(axes: Axes, scene: GridScene) -> None:
    (left, top), (right, bottom) = (scene.across[0][0], scene.down[0][0]), (scene.across[-1][1], scene.down[-1][1])
    boxes = [(start, top, stop, bottom) for start, stop in scene.across]
    boxes += [(left, start, right, stop) for start, stop in scene.down]
    for x, y, x2, y2 in boxes:
        axes.add_patch(Rectangle((x, y), x2 - x, y2 - y, facecolor="k", linewidth=0, snap=False))
    if not scene.writing:
        return
    words, height = iter(scene.writing.words), scene.writing.height
    for (_, a), (b, _) in pairwise(scene.down):
        middle = (a + b) / 2 + scene.writing.y + (0.25 + _HIGHER) * height
        for (_, c), (d, _) in pairwise(scene.across):
            at = (c + d) / 2 + scene.writing.x, middle
            axes.text(*at, next(words), fontsize=height / _WIDER * _POINTS, ha="center", va="center")


def _subway(axes: Axes, scene: SubwayScene) -> None:
    look = scene.look
    for route, colour in zip(scene.routes, look.colours, strict=True):
        xs, ys = ([look.origin[i] + node[i] * look.cell[i] for node in route] for i in (0, 1))
        axes.plot(xs, ys, color=_colour(colour), linewidth=look.width * _POINTS, snap=False)
    for letter, (x, y) in _STATIONS.items():
        at = look.origin[0] + x * look.cell[0], look.origin[1] + y * look.cell[1]
        axes.text(*at, letter, fontsize=look.em * _POINTS, fontweight="bold")


def _colour(colour: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(channel / 255 for channel in colour)


_PAINTERS: Final[dict[str, Callable[[Axes, Any], None]]] = {
    "lines": _lines,
    "circles": _circles,
    "letters": _letters,
    "shapes": _shapes,
    "squares": _squares,
    "grids": _grids,
    "subway": _subway,
}
