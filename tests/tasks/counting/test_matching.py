from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from foveal.tasks.counting.matching import PointScores, match_points, pooled
from foveal.tasks.counting.objects import Point, Thing

SIZE = (100, 100)


def boxed(x: float, y: float, side: float = 20) -> Thing:
    return Thing((x, y), (x - side / 2, y - side / 2, x + side / 2, y + side / 2))


points = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: (float(p[0]), float(p[1])))
things = st.builds(lambda p, side: boxed(*p, side), points, st.sampled_from([10, 20, 40]))


def graph(predicted: list[Point], there: list[Thing]) -> tuple[np.ndarray, np.ndarray]:
    away = np.array([[math.dist(p, t.point) for t in there] for p in predicted]).reshape(len(predicted), len(there))
    return away, away <= np.array([(t.extent or 0) / 2 for t in there])


@settings(deadline=None)
@given(st.lists(points, max_size=30), st.lists(things, max_size=30))
def test_equal_to_scipys_assignment(predicted: list[Point], there: list[Thing]) -> None:
    matching = match_points(predicted, there, SIZE)
    away, near = graph(predicted, there)
    rows, columns = linear_sum_assignment(np.where(near, away, 1e6))
    kept = near[rows, columns]
    assert len(matching.pairs) == kept.sum()
    assert sum(matching.distances) == pytest.approx(away[rows, columns][kept].sum(), abs=1e-6)
    assert all(near[i, j] for i, j in matching.pairs)
    assert len({i for i, _ in matching.pairs}) == len({j for _, j in matching.pairs}) == len(matching.pairs)
    assert list(matching.distances) == pytest.approx([away[i, j] for i, j in matching.pairs])


@settings(deadline=None)
@given(st.lists(points, max_size=5), st.lists(things, max_size=4))
def test_no_other_matching_has_more_pairs_or_as_many_and_less_distance(
    predicted: list[Point], there: list[Thing]
) -> None:
    away, near = graph(predicted, there)
    places: list[int | None] = [*range(len(predicted)), *[None] * len(there)]
    best = (0, 0.0)
    for chosen in set(permutations(places, len(there))):
        hits = [(i, j) for j, i in enumerate(chosen) if i is not None and near[i, j]]
        best = min(best, (-len(hits), sum(away[i, j] for i, j in hits)))
    matching = match_points(predicted, there, SIZE)
    assert (-len(matching.pairs), sum(matching.distances)) == pytest.approx(best)


def test_by_hand() -> None:
    there = [boxed(20, 20), boxed(60, 20), boxed(20, 80)]
    # The second repeats the first; the last is 11 pixels from its object, whose radius is 10.
    matching = match_points([(22, 20), (19, 20), (60, 30), (20, 69)], there, SIZE)
    assert matching.pairs == ((1, 0), (2, 1))
    assert matching.distances == (1, 10)
    scores = matching.scores
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert match_points([(20, 69)], there, SIZE, radius=0.55).pairs == ((0, 2),)


def test_a_point_gives_way_where_greedy_matching_would_lose_a_pair() -> None:
    # The first point is nearest to the left object, but it is the only one that reaches the right one.
    there = [boxed(30, 50), boxed(42, 50)]
    assert match_points([(35, 50), (24, 50)], there, SIZE).pairs == ((0, 1), (1, 0))


def test_an_object_without_a_box_has_a_radius_of_the_picture() -> None:
    # 0.5 x 0.06 x sqrt(400 x 100) = 6 pixels
    assert match_points([(56, 50)], [Thing((50, 50))], (400, 100)).pairs == ((0, 0),)
    assert match_points([(56.1, 50)], [Thing((50, 50))], (400, 100)).pairs == ()


@settings(deadline=None)
@given(st.lists(points, max_size=12), st.lists(things, max_size=12), st.randoms())
def test_neither_order_matters(predicted: list[Point], there: list[Thing], rng: object) -> None:
    mixed_predicted, mixed_there = list(predicted), list(there)
    rng.shuffle(mixed_predicted)  # type: ignore[attr-defined]
    rng.shuffle(mixed_there)  # type: ignore[attr-defined]
    one, other = match_points(predicted, there, SIZE), match_points(mixed_predicted, mixed_there, SIZE)
    assert one.scores == other.scores
    assert sum(one.distances) == pytest.approx(sum(other.distances))


def test_pictures_are_pooled_and_nothing_of_nothing_is_right() -> None:
    none = match_points([], [], SIZE)
    missed = match_points([], [boxed(5, 5)], SIZE)
    invented = match_points([(5, 5), (6, 6)], [], SIZE)
    hit = match_points([(5, 5)], [boxed(5, 5)], SIZE)
    assert none.scores.f1 == hit.scores.f1 == 1
    assert missed.scores.f1 == invented.scores.f1 == 0
    assert math.isnan(missed.scores.precision)
    assert math.isnan(invented.scores.recall)
    assert pooled([none, missed, invented, hit]) == PointScores(1, 3, 2)
    assert pooled([]) == PointScores(0, 0, 0)


def test_a_crowd_is_matched_in_time() -> None:
    rng = np.random.default_rng(0)
    there = rng.uniform(0, 400, (300, 2))
    predicted = there + rng.normal(0, 3, there.shape)
    matching = match_points([(x, y) for x, y in predicted], [boxed(x, y, 24) for x, y in there], (400, 400))
    assert matching.scores.recall > 0.99
