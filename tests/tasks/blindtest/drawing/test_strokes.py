from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageFilter

from foveal.tasks.blindtest.drawing.strokes import Pen, Point, draw_polylines

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)


def ink(image: Image.Image) -> np.ndarray:
    return (255 - np.asarray(image.convert("L")).astype(float)) / 255


def test_a_level_line_covers_what_it_should() -> None:
    image = ink(draw_polylines(20, WHITE, [(((5, 10), (15, 10)), BLACK)], Pen(3)))
    assert image[:, 10].tolist() == pytest.approx([0] * 8 + [0.5, 1, 1, 0.5] + [0] * 8, abs=0.02)
    assert image[10, 10] == 1
    # The square ends project by half the width.
    assert image[10].tolist() == pytest.approx([0] * 3 + [0.5] + [1] * 12 + [0.5] + [0] * 3, abs=0.02)
    rounded = ink(draw_polylines(20, WHITE, [(((5, 10), (15, 10)), BLACK)], Pen(3, cap="round")))
    assert rounded.sum() == pytest.approx(3 * 10 + np.pi * 1.5**2, abs=0.3)


@pytest.mark.parametrize("points", [((4.2, 3.1), (20.7, 33.3), (35.0, 6.4)), ((3, 30), (21, 28.5), (37, 5), (38, 36))])
@pytest.mark.parametrize("width", [1.0, 2.6, 6.0])
@pytest.mark.parametrize("blur", [0.0, 0.8])
def test_lines_look_as_if_drawn_large_and_shrunk(points: tuple[Point, ...], width: float, blur: float) -> None:
    y, x = (np.mgrid[: 40 * 16, : 40 * 16] + 0.5) / 16
    inside = np.zeros((40 * 16, 40 * 16), bool)
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        inside |= np.hypot(x - x0 - along * dx, y - y0 - along * dy) <= width / 2
    large = Image.fromarray(np.where(inside, 0, 255).astype(np.uint8))
    expected = ink(large.filter(ImageFilter.GaussianBlur(16 * blur)).reduce(16))
    found = ink(draw_polylines(40, WHITE, [(points, BLACK)], Pen(width, "round", "box", blur)))
    # Distances alone do not know the corners of ends and joints, which a blur spreads.
    assert np.abs(found - expected).mean() < (0.008 if blur else 0.003)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.02)


def test_order_colours_and_ground() -> None:
    lines = [(((2, 10), (18, 10)), BLUE), (((10, 2), (10, 18)), RED)]
    image = draw_polylines(20, (240, 230, 220), lines, Pen(4))
    assert image.mode == "RGB"
    assert image.getpixel((10, 10)) == RED
    assert image.getpixel((4, 10)) == BLUE
    assert image.getpixel((4, 4)) == (240, 230, 220)
    assert draw_polylines(20, WHITE, lines[::-1], Pen(4)).getpixel((10, 10)) == BLUE


def test_half_covered_pixels_mix_with_what_is_below() -> None:
    lines = [(((0, 10), (20, 10)), BLUE), (((0, 9.5), (20, 9.5)), RED)]
    image = draw_polylines(20, WHITE, lines, Pen(2))
    assert image.getpixel((10, 8)) == pytest.approx((255, 127, 127), abs=2)
    assert image.getpixel((10, 9)) == RED
    assert image.getpixel((10, 10)) == pytest.approx((127, 0, 127), abs=2)


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_turning_the_lines_turns_the_picture(kernel: str) -> None:
    points = ((3.3, 4.4), (17.0, 30.2), (36.1, 11.9))
    image = ink(draw_polylines(40, WHITE, [(points, BLACK)], Pen(2.4, kernel=kernel)))
    turned = ink(draw_polylines(40, WHITE, [(tuple((y, x) for x, y in points), BLACK)], Pen(2.4, kernel=kernel)))
    flipped = ink(draw_polylines(40, WHITE, [(tuple((40 - x, y) for x, y in points), BLACK)], Pen(2.4, kernel=kernel)))
    assert np.abs(image - turned.T).max() < 0.05
    assert np.abs(image - flipped[:, ::-1]).max() < 0.05


def test_lines_at_the_border_are_cut_off() -> None:
    image = ink(draw_polylines(30, WHITE, [(((0, 0), (30, 30), (30, 0)), BLACK)], Pen(4)))
    assert image[0, 0] == image[29, 29] == image[15, 29] == 1
    with pytest.raises(ValueError, match="outside"):
        draw_polylines(30, WHITE, [(((0, 0), (31, 30)), BLACK)], Pen(4))


def test_pictures_do_not_depend_on_what_was_drawn_before() -> None:
    def draw(size: int, width: float) -> bytes:
        return draw_polylines(size, WHITE, [(((1, 2), (size - 3, size / 2)), RED)], Pen(width)).tobytes()

    first = draw(50, 2)
    draw(90, 7)
    assert draw(50, 2) == first
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.extend(draw(50, 2) == first for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 200
