from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from foveal.tasks.segmentation.coco_polygons import CocoTarget, fill

_place = st.floats(-10, 60, allow_nan=False)
_corners = st.lists(st.tuples(_place, _place), min_size=3, max_size=9)


def test_shapes_that_can_be_counted_by_hand() -> None:
    assert fill([(1, 1), (4, 1), (4, 3), (1, 3)], (6, 5)).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    # What sticks out is cut off; corners that repeat change nothing.
    assert fill([(-9, -9), (-9, -9), (99, -9), (99, 99), (-9, 99)], (7, 3)).sum() == 21
    assert fill([(7, 0), (9, 0), (9, 3), (7, 3)], (7, 3)).sum() == 0
    # Where an outline runs around an area twice, the even-odd rule leaves that out.
    square = [(1, 1), (6, 1), (6, 6), (1, 6)]
    assert fill([*square, square[0], (2, 2), (4, 2), (4, 4), (2, 4), (2, 2), square[0]], (8, 8)).sum() == 25 - 4
    for line in ([(1, 1), (1, 1), (1, 1)], [(0, 0), (5, 5), (0, 0)]):
        assert fill(line, (8, 8)).sum() == 0


@given(_corners, st.integers(1, 50), st.integers(1, 50))
def test_masks_are_those_of_pycocotools_pixel_for_pixel(
    corners: list[tuple[float, float]], width: int, height: int
) -> None:
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    flat = [value for corner in corners for value in corner]
    expected = mask.decode(mask.frPyObjects([flat], height, width))[..., 0]
    assert np.array_equal(fill(corners, (width, height)), expected)


def test_masks_are_the_pixels_whose_middles_are_enclosed() -> None:
    rng = np.random.default_rng(0)
    middles = np.stack(np.meshgrid(np.arange(160), np.arange(120)), axis=-1).reshape(-1, 2) + 0.5
    for _ in range(40):
        # A star around a point crosses itself nowhere.
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        corners = (80, 60) + rng.uniform(15, 55, (12, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        mine = fill(corners.tolist(), (160, 120)).astype(bool)
        expected = Outline(corners).contains_points(middles).reshape(120, 160)
        assert (mine & expected).sum() > 0.97 * (mine | expected).sum()


@given(_corners, st.integers(0, 8))
def test_where_a_polygon_starts_changes_nothing(corners: list[tuple[float, float]], by: int) -> None:
    turned = [*corners[by % len(corners) :], *corners[: by % len(corners)]]
    assert np.array_equal(fill(turned, (50, 40)), fill(corners, (50, 40)))


def test_a_target_is_the_union_of_its_polygons_and_one_part() -> None:
    polygons = (((1, 1), (4, 1), (4, 3), (1, 3)), ((2, 1), (6, 1), (6, 3), (2, 3)))
    target = pickle.loads(pickle.dumps(CocoTarget((8, 5), polygons)))
    assert target.whole().sum() == 10 and target.whole().dtype == np.uint8
    assert [part.sum() for part in target.parts()] == [10]
    assert list(CocoTarget((8, 5), (((9, 9), (12, 9), (12, 12)),)).parts()) == []
