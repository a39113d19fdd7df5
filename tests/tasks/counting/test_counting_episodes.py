from __future__ import annotations

import pytest
from PIL import Image

from foveal.tasks.counting.episodes import Count
from foveal.tasks.counting.marking import mark


def count(limit: int = 10, patience: int = 2) -> Count:
    return Count(Image.new("RGB", (100, 80), "white"), mark, limit, 5.0, patience)


def test_different_points_are_counted_until_done() -> None:
    c = count()
    for point in ((10, 10), (30, 10), (50.5, 70)):
        assert c.end is None
        c.take(point, "x", 0.5)
    c.take("done", "done", 0.9)
    assert c.end == "done" and c.points == [(10, 10), (30, 10), (50.5, 70)]
    assert c.facts() == {
        "points": [[10, 10], [30, 10], [50.5, 70]], "end": "done", "repeats": 0, "step_confidence": [0.5, 0.5, 0.5, 0.9]
    }  # fmt: skip


def test_a_repeat_is_not_counted_and_two_in_a_row_end_the_count() -> None:
    c = count()
    c.take((10, 10), "a", None)
    c.take((13, 13.9), "b", None)  # 4.93 pixels away.
    assert c.end is None and c.steps[1].repeats == 1
    c.take((10, 15.1), "c", None)  # 5.1 pixels away: another one.
    assert c.end is None and len(c.points) == 2
    c.take((10, 10), "d", None)
    c.take((10, 15.1), "e", None)
    assert c.end == "stuck" and len(c.points) == 2 and c.facts()["repeats"] == 3
    assert [s.repeats for s in c.steps] == [None, 1, None, 1, 2]


def test_a_repeated_point_is_marked_once_more() -> None:
    c = count()
    c.take((50, 40), "a", None)
    once = c.view().getpixel((50, 40))
    c.take((50, 40), "b", None)
    twice = c.view().getpixel((50, 40))
    white = (255, 255, 255)
    distance = [sum(abs(a - b) for a, b in zip(pixel, white, strict=True)) for pixel in (once, twice)]
    assert 0 < distance[0] < distance[1]


@pytest.mark.parametrize(("answer", "end"), [("done", "done"), (None, "unreadable")])
def test_what_ends_an_empty_count(answer, end) -> None:
    c = count()
    c.take(answer, "?", None)
    assert c.end == end and c.points == []


def test_the_limit_ends_the_count() -> None:
    c = count(limit=3)
    for x in (10, 30, 50):
        c.take((x, 10), "", None)
    assert c.end == "limit" and len(c.points) == 3


def test_the_picture_itself_stays_unmarked() -> None:
    c = count()
    c.take((10, 10), "", None)
    c.view()
    assert c.picture.getcolors() == [(8000, (255, 255, 255))]
