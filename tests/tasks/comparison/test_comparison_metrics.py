from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, log_loss

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.comparison.metrics import (
    MIRRORED,
    PRIOR,
    Scale,
    average_ranks,
    kendall,
    leave_one_out,
    measure_verdicts,
    pearson,
    probability_metrics,
    rank_by,
    score_metrics,
    spearman,
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
        "accuracy_second": 1.0, "unparsable": 1 / 8,
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


def test_calibration_of_a_hand_worked_case():
    truths = ["First", "Second", "Similar", "First"]
    p = [[0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.5, 0.25, 0.25]]
    measured = probability_metrics(truths, p)
    # Confidences 0.7 (right), 0.8 (wrong) and twice 0.5 (right), in three bins.
    assert measured["calibration_error"] == pytest.approx((0.3 + 0.8 + 2 * 0.5) / 4)
    rows = [0.09 + 0.04 + 0.01, 0.64 + 0.01 + 0.81, 0.04 + 0.25 + 0.09, 0.25 + 0.0625 + 0.0625]
    assert measured["brier"] == pytest.approx(sum(rows) / 4)
    assert measured["nll"] == pytest.approx(-sum(map(math.log, (0.7, 0.1, 0.5, 0.5))) / 4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 50))
def test_calibration_equals_scikit_learn_and_a_slow_reference(seed, rows):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.6] * 3, rows)
    p[0] = [1, 0, 0]
    truths = [VERDICTS[k] for k in rng.integers(0, 3, rows)]
    if "First" not in truths[:1]:
        truths[0] = "First"  # scikit-learn clips zeros by another rule
    order = np.argsort(VERDICTS)  # scikit-learn wants its labels sorted
    theirs = log_loss(truths, p[:, order], labels=sorted(VERDICTS))
    measured = probability_metrics(truths, p)
    assert measured["nll"] == pytest.approx(theirs, abs=1e-9)
    sums, bins = 0.0, 15
    for b in range(bins):
        inside = [k for k in range(rows) if b / bins < max(p[k]) <= (b + 1) / bins]
        right = sum(VERDICTS[p[k].argmax()] == truths[k] for k in inside)
        sums += abs(right - sum(max(p[k]) for k in inside))
    assert measured["calibration_error"] == pytest.approx(sums / rows, abs=1e-9)


def test_certain_and_right_costs_nothing_and_certain_and_wrong_is_finite():
    sure = np.eye(3)
    assert probability_metrics(VERDICTS, sure) == {"calibration_error": 0, "brier": 0, "nll": 0}
    wrong = probability_metrics(VERDICTS, np.roll(sure, 1, axis=1))
    assert (wrong["calibration_error"], wrong["brier"]) == (1, 2) and wrong["nll"] == pytest.approx(36.04, abs=0.01)


def test_empty_and_malformed_input_is_refused():
    with pytest.raises(UserError, match="no pairs"):
        verdict_metrics([], [])
    with pytest.raises(UserError, match="no pairs"):
        swap_metrics([], [])
    with pytest.raises(UserError, match="Row 2: its probabilities"):
        probability_metrics(["First", "First"], [[1, 0, 0], [1, 1, 0]])
    with pytest.raises(UserError, match="Row 1"):
        probability_metrics(["First"], [[np.nan, 1, 0]])
    with pytest.raises(UserError, match="three for each"):
        probability_metrics(["First"], [[1, 0]])


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


