from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image
from pycocotools import mask as coco

from foveal.errors import UserError
from foveal.tasks.segmentation.objects import Target
from foveal.tasks.segmentation.polygons import (
    FARTHEST,
    CocoTarget,
    Points,
    PolygonTarget,
    RleTarget,
    Shape,
    fill,
    rasterise,
)
from foveal.tasks.segmentation.rle import box, encode

SIZE = (60, 45)


def grid(text: str) -> Any:
    """A mask of ``.`` (0), ``#`` (1) and ``x`` (255), line by line."""
    return np.array([[{".": 0, "#": 1, "x": 255}[c] for c in line] for line in text.split()], dtype=np.uint8)


def square(left: float, top: float, right: float, bottom: float) -> Points:
    return (left, top), (right, top), (right, bottom), (left, bottom)


def drawn(points: Sequence[tuple[float, float]], size: tuple[int, int] = SIZE, label: str = "target") -> Any:
    return rasterise([Shape(label, tuple(points))], size)


def star(seed: int, size: tuple[int, int], corners: int, least: float = 0.2) -> Points:
    """A polygon without crossings: corners in order around the middle."""
    generator = np.random.default_rng(seed)
    turns = 2 * np.pi * (np.arange(corners) + generator.uniform(0, 0.9, corners)) / corners
    reach = generator.uniform(least, 0.48, corners)
    x, y = size[0] * (0.5 + reach * np.cos(turns)), size[1] * (0.5 + reach * np.sin(turns))
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def perimeter(points: Points) -> float:
    return sum(math.dist(p, q) for p, q in pairwise([*points, points[0]]))


def slow_fill(points: Points, size: tuple[int, int]) -> Any:
    """Even-odd rule in whole numbers: for each pixel, the edges that a ray to the left crosses."""
    corners = [(int(x), int(y)) for x, y in points]
    mask = np.zeros((size[1], size[0]), dtype=np.bool_)
    for row in range(size[1]):
        for column in range(size[0]):
            for (x0, y0), (x1, y1) in pairwise([*corners, corners[0]]):
                if (y0 <= row) != (y1 <= row):
                    # Left of the pixel: x0 + (row - y0) (x1 - x0) / (y1 - y0) < column.
                    mask[row, column] ^= ((row - y0) * (x1 - x0) - (column - x0) * (y1 - y0)) * (
                        1 if y1 > y0 else -1
                    ) < 0
    return mask


def distances(points: Points, size: tuple[int, int]) -> Any:
    """Of each pixel to the outline of the polygon of whole numbers."""
    corners = np.array([(int(x), int(y)) for x, y in points], dtype=np.float64)
    at = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1).astype(np.float64)
    nearest = np.full(at.shape[:2], np.inf)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = end - start
        share = np.clip((at - start) @ along / max(along @ along, 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(at - start - share[..., None] * along, axis=-1))
    return nearest


def iou(a: Any, b: Any) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(st.lists(st.tuples(st.floats(-30, 90), st.floats(-30, 75)), min_size=1, max_size=8))
def test_fill_and_outline_against_a_slow_reference(points: list[tuple[float, float]]) -> None:
    # Any polygon: crossing itself, reaching out of the picture, with repeated points.
    mask, away = drawn(points) > 0, distances(tuple(points), SIZE)
    fill = slow_fill(tuple(points), SIZE)
    # Exact but for single pixels where edges cross, at less than a step from the outline.
    assert not (fill & (away > 1) & ~mask).any()
    # A line's pixels are at most half a step away along one axis; Pillow's fill of slivers adds some up to a whole one.
    least = 0.5 if len({(int(x), int(y)) for x, y in points}) < 3 else 1.0
    assert away[mask & ~fill].max(initial=0) <= least + 1e-6
    assert mask[away < 1e-9].all()


def test_the_outline_belongs_to_the_mask() -> None:
    assert np.array_equal(drawn(square(1, 1, 3, 2), (6, 4)), grid("...... .###.. .###.. ......"))
    # A slanted edge: the pixels of its line are drawn where their centres are outside, too.
    assert np.array_equal(drawn([(0, 0), (3, 1), (0, 2)], (5, 3)), grid("##... ####. ##..."))


def test_coordinates_are_cut_towards_zero() -> None:
    assert np.array_equal(drawn(square(1.99, 1.01, 3.99, 2.5), (6, 4)), drawn(square(1, 1, 3, 2), (6, 4)))
    assert np.array_equal(drawn(square(-0.9, -0.9, 1.2, 1.2), (4, 3)), drawn(square(0, 0, 1, 1), (4, 3)))


def shoelace(points: Sequence[tuple[float, float]]) -> float:
    """Area of a polygon without crossings."""
    return abs(math.fsum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise([*points, points[0]]))) / 2


