from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from foveal.metrics import confusion

NAMES = ["ant", "bee", "cat", "dog"]
pairs = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([*NAMES, None])), min_size=1, max_size=60)


@given(pairs)
def test_equal_to_scikit_learn(rows: list[tuple[str, str | None]]) -> None:
    truths = [truth for truth, _ in rows]
    values = [value for _, value in rows]
    said = [value or "unparsable" for value in values]
    present = sorted(set(truths))
    matrix = confusion.confusion_matrix(truths, values, NAMES)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truths, said, labels=[*NAMES, "unparsable"])[:-1])
    assert confusion.accuracy(matrix) == pytest.approx(sk.accuracy_score(truths, said))
    assert confusion.unparsable(matrix) == pytest.approx(values.count(None) / len(values))
    recalls = sk.recall_score(truths, said, labels=present, average=None, zero_division=0)
    assert confusion.balanced_accuracy(matrix) == pytest.approx(recalls.mean())
    ours = dict(zip(NAMES, confusion.recalls(matrix), strict=True))
    assert [ours[name] for name in present] == pytest.approx(list(recalls))
    assert all(np.isnan(ours[name]) for name in NAMES if name not in present)
    precisions = sk.precision_score(truths, said, labels=NAMES, average=None, zero_division=np.nan)
    assert confusion.precisions(matrix) == pytest.approx(precisions, nan_ok=True)
    scores = dict(zip(NAMES, confusion.f1_scores(matrix), strict=True))
    each = sk.f1_score(truths, said, labels=present, average=None, zero_division=0)
    assert [scores[name] for name in present] == pytest.approx(list(each))
    f1 = sk.f1_score(truths, said, labels=present, average="macro", zero_division=0)
    assert confusion.macro_f1(matrix) == pytest.approx(f1)


@given(pairs.filter(lambda rows: None not in {v for _, v in rows} and len({t for t, _ in rows}) > 1))
def test_balanced_accuracy_is_scikit_learns(rows: list[tuple[str, str]]) -> None:
    truths, values = [t for t, _ in rows], [v for _, v in rows]
    matrix = confusion.confusion_matrix(truths, values, NAMES)
    if set(values) <= set(truths):
        assert confusion.balanced_accuracy(matrix) == pytest.approx(sk.balanced_accuracy_score(truths, values))


def test_by_hand() -> None:
    matrix = confusion.confusion_matrix(["a", "a", "a", "b"], ["a", "b", None, "b"], ["a", "b"])
    assert matrix.tolist() == [[1, 1, 1], [0, 1, 0]]
    assert confusion.accuracy(matrix) == 0.5
    assert confusion.unparsable(matrix) == 0.25
    assert confusion.balanced_accuracy(matrix) == pytest.approx((1 / 3 + 1) / 2)
    # a: precision 1, recall 1/3; b: precision 1/2, recall 1
    assert confusion.macro_f1(matrix) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_value_that_is_no_class_is_unparsable_and_a_truth_that_is_none_is_refused() -> None:
    assert confusion.confusion_matrix(["a"], ["zebra"], ["a", "b"]).tolist() == [[0, 0, 1], [0, 0, 0]]
    with pytest.raises(KeyError):
        confusion.confusion_matrix(["zebra"], ["a"], ["a", "b"])
