"""Counts of truths against single-label answers, and what follows from them.

An unparsable reply is a wrong one: it counts against recall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
