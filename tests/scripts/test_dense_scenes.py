"""What the scenes of the tower's dense stage say of each patch is what is drawn there."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "pretrain_builtin"))

import dense_scenes as scenes

SIZE, SIDE = 168, 12


def bit(maps: scenes.Maps, name: str) -> np.ndarray:
    return maps.bits[:, scenes.BITS.index(name)].reshape(SIDE, SIDE)


def kind(maps: scenes.Maps, name: str) -> np.ndarray:
    return maps.classes[:, list(scenes.CLASSES).index(name)].reshape(SIDE, SIDE)


@pytest.mark.parametrize("family", scenes.FAMILIES, ids=lambda f: f.__name__)
def test_pictures_and_maps_depend_on_the_source_of_randomness_alone(family) -> None:
    first, again = (family(random.Random("a"), SIZE, SIDE) for _ in range(2))
    assert np.array_equal(first[0], again[0]) and first[0].size == (SIZE, SIZE)
    for name in ("bits", "classes", "values", "part"):
        assert np.array_equal(getattr(first[1], name), getattr(again[1], name), equal_nan=name in ("bits", "values"))
    sizes = dict(zip(scenes.CLASSES, first[1].classes.max(0), strict=True))
    assert all(largest < scenes.CLASSES[name] for name, largest in sizes.items())


def test_shares_are_counted_pixels() -> None:
    numbers = np.random.default_rng(0).integers(0, 3, (SIZE, SIZE)).astype(np.uint8)
    shares = scenes.shares(Image.fromarray(numbers), SIDE, 3)
    for row, column in ((0, 0), (3, 7), (11, 11)):
        patch = numbers[row * 14 : row * 14 + 14, column * 14 : column * 14 + 14]
        assert shares[row * SIDE + column] == pytest.approx([(patch == k).mean() for k in range(3)])


def test_middles_of_figures_have_their_place_shape_and_colour() -> None:
    seen = 0
    for seed in range(40):
        image, maps = scenes.figures(random.Random(seed), SIZE, SIDE)
        pixels = np.asarray(image).astype(int)
        assert np.array_equal(bit(maps, "centre") == 1, kind(maps, "shape") != scenes.NONE)
        for row, column in np.argwhere((bit(maps, "centre") == 1) & (bit(maps, "marked") == 0)):
            dx, dy, size = maps.values[row * SIDE + column]
            assert abs(dx) <= 0.5 and abs(dy) <= 0.5 and 0.02 < np.exp(size) / 10 < 0.25
            shape = scenes.SHAPE_NAMES[kind(maps, "shape")[row, column]]
            if shape == "rings" or bit(maps, "marked").any():
                continue
            x, y = int((column + 0.5 + dx) * 14), int((row + 0.5 + dy) * 14)
            fill = scenes.COLOURS[scenes.COLOUR_NAMES[kind(maps, "colour")[row, column]]][0]
            seen += np.abs(pixels[y, x] - fill).max() < 40
    assert seen > 150  # but for the few that another figure covers there


def test_two_diagonals_cross_in_the_middle_and_end_in_the_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [[(0.05, 0.06), (0.95, 0.96)], [(0.97, 0.06), (0.07, 0.96)]]
    for seed in range(30):
        rng, given = random.Random(seed), iter(lines * 4)
        monkeypatch.setattr(scenes, "_polyline", lambda rng, given=given: next(given))
        monkeypatch.setattr(rng, "choice", lambda options: 2 if 6 in options and 2 in options else options[-1])
        _, maps = scenes.strokes(rng, SIZE, SIDE)
        assert np.argwhere(bit(maps, "crossing") == 1).tolist() == [[6, 6]]
        assert np.argwhere(bit(maps, "end") == 1).tolist() == [[0, 0], [0, 11], [11, 0], [11, 11]]
        assert not (bit(maps, "corner") == 1).any()
        part = maps.part.reshape(SIDE, SIDE)
        assert part[2, 2] == part[9, 9] != part[2, 9] == part[9, 2] and part[0, 6] == scenes.NONE
        directions = kind(maps, "direction")
        # Twelve directions of 15 degrees, clockwise from the right: 45 is the third, 135 the ninth.
        assert directions[3, 3] == 3 and directions[3, 8] == 9


def test_segments_cross_inside_both_or_not() -> None:
    assert scenes.crossing((0, 0), (1, 1), (0, 1), (1, 0)) == pytest.approx((0.5, 0.5))
    assert scenes.crossing((0, 0), (1, 0), (0.25, -1), (0.25, 3)) == pytest.approx((0.25, 0))
    assert scenes.crossing((0, 0), (1, 1), (2, 0), (1.1, 0.9)) is None
    assert scenes.crossing((0, 0), (1, 1), (0, 1), (1, 2)) is None
