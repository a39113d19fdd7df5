from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from foveal.drawing.figures import COLOURS, SHAPES, Figure, lens


def covered(figure: Figure, size: int) -> np.ndarray:
    """Where a figure is drawn on white."""
    image = Image.new("RGB", (size, size), "white")
    figure.draw(ImageDraw.Draw(image), size)
    return np.asarray(image.convert("L"), int) < 250


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turn", [-1, 0, 0.7])
def test_boxes_and_areas_are_those_of_the_drawn_pixels(shape: str, turn: float) -> None:
    size = 1200
    figure = Figure(shape, "blue", 0.47, 0.53, 0.21, math.radians(turn * SHAPES[shape].swing))
    mask = covered(figure, size)
    y, x = np.nonzero(mask)
    drawn = x.min(), y.min(), x.max() + 1, y.max() + 1
    assert np.array(figure.box) * size == pytest.approx(drawn, abs=1.5)
    assert mask.sum() / size**2 == pytest.approx(figure.area, rel=0.02)
    far = np.hypot(x + 0.5 - figure.x * size, y + 0.5 - figure.y * size).max()
    assert figure.reach * size == pytest.approx(far, abs=1.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_figures_have_both_their_tones(shape: str) -> None:
    for colour, tones in COLOURS.items():
        image = Image.new("RGB", (100, 100), (240, 240, 240))
        Figure(shape, colour, 0.5, 0.5, 0.4).draw(ImageDraw.Draw(image), 100)
        counts = {tone: number for number, tone in image.getcolors() or ()}
        fill, edge = (counts[tone] for tone in tones)
        assert fill + edge + counts[240, 240, 240] == 100 * 100
        assert 0.2 < fill / (fill + edge) < 0.9


def test_the_kinds_are_many_and_differ() -> None:
    assert len(SHAPES) >= 6 and len(COLOURS) >= 8
    fills = [fill for fill, _ in COLOURS.values()]
    assert min(math.dist(a, b) for a, b in product(fills, fills) if a != b) > 80
    for fill, edge in COLOURS.values():
        assert math.dist(fill, edge) > 90
    assert Figure("rings", "black", 0, 0, 1).kind == "black rings"


@given(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0, 7))
def test_shared_areas_of_discs_equal_a_sum_over_strips(a: float, b: float, distance: float) -> None:
    x = np.linspace(-a, a, 4001)
    one = np.sqrt(np.maximum(a**2 - x**2, 0))
    other = np.sqrt(np.maximum(b**2 - (x - distance) ** 2, 0))
    slow = np.trapezoid(2 * np.minimum(one, other), x)
    assert lens(a, b, distance) == pytest.approx(slow, abs=2e-3 * max(a, 1) ** 2)
    assert lens(a, b, distance) == pytest.approx(lens(b, a, distance), abs=1e-9)
