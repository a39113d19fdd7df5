from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveal.tasks.blindtest.drawing.bars import covered
from foveal.tasks.blindtest.drawing.canvas import as_image, palette
from foveal.tasks.blindtest.drawing.colours import dark, pale
from foveal.tasks.blindtest.drawing.filters import RESAMPLING


@pytest.mark.parametrize("kernel", RESAMPLING)
@pytest.mark.parametrize("size", [40, 56, 111])
def test_it_looks_like_a_large_picture_that_pillow_shrank(kernel: Any, size: int) -> None:
    rng, large = random.Random(size), 1000
    for _ in range(20):
        cuts = sorted(rng.sample(range(large + 1), 6))
        if rng.random() < 0.5:
            cuts[0], cuts[-1] = 0, large
        intervals = [(cuts[i], cuts[i + 1]) for i in (0, 2, 4)]
        drawn = np.zeros((1, large), np.float32)
        for start, stop in intervals:
            drawn[:, start:stop] = 1
        shrunk = np.asarray(Image.fromarray(drawn).resize((size, 1), RESAMPLING[kernel]))[0]
        k = size / large
        ours = covered(size, [[(a * k, b * k) for a, b in intervals]], kernel)[0]
        # Pillow's box takes a pixel of the large picture wholly or not at all.
        assert np.abs(ours - shrunk).max() < (1.1 * size / large if kernel == "box" else 0.01)


def test_rows_are_apart_and_what_lies_outside_is_nothing() -> None:
    rows = covered(8, [[(1, 2.5)], [(-9, -3), (7.25, 30)], [(-5, 40)]])
    expected = [[0, 1, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0.75], [1] * 8]
    assert np.abs(rows - np.array(expected)).max() < 0.005


@pytest.mark.parametrize("kernel", RESAMPLING)
def test_a_blur_softens_and_keeps_the_sum(kernel: Any) -> None:
    sharp, soft = (covered(60, [[(20.3, 33.1)]], kernel, blur)[0] for blur in (0.0, 1.5))
    assert soft.sum() == pytest.approx(sharp.sum(), abs=0.02) == pytest.approx(12.8, abs=0.02)
    assert np.abs(np.diff(soft)).max() < 0.4 < np.abs(np.diff(sharp)).max()


def test_colours() -> None:
    colours = palette((255, 250, 0), (5, 0, 100))
    assert colours[[0, 255]].view(np.uint8).tolist() == [255, 250, 0, 255, 5, 0, 100, 255]
    image = as_image(colours.take(np.array([[0, 255, 0], [255, 51, 255]])))
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert image.getpixel((1, 1)) == (205, 200, 20)
    rng = random.Random(0)
    assert all(sum(d) <= 340 < 3 * 210 < sum(p) for d, p in ((dark(rng), pale(rng)) for _ in range(200)))
