from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polylines import Point, count_intersections, orientation


@pytest.mark.parametrize(
    ("a", "b", "points"),
    [
        ([(0, 0), (4, 4)], [(0, 4), (4, 0)], 1),
        ([(0, 0), (4, 4)], [(0, 1), (4, 5)], 0),  # parallel
        ([(0, 0), (4, 4)], [(5, 5), (9, 9)], 0),  # on one line, apart
        ([(0, 0), (4, 4)], [(4, 4), (9, 9)], 1),  # on one line, end to end
        ([(0, 0), (4, 0)], [(2, 0), (2, 5)], 1),  # an end touches from one side
        ([(0, 0), (4, 0)], [(4, 0), (4, 5)], 1),  # end to end
        ([(0, 0), (2, 2), (4, 0)], [(0, 4), (2, 2), (4, 4)], 1),  # the middle vertices touch: one point, not four
        ([(0, 0), (2, 2), (4, 4)], [(0, 4), (2, 2), (4, 0)], 1),  # they cross there
        ([(0, 0), (2, 3), (4, 0)], [(0, 2), (2, 1), (4, 2)], 2),
        ([(0, 0), (2, 3), (4, 0)], [(0, 3), (4, 3)], 1),  # a peak touches
        ([(0, 0), (3, 3), (6, 0)], [(0, 1), (6, Fraction(1))], 2),
        ([(0, 0), (10**12, 1)], [(0, 1), (10**12, 2)], 0),  # where floats would not do
        ([(0, 0), (4, 4)], [(6, 0), (3, 2)], 0),  # the lines meet, the segments do not
    ],
)
def test_counting(a: list[Point], b: list[Point], points: int) -> None:
    assert count_intersections(a, b) == points
    assert count_intersections(b, a) == points
    assert count_intersections(a[::-1], b) == points


def test_what_has_no_count() -> None:
    with pytest.raises(ValueError, match="share the stretch"):
        count_intersections([(0, 0), (4, 4)], [(2, 2), (9, 9)])
    with pytest.raises(ValueError, match="itself"):
        count_intersections([(0, 0), (0, 0)], [(2, 2), (9, 9)])


def solved(a: list[Point], b: list[Point]) -> int | None:
    """The count from Cramer's rule instead of orientations; None where the lines share a stretch."""
    points = set()
    for (px, py), (qx, qy) in pairwise(a):
        for (rx, ry), (sx, sy) in pairwise(b):
            dx, dy, ex, ey = qx - px, qy - py, sx - rx, sy - ry
            det = Fraction(ex * dy - dx * ey)
            if det:
                t = (ex * (ry - py) - ey * (rx - px)) / det
                u = (dx * (ry - py) - dy * (rx - px)) / det
                if 0 <= t <= 1 and 0 <= u <= 1:
                    points.add((px + t * dx, py + t * dy))
            elif dx * (ry - py) == dy * (rx - px):
                # On one line: places along it, as shares of the first segment.
                length = dx * dx + dy * dy
                first, last = sorted(Fraction((x - px) * dx + (y - py) * dy, length) for x, y in ((rx, ry), (sx, sy)))
                low, high = max(Fraction(0), first), min(Fraction(1), last)
                if low < high:
                    return None
                if low == high:
                    points.add((px + low * dx, py + low * dy))
    return len(points)


coordinate = st.integers(0, 6)
polyline = st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=4).filter(
    lambda points: all(p != q for p, q in pairwise(points))
)


@given(polyline, polyline)
def test_counting_agrees_with_solved_equations(a: list[Point], b: list[Point]) -> None:
    expected = solved(a, b)
    if expected is None:
        with pytest.raises(ValueError, match="stretch"):
            count_intersections(a, b)
    else:
        assert count_intersections(a, b) == expected


@given(*[st.tuples(st.integers(), st.integers())] * 3)
def test_orientation_turns_over_with_the_order(p: Point, q: Point, r: Point) -> None:
    assert orientation(p, q, r) == orientation(q, r, p) == -orientation(q, p, r)
