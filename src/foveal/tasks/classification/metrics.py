"""Metrics of single-label classification. An unparsable reply is a wrong one: it counts against recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.tasks import calibration

#: The k of the top-k accuracies, each where there are more classes.
TOP = (2, 3, 5)


def confusion_matrix(truths: Sequence[str], values: Sequence[str | None], names: Sequence[str]) -> NDArray[np.int64]:
    """Counts of truth (row) against value (column); the last column counts what is no class, None above all.

    Returns:
        K rows and K + 1 columns, in the order of ``names``.

    Raises:
        KeyError: A truth is not among the names.
    """
    place = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names) + 1), dtype=np.int64)
    for truth, value in zip(truths, values, strict=True):
        matrix[place[truth], len(names) if value is None else place.get(value, len(names))] += 1
    return matrix


def accuracy(matrix: NDArray[np.int64]) -> float:
    """Share of the rows whose value is the truth."""
    return float(np.trace(matrix) / matrix.sum())


def unparsable(matrix: NDArray[np.int64]) -> float:
    """Share of the rows without a value."""
    return float(matrix[:, -1].sum() / matrix.sum())


def recalls(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each class's rows that were found; NaN for a class without rows."""
    rows = matrix.sum(axis=1)
    shares = np.full(len(rows), np.nan)
    np.divide(np.diagonal(matrix), rows, out=shares, where=rows > 0)
    return shares


def precisions(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the replies that name a class which are right; NaN for a class that no reply names."""
    columns = matrix[:, :-1].sum(axis=0)
    shares = np.full(len(columns), np.nan)
    np.divide(np.diagonal(matrix), columns, out=shares, where=columns > 0)
    return shares


def f1_scores(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Harmonic mean of each class's precision and recall; 0 where nothing was found, NaN for a class without rows."""
    rows, columns = matrix.sum(axis=1), matrix[:, :-1].sum(axis=0)
    scores = np.full(len(rows), np.nan)
    np.divide(2.0 * np.diagonal(matrix), rows + columns, out=scores, where=rows > 0)
    return scores


def balanced_accuracy(matrix: NDArray[np.int64]) -> float:
    """Mean recall of the classes that have rows."""
    return float(np.nanmean(recalls(matrix)))


def macro_f1(matrix: NDArray[np.int64]) -> float:
    """Mean F1 of the classes that have rows."""
    return float(np.nanmean(f1_scores(matrix)))


def top_k_accuracy(probabilities: ArrayLike, truths: ArrayLike, k: int) -> float:
    """Share of the rows whose truth is among the k likeliest classes.

    Of classes of equal probability the truth counts as the last, so that a model that tells none apart gains nothing.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].
        k: From 1 to below K.
    """
    p, classes = np.asarray(probabilities, dtype=np.float64), np.asarray(truths, dtype=np.int64)
    own = p[np.arange(len(p)), classes][:, None]
    # The truth itself is among those that are not below it.
    return float(((p >= own).sum(axis=1) <= k).mean())


def probability_metrics(probabilities: ArrayLike, truths: ArrayLike, right: ArrayLike) -> dict[str, float]:
    """What probabilities add to the values.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].
        right: Whether the value is the truth, [N].

    Returns:
        ``top2_accuracy``, ``top3_accuracy`` and ``top5_accuracy``, each where there are more classes; ``ece`` over 15 bins of
        equal width and ``ece_adaptive`` over 15 of equally many rows; ``brier``, 0 to 2; ``nll``, in nats.

    Raises:
        UserError: Probabilities do not sum to 1.
    """
    p = calibration.checked(probabilities)
    confidences = p.max(axis=1)
    return {
        **{f"top{k}_accuracy": top_k_accuracy(p, truths, k) for k in TOP if k < p.shape[1]},
        "ece": calibration.calibration_error(calibration.reliability(confidences, right)),
        "ece_adaptive": calibration.calibration_error(calibration.adaptive_reliability(confidences, right)),
        "brier": calibration.brier_score(p, truths),
        "nll": calibration.negative_log_likelihood(p, truths),
    }
