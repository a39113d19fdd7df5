from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from foveal.errors import UserError
from foveal.examples import Example
from foveal.metrics.calibration import (
    adaptive_reliability,
    brier_score,
    calibration_error,
    negative_log_likelihood,
    reliability,
    reliability_of,
)
from foveal.results import Prediction

# Few different confidences make ties likely; some lie on the edges of bins.
answers = st.lists(
    st.tuples(st.one_of(st.integers(0, 30).map(lambda k: k / 30), st.floats(0, 1)), st.booleans()),
    min_size=1,
    max_size=80,
)


@given(answers, st.sampled_from([1, 4, 10, 15]))
def test_equal_width_bins_equal_a_slow_loop(rows: list[tuple[float, bool]], bins: int) -> None:
    confidences, right = [c for c, _ in rows], [r for _, r in rows]
    table = reliability(confidences, right, bins)
    total = 0.0
    for b in range(bins):
        inside = [(c, r) for c, r in rows if b / bins < c <= (b + 1) / bins or (b == 0 and c == 0)]
        assert table[b].rows == len(inside)
        total += abs(sum(r for _, r in inside) - sum(c for c, _ in inside))
    assert calibration_error(table) == pytest.approx(total / len(rows), abs=1e-12)


@given(answers, st.sampled_from([1, 4, 10, 15]))
def test_equally_full_bins_equal_a_slow_loop(rows: list[tuple[float, bool]], bins: int) -> None:
    ordered = sorted(rows)
    total, groups = 0.0, {}
    for confidence, correct in ordered:
        # The bin of the last one of this confidence, of bins that begin at rows 0, n / B, 2 n / B ...
        last = max(i for i, (c, _) in enumerate(ordered) if c == confidence)
        own = max(b for b in range(bins) if b * len(rows) // bins <= last)
        groups.setdefault(own, []).append((confidence, correct))
    for inside in groups.values():
        total += abs(sum(r for _, r in inside) - sum(c for c, _ in inside))
    table = adaptive_reliability([c for c, _ in rows], [r for _, r in rows], bins)
    assert sorted(b.rows for b in table if b.rows) == sorted(map(len, groups.values()))
    assert calibration_error(table) == pytest.approx(total / len(rows), abs=1e-12)


def test_by_hand() -> None:
    confidences, right = [0.55, 0.95, 0.6, 1.0, 0.9, 0.5], [1, 1, 0, 1, 0, 1]
    # Up to 0.5: one row, which is right. Above: 0.55 0.6 0.9 0.95 1.0, of which three are right, and 0.8 in the mean.
    assert calibration_error(reliability(confidences, right, 2)) == pytest.approx((1 * 0.5 + 5 * 0.2) / 6)
    # Pairs by confidence: 0.5 0.55 both right; 0.6 0.9 both wrong; 0.95 1.0 both right.
    table = adaptive_reliability(confidences, right, 3)
    assert [(b.lower, b.upper, b.rows) for b in table] == [(0.5, 0.6, 2), (0.6, 0.95, 2), (0.95, 1.0, 2)]
    assert [b.accuracy for b in table] == [1, 0, 1]
    assert calibration_error(table) == pytest.approx((0.475 + 0.75 + 0.025) / 3)


def test_the_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    confidences, right = rng.integers(1, 6, 200) / 5, rng.random(200) < 0.5
    order = rng.permutation(200)
    for table in (reliability, adaptive_reliability):
        there, back = table(confidences, right), table(confidences[order], right[order])
        assert calibration_error(there) == pytest.approx(calibration_error(back))
        assert [b.rows for b in there] == [b.rows for b in back]


def test_different_confidences_fill_the_adaptive_bins_equally() -> None:
    confidences = np.random.default_rng(0).random(307) ** 4
    rows = [b.rows for b in adaptive_reliability(confidences, confidences > 0.5)]
    assert len(rows) == 15 and max(rows) - min(rows) <= 1 and sum(rows) == 307


@pytest.mark.parametrize("sharpness", [1.0, 0.25, 4.0])
def test_a_predictor_that_knows_its_chances_is_calibrated_and_others_are_not(sharpness: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.dirichlet([0.4] * 6, 20_000)
    truths = np.array([rng.choice(6, p=row) for row in honest])
    said = honest**sharpness / (honest**sharpness).sum(1, keepdims=True)
    right = said.argmax(1) == truths
    errors = [calibration_error(table(said.max(1), right)) for table in (reliability, adaptive_reliability)]
    if sharpness == 1:
        assert max(errors) < 0.012
    else:
        assert min(errors) > 0.1
        assert brier_score(said, truths) > brier_score(honest, truths) + 0.02
        assert negative_log_likelihood(said, truths) > negative_log_likelihood(honest, truths) + 0.02


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 60))
def test_brier_and_likelihood_are_scikit_learns(seed: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    p, truths = rng.dirichlet([1.0] * classes, rows), rng.integers(0, classes, rows)
    each = sum(float(np.mean(((truths == k) - p[:, k]) ** 2)) for k in range(classes))
    theirs = sum(sk.brier_score_loss(truths == k, p[:, k], pos_label=True) for k in range(classes))
    assert brier_score(p, truths) == pytest.approx(theirs) == pytest.approx(each)
    assert negative_log_likelihood(p, truths) == pytest.approx(sk.log_loss(truths, p, labels=range(classes)))


def test_probabilities_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"Row 2: its probabilities sum to 2"):
        brier_score([[1, 0], [1, 1]], [0, 0])
    with pytest.raises(UserError, match=r"the least is -0\.5"):
        negative_log_likelihood([[1.5, -0.5]], [0])
    with pytest.raises(UserError, match="Row 1: its probabilities sum to nan"):
        brier_score([[np.nan, 1]], [0])


def test_the_diagram_of_predictions_needs_all_probabilities_and_truths() -> None:
    examples = [Example("a", (), "cat"), Example("b", (), "dog")]
    said = [
        Prediction("a", "cat", "cat", {"cat": 0.9, "dog": 0.1}),
        Prediction("b", "cat", "cat", {"cat": 0.7, "dog": 0.3}),
    ]
    full = [b for b in reliability_of(examples, said) if b.rows]
    assert [(b.rows, b.confidence, b.accuracy) for b in full] == [(1, 0.7, 0.0), (1, 0.9, 1.0)]
    assert reliability_of(examples, [said[0], Prediction("b", "cat", "cat")]) == []
    assert reliability_of([examples[0], Example("b", ())], said) == []
    assert reliability_of([], []) == []
