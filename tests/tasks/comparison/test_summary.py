from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.comparison.summary import PRIOR, measure_verdicts, rank_by

PIXEL = Picture("pixel", Image.new("RGB", (1, 1)))
SCORES = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
ORDER = ("First", "Second", "Similar")


def row(pair: int, first: str, second: str, truth: str, *, swapped: bool = False) -> Example:
    fields = {"ids": (first, second), "scores": (SCORES[first], SCORES[second]), "pair": pair, "swapped": swapped}
    return Example(f"{pair}: {first} | {second}", (PIXEL, PIXEL), truth, fields)


def said(
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
    found = measure_verdicts(rows, said(rows, [e.truth for e in rows]))
    assert found["accuracy"] == found["macro_accuracy"] == found["consistency"] == 1
    assert found["fairness"] == found["primacy_share"] == found["recency_share"] == found["unparsable"] == 0
    assert found["accuracy_first"] == found["accuracy_second"] == 1
    assert found["spearman"] == pytest.approx(1) and found["kendall"] == pytest.approx(1)
    # Four pictures in a perfect order have strengths as evenly apart as their scores, but for the prior.
    assert found["pearson"] == pytest.approx(1, abs=0.005)
    assert "calibration_error" not in found and "nll" not in found, "there are no probabilities"
    assert "accuracy_similar" not in found, "no truth is Similar"
    assert "majority" not in found
    assert all(math.isfinite(v) and isinstance(v, float) for v in found.values())


def test_evenly_spaced_strengths_have_a_pearson_of_one() -> None:
    """Probabilities of Bradley and Terry's model itself at strengths that are the scores."""
    rows = tournament()
    chances = []
    for e in rows:
        d = e.fields["scores"][0] - e.fields["scores"][1]
        weights = np.exp([d / 2, -d / 2, 0.0])
        chances.append((weights / weights.sum()).tolist())
    found = measure_verdicts(rows, said(rows, [e.truth for e in rows], chances))
    assert found["pearson"] == pytest.approx(1, abs=1e-3)
    assert found["mae"] < 0.1 and found["rmse"] < 0.1


def test_the_worst_verdicts_have_a_correlation_of_minus_one() -> None:
    rows = tournament()
    turned = {"First": "Second", "Second": "First"}
    found = measure_verdicts(rows, said(rows, [turned[e.truth] for e in rows]))
    assert found["accuracy"] == 0 and found["consistency"] == 1
    assert found["spearman"] == pytest.approx(-1) and found["pearson"] < -0.99


def test_swap_metrics_by_hand() -> None:
    """Four pairs: one consistent, one that prefers the first place, one the second, one that could not be read."""
    pairs = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "d")]
    rows = [row(k, a, b, "Second") for k, (a, b) in enumerate(pairs)]
    rows += [row(k, b, a, "First", swapped=True) for k, (a, b) in enumerate(pairs)]
    values = ["Second", "First", "Second", None, "First", "Similar", "Second", "First"]
    found = measure_verdicts(rows, said(rows, values))
    assert found["consistency"] == 1 / 4
    assert found["primacy_share"] == found["recency_share"] == 1 / 4 and found["fairness"] == 0
    assert found["unparsable"] == 1 / 8
    # Right: rows 1, 3, 5 and 8 of 8; of four First two, of four Second two.
    assert found["accuracy"] == 4 / 8 and found["accuracy_first"] == found["accuracy_second"] == 2 / 4


def test_a_model_that_always_says_first_is_unfair() -> None:
    rows = tournament()
    found = measure_verdicts(rows, said(rows, ["First"] * len(rows)))
    assert (found["consistency"], found["fairness"], found["primacy_share"], found["recency_share"]) == (0, -1, 1, 0)
    assert "pearson" not in found, "all strengths are equal"
    assert found["accuracy"] == 0.5


def test_pairs_in_one_order_have_no_swap_metrics() -> None:
    rows = tournament()[:6]
    found = measure_verdicts(rows, said(rows, [e.truth for e in rows]))
    assert "consistency" not in found and "fairness" not in found and found["spearman"] == pytest.approx(1)
    # One pair of the six comes in both.
    rows = tournament()[:7]
    assert measure_verdicts(rows, said(rows, ["Second"] * 6 + ["Second"]))["consistency"] == 0


