from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from foveal.errors import UserError
from foveal.tasks.comparison.agreement import (
    Scale,
    average_ranks,
    kendall,
    leave_one_out,
    pearson,
    score_metrics,
    spearman,
)

small = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=30)


@settings(deadline=None)
@given(small)
@pytest.mark.filterwarnings("ignore")
def test_correlations_equal_those_of_scipy_ties_and_constants_included(rows):
    x, y = (np.array(v, dtype=float) for v in zip(*rows, strict=True))
    np.testing.assert_array_equal(average_ranks(x), stats.rankdata(x))
    for ours, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        assert ours(x, y) == pytest.approx(theirs(x, y)[0], abs=1e-9, nan_ok=True)


def test_correlations_of_a_hand_worked_case():
    x, y = [1, 2, 3, 4], [1, 3, 2, 2]
    # Pairs: 3 rise in both, 2 fall in y, 1 is equal in y: (3 - 2) / sqrt(6 * 5).
    assert kendall(x, y) == pytest.approx(1 / math.sqrt(30))
    # Ranks of y: 1, 4, 2.5, 2.5.
    assert spearman(x, y) == pytest.approx((1.5 * 1.5 - 0.5 * 1.5) / math.sqrt(5 * 4.5))
    # Deviations of y: -1, 1, 0, 0.
    assert pearson(x, y) == pytest.approx((1.5 - 0.5) / math.sqrt(5 * 2))


@settings(deadline=None)
@given(small)
def test_leaving_one_out_equals_refitting_without_each_item(rows):
    x, y = (np.array(v, dtype=float) for v in zip(*rows, strict=True))
    slow = [float(Scale.fit(np.delete(x, k), np.delete(y, k))(x[k])) for k in range(len(x))]
    np.testing.assert_allclose(leave_one_out(x, y), slow, atol=1e-7)


def test_scale_is_the_least_squares_line():
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = 3 + 0.5 * x + rng.normal(size=30)
    line, theirs = Scale.fit(x, y), stats.linregress(x, y)
    assert (line.slope, line.offset) == (pytest.approx(theirs.slope), pytest.approx(theirs.intercept))
    assert Scale.fit([1, 1], [2, 4]) == Scale(3.0, 0.0)


def test_errors_in_points_of_a_hand_worked_case_with_a_scale_from_elsewhere():
    ours = score_metrics([0, 1, 2], [3.0, 3.5, 5.0], Scale(3.0, 0.5))
    assert (ours["mae"], ours["rmse"]) == (pytest.approx(1 / 3), pytest.approx(math.sqrt(1 / 3)))


def test_without_a_scale_no_items_own_score_helps_it():
    # Scores on a line but one: that one is predicted by the line exactly, whatever it is itself.
    strengths, scores = np.arange(6.0), 1 + 2 * np.arange(6.0)
    for outlier in (50.0, -50.0):
        moved = scores.copy()
        moved[2] = outlier
        assert leave_one_out(strengths, moved)[2] == pytest.approx(5.0)
    perfect = score_metrics(strengths, scores)
    assert perfect["mae"] == pytest.approx(0, abs=1e-9)
    assert perfect["pearson"] == perfect["spearman"] == perfect["kendall"] == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_errors_do_not_depend_on_the_scale_and_origin_of_the_strengths(seed, slope, offset):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=12), rng.normal(size=12)
    a, b = score_metrics(x, y), score_metrics(offset + slope * x, y)
    assert a == pytest.approx(b, abs=1e-7)


def test_too_few_items_unequal_numbers_and_infinite_strengths_are_told():
    with pytest.raises(UserError, match="give 3 or more"):
        score_metrics([1, 2], [1, 2])
    with pytest.raises(UserError, match="3 strengths and 4 scores"):
        score_metrics([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(UserError, match="Item 1 has no finite"):
        score_metrics([1, math.inf, 3], [1, 2, 3])
