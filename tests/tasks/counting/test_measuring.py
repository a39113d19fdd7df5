from __future__ import annotations

import math

import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.counting.measuring import measure_counts
from foveal.tasks.counting.objects import Thing

BLANK = Image.new("RGB", (100, 100))


def row(name: str, truth: int, *, picture: str = "", category: str = "cells", points=None) -> Example:
    """Objects of 10 x 10 pixels in a row, 20 apart, unless their points are given."""
    places = points if points is not None else [(10 + 20 * (i % 5), 10 + 20 * (i // 5)) for i in range(truth)]
    things = tuple(Thing((x, y), (x - 5, y - 5, x + 5, y + 5)) for x, y in places)
    fields = {"category": category, "domain": "", "things": things, "size": (100, 100)}
    return Example(name, (Picture(picture or name, BLANK),), truth, fields)


def said(name: str, value: int | None, **extra) -> Prediction:
    return Prediction(name, value, str(value), extra=extra)


def test_counts_by_hand() -> None:
    rows = [row("a", 2), row("b", 4), row("c", 0), row("d", 12)]
    found = measure_counts(rows, [said("d", 9), said("a", 2), said("b", 5), said("c", 1)], 0.5)
    # e = 0, 1, 1, -3
    assert found["mae"] == 5 / 4
    assert found["rmse"] == pytest.approx(math.sqrt(11 / 4))
    assert found["nae"] == pytest.approx((0 + 1 / 4 + 3 / 12) / 3)
    assert found["exact_accuracy"] == 1 / 4 and found["off_by_one_accuracy"] == 3 / 4
    assert found["bias"] == -1 / 4 and found["over_share"] == 1 / 2 and found["under_share"] == 1 / 4
    assert found["unparsable"] == 0
    assert "point_f1" not in found and "m_rmse" not in found and "repeats" not in found


def test_a_row_for_each_bucket_that_occurs_and_no_other() -> None:
    rows = [row("a", 10), row("b", 11), row("c", 20), row("d", 101)]
    found = measure_counts(rows, [said("a", 8), said("b", 11), said("c", 17), said("d", 100)], 0.5)
    assert {k: v for k, v in found.items() if "/" in k} == {
        "mae/0-10": 2, "exact_accuracy/0-10": 0, "mae/11-20": 1.5, "exact_accuracy/11-20": 0.5,
        "mae/>100": 1, "exact_accuracy/>100": 0,
    }  # fmt: skip


def test_what_was_not_predicted_or_not_read_counts_as_none() -> None:
    rows = [row("a", 2), row("b", 4), row("c", 6)]
    found = measure_counts(rows, [said("a", 2), said("b", None), said("of another row", 6)], 0.5)
    assert found["mae"] == 10 / 3 and found["bias"] == -10 / 3
    assert found["unparsable"] == pytest.approx(2 / 3)


def test_points_are_matched_one_to_one_within_the_radius_and_pooled() -> None:
    one = row("a", 2, points=[(20, 20), (60, 60)])
    other = row("b", 1, points=[(50, 50)])
    # 4 pixels off is within half of an extent of 10, 6 is not; a second point on an object is wrong.
    points = [[20, 24], [20, 18], [60, 66]]
    found = measure_counts([one, other], [said("a", 3, points=points), said("b", 1, points=[[50, 50]])], 0.5)
    assert (found["point_precision"], found["point_recall"], found["point_f1"]) == (2 / 4, 2 / 3, 4 / 7)
    wide = measure_counts([one, other], [said("a", 3, points=points), said("b", 1, points=[[50, 50]])], 0.7)
    assert (wide["point_precision"], wide["point_recall"]) == (3 / 4, 3 / 3)


def test_a_row_without_points_misses_its_objects() -> None:
    rows = [row("a", 1, points=[(50, 50)]), row("b", 3)]
    found = measure_counts(rows, [said("a", 1, points=[[50, 50]])], 0.5)
    assert found["point_precision"] == 1 and found["point_recall"] == 1 / 4
    # Nobody pointed at anything: there is no precision to speak of.
    none = measure_counts(rows, [said("a", 0, points=[]), said("b", 0, points=[])], 0.5)
    assert "point_precision" not in none and none["point_recall"] == 0


def test_several_categories_of_one_picture_give_the_metrics_of_pairs() -> None:
    rows = [
        row("1", 2, picture="p", category="red"), row("2", 1, picture="p", category="white"),
        row("3", 4, picture="q", category="red"),
    ]  # fmt: skip
    found = measure_counts(rows, [said("1", 4), said("2", 1), said("3", 4)], 0.5)
    # red: sqrt((4 + 0) / 2); white: sqrt((0 + 0) / 2), for nobody was asked in q; their mean.
    assert found["m_rmse"] == pytest.approx(math.sqrt(2) / 2)
    # white over its one picture, too, is 0.
    assert found["m_rmse_nz"] == pytest.approx(math.sqrt(2) / 2)
    assert found["m_rel_rmse"] == pytest.approx(math.sqrt(4 / 3 / 2) / 2)
    assert found["countgd_pairs_mae"] == pytest.approx(2 / 3)
    assert "m_rmse" not in measure_counts(rows[1:], [said("2", 1), said("3", 4)], 0.5)


def test_equal_names_in_two_domains_are_two_categories() -> None:
    rows = [row("1", 2, picture="p"), row("2", 1, picture="p")]
    rows[1] = Example("2", rows[1].images, 1, {**rows[1].fields, "domain": "Fruits"})
    assert measure_counts(rows, [said("1", 2), said("2", 1)], 0.5)["m_rmse"] == 0


def test_shares_of_ends_and_repeats_are_of_the_pictures_that_were_counted_in_steps() -> None:
    rows = [row(str(i), 1) for i in range(5)]
    ends = [("done", 0), ("done", 1), ("stuck", 2), ("unreadable", 0)]
    predictions = [said(str(i), 1, end=end, repeats=n) for i, (end, n) in enumerate(ends)]
    found = measure_counts(rows, predictions, 0.5)
    assert [found[f"ended_{e}_share"] for e in ("done", "limit", "stuck", "unreadable")] == [0.5, 0, 0.25, 0.25]
    assert found["repeats"] == 3 / 4


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="no rows to measure"):
        measure_counts([], [], 0.5)