@pytest.mark.parametrize("seed", range(12))
def test_area_is_the_exact_one_within_the_outline(seed: int) -> None:
    size = (400, 300)
    points = star(seed, size, 3 + seed)
    whole = tuple((float(int(x)), float(int(y))) for x, y in points)
    # Pick: a polygon of whole numbers encloses area + 1 + half of its outline's lattice points, which is at most half
    # its perimeter; the line adds pixels that are centred outside, at most one for each step of the perimeter.
    excess = float(drawn(points, size).sum()) - shoelace(whole)
    assert 0 < excess <= perimeter(whole) + 1
    assert abs(shoelace(whole) - shoelace(points)) <= math.sqrt(2) * perimeter(points)


@pytest.mark.parametrize("seed", range(12))
def test_masks_agree_with_pycocotools(seed: int) -> None:
    size = (400, 300)
    points = star(seed, size, 4 + seed, least=0.3)
    polygon = [coordinate for point in points for coordinate in point]
    theirs = coco.decode(coco.frPyObjects([polygon], size[1], size[0]))[..., 0] > 0
    ours = drawn(points, size) > 0
    # They have no outline and do not cut coordinates.
    assert iou(ours, theirs) >= 0.97
    assert distances(points, size)[ours != theirs].max() <= 2.0


def test_small_shapes_lie_on_large_ones_whatever_their_order() -> None:
    large, small = Shape("target", square(0, 0, 5, 4)), Shape("ignore", square(1, 1, 2, 2))
    expected = grid("######. #xx###. #xx###. ######. ######.")
    assert np.array_equal(rasterise([large, small], (7, 5)), expected)
    assert np.array_equal(rasterise([small, large], (7, 5)), expected)
    inverse = [Shape("ignore", large.points), Shape("target", small.points)]
    assert np.array_equal(rasterise(inverse, (7, 5)), grid("xxxxxx. x##xxx. x##xxx. xxxxxx. xxxxxx."))


def test_of_equal_shapes_the_first_lies_on_top() -> None:
    one, other = Shape("target", square(0, 0, 2, 1)), Shape("ignore", square(1, 1, 3, 2))
    assert np.array_equal(rasterise([one, other], (5, 3)), grid("###.. ###x. .xxx."))
    assert np.array_equal(rasterise([other, one], (5, 3)), grid("###.. #xxx. .xxx."))


def test_size_is_what_is_painted_in_the_picture() -> None:
    # The ignored shape is the larger one, but little of it is in the picture.
    shapes = [Shape("target", square(0, 0, 3, 2)), Shape("ignore", square(2, 2, 50, 50))]
    assert np.array_equal(rasterise(shapes, (5, 4)), grid("####. ####. ##xxx ..xxx"))


@pytest.mark.parametrize("label", ["ignore", "IGNORE", "Ignored region", "to_ignore"])
def test_labels_with_ignore_are_ignored(label: str) -> None:
    assert np.array_equal(drawn(square(0, 0, 1, 0), (3, 2), label), grid("xx. ..."))
    assert PolygonTarget((3, 2), (Shape(label, ((0, 0),)),)).parts() == []


