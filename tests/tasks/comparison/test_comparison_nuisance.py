"""Colours do not tell a picture's score. How much ink there is belongs to the score (dots, area), and so does all of brightness."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.tasks.comparison.generate import HIGHEST, LOWEST, Quality, Synthetic
from nuisance import DEVIATIONS, surplus


@pytest.mark.parametrize("quality", ["dots", "area", "slope"])
def test_colours_do_not_tell_the_score(quality: Quality) -> None:
    rated = Synthetic(quality, 700, image_size=64)
    properties = []
    for i in range(len(rated)):
        pixels = np.asarray(rated.draw(i), int).reshape(-1, 3)
        ground = pixels[0]
        ink = pixels[np.abs(pixels - ground).sum(1).argmax()]
        properties.append({"ground": tuple(ground), "ink": tuple(ink)})
    assert surplus(properties, [rated.parts(i) > (LOWEST + HIGHEST) / 2 for i in range(len(rated))]) < DEVIATIONS
