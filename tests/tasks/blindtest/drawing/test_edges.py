from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from foveal.tasks.blindtest.drawing.colours import WHITE, random_colours
from foveal.tasks.blindtest.drawing.edges import Canvas
from foveal.tasks.blindtest.drawing.filters import Filter

FINE = 16  #: Samples a pixel, each way.
INK = (20, 120, 220)
PENTAGON = [(math.cos(turn), math.sin(turn)) for turn in (math.radians(90 + 72 * i) for i in range(5))]


def grid(size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """x and y of the samples of a picture with a border of two pixels around it."""
    places = (np.arange((size + 4) * FINE) + 0.5) / FINE - 2
    return places[None, :], places[:, None]


def sampled(inside: NDArray[Any], kernel: Filter) -> NDArray[Any]:
    """What is inside, averaged over pixels, or over two with less weight for what is farther off."""
    values = inside.astype(float)
    width = FINE if kernel == "box" else 2 * FINE
    weights = np.ones(width) if kernel == "box" else 1 - np.abs((np.arange(width) + 0.5) / FINE - 1)
    weights /= weights.sum()
    start, count = 2 * FINE - (width - FINE) // 2, len(inside) // FINE - 4
    for _ in range(2):
        values = np.stack([weights @ values[start + i * FINE :][:width] for i in range(count)]).T
    return values


def drawn(canvas: Canvas) -> NDArray[Any]:
    """How far each pixel of a picture of black on white is covered."""
    return 1 - np.asarray(canvas.image(), float)[..., 0] / 255


@pytest.mark.parametrize("kernel", ["box", "bilinear"])
@pytest.mark.parametrize(("x", "y", "radius"), [(20, 20, 13.3), (14.37, 22.81, 9.2), (30.5, 9.1, 4)])
def test_discs_cover_what_they_do(kernel: Filter, x: float, y: float, radius: float) -> None:
    canvas = Canvas(40, WHITE, kernel, 0)
    canvas.disc(x, y, radius, (0, 0, 0))
    u, v = grid(40)
    error = drawn(canvas) - sampled((u - x) ** 2 + (v - y) ** 2 < radius**2, kernel)
    assert np.abs(error).max() < 0.06
    assert np.abs(error).mean() < 0.002
    assert drawn(canvas).sum() == pytest.approx(math.pi * radius**2, rel=0.012)


@pytest.mark.parametrize("kernel", ["box", "bilinear"])
@pytest.mark.parametrize("width", [0.4, 1, 3.3])
def test_circles_cover_what_they_do(kernel: Filter, width: float) -> None:
    canvas = Canvas(40, WHITE, kernel, 0)
    canvas.outlines([(19.7, 20.4)], 14.2, width, ((0, 0, 0),))
    u, v = grid(40)
    error = drawn(canvas) - sampled(np.abs(np.hypot(u - 19.7, v - 20.4) - 14.2) < width / 2, kernel)
    assert np.abs(error).max() < 0.09
    assert np.abs(error).mean() < 0.006
    assert drawn(canvas).sum() == pytest.approx(2 * math.pi * 14.2 * width, rel=0.01)


@pytest.mark.parametrize("turn", [0, 17])
@pytest.mark.parametrize("width", [1, 3.3])
def test_polygons_have_straight_sides_and_mitred_corners(width: float, turn: float) -> None:
    normals = [(math.cos(a), math.sin(a)) for a in (math.radians(90 + turn + 72 * i) for i in range(5))]
    canvas = Canvas(40, WHITE, "box", 0)
    canvas.outlines([(19.7, 20.4)], 11.5, width, ((0, 0, 0),), normals)
    u, v = grid(40)
    reach = np.max([(u - 19.7) * a + (v - 20.4) * b for a, b in normals], axis=0)
    error = drawn(canvas) - sampled(np.abs(reach - 11.5) < width / 2, "box")
    assert np.abs(error).max() < 0.35  # In the very corners.
    assert np.abs(error).mean() < 0.006


def test_blur_softens_edges_and_keeps_the_ink() -> None:
    ink, steepest = [], []
    for blur in (0, 0.5, 1.5):
        canvas = Canvas(48, WHITE, "bilinear", blur)
        canvas.disc(24, 24, 12, (0, 0, 0))
        ink.append(drawn(canvas).sum())
        steepest.append(np.abs(np.diff(drawn(canvas)[24])).max())
    assert ink == pytest.approx([math.pi * 144] * 3, rel=0.02)
    assert steepest[0] > steepest[1] > steepest[2]


def test_later_shapes_lie_over_earlier_ones() -> None:
    canvas = Canvas(64, WHITE, "box", 0)
    canvas.disc(28, 32, 14, (255, 0, 0))
    canvas.disc(40, 32, 14, (0, 0, 255))
    canvas.outlines([(34, 32), (12, 12)], 6, 2, ((0, 0, 0), (0, 255, 0)), apart=2)
    pixels = np.asarray(canvas.image())
    assert [tuple(pixels[y, x]) for x, y in ((18, 32), (34, 22), (50, 32), (34, 32), (60, 60))] == [
        (255, 0, 0), (0, 0, 255), (0, 0, 255), (0, 0, 255), WHITE,
    ]  # fmt: skip
    assert max(*pixels[32, 27], *pixels[32, 40], pixels[12, 17, 0]) < 8 and pixels[12, 17, 1] == 255


def test_crossing_lines_are_laid_one_over_the_other() -> None:
    centres = [(20.0, 20.3), (28.0, 22.1), (36.0, 20.3)]
    colours = (INK, (200, 30, 40), (30, 160, 60))
    canvas = Canvas(56, WHITE, "bilinear", 0)
    canvas.outlines(centres, 7.5, 1.2, colours, PENTAGON, apart=3)
    together = np.asarray(canvas.image(), int)
    canvas = Canvas(56, WHITE, "bilinear", 0)
    for centre, colour in zip(centres, colours, strict=True):
        canvas.outlines([centre], 7.5, 1.2, (colour,), PENTAGON)
    assert np.abs(together - np.asarray(canvas.image(), int)).max() <= 1


@pytest.mark.parametrize(("x", "y"), [(6.2, 6.1), (57.7, 6.3), (6.4, 57.9), (57.5, 57.6)])
def test_shapes_at_the_border(x: float, y: float) -> None:
    pictures: list[Image.Image] = []
    for size, shift in ((64, 0), (128, 30)):
        canvas = Canvas(size, WHITE, "bilinear", 0.5)
        canvas.disc(x + shift, y + shift, 6, INK)
        pictures.append(canvas.image().crop((shift, shift, shift + 64, shift + 64)))
        canvas.outlines([(x + shift, y + shift)], 5, 1, (INK,), PENTAGON)
        pictures.append(canvas.image().crop((shift, shift, shift + 64, shift + 64)))
    assert pictures[0].tobytes() == pictures[2].tobytes()
    assert pictures[1].tobytes() == pictures[3].tobytes()


def test_random_colours_stand_out() -> None:
    rng = random.Random(0)
    found = [random_colours(rng, 3, alike=0.25) for _ in range(400)]
    assert {len(colours) for colours, _ in found} == {1, 3}
    assert 70 < sum(len(colours) == 1 for colours, _ in found) < 130
    assert 150 < sum(ground == WHITE for _, ground in found) < 250
    for colours, ground in found:
        assert all(sum(abs(a - b) for a, b in zip(c, ground, strict=True)) >= 225 for c in colours)
        assert all(0 <= v <= 255 for c in (*colours, ground) for v in c)
