from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, log_loss

from foveal.errors import UserError
from foveal.tasks.comparison.measuring import (
    MIRRORED,
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    repetition_stability,
    swap_metrics,
    verdict_confusion,
    verdict_metrics,
)
from foveal.tasks.comparison.ranking import VERDICTS

verdicts = st.sampled_from(VERDICTS)
replies = st.sampled_from([*VERDICTS, None])


def test_accuracies_of_a_hand_worked_case():
    truths = ["First", "First", "First", "First", "Similar", "Similar", "Second", "Second"]
    values = ["First", "First", "Second", None, "Similar", "First", "Second", "Second"]
    assert verdict_confusion(truths, values).tolist() == [[2, 0, 1, 1], [1, 1, 0, 0], [0, 0, 2, 0]]
    assert verdict_metrics(truths, values) == {
        "accuracy": 5 / 8, "macro_accuracy": (0.5 + 0.5 + 1) / 3, "accuracy_first": 0.5, "accuracy_similar": 0.5,
        "accuracy_second": 1.0, "majority": 0.5, "unparsable": 1 / 8,
    }  # fmt: skip


def test_a_class_that_does_not_occur_has_no_accuracy_and_no_part_in_the_mean():
    ours = verdict_metrics(["First", "Second"], ["First", "First"])
    assert math.isnan(ours["accuracy_similar"]) and ours["macro_accuracy"] == 0.5


@settings(deadline=None)
@pytest.mark.filterwarnings("ignore:A single label")
@given(st.lists(st.tuples(verdicts, verdicts), min_size=1, max_size=40))
def test_accuracies_equal_those_of_scikit_learn(rows):
    truths, values = zip(*rows, strict=True)
    ours = verdict_metrics(truths, values)
    assert ours["accuracy"] == pytest.approx(accuracy_score(truths, values))
    if set(values) <= set(truths):
        assert ours["macro_accuracy"] == pytest.approx(balanced_accuracy_score(truths, values))
    theirs = confusion_matrix(truths, values, labels=VERDICTS)
    assert verdict_confusion(truths, values)[:, :3].tolist() == theirs.tolist()


def test_swap_metrics_of_a_hand_worked_case():
    values = ["First", "Second", "Similar", "First", "First", "Similar", "Second", "Similar", None, "First"]
    swapped = ["Second", "First", "Similar", "First", "Similar", "First", "Second", "Second", "First", None]
    ours = swap_metrics(values, swapped)
    assert ours.consistency == 3 / 10
    assert (ours.primacy, ours.recency, ours.unparsable) == (3 / 10, 2 / 10, 2 / 10)
    # P = 3, R = 2, n = 10 by the paper's steps: raw = 2 * 2/5 - 3 * 3/5 = -1, scaled from [-10, 10] to [-1, 1].
    assert ours.fairness == pytest.approx((-1 - -10) / (10 - -10) * 2 - 1)


@settings(deadline=None)
@given(st.lists(st.tuples(replies, replies), min_size=1, max_size=40))
def test_fairness_is_the_papers_and_swapping_roles_of_the_places_negates_it(rows):
    values, swapped = zip(*rows, strict=True)
    ours = swap_metrics(values, swapped)
    letters = {"First": "A", "Second": "B", "Similar": "C", None: "N"}
    pairs = [letters[v] + letters[s] for v, s in rows]
    p, r = sum(x in ("AA", "AC", "CA") for x in pairs), sum(x in ("BB", "BC", "CB") for x in pairs)
    raw = r * (r / (p + r)) - p * (p / (p + r)) if p + r else 0
    n = len(rows)
    assert ours.fairness == pytest.approx((raw + n) / (2 * n) * 2 - 1, abs=1e-12)
    assert ours.consistency == sum(x in ("AB", "BA", "CC") for x in pairs) / n
    assert ours.consistency + ours.primacy + ours.recency + ours.unparsable == pytest.approx(1)
    turned = swap_metrics([MIRRORED.get(v) for v in values], [MIRRORED.get(s) for s in swapped])
    assert turned.fairness == pytest.approx(-ours.fairness) and turned.consistency == ours.consistency


