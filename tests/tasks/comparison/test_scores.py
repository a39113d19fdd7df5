from __future__ import annotations

from collections import Counter
from fractions import Fraction
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.comparison.scores import (
    Rated,
    check_rows,
    decimal_text,
    draw_folds,
    exact,
    hold_out,
    whole_units,
)


def rated(*scores: int) -> list[Rated]:
    return [Rated(f"p{i}", Picture(f"p{i}", f"p{i}.png"), Fraction(s)) for i, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("value", "score"),
    [
        ("2.5", Fraction(5, 2)),
        (" 3 ", Fraction(3)),
        (0.1, Fraction(1, 10)),
        (-0.25, Fraction(-1, 4)),
        (4, Fraction(4)),
        ("1e-3", Fraction(1, 1000)),
        (".5", Fraction(1, 2)),
        (np.float32(2.883333), Fraction(2883333, 10**6)),
        (np.float64(0.1), Fraction(1, 10)),
        (np.int64(7), Fraction(7)),
        (Fraction(173, 60), Fraction(173, 60)),
    ],
)
def test_a_number_is_the_decimal_that_it_is_written_as(value: float | str | Fraction, score: Fraction) -> None:
    assert exact(value) == score


@pytest.mark.parametrize("value", ["", "two", "nan", float("inf"), "2,5", "1/3", "1_0", "1e999999999", None, True])
def test_what_is_no_finite_number_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"is no number like 2\.5"):
        exact(value)


def test_digits_that_were_cut_off_come_back_with_the_number_of_ratings() -> None:
    for total in range(60, 301):
        assert exact(f"{total / 60:.6f}", 60) == exact(total / 60, 60) == Fraction(total, 60)
    with pytest.raises(ValueError, match=r"2\.51 is no mean of 60 whole ratings"):
        exact("2.51", 60)


def test_a_difference_equal_to_the_threshold_does_not_flip_by_float_noise() -> None:
    # In floating point 2.5 - 2.4 is more than 0.1, and 2.3 - 2.2 is less.
    assert abs(2.5 - 2.4) > 0.1 > abs(2.3 - 2.2)
    assert exact("2.5") - exact("2.4") == exact("2.3") - exact("2.2") == exact(0.1)


@given(st.fractions(-1000, 1000, max_denominator=10**6))
def test_text_of_a_score_reads_back_exactly_or_to_six_digits(score: Fraction) -> None:
    text = decimal_text(score)
    rest = score.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1:
        assert Fraction(text) == score
    else:
        assert text.split(".")[1].__len__() == 6 and abs(Fraction(text) - score) <= Fraction(1, 2 * 10**6)


def test_text_of_a_score_as_the_data_set_prints_it() -> None:
    assert [decimal_text(Fraction(n, 60)) for n in (173, 148, 129, 180, -2)] == [
        "2.883333",
        "2.466667",
        "2.15",
        "3",
        "-0.033333",
    ]
    assert decimal_text(Fraction(-1, 10**9 * 3)) == "0.000000"


@given(st.lists(st.fractions(-5, 5, max_denominator=97), min_size=1, max_size=6), st.fractions(0, 3))
def test_whole_units_are_the_scores_times_one_factor(scores: list[Fraction], threshold: Fraction) -> None:
    *values, limit = whole_units([*scores, threshold])
    factor = {Fraction(v) / s for v, s in zip([*values, limit], [*scores, threshold], strict=True) if s}
    assert len(factor) <= 1 and all(isinstance(v, int) for v in values)
    assert [v <= limit for v in values] == [s <= threshold for s in scores]


def test_a_set_of_one_picture_or_with_one_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"^x: holds 1 rated picture; to compare takes 2 at least\.$"):
        check_rows(rated(1), "x")
    row = rated(1)[0]
    with pytest.raises(UserError, match=r"^x: the picture p0 is rated twice; leave one of its ratings\.$"):
        check_rows([row, row], "x")


@pytest.mark.parametrize(("n", "count"), [(20, 5), (103, 5), (50, 3), (8, 2)])
def test_drawn_folds_test_each_picture_once_and_have_like_scores(n: int, count: int) -> None:
    rows = rated(*(i % 40 for i in range(n)))
    folds = draw_folds(rows, count, seed=3)
    assert [f.number for f in folds] == list(range(1, count + 1))
    assert Counter(r.id for f in folds for r in f.test) == Counter(r.id for r in rows)
    for fold in folds:
        assert {r.id for r in fold.train} == {r.id for r in rows} - {r.id for r in fold.test}
        assert abs(len(fold.test) - n / count) <= 1
        assert float(mean(r.score for r in fold.test)) == pytest.approx(float(mean(r.score for r in rows)), abs=4)


def test_drawn_folds_depend_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    rows = rated(*range(40))
    tests = [{r.id for r in f.test} for f in draw_folds(rows, seed=1)]
    assert tests == [{r.id for r in f.test} for f in draw_folds(rows[::-1], seed=1)]
    assert tests != [{r.id for r in f.test} for f in draw_folds(rows, seed=2)]


def test_too_few_pictures_or_folds_are_refused() -> None:
    with pytest.raises(UserError, match="19 rated pictures are too few for 5 folds; give at least 20"):
        draw_folds(rated(*range(19)))
    with pytest.raises(UserError, match="1 is too few"):
        draw_folds(rated(*range(19)), 1)


@given(st.integers(4, 60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_held_out_pictures_are_a_share_and_spread_over_the_scores(n: int, share: float, seed: int) -> None:
    rows = rated(*range(n))
    rest, held = hold_out(rows, share, seed)
    assert sorted([*rest, *held], key=lambda r: r.score) == rows
    assert len(held) == min(max(2, round(share * n)), n - 2)
    # Each of the equal stretches of the pictures by score gave one.
    assert [next(k for k in range(len(held)) if r.score < (k + 1) * n // len(held)) for r in held] == [
        *range(len(held))
    ]


def test_nothing_is_held_out_for_a_share_of_0() -> None:
    rows = rated(1, 2, 3)
    assert hold_out(rows, 0) == (tuple(rows), ())
    with pytest.raises(UserError, match="too few to hold some out"):
        hold_out(rows, 0.5)
    with pytest.raises(UserError, match=r"1\.5 is no share"):
        hold_out(rows, 1.5)
