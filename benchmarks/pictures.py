"""How many pictures a second does one core make, beside matplotlib drawing the same scenes? For all seven puzzles.

Run it as ``python benchmarks/pictures.py``. In each round every way makes its pictures, one way after the other, so that
whatever else the machine does meets all of them. Each round makes new pictures, for what a generator keeps (masks of
words, tables) is found more often in pictures it has made before; the first round, which fills that, is not counted. The
clock is processor time, which leaves out the time that other programs had the core; all ways are single-threaded. Laying
out the scene is in on both sides; rows that are not drawn lay it out alone. No files are written.

matplotlib draws the scenes of the style ``paper``, each in a figure of its own, at the pixel size asked for; see
``matplotlib_scenes.py``. The ratio is that of the two rates of a round. The last column is how much the two pictures of a
scene differ per pixel and channel, of 255, on average: it shows that both draw the same thing, but for hinting, fonts,
and edges softened as if shrunk.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib_scenes
import numpy as np
from PIL import Image

from foveal.tasks.blindtest.all import PUZZLES
from foveal.tasks.blindtest.generate import Scenes
from foveal.tasks.blindtest.lines import Scene as LineScene

Draw = Callable[[int], Image.Image]
Make = Callable[[int], object]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: What it is about.
        paper: Makes a published-looking picture, or None where an earlier row has it.
        varied: Makes a varied one, or None.
        matplotlib: Makes the published-looking picture with matplotlib, or None.
        base: Name of the row whose ``paper`` the ratio is about.
    """

    name: str
    paper: Make | None
    varied: Make | None
    matplotlib: Draw | None
    base: str


def rows(puzzles: Sequence[str], size: int) -> list[Row]:
    """Two rows for each puzzle, with and without drawing; four for lines."""
    table = []
    for name in puzzles:
        paper, varied = (Scenes(PUZZLES[name], style, size, "train", 0) for style in ("paper", "varied"))
        table.append(Row(name, paper.draw, varied.draw, partial(_with_matplotlib, name, paper), name))
        table.append(Row(f"{name}, not drawn", paper, varied, None, name))
        if name == "lines":
            move = matplotlib_scenes.reused_lines(size)
            table.append(Row("lines, figure reused", None, None, partial(_moved, move, paper), name))
            tutorial = Scenes(PUZZLES[name], "tutorial", size, "train", 0)
            table.append(Row("lines, style tutorial", tutorial.draw, None, None, name))
    return table


def _with_matplotlib(name: str, scenes: Scenes, index: int) -> Image.Image:
    return matplotlib_scenes.draw(name, scenes(index), scenes.size)


def _moved(move: Callable[[LineScene], Image.Image], scenes: Scenes, index: int) -> Image.Image:
    scene = scenes(index)
    assert isinstance(scene, LineScene)
    return move(scene)


def rate(draw: Make, indices: range) -> float:
    """Pictures per second of processor time."""
    start = time.process_time()
    for index in indices:
        draw(index)
    return len(indices) / (time.process_time() - start)


def difference(ours: Draw, theirs: Draw, pictures: int) -> float:
    """Mean absolute difference of pixels."""
    pairs = [(np.asarray(ours(i), float), np.asarray(theirs(i), float)) for i in range(pictures)]
    return float(np.mean([np.abs(a - b).mean() for a, b in pairs]))


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range."""
    if not values:
        return ""
    middle, low, high = (f"{f(values):,.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle} ({low} to {high})"


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels (default 224)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--pictures", type=int, default=500, help="pictures of each style in a round (default 500)")
    parser.add_argument("--plots", type=int, default=20, help="matplotlib's pictures in a round (default 20)")
    parser.add_argument("--puzzles", nargs="+", choices=list(PUZZLES), default=list(PUZZLES), help="default: all")
    given = parser.parse_args()
    for key in ("size", "rounds", "pictures", "plots"):
        if getattr(given, key) < 1:
            parser.error(f"--{key} is below 1")

    table = rows(given.puzzles, given.size)
    rates: dict[tuple[str, str], list[float]] = {}
    for turn in range(given.rounds + 1):
        start = turn * given.pictures
        for row in table:
            for way, draw, count in (
                ("paper", row.paper, given.pictures),
                ("varied", row.varied, given.pictures),
                ("matplotlib", row.matplotlib, given.plots),
            ):
                if draw is None:
                    continue
                speed = rate(draw, range(start, start + count))
                if turn:  # The first round warms up.
                    rates.setdefault((row.name, way), []).append(speed)

    print(
        f"{given.size} x {given.size} pixels, one core, pictures per second: median and range of {given.rounds} rounds"
    )
    cells = [("puzzle", "style paper", "style varied", "matplotlib, paper", "paper / matplotlib", "differs")]
    papers = {name: Scenes(PUZZLES[name], "paper", given.size, "train", 0).draw for name in given.puzzles}
    for row in table:
        paper, varied, other = (rates.get((row.name, way), []) for way in ("paper", "varied", "matplotlib"))
        ratios, differs = "", ""
        base = papers[row.base]
        if row.matplotlib is not None:
            ratios = spread([a / b for a, b in zip(rates[row.base, "paper"], other, strict=True)], 1)
            differs = f"{difference(base, row.matplotlib, min(given.plots, 20)):.2f}"
        cells.append((row.name, spread(paper), spread(varied), spread(other), ratios, differs))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if any(row.name == "lines, style tutorial" for row in table):
        print("The pictures of lines in style tutorial are in the column of style paper.")


if __name__ == "__main__":
    main()