def test_missing_predictions_count_as_wrong_and_inconsistent() -> None:
    rows = tournament()
    found = measure_verdicts(rows, said(rows, [e.truth for e in rows])[:9])
    assert found["accuracy"] == found["accuracy"] == 9 / 12 and found["unparsable"] == 3 / 12
    assert found["consistency"] == 3 / 6
    everything = measure_verdicts(rows, [])
    assert everything["accuracy"] == 0 and everything["unparsable"] == 1 and "pearson" not in everything


def test_predictions_are_matched_by_id_in_whatever_order() -> None:
    rows = tournament()
    answers = said(rows, [e.truth for e in rows])
    assert measure_verdicts(rows, answers[::-1]) == measure_verdicts(rows, answers)


def test_calibration_by_hand() -> None:
    rows = [row(0, "b", "a", "First"), row(1, "a", "b", "Second")]
    chances = [(0.8, 0.1, 0.1), (0.6, 0.3, 0.1)]
    found = measure_verdicts(rows, said(rows, ["First", "First"], chances))
    assert found["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.3)) / 2)
    assert found["brier"] == pytest.approx((0.04 + 0.01 + 0.01 + 0.36 + 0.49 + 0.01) / 2)
    # Confidences 0.8 (right) and 0.6 (wrong), each in a bin of its own.
    assert found["calibration_error"] == pytest.approx((0.2 + 0.6) / 2)
    assert "pearson" not in found, "two pictures have no correlation worth the name"
    one_missing = said(rows, ["First", "First"], chances)
    one_missing[1] = Prediction(rows[1].id, "First", "First")
    assert "nll" not in measure_verdicts(rows, one_missing)


def test_verdicts_that_are_all_similar_are_measured_without_a_ranking() -> None:
    rows = tournament()
    found = measure_verdicts(rows, said(rows, ["Similar"] * len(rows)))
    assert found["consistency"] == 1 and found["accuracy"] == 0 and "pearson" not in found
    with pytest.raises(UserError, match="Every comparison says Similar"):
        rank_by(rows, said(rows, ["Similar"] * len(rows)))


def test_rows_without_scores_and_pairs_have_verdict_metrics_only() -> None:
    rows = [Example(str(i), (PIXEL, PIXEL), "First", {"ids": ("a", "b")}) for i in range(3)]
    found = measure_verdicts(rows, said(rows, ["First", "Second", "First"]))
    assert found["accuracy"] == 2 / 3 and "pearson" not in found and "consistency" not in found


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="There are no rows to measure"):
        measure_verdicts([], [])


@pytest.mark.parametrize("both", [False, True])
def test_strengths_of_two_pictures_solve_their_equation(both: bool) -> None:
    """a beats b with probability p: with s the strength of a, -s that of b, p - sigmoid(2 s) = prior * s for each row."""
    rows = [row(0, "a", "b", "First"), row(0, "b", "a", "Second", swapped=True)][: 1 + both]
    chances = [(0.7, 0.3, 0.0), (0.3, 0.7, 0.0)][: 1 + both]
    found = rank_by(rows, said(rows, ["First", "Second"][: 1 + both], chances))
    assert found is not None
    names, ranking = found
    assert names == ["a", "b"] and ranking.prior == PRIOR
    s = float(ranking.strengths[0])
    assert ranking.strengths[1] == pytest.approx(-s)
    assert len(rows) * (0.7 - 1 / (1 + math.exp(-2 * s))) == pytest.approx(PRIOR * s, abs=1e-8)


def test_nothing_that_could_be_read_ranks_nothing() -> None:
    rows = tournament()
    assert rank_by(rows, said(rows, [None] * len(rows))) is None
    with pytest.raises(ValueError, match="zip"):
        rank_by(rows, [])


@pytest.fixture
def synthetic() -> Any:
    from foveal.tasks.comparison.task import Comparison, ComparisonData

    return Comparison(ComparisonData(pictures=80, image_size=64, test=0))


def test_the_tasks_own_truths_rank_its_pictures_as_their_scores(synthetic: Any, tmp_path: Path) -> None:
    rows = synthetic.load("test").examples
    found = synthetic.measure(rows, [Prediction(e.id, e.truth, e.truth, None, e.truth) for e in rows])
    assert found["accuracy"] == found["consistency"] == 1
    assert found["spearman"] > 0.95 and found["pearson"] > 0.95 and found["mae"] < 0.4