def test_too_few_items_unequal_numbers_and_infinite_strengths_are_refused():
    with pytest.raises(UserError, match="give 3 or more"):
        score_metrics([1, 2], [1, 2])
    with pytest.raises(UserError, match="3 strengths and 4 scores"):
        score_metrics([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(UserError, match="Item 1 has no finite"):
        score_metrics([1, math.inf, 3], [1, 2, 3])


PIXEL = Picture("pixel", Image.new("RGB", (1, 1)))
SCORES = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
ORDER = ("First", "Second", "Similar")


def row(pair: int, first: str, second: str, truth: str, *, swapped: bool = False) -> Example:
    fields = {"ids": (first, second), "scores": (SCORES[first], SCORES[second]), "pair": pair, "swapped": swapped}
    return Example(f"{pair}: {first} | {second}", (PIXEL, PIXEL), truth, fields)


def predictions_of(
    rows: Sequence[Example], values: Sequence[str | None], chances: Sequence[Sequence[float]] = ()
) -> list[Prediction]:
    out = []
    for i, (example, value) in enumerate(zip(rows, values, strict=True)):
        p: Mapping[str, float] | None = dict(zip(ORDER, chances[i], strict=True)) if chances else None
        out.append(Prediction(example.id, value, value or "?", p, example.truth))
    return out


def tournament() -> list[Example]:
    """All pairs of four pictures in both orders."""
    rows = []
    names = list(SCORES)
    for swapped in (False, True):
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        for k, (a, b) in enumerate(pairs):
            rows.append(row(k, b, a, "First", swapped=True) if swapped else row(k, a, b, "Second"))
    return rows


def test_perfect_verdicts() -> None:
    rows = tournament()
    metrics = measure_verdicts(rows, predictions_of(rows, [e.truth for e in rows]))
    assert metrics["accuracy"] == metrics["macro_accuracy"] == metrics["consistency"] == 1
    assert metrics["fairness"] == metrics["primacy_share"] == metrics["recency_share"] == metrics["unparsable"] == 0
    assert metrics["accuracy_first"] == metrics["accuracy_second"] == 1
    assert metrics["spearman"] == pytest.approx(1) and metrics["kendall"] == pytest.approx(1)
    # Four pictures in a perfect order have strengths as evenly apart as their scores, but for the prior.
    assert metrics["pearson"] == pytest.approx(1, abs=0.005)
    assert "calibration_error" not in metrics and "nll" not in metrics, "there are no probabilities"
    assert "accuracy_similar" not in metrics, "no truth is Similar"
    assert all(math.isfinite(v) and isinstance(v, float) for v in metrics.values())


def test_evenly_spaced_strengths_have_a_pearson_of_one() -> None:
    """Probabilities of Bradley and Terry's model itself at strengths that are the scores."""
    rows = tournament()
    chances = []
    for e in rows:
        d = e.fields["scores"][0] - e.fields["scores"][1]
        weights = np.exp([d / 2, -d / 2, 0.0])
        chances.append((weights / weights.sum()).tolist())
    metrics = measure_verdicts(rows, predictions_of(rows, [e.truth for e in rows], chances))
    assert metrics["pearson"] == pytest.approx(1, abs=1e-3)
    assert metrics["mae"] < 0.1 and metrics["rmse"] < 0.1


def test_the_worst_verdicts_have_a_correlation_of_minus_one() -> None:
    rows = tournament()
    turned = {"First": "Second", "Second": "First"}
    metrics = measure_verdicts(rows, predictions_of(rows, [turned[e.truth] for e in rows]))
    assert metrics["accuracy"] == 0 and metrics["consistency"] == 1
    assert metrics["spearman"] == pytest.approx(-1) and metrics["pearson"] < -0.99


def test_swap_metrics_by_hand() -> None:
    """Four pairs: one consistent, one that prefers the first place, one the second, one that could not be read."""
    pairs = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "d")]
    rows = [row(k, a, b, "Second") for k, (a, b) in enumerate(pairs)]
    rows += [row(k, b, a, "First", swapped=True) for k, (a, b) in enumerate(pairs)]
    values = ["Second", "First", "Second", None, "First", "Similar", "Second", "First"]
    metrics = measure_verdicts(rows, predictions_of(rows, values))
    assert metrics["consistency"] == 1 / 4
    assert metrics["primacy_share"] == metrics["recency_share"] == 1 / 4 and metrics["fairness"] == 0
    assert metrics["unparsable"] == 1 / 8
    # Right: rows 1, 3, 5 and 8 of 8; of four First two, of four Second two.
    assert metrics["accuracy"] == 4 / 8 and metrics["accuracy_first"] == metrics["accuracy_second"] == 2 / 4


def test_a_model_that_always_says_first_is_unfair() -> None:
    rows = tournament()
    metrics = measure_verdicts(rows, predictions_of(rows, ["First"] * len(rows)))
    assert (metrics["consistency"], metrics["fairness"], metrics["primacy_share"], metrics["recency_share"]) == (
        0,
        -1,
        1,
        0,
    )
    assert "pearson" not in metrics, "all strengths are equal"
    assert metrics["accuracy"] == 0.5


def test_pairs_in_one_order_have_no_swap_metrics() -> None:
    rows = tournament()[:6]
    metrics = measure_verdicts(rows, predictions_of(rows, [e.truth for e in rows]))
    assert "consistency" not in metrics and "fairness" not in metrics and metrics["spearman"] == pytest.approx(1)
    # One pair of the six comes in both.
    rows = tournament()[:7]
    assert measure_verdicts(rows, predictions_of(rows, ["Second"] * 6 + ["Second"]))["consistency"] == 0


