"""How many line-intersection pictures a second does one core make, beside matplotlib drawing the same scenes?

Run it as ``python benchmarks/pictures.py``. Each round makes the same pictures in every way, one after the other, and
the medians of the rounds are compared. The clock is processor time, which leaves out the time that other programs had
the core; all ways are single-threaded. No files are written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from foveal.tasks.blindtest.lines import POINT, UNITS, Scene, Scenes


def _figure(size: int) -> tuple[Figure, list[Line2D]]:
    """An empty figure of 5 inches with two lines, as BlindTest's authors make it, but ``size`` pixels wide and high."""
    figure = plt.figure(figsize=(5, 5), dpi=size / 5)
    axes = figure.add_axes((0, 0, 1, 1))
    lines = [axes.plot([], [], color=colour)[0] for colour in ("b", "r")]
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.axis("off")
    return figure, lines


def _plot(figure: Figure, lines: list[Line2D], scene: Scene, size: int) -> Image.Image:
    """Draws a scene of the paper's style."""
    for line, values in zip(lines, (scene.blue, scene.red), strict=True):
        line.set_data([x / UNITS for x in scene.x], [1 - y / UNITS for y in values])
        line.set_linewidth(scene.look.pen.width / size / POINT)
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])


def new_figures(scenes: Scenes, size: int) -> Callable[[int], Image.Image]:
    """matplotlib with a figure for each picture."""

    def draw(index: int) -> Image.Image:
        figure, lines = _figure(size)
        image = _plot(figure, lines, scenes(index), size)
        plt.close(figure)
        return image

    return draw


def one_figure(scenes: Scenes, size: int) -> Callable[[int], Image.Image]:
    """matplotlib with one figure whose lines are moved."""
    figure, lines = _figure(size)
    return lambda index: _plot(figure, lines, scenes(index), size)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels (default 224)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--pictures", type=int, default=500, help="pictures of each style in a round (default 500)")
    parser.add_argument("--plots", type=int, default=20, help="matplotlib's pictures in a round (default 20)")
    given = parser.parse_args()
    paper = Scenes("paper", given.size, "train", 0)
    ways: dict[str, tuple[Callable[[int], Image.Image], int]] = {
        f"foveal, {style}": (Scenes(style, given.size, "train", 0).draw, given.pictures)
        for style in ("paper", "tutorial", "varied")
    }
    ways["matplotlib, figure reused"] = one_figure(paper, given.size), given.plots
    ways["matplotlib, new figures"] = new_figures(paper, given.size), given.plots
    same = np.abs(np.asarray(paper.draw(0), float) - np.asarray(ways["matplotlib, new figures"][0](0), float)).mean()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds + 1):
        for name, (draw, count) in ways.items():
            start = time.process_time()
            for index in range(count):
                draw(index)
            rates[name].append(count / (time.process_time() - start))
    # The first round warms up.
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    print(f"{given.size} x {given.size} pixels, one core, median and range of {given.rounds} rounds")
    base = medians["matplotlib, new figures"]
    for name, rate in medians.items():
        low, high = min(rates[name][1:]), max(rates[name][1:])
        print(f"{name:<28}{rate:>8,.0f} pictures/s   ({low:,.0f} to {high:,.0f})   {rate / base:>6.1f} x")
    print(f"The first picture differs by {same:.2f} of 255 on average from matplotlib's.")


if __name__ == "__main__":
    main()
