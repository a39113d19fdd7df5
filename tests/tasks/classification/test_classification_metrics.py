from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from foveal.tasks.classification import metrics


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
def test_top_k_is_refused_where_there_are_more_than_k_classes(classes: int, known: list[int]) -> None:
    p = np.random.default_rng(0).dirichlet([1.0] * classes, 40)
    scores = metrics.probability_metrics(p, np.zeros(40, dtype=int), p.argmax(1) == 0)
    assert [name for name in scores if name.startswith("top")] == [f"top{k}_accuracy" for k in known]
    assert list(scores)[len(known) :] == ["ece", "ece_adaptive", "brier", "nll"]
