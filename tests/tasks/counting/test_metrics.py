from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sk

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.counting import metrics
from foveal.tasks.counting.metrics import Pair, measure_counts
from foveal.tasks.counting.objects import Thing

rows = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=40)
#: Pictures (rows) against categories (columns): predicted and true counts.
tables = st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([0, 0, 1, 2, 5])),
        min_size=shape[0] * shape[1],
        max_size=shape[0] * shape[1],
    ).map(lambda cells: np.array(cells, dtype=float).reshape(*shape, 2))
)


def pairs_of(table: np.ndarray) -> list[Pair]:
    return [
        Pair(f"image {i}", f"class {c}", *table[i, c]) for i, c in product(range(table.shape[0]), range(table.shape[1]))
    ]


def test_by_hand() -> None:
    # e = -1, 2, 0, 0, -6
    predicted, truths = [3, 6, 0, 5, 10], [4, 4, 0, 5, 16]
    expected = {
        "mae": 9 / 5,
        "rmse": math.sqrt(41 / 5),
        "nae": (1 / 4 + 2 / 4 + 0 + 6 / 16) / 4,
        "sre": math.sqrt((1 / 4 + 4 / 4 + 0 + 36 / 16) / 4),
        "exact_accuracy": 2 / 5,
        "off_by_one_accuracy": 3 / 5,
        "bias": -1,
        "over_share": 1 / 5,
        "under_share": 2 / 5,
    }
    assert {name: f(predicted, truths) for name, f in metrics.COUNT_METRICS.items()} == pytest.approx(expected)


@settings(deadline=None)
@given(rows)
def test_counts_equal_scikit_learn_and_plain_loops(cells: list[tuple[int, int]]) -> None:
    p, g = [a for a, _ in cells], [b for _, b in cells]
    values = {name: f(p, g) for name, f in metrics.COUNT_METRICS.items()}
    assert values["mae"] == pytest.approx(sk.mean_absolute_error(g, p))
    assert values["rmse"] == pytest.approx(sk.root_mean_squared_error(g, p))
    assert values["exact_accuracy"] == pytest.approx(sk.accuracy_score(g, p))
    some = [(a, b) for a, b in cells if b]
    nae = sum(abs(a - b) / b for a, b in some) / len(some) if some else math.nan
    sre = math.sqrt(sum((a - b) ** 2 / b for a, b in some) / len(some)) if some else math.nan
    assert values["nae"] == pytest.approx(nae, nan_ok=True)
    assert values["sre"] == pytest.approx(sre, nan_ok=True)
    assert values["off_by_one_accuracy"] == pytest.approx(sum(a - b in (-1, 0, 1) for a, b in cells) / len(cells))
    assert values["bias"] == pytest.approx(sum(p) / len(p) - sum(g) / len(g))
    assert values["exact_accuracy"] + values["over_share"] + values["under_share"] == pytest.approx(1)


def test_several_categories_by_hand() -> None:
    pairs = [Pair("1", "ant", 3, 1), Pair("1", "bee", 2, 2), Pair("2", "ant", 1, 0), Pair("3", "bee", 0, 4)]
    # ant: e = 2, 1, 0 over the three pictures; bee: 0, 0 (no pair), -4.
    assert metrics.m_rmse(pairs) == pytest.approx((math.sqrt(5 / 3) + math.sqrt(16 / 3)) / 2)
    assert metrics.m_rmse_nz(pairs) == pytest.approx((math.sqrt(4) + math.sqrt(16 / 2)) / 2)
    assert metrics.m_rel_rmse(pairs) == pytest.approx((math.sqrt((4 / 2 + 1) / 3) + math.sqrt(16 / 5 / 3)) / 2)
    assert metrics.m_rel_rmse_nz(pairs) == pytest.approx((math.sqrt(4 / 2) + math.sqrt(16 / 5 / 2)) / 2)
    assert metrics.omnicount_code_m_rmse(pairs) == pytest.approx(metrics.m_rmse(pairs) * 2 / 3)
    # The code's own non-zero figure keeps ant's error where g = 0: (4 / 2 + 1) over its one picture with ants.
    assert metrics.omnicount_code_m_rel_rmse_nz(pairs) == pytest.approx((math.sqrt(3) + math.sqrt(16 / 5 / 2)) / 3)
    assert metrics.countgd_pairs_mae(pairs) == pytest.approx((2 + 0 + 4) / 3)
    assert metrics.countgd_pairs_rmse(pairs) == pytest.approx(math.sqrt((4 + 0 + 16) / 3))


