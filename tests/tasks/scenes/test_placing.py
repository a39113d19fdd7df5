from __future__ import annotations

import math
import random

import pytest

from foveal.drawing.figures import Figure
from foveal.tasks.scenes.placing import MARGIN, Places


def circle(radius: float = 0.1) -> Figure:
    return Figure("circles", "red", 0.5, 0.5, radius / 0.84)


def test_a_figure_takes_the_first_point_that_is_free_and_no_further_one_is_drawn() -> None:
    places = Places(0.0, 0.01, stacked=True)
    points = iter([(0.11, 0.5), (0.13, 0.5), (0.9, 0.9)])
    assert places.put(circle(), points)
    assert (places.figures[0].x, places.figures[0].y) == (0.13, 0.5)
    assert next(points) == (0.9, 0.9)


@pytest.mark.parametrize(("distance", "free"), [(0.209, False), (0.211, True)])
def test_figures_that_may_not_overlap_keep_the_gap(distance: float, free: bool) -> None:
    places = Places(0.0, 0.01, stacked=True)
    assert places.put(circle(), [(0.3, 0.5)])
    assert places.put(circle(), [(0.3 + distance, 0.5)]) is free


def test_what_may_still_be_covered_is_used_up() -> None:
    places = Places(0.3, 0.01, stacked=True)
    assert places.put(circle(), [(0.5, 0.5)])
    # Two discs whose middles are 0.15 apart share 14 % of their area.
    assert places.put(circle(), [(0.65, 0.5)])
    assert places.put(circle(), [(0.35, 0.5)])
    assert not places.put(circle(), [(0.5, 0.65)])


def test_the_upper_of_two_figures_is_limited_only_if_they_are_put_in_another_order_later() -> None:
    for stacked in (True, False):
        places = Places(0.3, 0.01, stacked=stacked)
        assert places.put(circle(0.2), [(0.5, 0.5)])
        # The small one lies wholly on the large one.
        assert places.put(circle(0.1), [(0.5, 0.5)]) is stacked


def test_points_anywhere_are_inside_and_points_beside_at_their_distance() -> None:
    rng, places = random.Random(0), Places(0.2, 0.01, stacked=True)
    assert places.put(circle(), [(0.4, 0.6)])
    for _ in range(200):
        assert all(0.1 + MARGIN <= v <= 0.9 - MARGIN for v in places.anywhere(rng, 0.1))
        distance = math.dist(places.beside(rng, 0.1, 0.7, 1.1), (0.4, 0.6))
        assert 0.14 - 1e-9 <= distance <= 0.22 + 1e-9