def test_missing_predictions_count_as_wrong_and_inconsistent() -> None:
    rows = tournament()
    metrics = measure_verdicts(rows, predictions_of(rows, [e.truth for e in rows])[:9])
    assert metrics["accuracy"] == metrics["accuracy"] == 9 / 12 and metrics["unparsable"] == 3 / 12
    assert metrics["consistency"] == 3 / 6
    everything = measure_verdicts(rows, [])
    assert everything["accuracy"] == 0 and everything["unparsable"] == 1 and "pearson" not in everything


def test_predictions_are_matched_by_id_in_whatever_order() -> None:
    rows = tournament()
    answers = predictions_of(rows, [e.truth for e in rows])
    assert measure_verdicts(rows, answers[::-1]) == measure_verdicts(rows, answers)


def test_calibration_by_hand() -> None:
    rows = [row(0, "b", "a", "First"), row(1, "a", "b", "Second")]
    chances = [(0.8, 0.1, 0.1), (0.6, 0.3, 0.1)]
    metrics = measure_verdicts(rows, predictions_of(rows, ["First", "First"], chances))
    assert metrics["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.3)) / 2)
    assert metrics["brier"] == pytest.approx((0.04 + 0.01 + 0.01 + 0.36 + 0.49 + 0.01) / 2)
    # Confidences 0.8 (right) and 0.6 (wrong), each in a bin of its own.
    assert metrics["calibration_error"] == pytest.approx((0.2 + 0.6) / 2)
    assert "pearson" not in metrics, "two pictures have no correlation worth the name"
    one_missing = predictions_of(rows, ["First", "First"], chances)
    one_missing[1] = Prediction(rows[1].id, "First", "First")
    assert "nll" not in measure_verdicts(rows, one_missing)


def test_verdicts_that_are_all_similar_are_measured_without_a_ranking() -> None:
    rows = tournament()
    metrics = measure_verdicts(rows, predictions_of(rows, ["Similar"] * len(rows)))
    assert metrics["consistency"] == 1 and metrics["accuracy"] == 0 and "pearson" not in metrics
    with pytest.raises(UserError, match="Every comparison says Similar"):
        rank_by(rows, predictions_of(rows, ["Similar"] * len(rows)))


def test_rows_without_scores_and_pairs_have_verdict_metrics_only() -> None:
    rows = [Example(str(i), (PIXEL, PIXEL), "First", {"ids": ("a", "b")}) for i in range(3)]
    metrics = measure_verdicts(rows, predictions_of(rows, ["First", "Second", "First"]))
    assert metrics["accuracy"] == 2 / 3 and "pearson" not in metrics and "consistency" not in metrics


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="There are no rows to measure"):
        measure_verdicts([], [])


@pytest.mark.parametrize("both", [False, True])
def test_strengths_of_two_pictures_solve_their_equation(both: bool) -> None:
    """a beats b with probability p: with s the strength of a, -s that of b, p - sigmoid(2 s) = prior * s for each row."""
    rows = [row(0, "a", "b", "First"), row(0, "b", "a", "Second", swapped=True)][: 1 + both]
    chances = [(0.7, 0.3, 0.0), (0.3, 0.7, 0.0)][: 1 + both]
    ranked = rank_by(rows, predictions_of(rows, ["First", "Second"][: 1 + both], chances))
    assert ranked is not None
    names, ranking = ranked
    assert names == ["a", "b"]
    s = float(ranking.strengths[0])
    assert ranking.strengths[1] == pytest.approx(-s)
    assert len(rows) * (0.7 - 1 / (1 + math.exp(-2 * s))) == pytest.approx(PRIOR * s, abs=1e-8)


def test_nothing_that_could_be_read_ranks_nothing() -> None:
    rows = tournament()
    assert rank_by(rows, predictions_of(rows, [None] * len(rows))) is None
    with pytest.raises(ValueError, match="zip"):
        rank_by(rows, [])


@pytest.fixture
def synthetic() -> Any:
    from foveal.tasks.comparison.task import Comparison, ComparisonData

    return Comparison(ComparisonData(pictures=80, image_size=64, test=0))


def test_the_tasks_own_truths_rank_its_pictures_as_their_scores(synthetic: Any, tmp_path: Path) -> None:
    rows = synthetic.load("test").examples
    metrics = synthetic.measure(rows, [Prediction(e.id, e.truth, e.truth, None, e.truth) for e in rows])
    assert metrics["accuracy"] == metrics["consistency"] == 1
    assert metrics["spearman"] > 0.95 and metrics["pearson"] > 0.95 and metrics["mae"] < 0.4
