import random

import pytest

from foveal.metrics.intervals import independent_rows, wilson_interval


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # R. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(right, total, low, high):
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # statsmodels 0.14, proportion_confint(right, total, method="wilson")
        (2929, 3000, 0.9702541784461732, 0.9811941716681664),
        (5, 10, 0.23659309051256394, 0.7634069094874361),
        (20, 20, 0.8388748419471804, 1.0),
    ],
)
def test_intervals_of_statsmodels(right, total, low, high):
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=1e-8)


def test_another_confidence():
    assert wilson_interval(5, 10, z=2.5758293035489004) == pytest.approx((0.1842255182472355, 0.8157744817527646))


def test_the_ends_are_exact_and_swapping_right_and_wrong_mirrors_the_interval():
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    for right in range(8):
        low, high = wilson_interval(right, 7)
        assert 0 <= low < high <= 1
        assert wilson_interval(7 - right, 7) == pytest.approx((1 - high, 1 - low))


def test_no_rows_tell_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("right", "total"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(right, total):
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(right, total)


def test_rows_in_groups_are_worth_as_many_independent_ones_as_they_vary_like():
    assert independent_rows([True, False, True], "abc") == 3
    # Pairs that are right or wrong together are worth one row each; all right, nothing varies.
    assert independent_rows([True, True, False, False] * 50, [i // 2 for i in range(200)]) == 100
    assert independent_rows([True] * 200, [i // 2 for i in range(200)]) == 100
    # Rows of a pair that do not depend on each other are worth about two.
    rng = random.Random(0)
    worth = independent_rows([rng.random() < 0.5 for _ in range(20_000)], [i // 2 for i in range(20_000)])
    assert 19_000 < worth <= 20_000
    # A group of two wrong beside two of one: p = 1/2, errors -1, 1/2, 1/2; 3/2 * 1.5 / 16 against 1/4.
    assert independent_rows([False, False, True, True], "aabc") == 3
