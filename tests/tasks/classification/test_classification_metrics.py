from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from foveal.tasks.classification import metrics

NAMES = ["ant", "bee", "cat", "dog"]
pairs = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([*NAMES, None])), min_size=1, max_size=60)


@given(pairs)
def test_equal_to_scikit_learn(rows: list[tuple[str, str | None]]) -> None:
    truths = [truth for truth, _ in rows]
    values = [value for _, value in rows]
    said = [value or "unparsable" for value in values]
    present = sorted(set(truths))
    matrix = metrics.confusion_matrix(truths, values, NAMES)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truths, said, labels=[*NAMES, "unparsable"])[:-1])
    assert metrics.accuracy(matrix) == pytest.approx(sk.accuracy_score(truths, said))
    assert metrics.unparsable(matrix) == pytest.approx(values.count(None) / len(values))
    recalls = sk.recall_score(truths, said, labels=present, average=None, zero_division=0)
    assert metrics.balanced_accuracy(matrix) == pytest.approx(recalls.mean())
    ours = dict(zip(NAMES, metrics.recalls(matrix), strict=True))
    assert [ours[name] for name in present] == pytest.approx(list(recalls))
    assert all(np.isnan(ours[name]) for name in NAMES if name not in present)
    precisions = sk.precision_score(truths, said, labels=NAMES, average=None, zero_division=np.nan)
    assert metrics.precisions(matrix) == pytest.approx(precisions, nan_ok=True)
    scores = dict(zip(NAMES, metrics.f1_scores(matrix), strict=True))
    each = sk.f1_score(truths, said, labels=present, average=None, zero_division=0)
    assert [scores[name] for name in present] == pytest.approx(list(each))
    f1 = sk.f1_score(truths, said, labels=present, average="macro", zero_division=0)
    assert metrics.macro_f1(matrix) == pytest.approx(f1)


@given(pairs.filter(lambda rows: None not in {v for _, v in rows} and len({t for t, _ in rows}) > 1))
def test_balanced_accuracy_is_scikit_learns(rows: list[tuple[str, str]]) -> None:
    truths, values = [t for t, _ in rows], [v for _, v in rows]
    matrix = metrics.confusion_matrix(truths, values, NAMES)
    if set(values) <= set(truths):
        assert metrics.balanced_accuracy(matrix) == pytest.approx(sk.balanced_accuracy_score(truths, values))


def test_by_hand() -> None:
    matrix = metrics.confusion_matrix(["a", "a", "a", "b"], ["a", "b", None, "b"], ["a", "b"])
    assert matrix.tolist() == [[1, 1, 1], [0, 1, 0]]
    assert metrics.accuracy(matrix) == 0.5
    assert metrics.unparsable(matrix) == 0.25
    assert metrics.balanced_accuracy(matrix) == pytest.approx((1 / 3 + 1) / 2)
    # a: precision 1, recall 1/3; b: precision 1/2, recall 1
    assert metrics.macro_f1(matrix) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_value_that_is_no_class_is_unparsable_and_a_truth_that_is_none_is_refused() -> None:
    assert metrics.confusion_matrix(["a"], ["zebra"], ["a", "b"]).tolist() == [[0, 0, 1], [0, 0, 0]]
    with pytest.raises(KeyError):
        metrics.confusion_matrix(["zebra"], ["a"], ["a", "b"])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_is_scikit_learns(k: int) -> None:
    rng = np.random.default_rng(k)
    p, truths = rng.dirichlet([0.5] * 7, 300), rng.integers(0, 7, 300)
    expected = sk.top_k_accuracy_score(truths, p, k=k, labels=range(7))
    assert 0.1 < expected < 0.8
    assert metrics.top_k_accuracy(p, truths, k) == pytest.approx(expected)


def test_a_tie_at_the_limit_counts_against_the_model() -> None:
    p = [[0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.4, 0.3, 0.3]]
    assert metrics.top_k_accuracy(p, [0, 1, 2], 2) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy(np.full((5, 6), 1 / 6), [0, 1, 2, 3, 4], 5) == 0


@pytest.mark.parametrize(("classes", "known"), [(2, []), (3, [2]), (4, [2, 3]), (5, [2, 3]), (6, [2, 3, 5])])
def test_top_k_is_told_where_there_are_more_than_k_classes(classes: int, known: list[int]) -> None:
    p = np.random.default_rng(0).dirichlet([1.0] * classes, 40)
    found = metrics.probability_metrics(p, np.zeros(40, dtype=int), p.argmax(1) == 0)
    assert [name for name in found if name.startswith("top")] == [f"top{k}_accuracy" for k in known]
    assert list(found)[len(known) :] == ["ece", "ece_adaptive", "brier", "nll"]