@pytest.mark.parametrize("label", ["flag", "Flag", "FLAG"])
def test_flags_are_not_drawn(label: str) -> None:
    target = PolygonTarget((3, 2), (Shape(label, square(0, 0, 2, 2)), Shape("target", ((1, 1),))))
    assert np.array_equal(target.whole(), grid("... .#."))
    assert len(target.parts()) == 1
    # Only the word alone is one.
    assert drawn(((0, 0),), (3, 2), "flags").sum() == 1


def test_dots_lines_and_repeated_points() -> None:
    assert np.array_equal(drawn([(1, 2)], (3, 3)), grid("... ... .#."))
    assert np.array_equal(drawn([(1, 2)] * 3, (3, 3)), grid("... ... .#."))
    assert np.array_equal(drawn([(0, 0), (2, 2)], (3, 3)), grid("#.. .#. ..#"))
    assert np.array_equal(drawn([(0, 1), (3, 1)], (5, 3)), grid("..... ####. ....."))
    assert np.array_equal(drawn([(0, 0), (3, 1), (0, 0)], (5, 2)), grid("##... ..##."))
    once = star(3, SIZE, 7)
    twice = [point for point in once for _ in range(2)]
    assert np.array_equal(drawn(twice), drawn(once))
    assert np.array_equal(drawn([*once, once[0]]), drawn(once))


def test_nothing_drawn_is_an_empty_mask() -> None:
    assert np.array_equal(rasterise([], (4, 3)), np.zeros((3, 4)))
    assert rasterise([], (4, 3)).dtype == np.uint8


def test_points_out_of_the_picture_are_cut_off() -> None:
    assert np.array_equal(drawn(square(-20, -3, 1, 5015.4), (4, 3)), grid("##.. ##.. ##.."))
    assert np.array_equal(drawn(square(-9, -9, 99, 99), (4, 3)), np.ones((3, 4)))
    for points in (square(4, 0, 9, 2), square(-9, 0, -1, 2), square(0, 3, 3, 9), [(-5.0, 1.0)], [(7.0, 7.0)]):
        assert drawn(points, (4, 3)).sum() == 0
    # A picture around shows the same where both are.
    points = tuple((3 * x - 100, 3 * y - 75) for x, y in star(8, SIZE, 9))
    cut = [(int(x) + 200, int(y) + 200) for x, y in points]
    around = drawn(cut, (500, 450))
    assert np.array_equal(drawn(points), around[200:245, 200:260])
    assert 0 < drawn(points).sum() < SIZE[0] * SIZE[1]


def test_the_farthest_points_cost_little() -> None:
    points = np.random.default_rng(0).uniform(-FARTHEST, FARTHEST, (100, 2))
    start = time.perf_counter()
    mask = drawn([(x, y) for x, y in points.tolist()], (640, 480))
    assert mask.shape == (480, 640)
    assert time.perf_counter() - start < 5  # 0.05 s on one core
    # A straight edge stays in place: y = x / 2 through the middle of the picture.
    half = drawn([(-FARTHEST, -FARTHEST / 2), (FARTHEST, FARTHEST / 2), (-FARTHEST, FARTHEST / 2)], (640, 480)) > 0
    rows, columns = np.indices((480, 640))
    assert not (half != (2 * rows >= columns))[np.abs(2 * rows - columns) > 1].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9, -1e9, 1e300])
def test_points_that_are_no_place_are_refused(bad: float) -> None:
    for point in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(UserError, match=r"the shape 'target' has a point at \(.*\), which is no place.*\.$"):
            Shape("target", ((0, 0), point))


def test_a_shape_without_points_is_refused() -> None:
    with pytest.raises(UserError, match="the shape 'target' has no points; draw it or remove it"):
        Shape("target", ())


