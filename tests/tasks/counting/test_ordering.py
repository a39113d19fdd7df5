from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.tasks.counting.objects import Thing
from foveal.tasks.counting.ordering import (
    ORDERS,
    ROW_SHARE,
    Order,
    _splits,
    order,
    reading_rows,
    row_height,
)

SIZE = (400, 300)


def boxed(x: float, y: float, side: float = 24) -> Thing:
    return Thing((x, y), (x - side / 2, y - side / 2, x + side / 2, y + side / 2))


def moved(things: list[Thing], rng: random.Random, by: float) -> list[Thing]:
    """Every point, and every side of every box, moved by at most ``by``."""

    def off() -> float:
        return rng.choice((-by, by, rng.uniform(-by, by)))

    return [
        Thing(
            (t.point[0] + off(), t.point[1] + off()),
            None if t.box is None else tuple(v + off() for v in t.box),  # type: ignore[arg-type]
        )
        for t in things
    ]


def grid(rows: int, columns: int, pitch: float, side: float | None) -> list[Thing]:
    points = [(20 + pitch * c, 20 + pitch * r) for r in range(rows) for c in range(columns)]
    return [Thing(p) if side is None else boxed(*p, side) for p in points]


coordinates = st.floats(0, 300, allow_nan=False)
scenes = st.lists(
    st.builds(lambda x, y, side: boxed(x, y, side) if side else Thing((x, y)), coordinates, coordinates,
              st.sampled_from([0, 18, 24, 40])),
    max_size=40,
)  # fmt: skip


def recursive(ys: list[float], height: float) -> list[list[float]]:
    """The rule as a child would say it: split at the largest gap until no row is too tall."""
    if not ys or ys[-1] - ys[0] <= height:
        return [ys]
    gaps = [b - a for a, b in pairwise(ys)]
    cuts = [k + 1 for k, gap in enumerate(gaps) if gap == max(gaps)]
    return [row for a, b in pairwise([0, *cuts, len(ys)]) for row in recursive(ys[a:b], height)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(4, 60))
def test_rows_are_what_splitting_at_the_largest_gap_gives(values: list[int], height: int) -> None:
    ys = sorted(map(float, values))
    splits = _splits(ys, height)
    edges = [0, *(k + 1 for k, split in enumerate(splits) if split), len(ys)]
    assert [ys[a:b] for a, b in pairwise(edges)] == recursive(ys, height)


@settings(deadline=None)
@given(scenes)
def test_rows_hold_each_thing_once_span_no_more_than_the_height_and_do_not_overlap(things: list[Thing]) -> None:
    rows = reading_rows(things, SIZE)
    assert sorted(i for row in rows for i in row) == list(range(len(things)))
    ys = [[things[i].point[1] for i in row] for row in rows]
    assert all(max(row) - min(row) <= row_height(things, SIZE) for row in ys)
    assert all(max(a) < min(b) for a, b in pairwise(ys))
    assert all(things[i].point[0] <= things[j].point[0] for row in rows for i, j in pairwise(row))


@settings(deadline=None)
@given(st.data())
def test_rows_that_are_clear_stay_under_jitter_up_to_the_stated_margin(data: st.DataObject) -> None:
    jitter = data.draw(st.floats(0, 3))
    rng = random.Random(data.draw(st.integers(0, 10**6)))
    height = ROW_SHARE * 24
    # Boxes stay as they are relative to their points: the height of rows stays 16.
    y, rows = 30.0, []
    for _ in range(data.draw(st.integers(1, 5))):
        spread = rng.uniform(0, height - 2 * jitter - 0.01)
        xs, x = [], 20.0
        for _ in range(rng.randint(1, 8)):
            xs.append(x)
            x += 2 * jitter + 0.01 + rng.choice((0, rng.uniform(0, 40)))
        rows.append([(x, y + rng.choice((0, spread, rng.uniform(0, spread)))) for x in xs])
        y += spread + height + 2 * jitter + 0.01 + rng.choice((0, rng.uniform(0, 20)))
    points = [point for row in rows for point in row]
    things = [boxed(*point) for point in points]
    assert order(things, "reading_order", SIZE) == list(range(len(things)))
    for _ in range(5):
        shifted = [boxed(x + rng.uniform(-jitter, jitter), y + rng.choice((-jitter, jitter))) for x, y in points]
        assert order(shifted, "reading_order", SIZE) == list(range(len(things)))


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.sampled_from([18.0, 24.0, None]), st.integers(0, 10**6))
def test_one_pixel_of_jitter_reorders_no_grid(rows: int, columns: int, side: float | None, seed: int) -> None:
    things = grid(rows, columns, 28, side)
    rng = random.Random(seed)
    for name in ("reading_order", "nearest_neighbor"):
        expected = order(things, name, SIZE)
        for _ in range(5):
            assert order(moved(things, rng, 1), name, SIZE) == expected
    assert order(things, "reading_order", SIZE) == list(range(len(things)))