@settings(deadline=None)
@given(tables)
def test_several_categories_equal_numpy_on_the_whole_table(table: np.ndarray) -> None:
    p, g = table[..., 0], table[..., 1]
    pairs = pairs_of(table)
    images, classes = g.shape
    for relative in (False, True):
        square = (p - g) ** 2 / (g + 1 if relative else 1)
        name = "rel_rmse" if relative else "rmse"
        all_ = np.sqrt(square.mean(axis=0))
        nonzero = [np.sqrt(square[g[:, c] > 0, c].mean()) for c in range(classes) if (g[:, c] > 0).any()]
        assert metrics.PAIR_METRICS[f"m_{name}"](pairs) == pytest.approx(all_.mean())
        assert metrics.PAIR_METRICS[f"omnicount_code_m_{name}"](pairs) == pytest.approx(all_.sum() / images)
        nz = np.mean(nonzero) if nonzero else math.nan
        assert metrics.PAIR_METRICS[f"m_{name}_nz"](pairs) == pytest.approx(nz, nan_ok=True)
        kept = [math.sqrt(square[:, c].sum() / n) for c in range(classes) if (n := (g[:, c] > 0).sum())]
        assert metrics.PAIR_METRICS[f"omnicount_code_m_{name}_nz"](pairs) == pytest.approx(sum(kept) / images)
    e = (p - g)[g > 0]
    assert metrics.countgd_pairs_mae(pairs) == pytest.approx(np.abs(e).mean() if e.size else math.nan, nan_ok=True)
    assert metrics.countgd_pairs_rmse(pairs) == pytest.approx(
        np.sqrt((e**2).mean()) if e.size else math.nan, nan_ok=True
    )


@settings(deadline=None)
@given(tables)
def test_pairs_where_nothing_is_counted_as_nothing_may_be_left_out(table: np.ndarray) -> None:
    pairs = pairs_of(table)
    # Of each category one pair stays, so that pictures and categories are the same.
    kept = [
        pair for pair in pairs if pair.predicted or pair.truth or pair.image == "image 0" or pair.category == "class 0"
    ]
    for name in ("m_rmse", "m_rel_rmse", "m_rmse_nz", "m_rel_rmse_nz", "countgd_pairs_mae"):
        f = metrics.PAIR_METRICS[name]
        assert f(kept) == pytest.approx(f(pairs), nan_ok=True)


def test_the_table_of_counts_has_each_row_in_one_bucket() -> None:
    truths = [0, 10, 11, 20, 21, 50, 51, 100, 101, 900]
    predicted = [0, 12, 11, 20, 21, 49, 60, 100, 101, 0]
    table = metrics.bucket_table(predicted, truths)
    assert [bucket.name for bucket in table] == ["0-10", "11-20", "21-50", "51-100", ">100"]
    assert [bucket.rows for bucket in table] == [2] * 5
    assert [bucket.metrics["mae"] for bucket in table] == [1, 0, 0.5, 4.5, 450]
    assert table[0].metrics["nae"] == pytest.approx(0.2)
    assert metrics.bucket_table([1], [1])[4] == metrics.Bucket(">100", 0, {})


def test_an_unread_reply_counts_as_none() -> None:
    assert [metrics.counted(value) for value in (None, 0, 7)] == [0, 0, 7]


def test_no_rows_other_numbers_of_rows_and_double_pairs_are_refused() -> None:
    for f in metrics.COUNT_METRICS.values():
        with pytest.raises(ValueError, match="counts of shape"):
            f([], [])
        with pytest.raises(ValueError, match="counts of shape"):
            f([1, 2], [1])
    for g in metrics.PAIR_METRICS.values():
        with pytest.raises(ValueError, match="no pairs"):
            g([])
        with pytest.raises(ValueError, match="twice"):
            g([Pair("1", "ant", 1, 1)] * 2)