def test_parts_run_from_left_to_right_and_lack_what_is_ignored() -> None:
    right, left = Shape("target", square(3, 0, 5, 2)), Shape("target", square(0, 0, 3, 1))
    target = PolygonTarget((7, 3), (right, Shape("ignore", square(4, 1, 4, 5)), left, Shape("flag", ((6, 0),))))
    assert np.array_equal(target.whole(), grid("######. ####x#. ...#x#."))
    first, second = target.parts()
    assert np.array_equal(first, grid("####... ####... ......."))
    # The column that both cover belongs to both.
    assert np.array_equal(second, grid("...###. ...#.#. ...#.#."))
    assert np.array_equal(first | second, target.whole() == 1)


def test_parts_with_one_left_edge_run_downwards_and_empty_ones_are_left_out() -> None:
    low, high = Shape("target", ((1, 2),)), Shape("target", ((1, 0),))
    out, hidden = Shape("target", ((9, 9),)), Shape("target", square(3, 0, 4, 1))
    # The ignored shape is of the same size and comes first, so that it covers all of the hidden one.
    target = PolygonTarget((5, 3), (Shape("ignore", hidden.points), low, out, hidden, high))
    assert [box(part) for part in target.parts()] == [(1, 0, 2, 1), (1, 2, 2, 3)]
    assert PolygonTarget((5, 3), ()).parts() == []


def test_run_length_targets() -> None:
    left, right = grid("##... ##... ....."), grid(".##.. ..##. .....")
    target = RleTarget((5, 3), tuple(encode(mask) for mask in (right, np.zeros_like(left), left)))
    assert np.array_equal(target.whole(), left | right)
    assert target.whole().dtype == np.uint8
    assert all(np.array_equal(part, mask) for part, mask in zip(target.parts(), (left, right), strict=True))
    assert np.array_equal(RleTarget((5, 3), ()).whole(), np.zeros((3, 5)))
    with pytest.raises(UserError, match="mask 2: has 3 x 5 pixels and its picture 5 x 3; "):
        RleTarget((5, 3), (encode(left), encode(left.T)))
    with pytest.raises(UserError, match="mask 1: its run lengths do not add up"):
        RleTarget((5, 3), ({"size": [3, 5], "counts": [14]},))


TARGETS: list[Target] = [
    PolygonTarget(SIZE, (Shape("target", star(1, SIZE, 6)), Shape("ignore", star(2, SIZE, 4)))),
    RleTarget(SIZE, (encode(drawn(star(1, SIZE, 6))), encode(drawn(star(2, SIZE, 5))))),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_targets_can_be_pickled(target: Target) -> None:
    same = pickle.loads(pickle.dumps(target))
    assert (target.whole() == 1).sum() > 100
    assert np.array_equal(same.whole(), target.whole())
    assert len(same.parts()) == len(target.parts()) > 0
    assert all(np.array_equal(a, b) for a, b in zip(same.parts(), target.parts(), strict=True))


# Pixels of 1 and of 255 that OpenCV 5.0 (polylines and fillPoly, as in the authors' code) draws for these files.
OPENCV = {"train/2011_000003": (33076, 9505), "val/2011_000006": (35485, 919), "val/2011_000025": (118575, 0)}


@pytest.mark.parametrize("name", OPENCV)
def test_real_annotations_give_the_pixels_of_opencv(real_data: Path, name: str) -> None:
    file = real_data / "reasonseg_layout" / "ReasonSeg" / f"{name}.json"
    shapes = json.loads(file.read_text(encoding="utf-8"))["shapes"]
    with Image.open(file.with_suffix(".jpg")) as picture:
        size = picture.size
    target = PolygonTarget(size, tuple(Shape(s["label"], tuple((x, y) for x, y in s["points"])) for s in shapes))
    whole = target.whole()
    for value, expected in zip((1, 255), OPENCV[name], strict=True):
        assert abs(int((whole == value).sum()) - expected) <= 0.0005 * expected


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