def test_sorting_by_y_alone_would_reorder_at_a_pixel_and_this_does_not() -> None:
    things = [boxed(20, 50), boxed(60, 50.4), boxed(100, 49.8)]
    assert order(things, "reading_order", SIZE) == [0, 1, 2]
    assert sorted(range(3), key=lambda i: things[i].point[::-1]) == [2, 0, 1]


def test_the_height_of_a_row_comes_from_the_boxes_or_else_from_the_picture() -> None:
    assert row_height([boxed(0, 0, 30), boxed(0, 0, 60), boxed(0, 0, 33), Thing((1, 1))], SIZE) == pytest.approx(22)
    assert row_height([Thing((1, 1))], SIZE) == 15
    assert row_height([boxed(0, 0, 3)], SIZE) == 4
    assert reading_rows([boxed(9, 10), boxed(5, 26), boxed(7, 26.1)], SIZE) == [[0], [1, 2]]
    assert reading_rows([boxed(9, 10), boxed(5, 26)], SIZE) == [[1, 0]]


def test_nearest_neighbor_starts_at_the_first_in_reading_order_and_breaks_ties_by_it() -> None:
    # A square of 3 x 3: right and down are equally near at each step, and right comes first in reading order.
    assert order(grid(3, 3, 40, 24), "nearest_neighbor", SIZE) == [0, 1, 2, 5, 4, 3, 6, 7, 8]
    # 40 and 45.9 are equally near (tolerance 6 pixels), 40 and 46.1 are not.
    assert order([boxed(20, 50), boxed(20, 90), boxed(65.9, 50)], "nearest_neighbor", SIZE) == [0, 2, 1]
    assert order([boxed(20, 50), boxed(20, 90), boxed(66.1, 50)], "nearest_neighbor", SIZE) == [0, 1, 2]
    # Objects of 60 pixels: a quarter of their row height of 40 is more.
    assert order([boxed(40, 50, 60), boxed(40, 120, 60), boxed(119.9, 50, 60)], "nearest_neighbor", SIZE) == [0, 2, 1]
    assert order([boxed(40, 50, 60), boxed(40, 120, 60), boxed(120.1, 50, 60)], "nearest_neighbor", SIZE) == [0, 1, 2]
    assert order([boxed(200, 50), boxed(20, 60), boxed(160, 150)], "nearest_neighbor", SIZE) == [1, 2, 0]


@settings(deadline=None)
@given(scenes)
def test_nearest_neighbor_goes_to_one_that_is_nearest_within_the_tolerance(things: list[Thing]) -> None:
    path = order(things, "nearest_neighbor", SIZE)
    assert sorted(path) == list(range(len(things)))
    tolerance = max(6, row_height(things, SIZE) / 4)
    for k in range(1, len(path)):
        here = things[path[k - 1]].point
        away = {i: ((things[i].point[0] - here[0]) ** 2 + (things[i].point[1] - here[1]) ** 2) ** 0.5 for i in path[k:]}
        assert away[path[k]] <= min(away.values()) + tolerance + 1e-9


@settings(deadline=None)
@given(scenes, st.sampled_from(ORDERS), st.integers(0, 10**6))
def test_no_order_depends_on_the_order_of_the_file(things: list[Thing], name: Order, seed: int) -> None:
    mixed = random.Random(seed).sample(things, len(things))
    one = [things[i] for i in order(things, name, SIZE, "a")]
    assert [mixed[i] for i in order(mixed, name, SIZE, "a")] == one


def test_left_to_right_and_random() -> None:
    things = grid(4, 5, 28, 24)
    xs = [things[i].point for i in order(things, "left_to_right", SIZE)]
    assert xs == sorted(xs)
    first, again, other = (order(things, "random", SIZE, seed) for seed in ("a", "a", "b"))
    assert first == again != other
    assert sorted(first) == list(range(20))


def test_no_things_have_an_order() -> None:
    assert [order([], name, SIZE) for name in ORDERS] == [[]] * 4


def test_thousands_of_points_are_ordered_quickly_enough() -> None:
    rng = random.Random(0)
    things = [Thing((rng.uniform(0, 400), rng.uniform(0, 300))) for _ in range(3000)]
    assert len(order(things, "nearest_neighbor", SIZE)) == 3000