def test_fairness_reaches_its_ends_and_mirrors_undo_themselves():
    assert swap_metrics(["First"] * 3, ["First"] * 3).fairness == -1
    assert swap_metrics(["Second"] * 3, ["Second"] * 3).fairness == 1
    assert swap_metrics(["First", "Second"], ["Second", "First"]).consistency == 1
    assert all(MIRRORED[MIRRORED[v]] == v for v in VERDICTS)


def test_stability_is_the_mean_share_of_the_commonest_verdict_and_unreadable_is_none():
    trials = [["First"] * 4, ["First", "First", "Second", "Similar"], [None, None, "Second", "Similar"], [None] * 2]
    assert repetition_stability(trials) == pytest.approx((1 + 0.5 + 0.25 + 0) / 4)


def test_calibration_of_a_hand_worked_case():
    truths = ["First", "Second", "Similar", "First"]
    p = [[0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.5, 0.25, 0.25]]
    table = reliability(truths, p, bins=2)
    assert [(b.rows, b.lower, b.upper) for b in table] == [(2, 0.0, 0.5), (2, 0.5, 1.0)]  # 0.5 belongs to the lower
    assert (table[0].confidence, table[0].accuracy) == (0.5, 1.0)
    assert (table[1].confidence, table[1].accuracy) == (pytest.approx(0.75), 0.5)
    assert expected_calibration_error(truths, p, bins=2) == pytest.approx(0.5 * 0.5 + 0.5 * 0.25)
    rows = [0.09 + 0.04 + 0.01, 0.64 + 0.01 + 0.81, 0.04 + 0.25 + 0.09, 0.25 + 0.0625 + 0.0625]
    assert brier_score(truths, p) == pytest.approx(sum(rows) / 4)
    nll = -sum(map(math.log, (0.7, 0.1, 0.5, 0.5))) / 4
    assert negative_log_likelihood(truths, p) == pytest.approx(nll)
    assert calibration_metrics(truths, p)["nll"] == pytest.approx(nll)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 50), st.sampled_from([1, 10, 15]))
def test_calibration_equals_scikit_learn_and_a_slow_reference(seed, rows, bins):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.6] * 3, rows)
    p[0] = [1, 0, 0]
    truths = [VERDICTS[k] for k in rng.integers(0, 3, rows)]
    if "First" not in truths[:1]:
        truths[0] = "First"  # scikit-learn clips zeros by another rule
    order = np.argsort(VERDICTS)  # scikit-learn wants its labels sorted
    theirs = log_loss(truths, p[:, order], labels=sorted(VERDICTS))
    assert negative_log_likelihood(truths, p) == pytest.approx(theirs, abs=1e-9)
    sums = 0.0
    for b in range(bins):
        inside = [k for k in range(rows) if b / bins < max(p[k]) <= (b + 1) / bins]
        right = sum(VERDICTS[p[k].argmax()] == truths[k] for k in inside)
        sums += abs(right - sum(max(p[k]) for k in inside))
    assert expected_calibration_error(truths, p, bins) == pytest.approx(sums / rows, abs=1e-9)


def test_certain_and_right_costs_nothing_and_certain_and_wrong_is_finite():
    sure = np.eye(3)
    assert calibration_metrics(VERDICTS, sure) == {"ece": 0, "brier": 0, "nll": 0}
    wrong = calibration_metrics(VERDICTS, np.roll(sure, 1, axis=1))
    assert (wrong["ece"], wrong["brier"]) == (1, 2) and wrong["nll"] == pytest.approx(36.04, abs=0.01)


def test_empty_and_malformed_input_is_told():
    with pytest.raises(UserError, match="no pairs"):
        verdict_metrics([], [])
    with pytest.raises(UserError, match="no pairs"):
        swap_metrics([], [])
    with pytest.raises(UserError, match="repetitions"):
        repetition_stability([["First"], []])
    with pytest.raises(UserError, match="Row 2: its probabilities"):
        brier_score(["First", "First"], [[1, 0, 0], [1, 1, 0]])
    with pytest.raises(UserError, match="Row 1"):
        brier_score(["First"], [[np.nan, 1, 0]])
    with pytest.raises(UserError, match="three for each"):
        brier_score(["First"], [[1, 0]])