BLANK = Image.new("RGB", (100, 100))


def row(name: str, truth: int, *, picture: str = "", category: str = "cells", points=None) -> Example:
    """Objects of 10 x 10 pixels in a row, 20 apart, unless their points are given."""
    places = points if points is not None else [(10 + 20 * (i % 5), 10 + 20 * (i // 5)) for i in range(truth)]
    things = tuple(Thing((x, y), (x - 5, y - 5, x + 5, y + 5)) for x, y in places)
    fields = {"category": category, "domain": "", "things": things, "size": (100, 100)}
    return Example(name, (Picture(picture or name, BLANK),), truth, fields)


def prediction(name: str, value: int | None, **extra) -> Prediction:
    return Prediction(name, value, str(value), extra=extra)


def test_counts_by_hand() -> None:
    rows = [row("a", 2), row("b", 4), row("c", 0), row("d", 12)]
    values = measure_counts(rows, [prediction("d", 9), prediction("a", 2), prediction("b", 5), prediction("c", 1)], 0.5)
    # e = 0, 1, 1, -3
    assert values["mae"] == 5 / 4
    assert values["rmse"] == pytest.approx(math.sqrt(11 / 4))
    assert values["nae"] == pytest.approx((0 + 1 / 4 + 3 / 12) / 3)
    assert values["exact_accuracy"] == 1 / 4 and values["off_by_one_accuracy"] == 3 / 4
    assert values["bias"] == -1 / 4 and values["over_share"] == 1 / 2 and values["under_share"] == 1 / 4
    assert values["unparsable"] == 0
    assert "point_f1" not in values and "m_rmse" not in values and "repeats" not in values


def test_a_row_for_each_bucket_that_occurs_and_no_other() -> None:
    rows = [row("a", 10), row("b", 11), row("c", 20), row("d", 101)]
    values = measure_counts(
        rows, [prediction("a", 8), prediction("b", 11), prediction("c", 17), prediction("d", 100)], 0.5
    )
    assert {k: v for k, v in values.items() if "/" in k} == {
        "mae/0-10": 2, "exact_accuracy/0-10": 0, "mae/11-20": 1.5, "exact_accuracy/11-20": 0.5,
        "mae/>100": 1, "exact_accuracy/>100": 0,
    }  # fmt: skip


def test_what_was_not_predicted_or_not_read_counts_as_none() -> None:
    rows = [row("a", 2), row("b", 4), row("c", 6)]
    values = measure_counts(rows, [prediction("a", 2), prediction("b", None), prediction("of another row", 6)], 0.5)
    assert values["mae"] == 10 / 3 and values["bias"] == -10 / 3
    assert values["unparsable"] == pytest.approx(2 / 3)


def test_points_are_matched_one_to_one_within_the_radius_and_pooled() -> None:
    one = row("a", 2, points=[(20, 20), (60, 60)])
    other = row("b", 1, points=[(50, 50)])
    # 4 pixels off is within half of an extent of 10, 6 is not; a second point on an object is wrong.
    points = [[20, 24], [20, 18], [60, 66]]
    values = measure_counts(
        [one, other], [prediction("a", 3, points=points), prediction("b", 1, points=[[50, 50]])], 0.5
    )
    assert (values["point_precision"], values["point_recall"], values["point_f1"]) == (2 / 4, 2 / 3, 4 / 7)
    wide = measure_counts([one, other], [prediction("a", 3, points=points), prediction("b", 1, points=[[50, 50]])], 0.7)
    assert (wide["point_precision"], wide["point_recall"]) == (3 / 4, 3 / 3)


def test_a_row_without_points_misses_its_objects() -> None:
    rows = [row("a", 1, points=[(50, 50)]), row("b", 3)]
    values = measure_counts(rows, [prediction("a", 1, points=[[50, 50]])], 0.5)
    # The row without a prediction counts as an unread reply: one wrong point.
    assert values["point_precision"] == 1 / 2 and values["point_recall"] == 1 / 4
    # Nobody pointed at anything: there is no precision to speak of.
    none = measure_counts(rows, [prediction("a", 0, points=[]), prediction("b", 0, points=[])], 0.5)
    assert "point_precision" not in none and none["point_recall"] == 0


def test_several_categories_of_one_picture_give_the_metrics_of_pairs() -> None:
    rows = [
        row("1", 2, picture="p", category="red"), row("2", 1, picture="p", category="white"),
        row("3", 4, picture="q", category="red"),
    ]  # fmt: skip
    values = measure_counts(rows, [prediction("1", 4), prediction("2", 1), prediction("3", 4)], 0.5)
    # red: sqrt((4 + 0) / 2); white over its one picture is 0; their mean.
    assert values["m_rmse_nz"] == pytest.approx(math.sqrt(2) / 2)
    # Nobody was asked about white in q, so there is no mean over all pictures, until somebody is.
    assert "m_rmse" not in values and "m_rel_rmse" not in values
    rows.append(row("4", 0, picture="q", category="white"))
    answers = [prediction("1", 4), prediction("2", 1), prediction("3", 4), prediction("4", 3)]
    values = measure_counts(rows, answers, 0.5)
    assert values["m_rmse"] == pytest.approx((math.sqrt(2) + math.sqrt(9 / 2)) / 2)
    assert values["m_rel_rmse"] == pytest.approx((math.sqrt(4 / 3 / 2) + math.sqrt(9 / 2)) / 2)
    rows, values = rows[:3], measure_counts(rows[:3], answers[:3], 0.5)
    assert values["countgd_pairs_mae"] == pytest.approx(2 / 3)
    assert "m_rmse" not in measure_counts(rows[1:], [prediction("2", 1), prediction("3", 4)], 0.5)


def test_equal_names_in_two_domains_are_two_categories() -> None:
    rows = [row("1", 2, picture="p"), row("2", 1, picture="p")]
    rows[1] = Example("2", rows[1].images, 1, {**rows[1].fields, "domain": "Fruits"})
    assert measure_counts(rows, [prediction("1", 2), prediction("2", 1)], 0.5)["m_rmse"] == 0


def test_shares_of_ends_and_repeats_are_of_the_pictures_that_were_counted_in_steps() -> None:
    rows = [row(str(i), 1) for i in range(5)]
    ends = [("done", 0), ("done", 1), ("stuck", 2), ("unreadable", 0)]
    predictions = [prediction(str(i), 1, end=end, repeats=n) for i, (end, n) in enumerate(ends)]
    values = measure_counts(rows, predictions, 0.5)
    assert [values[f"ended_{e}_share"] for e in ("done", "limit", "stuck", "unreadable")] == [0.5, 0, 0.25, 0.25]
    assert values["repeats"] == 3 / 4


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="no rows to measure"):
        measure_counts([], [], 0.5)


def test_the_code_of_omnicount_keeps_errors_where_nothing_is() -> None:
    # (3 against 0) and (2 against 2) of one class in two pictures: sqrt(9 / 1) / 2.
    assert metrics.omnicount_code_m_rmse_nz([Pair("1", "ant", 3, 0), Pair("2", "ant", 2, 2)]) == 1.5


def test_an_unread_reply_is_wrong_in_every_metric_also_where_there_is_nothing() -> None:
    rows = [row("a", 0), row("b", 1), row("c", 4)]
    values = measure_counts(rows, [prediction(name, None) for name in "abc"], 0.5)
    assert values["mae"] == (1 + 1 + 4) / 3 and values["rmse"] == pytest.approx(math.sqrt(18 / 3))
    assert values["exact_accuracy"] == values["off_by_one_accuracy"] == values["exact_accuracy/0-10"] == 0
    assert values["over_share"] + values["under_share"] == pytest.approx(1) and values["unparsable"] == 1
    assert values["nae"] == 1 and "point_precision" not in values
    empty = [row("a", 0), row("b", 0)]
    values = measure_counts(empty, [prediction(name, None, points=[]) for name in "ab"], 0.5)
    assert values["point_precision"] == values["point_f1"] == 0
